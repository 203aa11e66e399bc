/** Puts header, BARs and capabilities into one image: power-on bytes and the two masks that say what a write does to each bit. */
import { barRegisters, type Bar } from './bar.ts';
import type { Capability } from './capability.ts';
import { PciLayoutError } from './errors.ts';
import {
  CONFIG_BYTES, CONFIG_EXTENDED_BYTES, PCI_BASE_ADDRESS_0, PCI_CACHE_LINE_SIZE, PCI_CAPABILITY_LIST, PCI_CLASS_PROG, PCI_COMMAND, PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_IO, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY, PCI_COMMAND_PARITY, PCI_COMMAND_SERR, PCI_DEVICE_ID, PCI_FIRST_CAPABILITY, PCI_FIRST_EXTENDED_CAPABILITY,
  PCI_INTERRUPT_LINE, PCI_INTERRUPT_PIN, PCI_REVISION_ID, PCI_STATUS, PCI_STATUS_CAP_LIST, PCI_STATUS_RW1C, PCI_SUBSYSTEM_ID, PCI_SUBSYSTEM_VENDOR_ID, PCI_VENDOR_ID,
} from './registers.ts';

/** What `ConfigSpace` is laid out from: a type 0 header (PCI Local Bus 3.0, 6.1), its BARs and its capabilities. */
export interface ConfigSpaceLayout {
  /** 256, or 4096 for a PCI Express function. */
  readonly sizeBytes: 256 | 4096;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly subsystemVendorId?: number;
  readonly subsystemId?: number;
  readonly revision?: number;
  /** Base class, subclass, interface: 0x020000 is an Ethernet controller. */
  readonly classCode: number;
  /** 0: no INTx (the default); 1 to 4: INTA to INTD. */
  readonly interruptPin?: number;
  readonly bars?: readonly Bar[];
  /**
   * Bytes laid over everything else, last: read-only, and nothing checks that they make sense. For functions that break the
   * rules on purpose (a region that no BAR can express, a copy of a defective device); anything else is said with the fields above.
   */
  readonly rawPowerOn?: readonly { readonly offset: number; readonly bytes: Uint8Array }[];
  /** In list order: each one's next pointer names the one after it. */
  readonly capabilities?: readonly Capability[];
}

export interface Image {
  readonly powerOn: Uint8Array;
  readonly writable: Uint8Array;
  readonly writeOneToClear: Uint8Array;
  readonly placed: readonly { readonly capability: Capability; readonly offset: number }[];
}

function within(name: string, value: number, max: number): number {
  if (!Number.isInteger(value) || value < 0 || value > max) throw new PciLayoutError(`${name} ${value}: expected 0 to 0x${max.toString(16)}`);
  return value;
}

class Builder {
  readonly powerOn: Uint8Array;
  readonly writable: Uint8Array;
  readonly writeOneToClear: Uint8Array;
  readonly #values: DataView;
  readonly #masks: DataView;

  constructor(sizeBytes: number) {
    this.powerOn = new Uint8Array(sizeBytes);
    this.writable = new Uint8Array(sizeBytes);
    this.writeOneToClear = new Uint8Array(sizeBytes);
    this.#values = new DataView(this.powerOn.buffer);
    this.#masks = new DataView(this.writable.buffer);
  }

  header(layout: ConfigSpaceLayout, bars: readonly Bar[], hasCapabilities: boolean): void {
    const v = this.#values;
    v.setUint16(PCI_VENDOR_ID, within('vendor id', layout.vendorId, 0xffff), true);
    v.setUint16(PCI_DEVICE_ID, within('device id', layout.deviceId, 0xffff), true);
    v.setUint8(PCI_REVISION_ID, within('revision', layout.revision ?? 0, 0xff));
    const classCode = within('class code', layout.classCode, 0xffffff);
    v.setUint16(PCI_CLASS_PROG, classCode & 0xffff, true);
    v.setUint8(PCI_CLASS_PROG + 2, classCode >> 16);
    v.setUint16(PCI_SUBSYSTEM_VENDOR_ID, within('subsystem vendor id', layout.subsystemVendorId ?? 0, 0xffff), true);
    v.setUint16(PCI_SUBSYSTEM_ID, within('subsystem id', layout.subsystemId ?? 0, 0xffff), true);
    v.setUint8(PCI_INTERRUPT_PIN, within('interrupt pin', layout.interruptPin ?? 0, 4));
    if (hasCapabilities) v.setUint16(PCI_STATUS, PCI_STATUS_CAP_LIST, true);

    // An enable bit exists only where there is something to enable.
    const command = PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE
      | (bars.some((b) => b.kind === 'io') ? PCI_COMMAND_IO : 0) | (bars.some((b) => b.kind !== 'io') ? PCI_COMMAND_MEMORY : 0);
    this.#masks.setUint16(PCI_COMMAND, command, true);
    this.#masks.setUint8(PCI_CACHE_LINE_SIZE, 0xff);
    this.#masks.setUint8(PCI_INTERRUPT_LINE, 0xff);
    new DataView(this.writeOneToClear.buffer).setUint16(PCI_STATUS, PCI_STATUS_RW1C, true);
  }

