import type { Sys } from './sys.ts';
import { LinuxError, errnoNumber } from './errors.ts';

/** The n-th call (from 1) of `call` fails with `errno` (a name); `times` consecutive calls do, 1 by default. */
export interface Fault {
  readonly call: keyof Sys;
  readonly nth: number;
  readonly errno: string;
  readonly times?: number;
}

/** Calls for which `Sys` reports EAGAIN as undefined, so an injected one must look the same. */
const MAY_BLOCK: ReadonlySet<keyof Sys> = new Set<keyof Sys>(['read', 'write', 'readAt', 'writeAt', 'writevAt', 'unixAccept', 'unixTryConnect', 'sendmsg', 'recvmsg', 'ueventRead', 'sendMessagesAt']);
/** Calls that report failure as a result and never throw. */
const NEVER_THROWS: ReadonlyMap<keyof Sys, unknown> = new Map<keyof Sys, unknown>([['eventfdSignal', false], ['addSeals', false], ['isValidFd', false], ['isEventfd', false]]);

/**
 * A `Sys` for tests that fails as planned and otherwise does what `sys` does. A faulted call has no effect, except `close`,
 * which as in Linux releases the descriptor even when it reports an error.
 */
export function withFaults(sys: Sys, plan: readonly Fault[]): Sys {
  for (const fault of plan) errnoNumber(fault.errno);
  const calls = new Map<string, number>();
  const faulted: Record<string, unknown> = {};
  for (const [name, original] of Object.entries(sys) as [keyof Sys, (...args: unknown[]) => unknown][]) {
    const faults = plan.filter((fault) => fault.call === name);
    faulted[name] =
      faults.length === 0
        ? original
        : (...args: unknown[]): unknown => {
            const nth = (calls.get(name) ?? 0) + 1;
            calls.set(name, nth);
            const hit = faults.find((fault) => nth >= fault.nth && nth < fault.nth + (fault.times ?? 1));
            if (hit === undefined) return original(...args);
            if (name === 'close') original(...args);
            if (hit.errno === 'EAGAIN' && MAY_BLOCK.has(name)) return undefined;
            if (NEVER_THROWS.has(name)) return NEVER_THROWS.get(name);
            throw new LinuxError(errnoNumber(hit.errno), name, 'injected fault');
          };
  }
  return faulted as unknown as Sys;
}
