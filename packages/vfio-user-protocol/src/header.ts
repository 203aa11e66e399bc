/** The 16-byte message header: id u16, command u16, message size u32, flags u32, error u32. */
import { getU16, getU32, putU16, putU32 } from './bytes.ts';
import {
  EINVAL, HEADER_BYTES, MAX_ERRNO, VFIO_USER_F_ERROR, VFIO_USER_F_NO_REPLY, VFIO_USER_F_TYPE_COMMAND, VFIO_USER_F_TYPE_MASK, VFIO_USER_F_TYPE_REPLY,
} from './constants.ts';
import { badPeer } from './errors.ts';

/** The header that every message begins with. */
export interface Header {
  /** Chosen by whoever sends the command, echoed in the reply; the two directions have separate id spaces. */
  readonly id: number;
  readonly command: number;
  /** Whole message in bytes, this header included. */
  readonly size: number;
  readonly flags: number;
  /** Linux errno where the Error flag is set. */
  readonly error: number;
}

/** Reads a header at `at`; throws ProtocolError ('close') when fewer than 16 bytes are there. The size field is the framing's to judge. */
export function decodeHeader(bytes: Uint8Array, at = 0): Header {
  if (bytes.length - at < HEADER_BYTES) throw badPeer('ERR_VFU_FRAME_SIZE', `a header has ${HEADER_BYTES} bytes, got ${Math.max(0, bytes.length - at)}`);
  return {
    id: getU16(bytes, at),
    command: getU16(bytes, at + 2),
    size: getU32(bytes, at + 4),
    flags: getU32(bytes, at + 8),
    error: getU32(bytes, at + 12),
  };
}

/** Writes a header at byte `at` of a message. Nothing is checked. */
export function putHeader(into: Uint8Array, at: number, id: number, command: number, size: number, flags: number, error: number): void {
  putU16(into, at, id);
  putU16(into, at + 2, command);
  putU32(into, at + 4, size);
  putU32(into, at + 8, flags);
  putU32(into, at + 12, error);
}

/** The 16 bytes of a header alone. */
export function encodeHeader(header: Header): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  putHeader(bytes, 0, header.id, header.command, header.size, header.flags, header.error);
  return bytes;
}

/** A whole message with `payloadBytes` zero bytes behind its header, to be filled from HEADER_BYTES on: one buffer, one sendmsg. */
export function newMessage(id: number, command: number, flags: number, payloadBytes: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payloadBytes);
  putHeader(bytes, 0, id, command, bytes.length, flags, 0);
  return bytes;
}

/** A whole message around a payload (copied). */
export function encodeMessage(id: number, command: number, flags: number, payload: Uint8Array): Uint8Array {
  const bytes = newMessage(id, command, flags, payload.length);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

/** A header-only error reply: the one form every peer but the Rust client copes with. */
export function encodeErrorReply(id: number, command: number, errno: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  putHeader(bytes, 0, id, command, HEADER_BYTES, VFIO_USER_F_TYPE_REPLY | VFIO_USER_F_ERROR, errno);
  return bytes;
}

/** Whether the message type in a header's flags is Command. */
export function isCommand(flags: number): boolean {
  return (flags & VFIO_USER_F_TYPE_MASK) === VFIO_USER_F_TYPE_COMMAND;
}

/** Whether the message type in a header's flags is Reply. Types other than these two are reserved. */
export function isReply(flags: number): boolean {
  return (flags & VFIO_USER_F_TYPE_MASK) === VFIO_USER_F_TYPE_REPLY;
}

/** The sender of this command wants no answer, not even an error. */
export function isPosted(flags: number): boolean {
  return (flags & VFIO_USER_F_NO_REPLY) !== 0;
}

/** 0 for success, else the errno; an error without a reason, or with an impossible one, is EINVAL. */
export function replyErrno(header: Pick<Header, 'flags' | 'error'>): number {
  if ((header.flags & VFIO_USER_F_ERROR) === 0) return 0;
  return header.error >= 1 && header.error <= MAX_ERRNO ? header.error : EINVAL;
}
