/** Why a call on a serial card failed. */
export type SerialErrorCode =
  /** A value that no UART takes: a rate, a port number, too many bytes. */
  | 'ERR_SERIAL_ARGUMENT'
  /** The device is no serial card, or what should be a UART does not behave like one. */
  | 'ERR_SERIAL_NOT_A_UART'
  /** The card asks for service without end and has nothing to be done. */
  | 'ERR_SERIAL_BAD_DEVICE'
  /** The card has gone, or does not answer any more; `cause` is the bus's error. */
  | 'ERR_SERIAL_GONE'
  /** This side has closed the port or the card. */
  | 'ERR_SERIAL_CLOSED'
  /** The port is open already, or is being read by somebody else. */
  | 'ERR_SERIAL_STATE';

const ERRNO: Readonly<Record<SerialErrorCode, number>> = {
  ERR_SERIAL_ARGUMENT: 22, // EINVAL
  ERR_SERIAL_NOT_A_UART: 19, // ENODEV
  ERR_SERIAL_BAD_DEVICE: 71, // EPROTO
  ERR_SERIAL_GONE: 19, // ENODEV
  ERR_SERIAL_CLOSED: 9, // EBADF
  ERR_SERIAL_STATE: 16, // EBUSY
};

/** Whatever this package throws of its own. `code` is stable; `errno` is a Linux number. */
export class SerialError extends Error {
  override readonly name = 'SerialError';
  readonly code: SerialErrorCode;
  readonly errno: number;
  constructor(code: SerialErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.errno = ERRNO[code];
  }
}
