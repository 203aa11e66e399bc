/**
 * The Intel Adaptive Virtual Function (iavf) network card as an emudev provider: configuration space, registers, admin-queue
 * transport, interrupts, doorbells, resets. It moves no frame and reads no virtchnl message; that is its back end's.
 *
 * Begin at `register-table.ts`, then `device.ts`. `contract.ts` is what a back end needs.
 *
 * @packageDocumentation
 */
export * from './contract.ts';
export { driver, type IavfArgs, type IavfVdev } from './driver.ts';
export { IavfDevice, type DoorbellMode, type IavfDeviceOptions } from './device.ts';
export type { AdminCounters } from './admin-queue.ts';
export { REGISTERS, type RegisterName, type RegisterSpec } from './register-table.ts';
