import { setTimeout as sleep } from 'node:timers/promises';
import { IavfError } from './errors.ts';
import { FIRST_POLL_MS } from './limits.ts';

/** Looks at a register until it is as wanted; ERR_IAVF_TIMEOUT otherwise. */
export async function until(what: string, timeoutMs: number, isSo: () => boolean | Promise<boolean>, pollMs: number = FIRST_POLL_MS): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await isSo())) {
    if (performance.now() >= deadline) throw new IavfError('ERR_IAVF_TIMEOUT', `${what} not within ${timeoutMs} ms`);
    await sleep(pollMs);
  }
}
