/** What lies behind a region: registers with a meaning, or plain memory. */
import { PciLayoutError } from './errors.ts';

/** Answers the accesses to one region; offsets are relative to it, and the whole access lies inside it. */
export interface RegionHandler {
  /** Least size of the region; absent: any. */
  readonly sizeBytes?: number;
  /** Fills `into` from `offset` on. A throw is answered to the consumer with its `errno`. */
  read(offset: number, into: Uint8Array): void | Promise<void>;
  /** Takes `from` at `offset`; the bytes are valid until it resolves. A throw is answered to the consumer with its `errno`. */
  write(offset: number, from: Uint8Array): void | Promise<void>;
}

/** One register of a `RegisterMap`. */
export interface Register {
  /** 4 by default. A 64-bit register is two of these: one access of 8 bytes reaches both, the lower one first. */
  readonly bytes?: 1 | 2 | 4;
  /** Unsigned; only the lower `bytes` count. Absent: reads as zero. */
  read?(): number;
  /** `value` is unsigned. Absent: writes are ignored. */
  write?(value: number): void | Promise<void>;
}

/** By offset in the region, each a multiple of the register's size. */
export type RegisterMap = Readonly<Record<number, Register>>;

interface Placed {
  readonly at: number;
  readonly bytes: number;
  readonly register: Register;
}

function place(map: RegisterMap): Placed[] {
  const placed = Object.entries(map).map(([key, register]) => ({ at: Number(key), bytes: register.bytes ?? 4, register })).sort((a, b) => a.at - b.at);
  for (const [i, { at, bytes }] of placed.entries()) {
    if (!Number.isSafeInteger(at) || at < 0 || at % bytes !== 0) throw new PciLayoutError(`register of ${bytes} bytes at ${at}: expected a multiple of its size`);
    const before = placed[i - 1];
    if (before !== undefined && before.at + before.bytes > at) throw new PciLayoutError(`registers at 0x${before.at.toString(16)} and 0x${at.toString(16)} overlap`);
  }
  return placed;
}

/**
 * Registers, little-endian. An access reaches every register it touches, in ascending order; between them there is nothing: zeroes,
 * and writes that vanish. A write that covers a register only in part is ignored: the device has no byte enables, and guessing the
 * missing bytes could acknowledge what nobody has seen.
 * @throws PciLayoutError
 */
export function registers(map: RegisterMap): RegionHandler {
  const placed = place(map);
  const last = placed.at(-1);
  const touched = (offset: number, length: number): Placed[] => placed.filter(({ at, bytes }) => at < offset + length && offset < at + bytes);
  return {
    sizeBytes: last === undefined ? 0 : last.at + last.bytes,
    read(offset, into) {
      into.fill(0);
      for (const { at, bytes, register } of touched(offset, into.length)) {
        const value = register.read?.() ?? 0;
        for (let i = Math.max(0, offset - at); i < bytes && at + i < offset + into.length; i++) into[at + i - offset] = value >>> (8 * i);
      }
    },
    write(offset, from) {
      let pending: Promise<void> | undefined;
      for (const { at, bytes, register } of touched(offset, from.length)) {
        if (at < offset || at + bytes > offset + from.length) continue;
        let value = 0;
        for (let i = bytes - 1; i >= 0; i--) value = value * 256 + from[at + i - offset]!;
        if (pending !== undefined) pending = pending.then(() => register.write?.(value));
        else pending = register.write?.(value) ?? undefined;
      }
      return pending;
    },
  };
}

/** Plain memory: what was written is read back. `bytes` stays the caller's, and beyond its end there are zeroes. */
export function storage(bytes: Uint8Array): RegionHandler {
  return {
    read(offset, into) {
      into.fill(0);
      into.set(bytes.subarray(offset, offset + into.length));
    },
    write(offset, from) {
      bytes.set(from.subarray(0, Math.max(0, bytes.length - offset)), Math.min(offset, bytes.length));
    },
  };
}
