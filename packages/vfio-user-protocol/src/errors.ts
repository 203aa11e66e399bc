/**
 * What went wrong on the wire and what follows from it: `reply` (the command failed; the stream is fine) or `close` (the
 * stream, or the peer, can no longer be trusted; a server may still send `errno` before it closes).
 */
export type ProtocolErrorCode =
  /** A payload is shorter than its fixed part, or its parts do not add up. */
  | 'ERR_VFU_PAYLOAD'
  /** `argsz` is smaller than the structure, or beyond the limit. */
  | 'ERR_VFU_ARGSZ'
  /** Unknown or contradicting flag bits. */
  | 'ERR_VFU_FLAGS'
  /** A region, interrupt or feature number that does not exist. */
  | 'ERR_VFU_INDEX'
  /** An offset, address, count or size out of range (overflow included). */
  | 'ERR_VFU_RANGE'
  /** The number of file descriptors does not fit the message. */
  | 'ERR_VFU_FDS'
  /** A header whose message size is below 16 or above the limit. */
  | 'ERR_VFU_FRAME_SIZE'
  /** A command where a reply was due, or the reverse, or a reserved type. */
  | 'ERR_VFU_TYPE'
  /** A command number nobody knows. */
  | 'ERR_VFU_COMMAND'
  /** VERSION: malformed JSON, a value out of bounds, or an incompatible version. */
  | 'ERR_VFU_VERSION';

/** Whether the command is answered with an error, or the connection ends. */
export type Consequence = 'reply' | 'close';

/** Bytes that break the protocol: the only thing decoders throw. `code` is stable. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
  readonly code: ProtocolErrorCode;
  /** Linux errno for the error reply. */
  readonly errno: number;
  readonly consequence: Consequence;
  constructor(code: ProtocolErrorCode, errno: number, consequence: Consequence, message: string) {
    super(message);
    this.code = code;
    this.errno = errno;
    this.consequence = consequence;
  }
}

const EINVAL = 22;

/** A request that is answered with an error. */
export function badRequest(code: ProtocolErrorCode, message: string, errno: number = EINVAL): ProtocolError {
  return new ProtocolError(code, errno, 'reply', message);
}

/** A reply, header or stream that ends the connection. */
export function badPeer(code: ProtocolErrorCode, message: string, errno: number = EINVAL): ProtocolError {
  return new ProtocolError(code, errno, 'close', message);
}
