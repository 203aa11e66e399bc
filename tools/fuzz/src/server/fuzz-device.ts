/**
 * A device that has everything a device can have, and does at a client's word whatever a device can do: DMA of both kinds, interrupts,
 * resets of its own, slow and failing accesses, work in the background, migration.
 */
import { linux } from '@emudev/linux';
import type { Window } from '@emudev/dma';
import {
  BasicPciDevice, IRQ_ERR, IRQ_MSI, IRQ_MSIX, IRQ_REQ, type IoFd, type Migration, PciAccessError, pciExpressCapability, powerManagementCapability, type QuiesceReason,
  serialNumberCapability, vendorCapability,
} from '@emudev/pci';
import { noteDefect } from '../defects.ts';

export const VENDOR_ID = 0x1af4;
export const DEVICE_ID = 0xf022;
export const CONTROL_BYTES = 0x10000;
export const SHARED_BYTES = 0x20000;
/** Each takes a write of up to eight bytes, the argument. Everything else in BAR0 is memory. */
export const CONTROL = {
  dmaRead: 0x100, dmaWrite: 0x108, messageRead: 0x110, messageWrite: 0x118, msix: 0x120, msi: 0x128, intx: 0x130, direct: 0x138,
  slow: 0x140, fail: 0x148, flr: 0x150, background: 0x158, notQuiescent: 0x160, errOrReq: 0x168, slowQuiesce: 0x170, ownReset: 0x178,
} as const;
const CONTROL_END = 0x180;
const DMA_BYTES = 3000;
const MIGRATION_BYTES = 20_000;
const EBUSY = 16;
const EIO = 5;

export class FuzzDevice extends BasicPciDevice implements Disposable {
  readonly #window: Window;
  readonly #memory = new Uint8Array(CONTROL_BYTES);
  readonly #shared: number;
  readonly #ioFds: IoFd[];
  #background: Promise<unknown> = Promise.resolve();
  #refusals = 0;
  #slowness = 0;

  constructor(window: Window) {
    const shared = linux.memfdCreate('fuzz-device', { allowSealing: true });
    linux.ftruncate(shared, SHARED_BYTES);
    super({
      name: 'fuzz', vendorId: VENDOR_ID, deviceId: DEVICE_ID, classCode: 0xff0000, configBytes: 4096,
      intx: true, msi: { vectors: 32 }, msix: { vectors: 2048, bar: 4 }, err: true, req: true, tracksDirtyPages: true,
      capabilities: [powerManagementCapability(), pciExpressCapability({ flr: true }), vendorCapability({ payload: new Uint8Array(9), writable: true }), serialNumberCapability({ serial: 0x1234_5678n })],
      bars: [
        {
          index: 0, kind: 'memory64', sizeBytes: CONTROL_BYTES,
          handler: { read: (offset, into) => into.set(this.#memory.subarray(offset, offset + into.length)), write: (offset, from) => this.#control(offset, from) },
        },
        {
          index: 2, kind: 'memory32', sizeBytes: SHARED_BYTES,
          mmap: { areas: [{ offset: 0, sizeBytes: 0x1000 }, { offset: 0x10000, sizeBytes: 0x8000 }], backing: { fd: shared, offset: 0 } },
          handler: { read: (offset, into) => void linux.pread(shared, into, offset), write: (offset, from) => void linux.pwrite(shared, from, offset) },
        },
        { index: 5, kind: 'io', sizeBytes: 64 },
      ],
      migration: migration(),
    });
    this.#window = window;
    this.#shared = shared;
    const eventfds = Array.from({ length: 20 }, () => linux.eventfd());
    const at = (i: number): { offset: number; sizeBytes: number; fd: number } => ({ offset: 0x1000 + 8 * i, sizeBytes: 4, fd: eventfds[i % eventfds.length]! });
    this.#ioFds = eventfds.map((_, i): IoFd => {
      switch (i % 3) {
        case 0: return { ...at(i), kind: 'ioeventfd', flags: 1, datamatch: BigInt(i) };
        case 1: return { ...at(0), kind: 'ioeventfd', flags: 0, datamatch: 0n };
        default: return { ...at(i), kind: 'shadow', flags: 0, datamatch: 0n, memoryFd: shared, memoryOffset: 8 * i };
      }
    });
  }

  /** Some that fit one message, more than fit any, none. */
  ioFds(region: number): readonly IoFd[] {
    return region === 0 ? this.#ioFds.slice(0, 5) : region === 2 ? this.#ioFds : [];
  }

  override read(region: number, offset: number, into: Uint8Array): void | Promise<void> {
    this.#checkInside(region, offset, into.length);
    return super.read(region, offset, into);
  }

