/**
 * One device with each kind of interrupt, in the spirit of QEMU's `edu`: it computes factorials and copies memory, and can say when it is
 * done. Registers are in BAR0 (README.md), a 4 KiB buffer in BAR2; the MSI-X kind has table and pending bits in BAR4.
 */
import { BasicPciDevice, IRQ_MSI, IRQ_MSIX, registers, storage, type QuiesceReason } from '@emudev/pci';

export type InterruptKind = 'intx' | 'msi' | 'msix';

const ID = 0x0100_00ed;
const DEVICE_IDS: Readonly<Record<InterruptKind, number>> = { intx: 0x0010, msi: 0x0011, msix: 0x0012 };
const VECTORS: Readonly<Record<InterruptKind, number>> = { intx: 1, msi: 4, msix: 8 };

const BUFFER_BYTES = 0x1000;
const STATUS_DMA_BUSY = 0x01;
const STATUS_DMA_FAILED = 0x02;
const STATUS_IRQ_FACTORIAL = 0x80;
const IRQ_FACTORIAL = 0x001;
const IRQ_DMA = 0x100;
const DMA_START = 1;
const DMA_TO_GUEST = 2;
const DMA_IRQ = 4;
/** 13! does not fit into 32 bits: the result is modulo 2^32, and from 34! on that is 0. */
const FACTORIAL_IS_ZERO = 34;

function factorial(n: number): number {
  if (n >= FACTORIAL_IS_ZERO) return 0;
  let result = 1;
  for (let i = 2; i <= n; i++) result = Math.imul(result, i);
  return result >>> 0;
}

export class InterruptDevice extends BasicPciDevice {
  readonly #kind: InterruptKind;
  readonly #buffer: Uint8Array;
  #liveness = 0;
  #factorial = 0;
  #status = 0;
  #pending = 0;
  /** Source, destination (halves), count. */
  readonly #dma: Uint32Array = new Uint32Array(5);
  #work: Promise<void> = Promise.resolve();

  constructor(kind: InterruptKind) {
    const buffer = new Uint8Array(BUFFER_BYTES);
    const dma = (i: number): { read(): number; write(value: number): void } => ({ read: () => this.#dma[i]!, write: (value) => { this.#dma[i] = value; } });
    super({
      name: `irq-${kind}`, vendorId: 0xe0de, deviceId: DEVICE_IDS[kind], classCode: 0xff0000, tracksDirtyPages: true,
      ...(kind === 'intx' ? { intx: true } : kind === 'msi' ? { msi: { vectors: VECTORS.msi } } : { msix: { vectors: VECTORS.msix, bar: 4 } }),
      bars: [
        {
          index: 0, kind: 'memory32', sizeBytes: 0x1000,
          handler: registers({
            0x00: { read: () => ID },
            0x04: { read: () => ~this.#liveness, write: (value) => { this.#liveness = value; } },
            0x08: { read: () => this.#factorial, write: (n) => { this.#compute(n); } },
            0x20: { read: () => this.#status, write: (value) => { this.#status = (this.#status & ~STATUS_IRQ_FACTORIAL) | (value & STATUS_IRQ_FACTORIAL); } },
            0x24: { read: () => this.#pending },
            0x60: { write: (bits) => { this.#raise(bits); } },
            0x64: { write: (bits) => { this.#acknowledge(bits); } },
            0x80: dma(0), 0x84: dma(1), 0x88: dma(2), 0x8c: dma(3), 0x90: dma(4),
            0x98: { read: () => this.#status & STATUS_DMA_BUSY, write: (command) => { this.#copy(command); } },
          }),
        },
        { index: 2, kind: 'memory32', sizeBytes: BUFFER_BYTES, handler: storage(buffer) },
      ],
    });
    this.#kind = kind;
    this.#buffer = buffer;
  }

  /** A copy under way ends first; commands wait meanwhile, so none begins. */
  override quiesce(_reason: QuiesceReason): Promise<void> {
    return this.#work;
  }

  protected override onReset(): void {
    this.#buffer.fill(0);
    this.#dma.fill(0);
    this.#liveness = this.#factorial = this.#status = this.#pending = 0;
  }

  #compute(n: number): void {
    this.#factorial = factorial(n);
    if ((this.#status & STATUS_IRQ_FACTORIAL) !== 0) this.#raise(IRQ_FACTORIAL);
  }

  /** A message per new bit; the pin as long as any bit is left. */
  #raise(bits: number): void {
    const rising = bits & ~this.#pending;
    this.#pending = (this.#pending | bits) >>> 0;
    if (this.#kind === 'intx') return this.setIntx(this.#pending !== 0);
    for (let bit = 0; bit < 32; bit++) {
      if ((rising & (1 << bit)) !== 0) this.host?.trigger(this.#kind === 'msi' ? IRQ_MSI : IRQ_MSIX, bit % VECTORS[this.#kind]);
    }
  }

  #acknowledge(bits: number): void {
    this.#pending = (this.#pending & ~bits) >>> 0;
    if (this.#kind === 'intx') this.setIntx(this.#pending !== 0);
  }

  /** Returns at once: memory that has to be asked for by message takes its time, and the guest must not wait for it in a store. */
  #copy(command: number): void {
    if ((command & DMA_START) === 0 || (this.#status & STATUS_DMA_BUSY) !== 0) return;
    this.#status = (this.#status & ~STATUS_DMA_FAILED) | STATUS_DMA_BUSY;
    this.#work = this.#transfer(command).catch(() => { this.#status |= STATUS_DMA_FAILED; }).then(() => {
      this.#status &= ~STATUS_DMA_BUSY;
      if ((command & DMA_IRQ) !== 0) this.#raise(IRQ_DMA);
    });
  }

  async #transfer(command: number): Promise<void> {
    // GUEST: addresses and count are whatever was written; both ends are checked before a byte moves.
    const [sourceLow, sourceHigh, destinationLow, destinationHigh, count] = this.#dma as unknown as [number, number, number, number, number];
    const source = (BigInt(sourceHigh) << 32n) | BigInt(sourceLow);
    const destination = (BigInt(destinationHigh) << 32n) | BigInt(destinationLow);
    const toGuest = (command & DMA_TO_GUEST) !== 0;
    const start = toGuest ? source : destination;
    if (!this.config.command.busMaster || start + BigInt(count) > BigInt(BUFFER_BYTES)) throw new RangeError('not a bus master, or beyond the buffer');
    const part = this.#buffer.subarray(Number(start), Number(start) + count);
    if (toGuest) await this.host!.memory.write(destination, part);
    else await this.host!.memory.read(source, part);
  }
}
