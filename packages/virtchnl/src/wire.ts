/** Little-endian fields, checked on the way out, and the two length rules that messages follow on the way in. Internal. */
import { VirtchnlError } from './errors.ts';
import { MAX_MESSAGE_BYTES } from './limits.ts';

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Fixed-size messages: exactly `bytes` long. */
export function exactLength(opcode: number, payload: Uint8Array, bytes: number): void {
  if (payload.length !== bytes) {
    throw new VirtchnlError('ERR_VIRTCHNL_LENGTH', { opcode, expected: `${bytes} bytes`, seen: `${payload.length}` });
  }
}

/**
 * Lists: the protocol predates C99 flexible arrays, so drivers send the size of a structure that already holds one element,
 * plus the elements. Accept that `legacy` length and everything down to what is `needed`.
 */
export function listLength(opcode: number, payload: Uint8Array, needed: number, legacy: number): void {
  if (payload.length < needed || payload.length > legacy) {
    throw new VirtchnlError('ERR_VIRTCHNL_LENGTH', { opcode, expected: `${needed}..${legacy} bytes`, seen: `${payload.length}` });
  }
}

/** At least the fixed part is there, so that a count can be read. */
export function headerPresent(opcode: number, payload: Uint8Array, bytes: number): void {
  if (payload.length < bytes) {
    throw new VirtchnlError('ERR_VIRTCHNL_LENGTH', { opcode, expected: `at least ${bytes} bytes`, seen: `${payload.length}` });
  }
}

export function someElements(opcode: number, count: number): void {
  if (count === 0) throw new VirtchnlError('ERR_VIRTCHNL_COUNT', { opcode, expected: 'at least one element', seen: '0' });
}

/** A message under construction: zeroed, and every field checked to fit, so that nothing is truncated silently. */
export class MessageWriter {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly #opcode: number;

  constructor(opcode: number, length: number) {
    if (length > MAX_MESSAGE_BYTES) {
      throw new VirtchnlError('ERR_VIRTCHNL_LENGTH', { opcode, expected: `at most ${MAX_MESSAGE_BYTES} bytes`, seen: `${length}` });
    }
    this.bytes = new Uint8Array(length);
    this.#view = viewOf(this.bytes);
    this.#opcode = opcode;
  }

  #integer(value: number, low: number, high: number, offset: number): void {
    if (!Number.isInteger(value) || value < low || value > high) {
      throw new VirtchnlError('ERR_VIRTCHNL_VALUE', { opcode: this.#opcode, expected: `an integer in ${low}..${high} at offset ${offset}`, seen: String(value) });
    }
  }

  u8(offset: number, value: number): void {
    this.#integer(value, 0, 0xff, offset);
    this.#view.setUint8(offset, value);
  }

  u16(offset: number, value: number): void {
    this.#integer(value, 0, 0xffff, offset);
    this.#view.setUint16(offset, value, true);
  }

  u32(offset: number, value: number): void {
    this.#integer(value, 0, 0xffff_ffff, offset);
    this.#view.setUint32(offset, value, true);
  }

  i32(offset: number, value: number): void {
    this.#integer(value, -0x8000_0000, 0x7fff_ffff, offset);
    this.#view.setInt32(offset, value, true);
  }

  u64(offset: number, value: bigint): void {
    if (value < 0n || value > 0xffff_ffff_ffff_ffffn) {
      throw new VirtchnlError('ERR_VIRTCHNL_VALUE', { opcode: this.#opcode, expected: `an unsigned 64-bit number at offset ${offset}`, seen: String(value) });
    }
    this.#view.setBigUint64(offset, value, true);
  }

  /** Exactly `length` bytes. */
  raw(offset: number, from: Uint8Array, length: number): void {
    if (from.length !== length) {
      throw new VirtchnlError('ERR_VIRTCHNL_VALUE', { opcode: this.#opcode, expected: `${length} bytes at offset ${offset}`, seen: `${from.length}` });
    }
    this.bytes.set(from, offset);
  }
}
