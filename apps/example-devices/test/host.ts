/** A host in memory: pages at the addresses a test names, interrupts as a log. */
import { GuestMemoryError, type GuestMemory, type PciDevice, type PciHost } from '@emudev/pci';

const PAGE_BYTES = 0x1000;

export class MemoryHost implements PciHost {
  readonly interrupts: string[] = [];
  intx = false;
  /** What went by message instead of directly, in order. */
  readonly messages: string[] = [];
  readonly pages: Map<bigint, Uint8Array> = new Map<bigint, Uint8Array>();
  resets = 0;
  readonly #device: PciDevice;
  /** Called with every change of the interrupt pin and every trigger. */
  onInterrupt: () => void = () => {};

  constructor(device: PciDevice, pages: readonly bigint[] = []) {
    this.#device = device;
    for (const iova of pages) this.pages.set(iova, new Uint8Array(PAGE_BYTES));
  }

  readonly memory: GuestMemory = {
    generation: 0, iotlb: 0,
    read: (iova, into) => { into.set(this.#at(iova, into.length, 'read')); },
    write: (iova, from) => { this.#at(iova, from.length, 'write').set(from); },
    translate: (iova) => (this.pages.has(iova) ? Number(iova) : undefined),
    pin: () => undefined,
    markDirty: () => {},
  };

  readonly dmaMessages: PciHost['dmaMessages'] = {
    read: async (iova, into) => {
      this.messages.push(`read 0x${iova.toString(16)} ${into.length}`);
      await this.memory.read(iova, into);
    },
    write: async (iova, from) => {
      this.messages.push(`write 0x${iova.toString(16)} ${from.length}`);
      await this.memory.write(iova, from);
    },
  };

  irqFd(): number {
    return -1;
  }
  trigger(index: number, vector: number): boolean {
    this.interrupts.push(`${index}.${vector}`);
    this.onInterrupt();
    return true;
  }
  setIntx(asserted: boolean): void {
    if (asserted !== this.intx) this.interrupts.push(asserted ? 'assert' : 'deassert');
    this.intx = asserted;
    this.onInterrupt();
  }
  async functionLevelReset(): Promise<void> {
    this.resets++;
    await this.#device.quiesce('flr');
    await this.#device.reset();
    this.#device.resume();
  }

  #at(iova: bigint, length: number, access: 'read' | 'write'): Uint8Array {
    const base = iova & ~BigInt(PAGE_BYTES - 1);
    const page = this.pages.get(base);
    const within = Number(iova - base);
    if (page === undefined || within + length > PAGE_BYTES) throw new GuestMemoryError(iova, length, access, 'not mapped');
    return page.subarray(within, within + length);
  }
}

export async function read(device: PciDevice, region: number, offset: number, length: number): Promise<Uint8Array> {
  const into = new Uint8Array(length).fill(0xee);
  await device.read(region, offset, into);
  return into;
}

export async function read32(device: PciDevice, region: number, offset: number): Promise<number> {
  return new DataView((await read(device, region, offset, 4)).buffer).getUint32(0, true);
}

export async function write32(device: PciDevice, region: number, offset: number, value: number): Promise<void> {
  const from = new Uint8Array(4);
  new DataView(from.buffer).setUint32(0, value, true);
  await device.write(region, offset, from);
}
