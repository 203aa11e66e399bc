export type DmaErrorCode =
  | 'ERR_DMA_INVALID'
  | 'ERR_DMA_OVERLAP'
  | 'ERR_DMA_NOT_MAPPED'
  | 'ERR_DMA_LIMIT'
  | 'ERR_DMA_FAULT'
  | 'ERR_DMA_FILE'
  | 'ERR_DMA_UNSEALED'
  | 'ERR_WINDOW_FULL'
  | 'ERR_WINDOW_SELF_TEST';

/** Linux numbers, as protocols put them on the wire. */
const ERRNO: Readonly<Record<DmaErrorCode, number>> = {
  ERR_DMA_INVALID: 22, // EINVAL
  ERR_DMA_OVERLAP: 17, // EEXIST
  ERR_DMA_NOT_MAPPED: 2, // ENOENT
  ERR_DMA_LIMIT: 28, // ENOSPC
  ERR_DMA_FAULT: 14, // EFAULT
  ERR_DMA_FILE: 22, // EINVAL, or the errno of the call that failed
  ERR_DMA_UNSEALED: 1, // EPERM
  ERR_WINDOW_FULL: 28, // ENOSPC
  ERR_WINDOW_SELF_TEST: 5, // EIO
};

/** Whatever this package refuses. `code` is stable; `errno` is what a protocol reports to the consumer. */
export class DmaError extends Error {
  override readonly name = 'DmaError';
  readonly code: DmaErrorCode;
  readonly errno: number;
  constructor(code: DmaErrorCode, message: string, options: { errno?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.errno = options.errno ?? ERRNO[code];
  }
}
