/**
 * The device that libvfio-user's `samples/client` demands, as `samples/server` served it: a timer in BAR0, shared memory in BAR1,
 * INTx, DMA both ways the protocol knows, migration with pre-copy. Its 12 KiB BAR1 breaks the PCI rules on purpose.
 */
import { F_SEAL_GROW, F_SEAL_SHRINK, linux } from '@emudev/linux';
import { BasicPciDevice, IRQ_ERR, PciAccessError, REGION_BAR1, snapshotMigration, type DmaMessageAccess, type GuestMemory, type QuiesceReason } from '@emudev/pci';
import { Alarm } from './alarm.ts';

const TIMER_BYTES = 8;
const MEMORY_BYTES = 0x3000;
const PAGE_BYTES = 0x1000;
const CONFIG_BARS = 0x10;

const DMA_PIECE_BYTES = 1024;
const DMA_READ_BYTES = 2048;
const DMA_LETTERS = ['A', 'B', 'C', 'D'];
/** The sample's client maps pages from address 0 on, two for every descriptor that a server takes in a message (16 here); the device works on the two lowest that are mapped. */
const DMA_PAGES = 32;

export class ConformanceDevice extends BasicPciDevice implements Disposable {
  /** Since the process began: rounds of DMA that came out right, and that did not. */
  readonly dma: { good: number; bad: number; lastError: unknown } = { good: 0, bad: 0, lastError: undefined };
  readonly #memoryFd: number;
  readonly #alarm: Alarm = new Alarm(() => { this.#expired(); });
  /** What was written to BAR0: seconds since 1970. */
  #time = 0n;
  #running = true;
  #stopped = false;
  #expiredWhileQuiesced = false;
  #work: Promise<void> = Promise.resolve();

