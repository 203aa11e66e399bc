import { fail, ok } from 'node:assert/strict';
import { linux, withFaults, type Sys } from '@emudev/linux';
import { expectNoLeaks } from './leaks.ts';

/** Runs of a body before it counts as endless. */
const MAX_CALLS = 1000;

/**
 * Fails a system call at each place where it is made: runs `body` again and again, the n-th time with its n-th `call` failing with
 * `errno` (a name), until a run makes fewer calls. Each run has to leave nothing behind, and may throw an error with a `code` only.
 * Returns how many places there were. `withFaults` of @emudev/linux plans single faults.
 */
export async function failEachCall(call: keyof Sys, errno: string, body: (sys: Sys) => void | Promise<void>, sys: Sys = linux): Promise<number> {
  for (let nth = 1; nth <= MAX_CALLS; nth++) {
    let calls = 0;
    const faulty = withFaults(sys, [{ call, nth, errno }]);
    const target = faulty[call] as (...args: unknown[]) => unknown;
    const counting = { ...faulty, [call]: (...args: unknown[]) => { calls++; return target(...args); } };
    await expectNoLeaks(async () => {
      try {
        await body(counting);
      } catch (error) {
        ok(error instanceof Error && 'code' in error, `${call} number ${nth} fails with ${errno}: the error has a code, unlike ${String(error)}`);
      }
    });
    if (calls < nth) return nth - 1;
  }
  return fail(`${call} is called more than ${MAX_CALLS} times`);
}
