/** What a thread may ask of the scheduler for itself. */
import { check, libc } from './libc.ts';

/** linux/prctl.h */
const PR_SET_TIMERSLACK = 29;
const PR_GET_TIMERSLACK = 30;
/** CPU_SETSIZE of sched.h, in bytes. */
const CPU_SET_BYTES = 128;

/** How late the kernel may end a sleep of the calling thread, nanoseconds (prctl(2), PR_SET_TIMERSLACK; 50 us by default). */
export function setTimerSlack(nanoseconds: number): void {
  check(libc.prctl(PR_SET_TIMERSLACK, nanoseconds, 0, 0, 0), 'prctl', `PR_SET_TIMERSLACK ${nanoseconds}`);
}

/** The calling thread's timer slack, nanoseconds. */
export function timerSlack(): number {
  return check(libc.prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0), 'prctl', 'PR_GET_TIMERSLACK');
}

/** Lets others have the calling thread's processor first, if any wait for it (sched_yield(2), which never fails). */
export function yieldProcessor(): void {
  libc.sched_yield();
}

/** Binds the calling thread to these processors (sched_setaffinity(2)). EINVAL: none of them exists, or none is allowed here. */
export function setThreadAffinity(cpus: readonly number[]): void {
  const set = new Uint8Array(CPU_SET_BYTES);
  for (const cpu of cpus) {
    if (!Number.isInteger(cpu) || cpu < 0 || cpu >= 8 * CPU_SET_BYTES) throw new RangeError(`processor ${cpu}: want 0 to ${8 * CPU_SET_BYTES - 1}`);
    set[cpu >>> 3]! |= 1 << (cpu & 7);
  }
  check(libc.sched_setaffinity(0, set.length, set), 'sched_setaffinity', cpus.join(','));
}

/** The processors the calling thread may run on, in order (sched_getaffinity(2)). */
export function threadAffinity(): number[] {
  const set = new Uint8Array(CPU_SET_BYTES);
  check(libc.sched_getaffinity(0, set.length, set), 'sched_getaffinity');
  return Array.from({ length: 8 * CPU_SET_BYTES }, (_, cpu) => cpu).filter((cpu) => (set[cpu >>> 3]! & (1 << (cpu & 7))) !== 0);
}
