/** A consumer and its transport in memory: what a server does to a `PciDevice`, without a socket. */
import { fail } from 'node:assert/strict';
import { PciRangeError, REGION_CONFIG, type DetachReason, type PciDevice, type PciHost, type QuiesceReason, type RegionDescription } from '@emudev/pci';
import { TestMemory, type TestMapOptions } from './memory.ts';
import { RecordingVectors } from './vectors.ts';

/** Where a test's guest memory begins unless it says otherwise: above 4 GiB, so that truncated addresses show. */
export const TEST_RAM_IOVA = 0x1_0000_0000n;
/** How much of it there is. */
export const TEST_RAM_BYTES: number = 1 << 20;

/**
 * Serves one device to one consumer at a time, which is the test. Calls reach the device as the vfio-user server makes them: one at
 * a time in the order they were asked for, changes of memory and interrupts and resets between `quiesce` and `resume`, `resume` also
 * after a change that failed, a function level reset at once where a configuration write asks for it.
 */
export class TestHost implements PciHost, AsyncDisposable {
  readonly device: PciDevice;
  readonly memory: TestMemory = new TestMemory();
  readonly vectors: RecordingVectors = new RecordingVectors();
  /** The level of the INTx pin, and how often it rose. */
  intx = { asserted: false, rises: 0 };
  /** Function level resets the device has asked for. */
  functionLevelResets = 0;
  #connected = false;
  #tail: Promise<unknown> = Promise.resolve();
  #busy = false;

  constructor(device: PciDevice) {
    this.device = device;
  }

  /** Attached and not detached. */
  get connected(): boolean {
    return this.#connected;
  }

  // PciHost: what the device calls.
  irqFd(index: number, vector: number): number {
    return this.vectors.fd(index, vector);
  }
  trigger(index: number, vector: number): boolean {
    return this.vectors.signal(index, vector);
  }
  setIntx(asserted: boolean): void {
    if (asserted && !this.intx.asserted) this.intx.rises++;
    this.intx.asserted = asserted;
  }
  functionLevelReset(): Promise<void> {
    this.functionLevelResets++;
    return this.#busy ? this.#reset('flr') : this.#serial(() => this.#reset('flr'));
  }

  // The consumer: what a test calls.

