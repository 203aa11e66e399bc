/** Calls that the kernel may hold for long: until somebody else closes a device, or a device answers. */
import { setTimeout as delay } from 'node:timers/promises';

/** What `work` comes to; rejects with `late()` after `timeoutMs`, and what becomes of `work` then nobody learns. */
export async function within<T>(work: Promise<T>, timeoutMs: number, late: () => Error): Promise<T> {
  const over = new AbortController();
  const timeout = delay(timeoutMs, undefined, { signal: over.signal }).then(
    () => { throw late(); },
    () => undefined as never,
  );
  try {
    return await Promise.race([work, timeout]);
  } finally {
    over.abort();
    work.catch(() => undefined);
  }
}
