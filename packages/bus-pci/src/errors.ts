/** Why a call on the bus failed. */
export type BusErrorCode =
  /** A text that is no address of its kind, or names no kind; the message quotes the offending part. */
  | 'ERR_BUS_ADDRESS'
  /** An allow or block list that contradicts itself or is malformed. */
  | 'ERR_BUS_SELECTION'
  /** A file of sysfs cannot be listed, read or written; `errno` is the system's. */
  | 'ERR_BUS_SYSFS'
  /** A file of sysfs says something that is not in its format, or more than such a file ever says. */
  | 'ERR_BUS_SYSFS_CONTENT'
  /** A mediated device of this UUID exists already, under any parent. */
  | 'ERR_BUS_MDEV_EXISTS'
  /** The kernel does not take this UUID. */
  | 'ERR_BUS_MDEV_BAD_UUID'
  /** The parent has no instance of this type left. */
  | 'ERR_BUS_MDEV_NO_INSTANCES'
  /** The parent, the type or the device is not there, or is going away. */
  | 'ERR_BUS_MDEV_GONE'
  /** The device was not removed, or did not become ready, in time: somebody has it open, or no driver takes it. */
  | 'ERR_BUS_MDEV_BUSY'
  /** An answer of VFIO that is shorter than its structure, or than it says. */
  | 'ERR_BUS_VFIO_ARGSZ'
  /** A VFIO capability chain that leaves its structure, runs in a circle, or holds what no device has. */
  | 'ERR_BUS_VFIO_CHAIN'
  /** A value that a VFIO structure cannot carry. */
  | 'ERR_BUS_ARGUMENT'
  /** Somebody else has the device, or another one of its IOMMU group. */
  | 'ERR_BUS_BUSY'
  /** The device cannot be opened: no node, no permission, a group that is not viable, a kernel without what is needed. */
  | 'ERR_BUS_UNUSABLE'
  /** The device, or the server behind its socket, is not there any more. */
  | 'ERR_BUS_GONE'
  /** This side has closed the device. */
  | 'ERR_BUS_CLOSED'
  /** A region, an offset, an interrupt vector that the device does not have. */
  | 'ERR_BUS_RANGE'
  /** The device or the kernel refuses; `errno` says why. */
  | 'ERR_BUS_REFUSED'
  /** A region, or the range asked for, cannot be mapped. */
  | 'ERR_BUS_NOT_MAPPABLE'
  /** A DMA range that is in use, out of the device's reach, or more than may be pinned. */
  | 'ERR_BUS_DMA'
  /** A driver has failed to probe a device, or to let go of one; `cause` is what it threw. */
  | 'ERR_BUS_PROBE'
  /** No driver takes this device, it is driven already, or it is not driven. */
  | 'ERR_BUS_STATE';

const ERRNO: Readonly<Record<BusErrorCode, number>> = {
  ERR_BUS_ADDRESS: 22, // EINVAL
  ERR_BUS_SELECTION: 22, // EINVAL
  ERR_BUS_SYSFS: 5, // EIO, or what the system said
  ERR_BUS_SYSFS_CONTENT: 71, // EPROTO
  ERR_BUS_MDEV_EXISTS: 17, // EEXIST
  ERR_BUS_MDEV_BAD_UUID: 22, // EINVAL
  ERR_BUS_MDEV_NO_INSTANCES: 28, // ENOSPC
  ERR_BUS_MDEV_GONE: 19, // ENODEV
  ERR_BUS_MDEV_BUSY: 16, // EBUSY
  ERR_BUS_VFIO_ARGSZ: 71, // EPROTO
  ERR_BUS_VFIO_CHAIN: 71, // EPROTO
  ERR_BUS_ARGUMENT: 22, // EINVAL
  ERR_BUS_BUSY: 16, // EBUSY
  ERR_BUS_UNUSABLE: 19, // ENODEV
  ERR_BUS_GONE: 19, // ENODEV
  ERR_BUS_CLOSED: 9, // EBADF
  ERR_BUS_RANGE: 22, // EINVAL
  ERR_BUS_REFUSED: 5, // EIO, or what was said
  ERR_BUS_NOT_MAPPABLE: 22, // EINVAL
  ERR_BUS_DMA: 22, // EINVAL, or what was said
  ERR_BUS_PROBE: 5, // EIO
  ERR_BUS_STATE: 16, // EBUSY
};

/** Whatever this package throws of its own. `code` is stable; `errno` is a Linux number. */
export class BusError extends Error {
  override readonly name = 'BusError';
  readonly code: BusErrorCode;
  readonly errno: number;
  constructor(code: BusErrorCode, message: string, options: { readonly errno?: number | undefined; readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.errno = options.errno ?? ERRNO[code];
  }
}

/** Text from outside as a message may quote it: one line, not long. */
export function quoted(text: string): string {
  const short = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  return JSON.stringify(short);
}