  constructor() {
    const memoryFd = linux.memfdCreate('conformance-bar1', { allowSealing: true });
    linux.ftruncate(memoryFd, MEMORY_BYTES);
    // CLIENT: it gets this descriptor, and must not be able to shrink the file under us.
    linux.addSeals(memoryFd, F_SEAL_SHRINK | F_SEAL_GROW);
    super({
      name: 'conformance', vendorId: 0xdead, deviceId: 0xbeef, subsystemVendorId: 0xcafe, subsystemId: 0xbabe, classCode: 0,
      intx: true, err: true, req: true, tracksDirtyPages: true,
      regions: [
        {
          index: 0, sizeBytes: TIMER_BYTES,
          handler: { read: (offset, into) => { this.#readTimer(offset, into); }, write: (offset, from) => { this.#writeTimer(offset, from); } },
        },
        {
          // No BAR can say 12 KiB, so configuration space has none: only the consumer's region query knows this size.
          index: REGION_BAR1, sizeBytes: MEMORY_BYTES,
          mmap: { areas: [{ offset: 0, sizeBytes: PAGE_BYTES }, { offset: 2 * PAGE_BYTES, sizeBytes: PAGE_BYTES }], backing: { fd: memoryFd, offset: 0 } },
          // Through the file: a message meets what was stored through a mapping.
          handler: { read: (offset, into) => void linux.pread(memoryFd, into, offset), write: (offset, from) => void linux.pwrite(memoryFd, from, offset) },
        },
      ],
      // As libvfio-user leaves them: every BAR, present or not, has its I/O bit set.
      rawPowerOn: [0, 1, 2, 3, 4, 5].map((bar) => ({ offset: CONFIG_BARS + 4 * bar, bytes: Uint8Array.of(1, 0, 0, 0) })),
      migration: snapshotMigration({
        maxBytes: MEMORY_BYTES + TIMER_BYTES,
        savePreCopy: () => this.#memory(),
        save: () => this.#state(),
        load: (state) => { this.#load(state); },
        entered: (state) => {
          this.#running = state === 'running' || state === 'pre-copy';
          if (this.#running) this.#alarm.resume();
          else this.#alarm.pause();
        },
      }),
    });
    this.#memoryFd = memoryFd;
  }

  /** The error interrupt (VFIO_PCI_ERR_IRQ_INDEX); false where the consumer has not asked for it. */
  raiseError(): boolean {
    return this.host?.trigger(IRQ_ERR, 0) ?? false;
  }

  /** Nothing of the device touches guest memory when this resolves. An expiry in the meantime waits for `resume`. */
  override async quiesce(_reason: QuiesceReason): Promise<void> {
    this.#stopped = true;
    await this.#work;
  }

  override resume(): void {
    this.#stopped = false;
    if (!this.#expiredWhileQuiesced) return;
    this.#expiredWhileQuiesced = false;
    this.#expired();
  }

  protected override onDetach(): void {
    this.#disarm();
  }

  protected override onReset(): void {
    this.#disarm();
    this.#time = 0n;
  }

  [Symbol.dispose](): void {
    this.#disarm();
    linux.close(this.#memoryFd);
  }

  #readTimer(offset: number, into: Uint8Array): void {
    if (offset !== 0 || into.length !== TIMER_BYTES) throw new PciAccessError(`BAR0 takes 8 bytes at 0, not ${into.length} at ${offset}`);
    this.setIntx(false);
    new DataView(into.buffer, into.byteOffset).setBigInt64(0, now() - this.#time, true);
  }

  #writeTimer(offset: number, from: Uint8Array): void {
    if (offset !== 0 || from.length !== TIMER_BYTES) throw new PciAccessError(`BAR0 takes 8 bytes at 0, not ${from.length} at ${offset}`);
    this.setIntx(false);
    const time = new DataView(from.buffer, from.byteOffset).getBigInt64(0, true);
    const seconds = time - now();
    if (this.#running && seconds < 0n) throw new PciAccessError(`BAR0: ${-seconds} s ago is no time to wait for`);
    this.#time = time;
    if (seconds === 0n) this.#disarm();
    else this.#arm();
  }

  /** From BAR0. While the device is stopped the alarm waits for `running`; a time that has passed by then is now. */
  #arm(): void {
    const seconds = this.#time - now();
    this.#alarm.arm(seconds < 0n ? 0n : seconds);
  }

  #disarm(): void {
    this.#alarm.disarm();
    this.#expiredWhileQuiesced = false;
  }

  #expired(): void {
    if (this.#stopped) {
      this.#expiredWhileQuiesced = true;
      return;
    }
    this.setIntx(true);
    const { memory, dmaMessages } = this.host!;
    const [first, second] = mappedPages(memory);
    this.#work = this.#exercise(memory, second).then(() => this.#exercise(dmaMessages, first)).catch((error: unknown) => {
      this.dma.bad++;
      this.dma.lastError = error;
    });
  }

  /** Four writes, then two reads that have to give the same: 'A' to 'D', a kilobyte each. */
  async #exercise(memory: Pick<GuestMemory, 'read' | 'write'> | DmaMessageAccess | undefined, address: bigint | undefined): Promise<void> {
    if (memory === undefined || address === undefined) return;
    const expected = Buffer.from(DMA_LETTERS.map((letter) => letter.repeat(DMA_PIECE_BYTES)).join(''));
    for (let at = 0; at < expected.length; at += DMA_PIECE_BYTES) await memory.write(address + BigInt(at), expected.subarray(at, at + DMA_PIECE_BYTES));
    const seen = Buffer.alloc(expected.length);
    for (let at = 0; at < seen.length; at += DMA_READ_BYTES) await memory.read(address + BigInt(at), seen.subarray(at, at + DMA_READ_BYTES));
    if (!seen.equals(expected)) throw new PciAccessError(`what was written to 0x${address.toString(16)} reads back as something else`);
    this.dma.good++;
  }

  #memory(): Uint8Array {
    const bytes = new Uint8Array(MEMORY_BYTES);
    linux.pread(this.#memoryFd, bytes, 0);
    return bytes;
  }

  #state(): Uint8Array {
    const time = new Uint8Array(TIMER_BYTES);
    new DataView(time.buffer).setBigInt64(0, this.#time, true);
    return Buffer.concat([this.#memory(), time]);
  }

  #load(state: Uint8Array): void {
    linux.pwrite(this.#memoryFd, state.subarray(0, MEMORY_BYTES), 0);
    this.#time = new DataView(state.buffer, state.byteOffset).getBigInt64(MEMORY_BYTES, true);
    this.#disarm();
    // The state does not say whether the alarm has gone off already: one too many is harmless, one too few is not.
    if (this.#time !== 0n) this.#arm();
  }
}

const now = (): bigint => BigInt(Math.floor(Date.now() / 1000));

function mappedPages(memory: GuestMemory): bigint[] {
  const pages = Array.from({ length: DMA_PAGES }, (_, page) => BigInt(page * PAGE_BYTES));
  return pages.filter((iova) => memory.translate(iova, PAGE_BYTES, 'read') !== undefined && memory.translate(iova, PAGE_BYTES, 'write') !== undefined);
}
