/**
 * A PCI serial card as an emudev provider: configuration space, 16550A registers, interrupts. What its ports are connected to is
 * their back ends' business.
 *
 * Begin at `register-table.ts`, then `uart.ts`; `port.ts` joins a UART and a back end's channel, `device.ts` makes a card of one or two.
 * `contract.ts` is what a back end needs.
 *
 * @packageDocumentation
 */
export * from './contract.ts';
export { driver, type SerialArgs } from './driver.ts';
export { SerialCard, type SerialCardOptions } from './device.ts';
export { SerialPort, type SerialPortOptions } from './port.ts';
export { Uart, type UartEvents } from './uart.ts';
export { REGISTERS, type RegisterName, type RegisterSpec } from './register-table.ts';
export * from './limits.ts';
