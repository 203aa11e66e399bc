/** A file that is not, or not wholly, a capture of ours. */
export class CaptureError extends Error {
  override readonly name = 'CaptureError';
  readonly code = 'ERR_CAPTURE';
  /** Byte of the file where it was noticed. */
  readonly offset: number;
  constructor(offset: number, message: string) {
    super(`at byte ${offset}: ${message}`);
    this.offset = offset;
  }
}
