/** Why the driver could not do what it was asked. */
export type IavfErrorCode =
  /** The device on the socket is not an iavf function, or lacks a region or vector one has. */
  | 'ERR_IAVF_NOT_IAVF'
  /** A register or a reply did not come in time. */
  | 'ERR_IAVF_TIMEOUT'
  /** The device answered a request with a status that is not SUCCESS. */
  | 'ERR_IAVF_REFUSED'
  /** The device said something no sane device says: absurd length, index or count. */
  | 'ERR_IAVF_BAD_DEVICE'
  /** The connection to the device is gone; the port stays, with its link down, until it is closed. */
  | 'ERR_IAVF_GONE'
  /** The call is not allowed in the port's state. */
  | 'ERR_IAVF_STATE'
  /** More queues than there are, or a size out of range. */
  | 'ERR_IAVF_CONFIG'
  /** An lcore did not leave its burst. */
  | 'ERR_IAVF_BUSY';

const ERRNO: Readonly<Record<IavfErrorCode, number>> = {
  ERR_IAVF_NOT_IAVF: 19, // ENODEV
  ERR_IAVF_TIMEOUT: 110, // ETIMEDOUT
  ERR_IAVF_REFUSED: 5, // EIO
  ERR_IAVF_BAD_DEVICE: 71, // EPROTO
  ERR_IAVF_GONE: 104, // ECONNRESET
  ERR_IAVF_STATE: 22, // EINVAL
  ERR_IAVF_CONFIG: 22,
  ERR_IAVF_BUSY: 16, // EBUSY
};

/** The one error of this package; the message says what was expected and what was seen. */
export class IavfError extends Error {
  override readonly name = 'IavfError';
  readonly code: IavfErrorCode;
  readonly errno: number;

  constructor(code: IavfErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.errno = ERRNO[code];
  }
}