  override write(region: number, offset: number, from: Uint8Array): void | Promise<void> {
    this.#checkInside(region, offset, from.length);
    return super.write(region, offset, from);
  }

  /** The contract of a device says that its host has checked. */
  #checkInside(region: number, offset: number, length: number): void {
    const sizeBytes = this.regions.find(({ index }) => index === region)?.sizeBytes ?? 0;
    if (this.host === undefined || length === 0 || offset + length > sizeBytes) noteDefect('device', new Error(`an access to region ${region} of ${sizeBytes} bytes: ${length} bytes at ${offset}, attached: ${this.host !== undefined}`));
  }

  /** As the real ones: waits for what runs in the background, and sometimes cannot. */
  override async quiesce(_reason: QuiesceReason): Promise<void> {
    if (this.#refusals > 0) {
      this.#refusals--;
      throw new PciAccessError('not now', EBUSY);
    }
    if (this.#slowness > 0) {
      this.#slowness--;
      await turn();
    }
    await this.#background;
  }

  [Symbol.dispose](): void {
    for (const fd of new Set(this.#ioFds.map(({ fd }) => fd))) linux.close(fd);
    linux.close(this.#shared);
  }

  #control(offset: number, from: Uint8Array): void | Promise<void> {
    this.#memory.set(from, offset);
    if (offset < CONTROL.dmaRead || offset >= CONTROL_END || offset % 8 !== 0 || from.length > 8 || this.host === undefined) return;
    const { host } = this;
    let argument = 0n;
    for (let i = from.length - 1; i >= 0; i--) argument = (argument << 8n) | BigInt(from[i]!);
    const low = Number(argument & 0xffffn);
    switch (offset) {
      case CONTROL.dmaRead: return host.memory.read(argument, new Uint8Array(DMA_BYTES));
      case CONTROL.dmaWrite: return host.memory.write(argument, new Uint8Array(DMA_BYTES).fill(0x5a));
      case CONTROL.messageRead: return host.dmaMessages?.read(argument, new Uint8Array(DMA_BYTES));
      case CONTROL.messageWrite: return host.dmaMessages?.write(argument, new Uint8Array(DMA_BYTES));
      case CONTROL.msix: return void host.trigger(IRQ_MSIX, low % 2048);
      case CONTROL.msi: return void host.trigger(IRQ_MSI, low % 32);
      case CONTROL.errOrReq: return void host.trigger(low % 2 === 0 ? IRQ_ERR : IRQ_REQ, 0);
      case CONTROL.intx: return this.setIntx(low % 2 === 0);
      case CONTROL.direct: return this.#writeDirectly(argument);
      case CONTROL.slow: return turn();
      case CONTROL.fail: throw new PciAccessError('as it was asked to', 1 + (low % 4095));
      case CONTROL.flr: return host.functionLevelReset();
      case CONTROL.ownReset:
        // A device resets itself between two commands as well. A rejection: it was asked not to become quiescent.
        void turn().then(() => this.host?.functionLevelReset()).catch(() => {});
        return;
      case CONTROL.background:
        // A rejection is the DMA's: unmapped memory, or a client that does not answer.
        this.#background = turn().then(() => this.host?.memory.write(argument, new Uint8Array(DMA_BYTES))).catch(() => {});
        return;
      case CONTROL.notQuiescent:
        this.#refusals = Math.min(this.#refusals + 1, 2);
        return;
      case CONTROL.slowQuiesce:
        this.#slowness = Math.min(this.#slowness + 1, 4);
        return;
    }
  }

  #writeDirectly(iova: bigint): void {
    const at = this.host?.memory.translate(iova, DMA_BYTES, 'write');
    if (at === undefined) return;
    this.#window.u8.fill(0xa5, at, at + DMA_BYTES);
    this.host?.memory.markDirty(iova, DMA_BYTES);
  }
}

/** Another turn of the event loop. */
function turn(): Promise<void> {
  return new Promise((resolve) => { setImmediate(resolve); });
}

/** State that is only counted. Every seventh hop fails. */
function migration(): Migration {
  let left = 0;
  let taken = 0;
  let hops = 0;
  return {
    preCopy: true,
    peerToPeer: true,
    async enter() {
      hops++;
      if (hops % 3 === 0) await turn();
      if (hops % 7 === 0) throw new PciAccessError('this hop fails', EIO);
      left = MIGRATION_BYTES;
      taken = 0;
    },
    readState(into) {
      const count = Math.min(left, into.length);
      left -= count;
      return count;
    },
    async writeState(from) {
      taken += from.length;
      if (taken > MIGRATION_BYTES) throw new PciAccessError('more than the device has', EIO);
      await turn();
    },
  };
}
