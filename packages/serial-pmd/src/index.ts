/**
 * Drives PCI serial cards with 16550 UARTs: physical ones, mediated ones (mtty), and emulated ones behind a vfio-user socket.
 *
 * Reading order: `card.ts` (ports and their interrupt), `port.ts` (bytes), `registers.ts`.
 *
 * @packageDocumentation
 */
export { SerialCard } from './card.ts';
export type { InterruptKind, SerialCardOptions } from './card.ts';
export { pciDriver } from './driver.ts';
export { SerialError } from './errors.ts';
export type { SerialErrorCode } from './errors.ts';
export type { ModemInputs, SerialCounters, SerialPort, SerialPortOptions } from './port.ts';
export type { LineSettings, Parity } from './settings.ts';
export * from './limits.ts';
