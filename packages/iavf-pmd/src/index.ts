/**
 * A driver for the Intel Adaptive Virtual Function (iavf) behind a vfio-user socket: the other side of an emulated card, as a port
 * like any other. `driver` is what the vdev bus loads for `net_iavf`; `IavfPort` is the same without a bus.
 *
 * @packageDocumentation
 */
export { driver, type IavfArgs } from './driver.ts';
export { IavfPort, type IavfPortOptions } from './port.ts';
export { VfioUserTransport } from './vfio-user-transport.ts';
export type { IavfTransport } from './transport.ts';
export { IavfError, type IavfErrorCode } from './errors.ts';
export { IAVF_EVENTS_CHANNEL, type IavfEvent } from './events.ts';
