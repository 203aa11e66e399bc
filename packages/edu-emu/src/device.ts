/**
 * QEMU's educational device (its docs/specs/edu.rst has the data sheet): small, and yet it has one of everything that a PCI
 * function does. It identifies itself, answers a liveness check, computes factorials, raises interrupts and moves memory by DMA.
 */
import { EmulatedPciDevice, EmudevError, type EmudevFamily, type EmudevRegistryLike } from '@emudev/emudev';
import { IRQ_MSI, registers, type Register } from '@emudev/pci';

/** What a back end would name to attach; there is none for this family. */
export const EDU_FAMILY: EmudevFamily = { devType: 'edu', version: 1 };

/** Major version 1, minor 0, and "ed u": what offset 0 reads. */
const IDENTIFICATION = 0x0100_00ed;
const BAR0_BYTES = 1 << 20;
/** The buffer that DMA moves to and from, at its address as the device's DMA engine sees it. */
const BUFFER_ADDRESS = 0x40000n;
const BUFFER_BYTES = 4096;

const STATUS_COMPUTING = 0x01;
const STATUS_IRQ_FACTORIAL = 0x80;
const DMA_START = 1n;
/** Direction: set is from the device to memory. */
const DMA_TO_MEMORY = 2n;
const DMA_IRQ = 4n;
/** Interrupt causes; a guest may raise any others itself. */
const CAUSE_FACTORIAL = 0x001;
const CAUSE_DMA = 0x100;

/** Registers of the DMA engine, in the order of their addresses from 0x80 on. */
const [SOURCE, DESTINATION, COUNT, COMMAND] = [0, 1, 2, 3] as const;

/** How the device is made. */
export interface EduOptions {
  /** Bits of a guest address that the DMA engine drives; higher ones are cut off. 28 in QEMU. */
  readonly dmaBits: number;
}

/** The educational device: registers in BAR 0, one interrupt (the pin or MSI), a DMA engine with a buffer of 4096 bytes. */
export class EduDevice extends EmulatedPciDevice {
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  readonly #dma = new BigUint64Array(4);
  readonly #dmaBits: number;
  #liveness = 0;
  #factorial = 0;
  #computing = false;
  #irqWanted = false;
  #causes = 0;

  /** @throws EmudevError (EMUDEV_EXISTS, EMUDEV_BAD_ARG: the name) */
  constructor(name: string, registry: EmudevRegistryLike, options: EduOptions) {
    // A half of a 64-bit register. While the engine runs its registers do not change.
    const half = (index: number, shift: bigint): Register => ({
      read: () => Number((this.#dma[index]! >> shift) & 0xffff_ffffn),
      write: (value) => {
        if ((this.#dma[COMMAND]! & DMA_START) !== 0n) return;
        if (index === COMMAND && shift === 0n && (BigInt(value) & DMA_START) === 0n) return;
        this.#dma[index] = (this.#dma[index]! & ~(0xffff_ffffn << shift)) | (BigInt(value) << shift);
        if ((this.#dma[COMMAND]! & DMA_START) !== 0n) this.order(() => this.#transfer());
      },
    });
    const bar0 = registers({
      0x00: { read: () => IDENTIFICATION },
      0x04: { read: () => ~this.#liveness >>> 0, write: (value) => { this.#liveness = value; } },
      0x08: { read: () => this.#factorial, write: (value) => { this.#compute(value); } },
      0x20: {
        read: () => (this.#computing ? STATUS_COMPUTING : 0) | (this.#irqWanted ? STATUS_IRQ_FACTORIAL : 0),
        write: (value) => { this.#irqWanted = (value & STATUS_IRQ_FACTORIAL) !== 0; },
      },
      0x24: { read: () => this.#causes },
      0x60: { write: (value) => { this.#raise(value); } },
      0x64: { write: (value) => { this.#acknowledge(value); } },
      ...Object.fromEntries([SOURCE, DESTINATION, COUNT, COMMAND].flatMap((i) => [[0x80 + 8 * i, half(i, 0n)], [0x84 + 8 * i, half(i, 32n)]])),
    });
    super({
      name, family: EDU_FAMILY,
      vendorId: 0x1234, deviceId: 0x11e8, revision: 0x10, classCode: 0x00ff00,
      bars: [{ index: 0, kind: 'memory32', sizeBytes: BAR0_BYTES, handler: bar0 }],
      intx: true, msi: { vectors: 1 },
      tracksDirtyPages: true,
    }, registry);
    this.#dmaBits = options.dmaBits;
  }

  #compute(n: number): void {
    if (this.#computing) return;
    this.#computing = true;
    this.order(() => {
      let product = 1;
      // GUEST: n is anything. Modulo 2^32 the product is zero from 34! on: no guest makes this loop long.
      for (let i = 2; i <= n && product !== 0; i++) product = Math.imul(product, i);
      this.#factorial = product >>> 0;
      this.#computing = false;
      if (this.#irqWanted) this.#raise(CAUSE_FACTORIAL);
    });
  }

  async #transfer(): Promise<void> {
    const [source, destination, count, command] = this.#dma;
    try {
      // GUEST: all of them are anything. Whatever does not fit moves nothing; memory that is not there throws.
      const toMemory = (command! & DMA_TO_MEMORY) !== 0n;
      const [inside, outside] = toMemory ? [source!, destination!] : [destination!, source!];
      const start = inside - BUFFER_ADDRESS;
      if (start < 0n || count! > BigInt(BUFFER_BYTES) || start + count! > BigInt(BUFFER_BYTES)) {
        throw new EmudevError('EMUDEV_RANGE', `${this.name}: DMA of ${count} bytes at 0x${inside.toString(16)} of the device; its buffer is 0x40000 to 0x40fff`);
      }
      if (!this.config.command.busMaster) throw new EmudevError('EMUDEV_NOT_READY', `${this.name}: DMA while the guest has not made it a bus master`);
      const bytes = this.#buffer.subarray(Number(start), Number(start + count!));
      const iova = BigInt.asUintN(this.#dmaBits, outside);
      await (toMemory ? this.memTable().write(iova, bytes) : this.memTable().read(iova, bytes));
    } finally {
      // Done, with or without success: the device has no register that would tell.
      this.#dma[COMMAND] = command! & ~DMA_START;
      if ((command! & DMA_IRQ) !== 0n) this.#raise(CAUSE_DMA);
    }
  }

  #raise(causes: number): void {
    this.#causes = (this.#causes | causes) >>> 0;
    // A consumer that has assigned no MSI descriptor uses the pin.
    if (this.#causes !== 0 && this.host?.trigger(IRQ_MSI, 0) !== true) this.setIntx(true);
  }

  #acknowledge(causes: number): void {
    this.#causes = (this.#causes & ~causes) >>> 0;
    if (this.#causes === 0) this.setIntx(false);
  }

  protected override onReset(): void {
    this.#buffer.fill(0);
    this.#dma.fill(0n);
    this.#liveness = this.#factorial = this.#causes = 0;
    this.#computing = this.#irqWanted = false;
  }
}
