export type EthdevErrorCode =
  /** An argument out of range, or a port in two pairs. */
  | 'INVALID_CONFIG'
  /** The call is not allowed in this state. */
  | 'INVALID_STATE'
  /** A data path's module could not be loaded, or it refused its init. */
  | 'DATAPATH_FAILED'
  /** A data path threw, or returned a count nobody asked for: its stream has been stopped. */
  | 'STREAM_FAILED'
  /** An lcore's thread ended by itself. */
  | 'LCORE_DIED'
  /** An lcore did not answer within COMMAND_DEADLINE_MS. */
  | 'LCORE_STUCK';

const ERRNO: Record<EthdevErrorCode, number> = {
  INVALID_CONFIG: 22, // EINVAL
  INVALID_STATE: 16, // EBUSY
  DATAPATH_FAILED: 5, // EIO
  STREAM_FAILED: 5,
  LCORE_DIED: 5,
  LCORE_STUCK: 110, // ETIMEDOUT
};

/** Everything the port class itself complains about. `cause` is the data path's own error where there is one. */
export class EthdevError extends Error {
  readonly code: EthdevErrorCode;
  /** For whoever has to tell a peer. */
  readonly errno: number;

  constructor(code: EthdevErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'EthdevError';
    this.code = code;
    this.errno = ERRNO[code];
  }
}
