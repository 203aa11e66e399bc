/** What the configuration space of a PCI device says (PCI Local Bus 3.0, chapter 6; PCI Express Base, 7.9), read through any window to it. */
import { ClientError } from './errors.ts';
import { MAX_CAPABILITIES, MAX_EXTENDED_CAPABILITIES } from './limits.ts';

/** Region 7 of a device, or anything else that has a configuration space. */
export interface ConfigAccess {
  /** 256 or 4096 as a rule. */
  readonly sizeBytes: number;
  /** `length` bytes from `offset`; fewer are ERR_VFU_CLIENT_SHORT to whoever asked. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Writes `bytes` at `offset`, in one access. */
  write(offset: number, bytes: Uint8Array): Promise<void>;
}

/** The header of a configuration space (PCI Local Bus 3.0, 6.1), as numbers. */
export interface PciHeader {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly command: number;
  readonly status: number;
  readonly revision: number;
  /** Class, subclass and programming interface: 0xCCSSPP. */
  readonly classCode: number;
  /** 0 endpoint, 1 bridge, 2 CardBus. */
  readonly type: number;
  readonly multifunction: boolean;
  /** 0 where the header has no such field (bridges). */
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
  readonly interruptLine: number;
  /** 0 none, 1 INTA … 4 INTD. */
  readonly interruptPin: number;
}

/** A base address register, or the expansion ROM's, as `PciConfig.bars` has sized it. */
export interface Bar {
  /** 0..5, or 6 for the expansion ROM: the VFIO region. */
  readonly index: number;
  readonly kind: 'memory32' | 'memory64' | 'io' | 'rom';
  readonly prefetchable: boolean;
  /** What it is set to; 0 when nobody has set it. */
  readonly address: bigint;
  /** A power of two. */
  readonly sizeBytes: bigint;
}

/** A capability and where it lies, in bytes from the start of configuration space. */
export interface Capability {
  readonly id: number;
  readonly offset: number;
  /** Extended capabilities; 0 for others, which keep it (if at all) in their body. */
  readonly version: number;
}

const COMMAND = 0x04;
const COMMAND_DECODES = 3;
const STATUS_CAPABILITIES = 0x10;
const CAPABILITIES_POINTER = 0x34;
const FIRST_BAR = 0x10;
const EXTENDED_BASE = 0x100;
const STANDARD_BYTES = 256;
const HEADER_BYTES = 64;

/** Reads a device's identity, BARs and capabilities from its configuration space; `VfioUserClient.pciConfig` makes one. */
export class PciConfig {
  readonly #access: ConfigAccess;

  constructor(access: ConfigAccess) {
    this.#access = access;
  }

  /** ERR_VFU_CLIENT_SHORT where nothing answers (all ones). */
  async header(): Promise<PciHeader> {
    const h = await this.#view(0, HEADER_BYTES);
    const vendorId = h.getUint16(0, true);
    if (vendorId === 0xffff) throw new ClientError('ERR_VFU_CLIENT_SHORT', 'no device answers in the configuration space');
    const type = h.getUint8(0x0e) & 0x7f;
    return {
      vendorId,
      deviceId: h.getUint16(2, true),
      command: h.getUint16(COMMAND, true),
      status: h.getUint16(6, true),
      revision: h.getUint8(8),
      classCode: h.getUint32(8, true) >>> 8,
      type,
      multifunction: (h.getUint8(0x0e) & 0x80) !== 0,
      subsystemVendorId: type === 0 ? h.getUint16(0x2c, true) : 0,
      subsystemId: type === 0 ? h.getUint16(0x2e, true) : 0,
      interruptLine: h.getUint8(0x3c),
      interruptPin: h.getUint8(0x3d),
    };
  }

  /**
   * Sizes the BARs and the ROM as firmware does: all ones are written, what sticks tells the size, and the original value goes back.
   * The device decodes no addresses meanwhile. BARs that are not there are left out.
   */
  async bars(): Promise<Bar[]> {
    const { command, type } = await this.header();
    const count = type === 0 ? 6 : type === 1 ? 2 : 0;
    await this.#write16(COMMAND, command & ~COMMAND_DECODES);
    const bars: Bar[] = [];
    try {
      for (let index = 0; index < count; index++) {
        const low = await this.#read32(FIRST_BAR + 4 * index);
        const wide = (low & 7) === 4 && index + 1 < count;
        const bar = await this.#sizeBar(index, low, wide);
        if (bar !== undefined) bars.push(bar);
        if (wide) index++;
      }
      const rom = type === 0 ? 0x30 : type === 1 ? 0x38 : undefined;
      const sized = rom === undefined ? undefined : await this.#sizeRom(rom);
      if (sized !== undefined) bars.push(sized);
    } finally {
      await this.#write16(COMMAND, command);
    }
    return bars;
  }

