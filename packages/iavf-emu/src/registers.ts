import { BAR0_BYTES, REGISTERS, type RegisterName, type RegisterSpec } from './register-table.ts';

/** What a register does besides holding a value. */
export interface RegisterHandler {
  /** Replaces the stored value for this read. */
  read?(index: number): number;
  /** Instead of storing the value: what the guest writes there itself, without a message, would be lost by a plain store. */
  store?(index: number, raw: number): void;
  /** After the value, masked, is stored. `raw` is what the guest wrote, `before` what was stored. */
  write?(index: number, raw: number, before: number): void;
}
export type RegisterHandlers = Partial<Record<RegisterName, RegisterHandler>>;

/** Where the registers of the mapped pages live: words of the window, by register offset. */
export interface MappedPages {
  load(offset: number): number;
  store(offset: number, value: number): void;
}

interface Slot {
  readonly spec: RegisterSpec;
  readonly index: number;
  readonly handler: RegisterHandler | undefined;
}

const DWORDS = BAR0_BYTES / 4;

/**
 * The register file of BAR0. An access of any offset and width is cut into the 32-bit registers it touches: a narrower write
 * changes its bytes and keeps the others, a read acts as a read of the whole register.
 */
export class RegisterFile {
  /** While true what a guest writes is ignored (VFGEN_RSTAT is 0). */
  frozen = false;
  readonly #values = new Uint32Array(DWORDS);
  /** By dword of BAR0. */
  readonly #slots = new Map<number, Slot>();
  readonly #pages: MappedPages;

  constructor(pages: MappedPages, handlers: RegisterHandlers) {
    this.#pages = pages;
    for (const spec of REGISTERS) {
      for (let index = 0; index < spec.count; index++) this.#slots.set(spec.offset / 4 + index, { spec, index, handler: handlers[spec.name] });
    }
    this.reset();
  }

  /** A guest's read; `offset + into.length` is inside BAR0. */
  read(offset: number, into: Uint8Array): void {
    for (let at = offset & ~3; at < offset + into.length; at += 4) {
      const value = this.#readDword(at >>> 2);
      for (let byte = 0; byte < 4; byte++) {
        const i = at + byte - offset;
        if (i >= 0 && i < into.length) into[i] = value >>> (8 * byte);
      }
    }
  }

  /** A guest's write; `offset + from.length` is inside BAR0. */
  write(offset: number, from: Uint8Array): void {
    for (let at = offset & ~3; at < offset + from.length; at += 4) {
      let value = 0;
      let mask = 0;
      for (let byte = 0; byte < 4; byte++) {
        const i = at + byte - offset;
        if (i < 0 || i >= from.length) continue;
        value |= from[i]! << (8 * byte);
        mask |= 0xff << (8 * byte);
      }
      this.#writeDword(at >>> 2, value, mask);
    }
  }

  /** The stored value, without what a guest's read would cause. */
  get(name: RegisterName, index = 0): number {
    return this.#load(at(name, index));
  }

  /** The device's own change: no mask, no handler. */
  set(name: RegisterName, value: number, index = 0): void {
    this.#store(at(name, index), value >>> 0);
  }

  /** Power-on values, all or those named. */
  reset(names: readonly RegisterName[] = REGISTERS.map((spec) => spec.name)): void {
    for (const spec of REGISTERS) {
      if (!names.includes(spec.name)) continue;
      for (let index = 0; index < spec.count; index++) this.set(spec.name, spec.reset, index);
    }
  }

  #readDword(dword: number): number {
    const slot = this.#slots.get(dword);
    if (slot === undefined) return 0;
    return (slot.handler?.read?.(slot.index) ?? this.#load(dword)) >>> 0;
  }

  #writeDword(dword: number, value: number, mask: number): void {
    const slot = this.#slots.get(dword);
    if (slot === undefined || this.frozen) return;
    const before = this.#load(dword);
    const raw = ((before & ~mask) | (value & mask)) >>> 0;
    if (slot.handler?.store !== undefined) return slot.handler.store(slot.index, raw);
    this.#store(dword, ((before & ~slot.spec.writable) | (raw & slot.spec.writable)) >>> 0);
    slot.handler?.write?.(slot.index, raw, before);
  }

  #load(dword: number): number {
    return this.#slots.get(dword)?.spec.mapped === true ? this.#pages.load(dword * 4) : this.#values[dword]!;
  }

  #store(dword: number, value: number): void {
    if (this.#slots.get(dword)?.spec.mapped === true) this.#pages.store(dword * 4, value);
    else this.#values[dword] = value;
  }
}

const OFFSETS: ReadonlyMap<string, number> = new Map(REGISTERS.map((spec) => [spec.name, spec.offset]));
const at = (name: RegisterName, index: number): number => OFFSETS.get(name)! / 4 + index;
