/** What the driver needs of an iavf function, and how any device of the PCI bus gives it. */
import type { Bar, BusDevice } from '@emudev/bus-pci';
import { IavfError } from './errors.ts';
import { QRX_TAIL1, QTX_TAIL1 } from './registers.ts';

/** Memory for the device: the beginning of a file, which is mapped here at `address`. */
export interface IavfMemory {
  readonly iova: bigint;
  readonly sizeBytes: number;
  readonly fd: number;
  readonly address: bigint;
}

/**
 * A way to an iavf function: configuration space, registers, DMA maps, vectors, and, where the device offers them, its doorbell pages in the
 * DMA window. `BusTransport` is the real one; tests bring their own.
 */
export interface IavfTransport {
  /** Little-endian word of the configuration space. */
  readConfig16(offset: number): Promise<number>;
  /** Writes a little-endian word of the configuration space. */
  writeConfig16(offset: number, value: number): Promise<void>;
  /** Register of BAR0. */
  read32(offset: number): Promise<number>;
  /** Writes a register of BAR0; resolves when the device has taken it. */
  write32(offset: number, value: number): Promise<void>;
  /** The same without an answer; resolves when the message is on its way. */
  post32(offset: number, value: number): Promise<void>;
  /** Makes [iova, iova + sizeBytes) of the device's address space this memory, readable and writable. */
  dmaMap(memory: IavfMemory): Promise<void>;
  /** Takes back what was mapped with exactly this range. */
  dmaUnmap(iova: bigint, sizeBytes: number): Promise<void>;
  /** Eventfd of MSI-X vector 0; undefined takes it back. */
  setMiscVector(fd: number | undefined): Promise<void>;
  /** Window offsets of the pages with QTX_TAIL and QRX_TAIL; undefined: doorbells are trapped. Valid until `close`. */
  readonly doorbells: { readonly tx: number; readonly rx: number } | undefined;
  /** Settles (never rejects) when the device has gone or `close` was called. */
  readonly closed: Promise<unknown>;
  /** `keepDoorbells`: their pages stay in the window for good, because an lcore may still store into them. */
  close(options?: { readonly keepDoorbells?: boolean }): Promise<void>;
}

const BAR0 = 0;
const CONFIG_SPACE = 7;
const MSIX = 2;
/** The registers end at 0xD03F, the doorbell arrays are 16 words each. */
const BAR0_MIN_BYTES = 0x10000;
const DOORBELL_BYTES = 64;

/** An iavf function on the PCI bus: of this machine's kernel, mediated, or behind a vfio-user socket. */
export class BusTransport implements IavfTransport {
  readonly closed: Promise<unknown>;
  readonly doorbells: { readonly tx: number; readonly rx: number } | undefined;
  readonly #device: BusDevice;
  readonly #bar: Bar;

  /** Takes the device over, also when it rejects. ERR_IAVF_NOT_IAVF where BAR0 or MSI-X is missing; BusError. */
  static async of(device: BusDevice): Promise<BusTransport> {
    try {
      const region = await device.region(BAR0);
      if (region.sizeBytes < BAR0_MIN_BYTES) throw new IavfError('ERR_IAVF_NOT_IAVF', `BAR0 has ${region.sizeBytes} bytes: want at least ${BAR0_MIN_BYTES}`);
      const vectors = await device.interrupts.info(MSIX);
      if (vectors.count < 2) throw new IavfError('ERR_IAVF_NOT_IAVF', `${vectors.count} MSI-X vectors: want at least 2`);
      // Whoever had it before may have left queues behind that still know addresses.
      if (device.resettable) await device.reset();
      const bar = await device.bar(BAR0);
      await device.setBusMaster(true);
      return new BusTransport(device, bar);
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  private constructor(device: BusDevice, bar: Bar) {
    this.#device = device;
    this.#bar = bar;
    this.closed = device.closed;
    const tx = bar.windowOffset(QTX_TAIL1, DOORBELL_BYTES);
    const rx = bar.windowOffset(QRX_TAIL1, DOORBELL_BYTES);
    this.doorbells = tx === undefined || rx === undefined ? undefined : { tx, rx };
  }

  async readConfig16(offset: number): Promise<number> {
    const bytes = new Uint8Array(2);
    await this.#device.read(CONFIG_SPACE, offset, bytes);
    return bytes[0]! | (bytes[1]! << 8);
  }

  writeConfig16(offset: number, value: number): Promise<void> {
    return this.#device.write(CONFIG_SPACE, offset, Uint8Array.of(value, value >>> 8));
  }

  read32(offset: number): Promise<number> {
    return this.#bar.read32(offset);
  }

  write32(offset: number, value: number): Promise<void> {
    return this.#bar.write32(offset, value);
  }

  post32(offset: number, value: number): Promise<void> {
    return this.#bar.post32(offset, value);
  }

  dmaMap(memory: IavfMemory): Promise<void> {
    return this.#device.dma.map({ ...memory, fdOffset: 0, readable: true, writable: true });
  }

  dmaUnmap(iova: bigint, sizeBytes: number): Promise<void> {
    return this.#device.dma.unmap(iova, sizeBytes);
  }

  /** No other vector is connected: the queues are polled, and theirs is never armed. */
  setMiscVector(fd: number | undefined): Promise<void> {
    return fd === undefined ? this.#device.interrupts.clear(MSIX) : this.#device.interrupts.setEventfds(MSIX, 0, [fd]);
  }

  close(options: { readonly keepDoorbells?: boolean } = {}): Promise<void> {
    return this.#device.close({ keepBars: options.keepDoorbells === true });
  }
}
