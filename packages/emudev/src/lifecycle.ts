/**
 * The life of an emulated device as its application drives it.
 *
 * | operation | allocated  | configured | started | stopped    | closed | why the rest is refused                              |
 * | --------- | ---------- | ---------- | ------- | ---------- | ------ | ---------------------------------------------------- |
 * | configure | configured | -          | -       | configured | -      | a running device cannot change its queue count       |
 * | start     | -          | started    | -       | started    | -      | queue counts are unknown before configure            |
 * | stop      | -          | -          | stopped | stopped    | -      | nothing runs; a second stop is harmless, so allowed  |
 * | close     | closed     | closed     | closed  | closed     | -      | resources are given back exactly once                |
 *
 * `close` of a started device stops it first. An operation that fails leaves the state as it was, `stop` and `close` excepted:
 * they always arrive, and report what went wrong on the way.
 */
import type { EmudevState } from './device.ts';
import { EmudevError } from './errors.ts';

export type LifecycleOperation = 'configure' | 'start' | 'stop' | 'close';

export const LIFECYCLE: Readonly<Record<LifecycleOperation, Readonly<Partial<Record<EmudevState, EmudevState>>>>> = {
  configure: { allocated: 'configured', stopped: 'configured' },
  start: { configured: 'started', stopped: 'started' },
  stop: { started: 'stopped', stopped: 'stopped' },
  close: { allocated: 'closed', configured: 'closed', started: 'closed', stopped: 'closed' },
};

/** The state `operation` leads to from `state`; EMUDEV_BAD_STATE where the table has none. */
export function nextState(name: string, operation: LifecycleOperation, state: EmudevState): EmudevState {
  const next = LIFECYCLE[operation][state];
  if (next === undefined) {
    const allowed = Object.keys(LIFECYCLE[operation]).join(', ');
    throw new EmudevError('EMUDEV_BAD_STATE', `${name}: cannot ${operation} while ${state}; possible while ${allowed}`);
  }
  return next;
}
