/** Little-endian fields of the kernel's structures, and the two ways in which they are wrong. */
import { BusError } from '../errors.ts';

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** A new structure whose first word is its size. */
export function sized(bytes: number): { readonly bytes: Uint8Array; readonly view: DataView } {
  const all = new Uint8Array(bytes);
  const view = viewOf(all);
  view.setUint32(0, bytes, true);
  return { bytes: all, view };
}

/** The structure `name` as the kernel left it; ERR_BUS_VFIO_ARGSZ where it is not all there. */
export function received(bytes: Uint8Array, least: number, name: string): DataView {
  if (bytes.length < least) throw new BusError('ERR_BUS_VFIO_ARGSZ', `${name} has ${bytes.length} bytes, needs ${least}`);
  return viewOf(bytes);
}

/** A u32 for the kernel. */
export function putU32(view: DataView, offset: number, value: number, field: string): void {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) throw new BusError('ERR_BUS_ARGUMENT', `${field} is ${value}, not an unsigned number of 32 bits`);
  view.setUint32(offset, value, true);
}

/** A u64 for the kernel. */
export function putU64(view: DataView, offset: number, value: bigint, field: string): void {
  if (value < 0n || value > 0xffff_ffff_ffff_ffffn) throw new BusError('ERR_BUS_ARGUMENT', `${field} is ${value}, not an unsigned number of 64 bits`);
  view.setBigUint64(offset, value, true);
}

/** A descriptor for the kernel, -1 for none where it takes that. */
export function putFd(view: DataView, offset: number, fd: number, least = 0): void {
  if (!Number.isInteger(fd) || fd < least || fd > 0x7fff_ffff) throw new BusError('ERR_BUS_ARGUMENT', `${fd} is no descriptor`);
  view.setInt32(offset, fd, true);
}
