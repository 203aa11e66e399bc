/** The one error family of the class. `code` is stable; `errno` is what a protocol reports for it. */
export type EmudevErrorCode =
  | 'EMUDEV_EXISTS'
  | 'EMUDEV_NOENT'
  | 'EMUDEV_NODRIVER'
  | 'EMUDEV_NOT_MINE'
  | 'EMUDEV_BAD_ARG'
  | 'EMUDEV_BAD_STATE'
  | 'EMUDEV_NOT_READY'
  | 'EMUDEV_UNSUPPORTED'
  | 'EMUDEV_RANGE'
  | 'EMUDEV_NO_ATTR'
  | 'EMUDEV_NO_REGION'
  | 'EMUDEV_NO_CHANNEL'
  | 'EMUDEV_TIMEOUT'
  | 'EMUDEV_TRANSPORT';

/** Linux numbers (asm-generic/errno.h). */
const ERRNO: Readonly<Record<EmudevErrorCode, number>> = {
  EMUDEV_EXISTS: 17, // EEXIST
  EMUDEV_NOENT: 2, // ENOENT
  EMUDEV_NODRIVER: 19, // ENODEV
  EMUDEV_NOT_MINE: 19,
  EMUDEV_BAD_ARG: 22, // EINVAL
  EMUDEV_BAD_STATE: 16, // EBUSY
  EMUDEV_NOT_READY: 11, // EAGAIN
  EMUDEV_UNSUPPORTED: 95, // EOPNOTSUPP
  EMUDEV_RANGE: 34, // ERANGE
  EMUDEV_NO_ATTR: 2,
  EMUDEV_NO_REGION: 2,
  EMUDEV_NO_CHANNEL: 2,
  EMUDEV_TIMEOUT: 110, // ETIMEDOUT
  EMUDEV_TRANSPORT: 5, // EIO
};

/** What every call of this package throws or rejects with. */
export class EmudevError extends Error {
  override readonly name = 'EmudevError';
  readonly code: EmudevErrorCode;
  readonly errno: number;
  constructor(code: EmudevErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.errno = ERRNO[code];
  }
}
