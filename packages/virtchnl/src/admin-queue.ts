/**
 * Admin-queue descriptors, 32 bytes, little-endian:
 * ```
 * 0 u16 flags   2 u16 opcode   4 u16 datalen   6 u16 retval   8 u32 cookie_high (virtchnl opcode)   12 s32 cookie_low (virtchnl status)
 * 16 u32 param0   20 u32 param1   24 u32 addr_high   28 u32 addr_low
 * ```
 */
import { VirtchnlError } from './errors.ts';
import { MAX_MESSAGE_BYTES } from './limits.ts';
import { viewOf } from './wire.ts';

/** Bytes of a descriptor, of either queue. */
export const ADMIN_DESCRIPTOR_BYTES = 32;

/** Bits of `AdminDescriptor.flags`. */
export const AdminFlag = {
  /** Descriptor done. */
  DD: 0x0001,
  CMP: 0x0002,
  ERR: 0x0004,
  VFE: 0x0008,
  /** Large buffer: longer than ADMIN_LARGE_BUFFER_BYTES. */
  LB: 0x0200,
  /** The device reads the buffer. */
  RD: 0x0400,
  VFC: 0x0800,
  /** The buffer is valid. */
  BUF: 0x1000,
  /** No interrupt on completion. */
  SI: 0x2000,
  EI: 0x4000,
  FE: 0x8000,
} as const;

/** A buffer longer than this needs `AdminFlag.LB`. */
export const ADMIN_LARGE_BUFFER_BYTES = 512;

/** Opcodes of the admin queue itself. The two SEND_MSG ones carry a virtchnl message, its own opcode in `cookieHigh`. */
export const AdminOpcode = {
  QUEUE_SHUTDOWN: 0x0003,
  SEND_MSG_TO_PF: 0x0801,
  SEND_MSG_TO_VF: 0x0802,
} as const;

/** `retval` of a completed descriptor. A refused virtchnl message is still OK here: its status travels in the reply. */
export const AdminReturn = {
  OK: 0,
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EAGAIN: 8,
  ENOMEM: 9,
  EACCES: 10,
  EFAULT: 11,
  EBUSY: 12,
  EEXIST: 13,
  EINVAL: 14,
  ENOTTY: 15,
  ENOSPC: 16,
  ENOSYS: 17,
  ERANGE: 18,
  EFLUSHED: 19,
  BAD_ADDR: 20,
  EMODE: 21,
  EFBIG: 22,
} as const;

/** A descriptor of the send queue (ATQ) or the receive queue (ARQ); `address` is the buffer's IOVA. */
export interface AdminDescriptor {
  readonly flags: number;
  readonly opcode: number;
  /** Bytes in the buffer, or the buffer's capacity where the driver posts it for receiving. */
  readonly dataLength: number;
  readonly returnValue: number;
  /** virtchnl opcode. */
  readonly cookieHigh: number;
  /** virtchnl status, signed. */
  readonly cookieLow: number;
  readonly param0: number;
  readonly param1: number;
  readonly address: bigint;
}

function descriptorView(bytes: Uint8Array): DataView {
  if (bytes.length !== ADMIN_DESCRIPTOR_BYTES) {
    throw new VirtchnlError('ERR_VIRTCHNL_LENGTH', { opcode: 0, expected: `a descriptor of ${ADMIN_DESCRIPTOR_BYTES} bytes`, seen: `${bytes.length}` });
  }
  return viewOf(bytes);
}

/** Reads a descriptor; any 32 bytes are one. Throws VirtchnlError unless `bytes` has exactly 32 bytes. */
export function decodeAdminDescriptor(bytes: Uint8Array): AdminDescriptor {
  const view = descriptorView(bytes);
  return {
    flags: view.getUint16(0, true),
    opcode: view.getUint16(2, true),
    dataLength: view.getUint16(4, true),
    returnValue: view.getUint16(6, true),
    cookieHigh: view.getUint32(8, true),
    cookieLow: view.getInt32(12, true),
    param0: view.getUint32(16, true),
    param1: view.getUint32(20, true),
    address: (BigInt(view.getUint32(24, true)) << 32n) | BigInt(view.getUint32(28, true)),
  };
}

/** Fields left out are zero. Fields are stored modulo their size. */
export function encodeAdminDescriptor(fields: Partial<AdminDescriptor>, into: Uint8Array = new Uint8Array(ADMIN_DESCRIPTOR_BYTES)): Uint8Array {
  const view = descriptorView(into);
  const address = fields.address ?? 0n;
  view.setUint16(0, fields.flags ?? 0, true);
  view.setUint16(2, fields.opcode ?? 0, true);
  view.setUint16(4, fields.dataLength ?? 0, true);
  view.setUint16(6, fields.returnValue ?? 0, true);
  view.setUint32(8, fields.cookieHigh ?? 0, true);
  view.setInt32(12, fields.cookieLow ?? 0, true);
  view.setUint32(16, fields.param0 ?? 0, true);
  view.setUint32(20, fields.param1 ?? 0, true);
  view.setUint32(24, Number((address >> 32n) & 0xffff_ffffn), true);
  view.setUint32(28, Number(address & 0xffff_ffffn), true);
  return into;
}

const bufferFlags = (length: number): number => (length > 0 ? AdminFlag.BUF : 0) | (length > ADMIN_LARGE_BUFFER_BYTES ? AdminFlag.LB : 0);

/** Driver: sends a virtchnl request of `length` bytes that lies at `address`. */
export function requestDescriptor(opcode: number, length: number, address: bigint): AdminDescriptor {
  return {
    flags: AdminFlag.SI | bufferFlags(length) | (length > 0 ? AdminFlag.RD : 0),
    opcode: AdminOpcode.SEND_MSG_TO_PF,
    dataLength: length,
    returnValue: 0,
    cookieHigh: opcode,
    cookieLow: 0,
    param0: 0,
    param1: 0,
    address: length > 0 ? address : 0n,
  };
}

/** Driver: posts a buffer for one message from the device. */
export function receiveDescriptor(address: bigint, capacity: number = MAX_MESSAGE_BYTES): AdminDescriptor {
  return { flags: bufferFlags(capacity), opcode: 0, dataLength: capacity, returnValue: 0, cookieHigh: 0, cookieLow: 0, param0: 0, param1: 0, address };
}

/** Driver: announces that it stops using the queues (synchronous: poll ATQH). */
export function shutdownDescriptor(driverUnloading: boolean): AdminDescriptor {
  return { flags: AdminFlag.SI, opcode: AdminOpcode.QUEUE_SHUTDOWN, dataLength: 0, returnValue: 0, cookieHigh: 0, cookieLow: 0, param0: driverUnloading ? 1 : 0, param1: 0, address: 0n };
}

/** Device: what goes over a posted receive descriptor when a message of `length` bytes was put into its buffer at `address`. */
export function replyDescriptor(opcode: number, status: number, length: number, address: bigint): AdminDescriptor {
  return {
    flags: AdminFlag.DD | AdminFlag.CMP | bufferFlags(length),
    opcode: AdminOpcode.SEND_MSG_TO_VF,
    dataLength: length,
    returnValue: 0,
    cookieHigh: opcode,
    cookieLow: status,
    param0: 0,
    param1: 0,
    address,
  };
}

/** Device: a sent descriptor as it is written back. Everything else is kept, drivers compare it. */
export function completedDescriptor(sent: AdminDescriptor, returnValue: number): AdminDescriptor {
  const error = returnValue === AdminReturn.OK ? 0 : AdminFlag.ERR;
  return { ...sent, flags: sent.flags | AdminFlag.DD | AdminFlag.CMP | error, returnValue };
}