  /** Connects. Rejects as `attach` does, and is not connected then. */
  connect(): Promise<void> {
    return this.#serial(async () => {
      if (this.#connected) fail('the test has connected already');
      await this.device.attach(this);
      this.#connected = true;
    });
  }

  /** Maps guest memory, 1 MiB at `TEST_RAM_IOVA` by default. */
  map(iova: bigint = TEST_RAM_IOVA, sizeBytes: number = TEST_RAM_BYTES, options: TestMapOptions = {}): Promise<void> {
    return this.change('dma-map', () => {
      this.memory.map(iova, sizeBytes, options);
      this.device.memoryChanged();
    });
  }

  /** Unmaps what was mapped at `iova`, between `quiesce` and `resume`. */
  unmap(iova: bigint = TEST_RAM_IOVA): Promise<void> {
    return this.change('dma-unmap', () => {
      this.memory.unmap(iova);
      this.device.memoryChanged();
    });
  }

  /** Gives vectors eventfds; all the device has of that kind by default. */
  assign(index: number, start = 0, count: number = this.#countOf(index) - start): Promise<void> {
    return this.change('irqs', () => {
      for (let vector = start; vector < start + count; vector++) this.vectors.assign(index, vector);
      this.device.irqsChanged(index, start, count);
    });
  }

  /** Takes them away. */
  unassign(index: number, start = 0, count: number = this.#countOf(index) - start): Promise<void> {
    return this.change('irqs', () => {
      for (let vector = start; vector < start + count; vector++) this.vectors.unassign(index, vector);
      this.device.irqsChanged(index, start, count);
    });
  }

  /** The consumer's device reset. */
  reset(): Promise<void> {
    return this.#serial(() => this.#reset('reset'));
  }

  /** Leaves, as a server lets a client go: quiesce, detach, memory and descriptors away, resume. */
  disconnect(reason: DetachReason = 'closed'): Promise<void> {
    return this.#serial(async () => {
      if (!this.#connected) return;
      this.#connected = false;
      let failure: { readonly error: unknown } | undefined;
      try {
        await this.device.quiesce('detach');
      } catch (error) {
        failure = { error };
      }
      try {
        await this.device.detach(reason);
      } finally {
        this.memory.clear();
        this.vectors.clear();
        this.intx.asserted = false;
        this.device.resume();
      }
      if (failure !== undefined) throw failure.error;
    });
  }

  /** Something of the test's own between `quiesce` and `resume`. */
  change(reason: QuiesceReason, body: () => void | Promise<void>): Promise<void> {
    return this.#serial(() => this.#whileQuiesced(reason, body));
  }

  /** A region read of `lengthBytes`, a copy. Throws PciRangeError as the transport's own check would. */
  async read(region: number, offset: number, lengthBytes: number): Promise<Uint8Array> {
    this.#checkBounds(region, offset, lengthBytes);
    const into = new Uint8Array(lengthBytes);
    await this.#serial(() => this.device.read(region, offset, into));
    return into;
  }

  /** A region write. Throws PciRangeError as the transport's own check would. */
  write(region: number, offset: number, bytes: Uint8Array): Promise<void> {
    this.#checkBounds(region, offset, bytes.length);
    return this.#serial(() => this.device.write(region, offset, bytes));
  }

  /** One access of 1, 2, 4 or 8 bytes, little-endian and unsigned. */
  async get(region: number, offset: number, lengthBytes: 1 | 2 | 4 | 8 = 4): Promise<number> {
    const bytes = await this.read(region, offset, lengthBytes);
    return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
  }

  /** Stores one value of 1, 2, 4 or 8 bytes, little-endian; higher bits are cut off. */
  set(region: number, offset: number, value: number, lengthBytes: 1 | 2 | 4 | 8 = 4): Promise<void> {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
    return this.write(region, offset, bytes.subarray(0, lengthBytes));
  }

  /** All of configuration space. */
  config(): Promise<Uint8Array> {
    return this.read(REGION_CONFIG, 0, this.region(REGION_CONFIG).sizeBytes);
  }

  /** The description of a region; fails where the device has none. */
  region(index: number): RegionDescription {
    return this.device.regions.find((region) => region.index === index) ?? fail(`${this.device.name} has no region ${index}`);
  }

  /** Disconnects, and gives memory and descriptors back also where that fails. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.disconnect();
    } finally {
      this.vectors[Symbol.dispose]();
      this.memory[Symbol.dispose]();
    }
  }

  async #reset(reason: 'reset' | 'flr'): Promise<void> {
    await this.#whileQuiesced(reason, () => {
      this.intx.asserted = false;
      return this.device.reset();
    });
  }

  async #whileQuiesced(reason: QuiesceReason, change: () => void | Promise<void>): Promise<void> {
    await this.device.quiesce(reason);
    try {
      await change();
    } finally {
      this.device.resume();
    }
  }

  /** Strictly one after the other, whatever came of the one before. */
  #serial<T>(body: () => T | Promise<T>): Promise<T> {
    const result = this.#tail.then(async () => {
      this.#busy = true;
      try {
        return await body();
      } finally {
        this.#busy = false;
      }
    });
    this.#tail = result.catch(() => undefined);
    return result;
  }

  #countOf(index: number): number {
    return this.device.irqs.find((irq) => irq.index === index)?.count ?? 0;
  }

  #checkBounds(region: number, offset: number, lengthBytes: number): void {
    const { sizeBytes } = this.region(region);
    if (offset < 0 || offset + lengthBytes > sizeBytes) throw new PciRangeError(`region ${region}`, offset, lengthBytes, sizeBytes);
  }
}
