/** Why a call on a vfio-user device failed. */
export type ClientErrorCode =
  /** Nobody listens at the path, or it cannot be reached; `errno` is connect's. */
  | 'ERR_VFU_CLIENT_CONNECT'
  /** An argument no server could accept. */
  | 'ERR_VFU_CLIENT_ARGUMENT'
  /** The server answered with an error: `errno` is its. The connection goes on. */
  | 'ERR_VFU_CLIENT_REFUSED'
  /** No answer in time. The connection goes on; a late answer is dropped. */
  | 'ERR_VFU_CLIENT_TIMEOUT'
  /** The caller's AbortSignal fired: `cause` is its reason. A request that had left may have been executed; its answer is dropped. */
  | 'ERR_VFU_CLIENT_ABORTED'
  /** Too much is in flight or queued: the server is slower than the caller. */
  | 'ERR_VFU_CLIENT_BUSY'
  /** The server transferred fewer bytes than asked for. */
  | 'ERR_VFU_CLIENT_SHORT'
  /** The region has nothing that can be mapped safely; the message says why. */
  | 'ERR_VFU_CLIENT_NOT_MAPPABLE'
  /** The server broke the protocol; the connection has been closed. */
  | 'ERR_VFU_CLIENT_BAD_SERVER'
  /** The connection was lost while this request was in flight and another one is being made. Whether the server has executed it is unknown, so it is not repeated. */
  | 'ERR_VFU_CLIENT_LOST'
  /** After a reconnect: what answers at the path is not the device that was there. The connection is closed. */
  | 'ERR_VFU_CLIENT_OTHER_DEVICE'
  /** After a reconnect: the server refused a DMA map or an interrupt it had accepted before; `cause` is the refusal. The connection is closed. */
  | 'ERR_VFU_CLIENT_REPLAY'
  /** The connection is closed: by the server, by an I/O error (the cause), or by this side. */
  | 'ERR_VFU_CLIENT_CLOSED';

const ERRNO: Readonly<Record<ClientErrorCode, number>> = {
  ERR_VFU_CLIENT_CONNECT: 111, // ECONNREFUSED
  ERR_VFU_CLIENT_ARGUMENT: 22, // EINVAL
  ERR_VFU_CLIENT_REFUSED: 22, // EINVAL, or what the server said
  ERR_VFU_CLIENT_TIMEOUT: 110, // ETIMEDOUT
  ERR_VFU_CLIENT_ABORTED: 125, // ECANCELED
  ERR_VFU_CLIENT_BUSY: 16, // EBUSY
  ERR_VFU_CLIENT_SHORT: 5, // EIO
  ERR_VFU_CLIENT_NOT_MAPPABLE: 19, // ENODEV
  ERR_VFU_CLIENT_BAD_SERVER: 71, // EPROTO
  ERR_VFU_CLIENT_LOST: 104, // ECONNRESET
  ERR_VFU_CLIENT_OTHER_DEVICE: 6, // ENXIO
  ERR_VFU_CLIENT_REPLAY: 5, // EIO, or what the server said
  ERR_VFU_CLIENT_CLOSED: 107, // ENOTCONN
};

/** Whatever this package rejects with. `code` is stable; `errno` is a Linux number. */
export class ClientError extends Error {
  override readonly name = 'ClientError';
  readonly code: ClientErrorCode;
  readonly errno: number;
  constructor(code: ClientErrorCode, message: string, options: { readonly errno?: number; readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.errno = options.errno ?? ERRNO[code];
  }
}

export function badArgument(message: string): ClientError {
  return new ClientError('ERR_VFU_CLIENT_ARGUMENT', message);
}

/** The `errno` an exception of foreign code carries, EIO where it carries none that a reply could. */
export function errnoOf(error: unknown): number {
  const errno: unknown = error instanceof Error && 'errno' in error ? error.errno : undefined;
  return typeof errno === 'number' && Number.isInteger(errno) && errno > 0 && errno <= 4095 ? errno : 5;
}

/** What a reply's `accept` throws when the server cannot be trusted any more. */
export function badServer(message: string): ClientError {
  return new ClientError('ERR_VFU_CLIENT_BAD_SERVER', message);
}
