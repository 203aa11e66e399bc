/**
 * The back end of a serial card's port: its bytes to a pseudo terminal, a TCP or UNIX socket, or standard input and output.
 *
 * `back-end.ts` moves bytes between the card's channel (credits) and a far end; `far-end.ts` is what a far end is, `pty.ts`, `socket.ts` and
 * `stdio.ts` are those there are.
 *
 * @packageDocumentation
 */
export { driver, type SerialBackEndArgs } from './driver.ts';
export { SERIAL_BACK_END_DIAGNOSTICS, SerialBackEnd, type SerialBackEndCounters, type SerialBackEndDiagnostic, type SerialBackEndOptions } from './back-end.ts';
export type { FarEnd, FarEndEvents } from './far-end.ts';
export { PtyFarEnd } from './pty.ts';
export { SocketFarEnd, type SocketAddress, type SocketFarEndOptions } from './socket.ts';
export { StdioFarEnd, type StdioOptions } from './stdio.ts';
export * from './limits.ts';