  /** The list that begins at the capabilities pointer, in its order. A list that leads in circles or out of its area ends there. */
  async capabilities(): Promise<Capability[]> {
    const found: Capability[] = [];
    const { status } = await this.header();
    if ((status & STATUS_CAPABILITIES) === 0) return found;
    const space = await this.#view(0, STANDARD_BYTES);
    const seen = new Set<number>();
    for (let at = space.getUint8(CAPABILITIES_POINTER) & ~3; at >= HEADER_BYTES && !seen.has(at) && found.length < MAX_CAPABILITIES; at = space.getUint8(at + 1) & ~3) {
      seen.add(at);
      const id = space.getUint8(at);
      // All ones: nothing answers there any more.
      if (id === 0xff) break;
      found.push({ id, offset: at, version: 0 });
    }
    return found;
  }

  /** The list from 0x100 on; none where the configuration space has only 256 bytes. Bounded as `capabilities`. */
  async extendedCapabilities(): Promise<Capability[]> {
    const found: Capability[] = [];
    const seen = new Set<number>();
    for (let at = EXTENDED_BASE; at >= EXTENDED_BASE && at + 4 <= this.#access.sizeBytes && !seen.has(at) && found.length < MAX_EXTENDED_CAPABILITIES;) {
      seen.add(at);
      const header = await this.#read32(at);
      if (header === 0 || header === 0xffff_ffff) break;
      found.push({ id: header & 0xffff, offset: at, version: (header >>> 16) & 15 });
      at = (header >>> 20) & ~3;
    }
    return found;
  }

  /** The first capability with this id. */
  async findCapability(id: number): Promise<Capability | undefined> {
    return (await this.capabilities()).find((capability) => capability.id === id);
  }

  /** The first extended capability with this id. */
  async findExtendedCapability(id: number): Promise<Capability | undefined> {
    return (await this.extendedCapabilities()).find((capability) => capability.id === id);
  }

  async #sizeBar(index: number, low: number, wide: boolean): Promise<Bar | undefined> {
    const at = FIRST_BAR + 4 * index;
    const io = (low & 1) !== 0;
    const high = wide ? await this.#read32(at + 4) : 0;
    let mask: bigint;
    try {
      await this.#write32(at, 0xffff_ffff);
      if (wide) await this.#write32(at + 4, 0xffff_ffff);
      mask = BigInt(await this.#read32(at));
      if (wide) mask |= BigInt(await this.#read32(at + 4)) << 32n;
    } finally {
      await this.#write32(at, low);
      if (wide) await this.#write32(at + 4, high);
    }
    const flags = io ? 3n : 15n;
    const address = ((BigInt(high) << 32n) | BigInt(low)) & ~flags;
    // An I/O BAR may leave its upper half unimplemented; one without any address bit is not there (libvfio-user sets the I/O bit of all).
    if (io && (mask & ~flags) !== 0n && mask >> 16n === 0n) mask |= 0xffff_0000n;
    const sizeBytes = lowestBit(mask & ~flags);
    if (sizeBytes === 0n) return undefined;
    return { index, kind: io ? 'io' : wide ? 'memory64' : 'memory32', prefetchable: !io && (low & 8) !== 0, address, sizeBytes };
  }

  async #sizeRom(at: number): Promise<Bar | undefined> {
    const value = await this.#read32(at);
    let mask: number;
    try {
      // Bit 0 would enable it.
      await this.#write32(at, 0xffff_f800);
      mask = await this.#read32(at);
    } finally {
      await this.#write32(at, value);
    }
    const sizeBytes = lowestBit(BigInt(mask) & 0xffff_f800n);
    return sizeBytes === 0n ? undefined : { index: 6, kind: 'rom', prefetchable: false, address: BigInt(value) & 0xffff_f800n, sizeBytes };
  }

  async #view(offset: number, length: number): Promise<DataView> {
    const bytes = await this.#access.read(offset, length);
    if (bytes.length < length) throw new ClientError('ERR_VFU_CLIENT_SHORT', `${bytes.length} of ${length} bytes of configuration space`);
    return new DataView(bytes.buffer, bytes.byteOffset, length);
  }

  async #read32(offset: number): Promise<number> {
    return (await this.#view(offset, 4)).getUint32(0, true);
  }

  #write32(offset: number, value: number): Promise<void> {
    return this.#access.write(offset, Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24));
  }

  #write16(offset: number, value: number): Promise<void> {
    return this.#access.write(offset, Uint8Array.of(value, value >>> 8));
  }
}

function lowestBit(n: bigint): bigint {
  return n & -n;
}
