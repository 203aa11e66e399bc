/** Codes of `EthdevError`. */
export type EthdevErrorCode =
  /** An argument out of range, or a port in two pairs. */
  | 'ERR_ETHDEV_CONFIG'
  /** The call is not allowed in this state. */
  | 'ERR_ETHDEV_STATE'
  /** A data path's module could not be loaded, or it refused its init. */
  | 'ERR_ETHDEV_DATAPATH'
  /** A data path threw, or returned a count nobody asked for: its stream has been stopped. */
  | 'ERR_ETHDEV_STREAM'
  /** An lcore's thread ended by itself. */
  | 'ERR_ETHDEV_LCORE_DIED'
  /** An lcore did not answer within COMMAND_DEADLINE_MS. */
  | 'ERR_ETHDEV_LCORE_STUCK';

const ERRNO: Record<EthdevErrorCode, number> = {
  ERR_ETHDEV_CONFIG: 22, // EINVAL
  ERR_ETHDEV_STATE: 16, // EBUSY
  ERR_ETHDEV_DATAPATH: 5, // EIO
  ERR_ETHDEV_STREAM: 5,
  ERR_ETHDEV_LCORE_DIED: 5,
  ERR_ETHDEV_LCORE_STUCK: 110, // ETIMEDOUT
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
