/** Devices that come and go, where nothing announces them. */
import { formatAddress } from './address.ts';
import type { HotPlugEvent } from './device-source.ts';
import type { FoundDevice } from './found.ts';
import { HOT_PLUG_POLL_MS } from './limits.ts';

/**
 * Scans again and again, `intervalMs` after the scan before, and calls back with what has changed since; the first scan only says what is there. A scan that fails goes to
 * `onError` and is followed by the next. The process may end meanwhile.
 */
export function pollDevices(scan: () => Promise<readonly FoundDevice[]>, callback: (event: HotPlugEvent) => void, onError: (error: unknown) => void, intervalMs: number = HOT_PLUG_POLL_MS): Disposable {
  let known: ReadonlyMap<string, FoundDevice> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  const look = async (): Promise<void> => {
    try {
      const now = new Map((await scan()).map((device) => [formatAddress(device.address), device]));
      const before = known;
      known = now;
      if (before !== undefined) for (const event of changes(before, now)) if (!stopped) callback(event);
    } catch (error) {
      if (!stopped) onError(error);
    }
    if (!stopped) timer = setTimeout(() => { void look(); }, intervalMs).unref();
  };
  void look();
  return {
    [Symbol.dispose]: () => {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

/** First what has gone: another device may have its place. */
export function changes(before: ReadonlyMap<string, FoundDevice>, now: ReadonlyMap<string, FoundDevice>): readonly HotPlugEvent[] {
  const events: HotPlugEvent[] = [];
  for (const [name, { address }] of before) if (!now.has(name)) events.push({ kind: 'removed', address });
  for (const [name, device] of now) {
    const was = before.get(name);
    if (was === undefined) events.push({ kind: 'added', address: device.address });
    else if (was.unusable?.reason !== device.unusable?.reason || was.kernelDriver !== device.kernelDriver || was.instance !== device.instance) events.push({ kind: 'changed', address: device.address });
  }
  return events;
}
