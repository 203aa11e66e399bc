/** Codes of `MemifError`. */
export type MemifErrorCode =
  /** EINVAL: arguments that cannot be, or that another interface of this process has taken. */
  | 'ERR_MEMIF_CONFIG'
  /** EBADMSG: bytes that are no control message. */
  | 'ERR_MEMIF_MESSAGE'
  /** EPROTO: a message, descriptor or ring that the protocol does not allow here. */
  | 'ERR_MEMIF_PROTOCOL'
  /** EACCES: a version, interface id or secret that is not ours. */
  | 'ERR_MEMIF_REFUSED'
  /** EFAULT: shared memory that is no file, too short, too large, or can be truncated. */
  | 'ERR_MEMIF_REGION'
  /** ETIMEDOUT: a peer that says nothing, or does not listen. */
  | 'ERR_MEMIF_TIMEOUT';

const ERRNO: Readonly<Record<MemifErrorCode, number>> = {
  ERR_MEMIF_CONFIG: 22, // EINVAL
  ERR_MEMIF_MESSAGE: 74, // EBADMSG
  ERR_MEMIF_PROTOCOL: 71, // EPROTO
  ERR_MEMIF_REFUSED: 13, // EACCES
  ERR_MEMIF_REGION: 14, // EFAULT
  ERR_MEMIF_TIMEOUT: 110, // ETIMEDOUT
};

/** Whatever this package refuses. The message is what the peer is told in DISCONNECT; `errno` its code there. */
export class MemifError extends Error {
  override readonly name = 'MemifError';
  readonly code: MemifErrorCode;
  readonly errno: number;
  constructor(code: MemifErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.errno = ERRNO[code];
  }
}