  bars(bars: readonly Bar[]): void {
    const taken = new Set<number>();
    for (const register of bars.flatMap(barRegisters)) {
      if (taken.has(register.index)) throw new PciLayoutError(`BAR ${register.index} is described twice (a 64-bit BAR takes the next index too)`);
      taken.add(register.index);
      this.#values.setUint32(PCI_BASE_ADDRESS_0 + 4 * register.index, register.value, true);
      this.#masks.setUint32(PCI_BASE_ADDRESS_0 + 4 * register.index, register.writable, true);
    }
  }

  place(capabilities: readonly Capability[], extended: boolean): { capability: Capability; offset: number }[] {
    const first = extended ? PCI_FIRST_EXTENDED_CAPABILITY : PCI_FIRST_CAPABILITY;
    const end = extended ? this.powerOn.length : CONFIG_BYTES;
    const placed: { capability: Capability; offset: number }[] = [];
    let free = first;
    for (const capability of capabilities) {
      const offset = capability.offset ?? free;
      const last = offset + capability.bytes.length;
      if (offset % 4 !== 0 || offset < first || last > end) throw new PciLayoutError(`capability 0x${capability.id.toString(16)} at 0x${offset.toString(16)}: expected a multiple of 4 inside 0x${first.toString(16)} to 0x${end.toString(16)}`);
      const other = placed.find((p) => offset < p.offset + p.capability.bytes.length && p.offset < last);
      if (other !== undefined) throw new PciLayoutError(`capabilities 0x${other.capability.id.toString(16)} and 0x${capability.id.toString(16)} overlap at 0x${offset.toString(16)}`);
      if (extended && placed.length === 0 && offset !== first) throw new PciLayoutError('the first extended capability lies at 0x100');
      this.powerOn.set(capability.bytes, offset);
      this.writable.set(capability.writable, offset);
      this.writeOneToClear.set(capability.writeOneToClear, offset);
      placed.push({ capability, offset });
      free = (last + 3) & ~3;
    }
    return placed;
  }

  link(placed: readonly { capability: Capability; offset: number }[]): void {
    for (const [i, { capability, offset }] of placed.entries()) {
      const next = placed[i + 1]?.offset ?? 0;
      if (capability.extendedVersion === undefined) {
        this.#values.setUint8(offset, capability.id);
        this.#values.setUint8(offset + 1, next);
        if (i === 0) this.#values.setUint8(PCI_CAPABILITY_LIST, offset);
      } else {
        this.#values.setUint32(offset, (capability.id | (capability.extendedVersion << 16) | (next << 20)) >>> 0, true);
      }
      // A header is identity: never writable, whatever the masks said.
      this.writable.fill(0, offset, offset + (capability.extendedVersion === undefined ? 2 : 4));
    }
  }
}

function override(image: Image, layout: ConfigSpaceLayout): void {
  for (const { offset, bytes } of layout.rawPowerOn ?? []) {
    if (!Number.isInteger(offset) || offset < 0 || offset + bytes.length > layout.sizeBytes) throw new PciLayoutError(`raw power-on bytes at 0x${offset.toString(16)} + ${bytes.length} do not lie in ${layout.sizeBytes} bytes`);
    image.powerOn.set(bytes, offset);
    for (const mask of [image.writable, image.writeOneToClear]) mask.fill(0, offset, offset + bytes.length);
  }
}

/** @throws PciLayoutError naming what does not fit */
export function buildImage(layout: ConfigSpaceLayout): Image {
  if (layout.sizeBytes !== CONFIG_BYTES && layout.sizeBytes !== CONFIG_EXTENDED_BYTES) throw new PciLayoutError(`configuration space of ${String(layout.sizeBytes)} bytes: expected 256 or 4096`);
  const bars = layout.bars ?? [];
  const all = layout.capabilities ?? [];
  const plain = all.filter((c) => c.extendedVersion === undefined);
  const extended = all.filter((c) => c.extendedVersion !== undefined);
  const builder = new Builder(layout.sizeBytes);
  builder.header(layout, bars, plain.length > 0);
  builder.bars(bars);
  const placed = builder.place(plain, false);
  const placedExtended = builder.place(extended, true);
  builder.link(placed);
  builder.link(placedExtended);
  const image = { powerOn: builder.powerOn, writable: builder.writable, writeOneToClear: builder.writeOneToClear, placed: [...placed, ...placedExtended] };
  override(image, layout);
  return image;
}
