/**
 * The Linux system calls an emulated device needs, behind one interface (`Sys`) that tests can fake and fault:
 * UNIX sockets that pass descriptors, memfd and seals, mmap, eventfd, readiness, TAP, pseudo terminals, nodes of devices. `linux` is the real one (koffi over
 * libc), on the main thread and in workers alike.
 *
 * @packageDocumentation
 */
export * from './sys.ts';
export * from './constants.ts';
export * from './limits.ts';
export { ERRNO, LinuxError, errnoName, errnoNumber } from './errors.ts';
export { linux } from './linux.ts';
export { OwnedFd } from './owned-fd.ts';
export { countMappings, countOpenFds, listMappings } from './process-state.ts';
export { setThreadAffinity, setTimerSlack, threadAffinity, timerSlack } from './thread.ts';
export { withFaults } from './faults.ts';
export type { Fault } from './faults.ts';
export { AdaptiveSpin, SpinPolicy } from './adaptive-spin.ts';
export type { SpinOptions, Spinner } from './adaptive-spin.ts';
