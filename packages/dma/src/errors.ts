/** Codes of `DmaError`, with the `errno` each has unless the error says otherwise. */
export type DmaErrorCode =
  /** EINVAL: an address, size, page size or alignment that makes no sense. */
  | 'ERR_DMA_INVALID'
  /** EEXIST: the range has addresses in common with a mapped region. */
  | 'ERR_DMA_OVERLAP'
  /** ENOENT: no region was mapped with exactly this range; for a dirty report, nothing at all is mapped in it. */
  | 'ERR_DMA_NOT_MAPPED'
  /** ENOSPC: more regions, a larger region or a longer dirty bitmap than `limits.ts` allows. */
  | 'ERR_DMA_LIMIT'
  /** EFAULT: an access to an address that is not mapped, not permitted or out of reach. */
  | 'ERR_DMA_FAULT'
  /** EINVAL, or the errno of fstat or mmap: a file that is no regular one, is too short, or cannot be mapped. */
  | 'ERR_DMA_FILE'
  /** EPERM: under `Truncation` 'refuse', a file that its owner could shrink. */
  | 'ERR_DMA_UNSEALED'
  /** ENOSPC: no room in the window, or too many mappings in it. */
  | 'ERR_WINDOW_FULL'
  /** EIO: files mapped into linear memory do not show up there in this engine. */
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
