/** DEVICE_GET_IRQ_INFO (7): vectors of one interrupt index. */
import { getU32, putU32 } from '../bytes.ts';
import { needArgsz, needReply } from '../payload.ts';

/** A DEVICE_GET_IRQ_INFO request or reply: argsz, flags, index, count, u32 each. */
export const IRQ_INFO_BYTES = 16;

/** What DEVICE_GET_IRQ_INFO answers: `count` vectors at interrupt index `index` (VFIO_PCI_*_IRQ_INDEX); 0: there are none. */
export interface IrqInfo {
  /** VFIO_IRQ_INFO_*. */
  readonly flags: number;
  readonly index: number;
  readonly count: number;
}

/** The request; `argsz` is the room for the answer. */
export function encodeGetIrqInfo(index: number, argsz: number = IRQ_INFO_BYTES): Uint8Array {
  const bytes = new Uint8Array(IRQ_INFO_BYTES);
  putU32(bytes, 0, argsz);
  putU32(bytes, 8, index);
  return bytes;
}

/** The index is not judged here: which ones exist is the device's. */
export function decodeGetIrqInfo(payload: Uint8Array): { readonly argsz: number; readonly index: number } {
  return { argsz: needArgsz(payload, IRQ_INFO_BYTES, 'DEVICE_GET_IRQ_INFO'), index: getU32(payload, 8) };
}

/** The reply, with its own length as argsz. */
export function encodeIrqInfo(info: IrqInfo): Uint8Array {
  const bytes = new Uint8Array(IRQ_INFO_BYTES);
  putU32(bytes, 0, IRQ_INFO_BYTES);
  putU32(bytes, 4, info.flags);
  putU32(bytes, 8, info.index);
  putU32(bytes, 12, info.count);
  return bytes;
}

/** ERR_VFU_PAYLOAD closes. Whether `index` is the one asked for is the caller's to compare. */
export function decodeIrqInfo(payload: Uint8Array): IrqInfo {
  needReply(payload, IRQ_INFO_BYTES, 'DEVICE_GET_IRQ_INFO');
  return { flags: getU32(payload, 4), index: getU32(payload, 8), count: getU32(payload, 12) };
}
