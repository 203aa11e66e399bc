/** An open device behind a vfio-user socket. */
import { Window } from '@emudev/dma';
import type { Sys } from '@emudev/linux';
import type { ClientErrorCode, VfioUserClient } from '@emudev/vfio-user-client';
import { VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_REQ_IRQ_INDEX } from '@emudev/vfio-user-protocol';
import type { VfioUserAddress } from './address.ts';
import { asBusError } from './client-error.ts';
import { BusError } from './errors.ts';
import type { BusErrorCode } from './errors.ts';
import { InterruptListener } from './interrupt-listener.ts';
import { CONFIG_SPACE_BYTES, DMA_PAGE_BYTES, MAX_BARS } from './limits.ts';
import { findMsixTable, withoutMsixTable } from './msix-table.ts';
import type { MsixTable } from './msix-table.ts';
import type { BusDeviceEnd, BusDmaMap, BusInterruptInfo, BusMapping, BusRegion, PciTransport } from './transport.ts';

const EINVAL = 22;
const EOPNOTSUPP = 95;

/** From `VfioUserSource.open`. */
export class VfioUserTransport implements PciTransport {
  readonly address: VfioUserAddress;
  readonly closed: Promise<BusDeviceEnd>;
  /** A server says nothing of it: it translates all addresses by itself. */
  readonly iovaRanges: undefined = undefined;
  readonly dmaPageBytes: number = DMA_PAGE_BYTES;
  readonly #client: VfioUserClient;
  readonly #window: Window;
  /** All asked for when it is opened, so that every later call sends its message at once: they are executed in the order of the calls. */
  readonly #regions: BusRegion[] = [];
  readonly #interrupts: BusInterruptInfo[] = [];
  readonly #releaseCallbacks = new Set<() => void>();
  #releaseRequests: InterruptListener | undefined;
  #closing: Promise<void> | undefined;

  /** Owns the client, also when it rejects. */
  static async of(address: VfioUserAddress, client: VfioUserClient, sys: Sys, ref: boolean): Promise<VfioUserTransport> {
    let window: Window;
    try {
      window = Window.open();
    } catch (error) {
      client.close();
      throw error;
    }
    const transport = new VfioUserTransport(address, client, window);
    try {
      await transport.#describe();
      await transport.#listenForReleaseRequests(sys, ref);
    } catch (error) {
      await transport.close();
      throw error;
    }
    return transport;
  }

  private constructor(address: VfioUserAddress, client: VfioUserClient, window: Window) {
    this.address = address;
    this.#client = client;
    this.#window = window;
    this.closed = client.closed.then(() => (this.#closing === undefined ? 'gone' : 'closed'));
  }

  get regionCount(): number {
    return this.#client.info.numRegions;
  }

  get interruptCount(): number {
    return this.#client.info.numIrqs;
  }

  get resettable(): boolean {
    return this.#client.resettable;
  }

  get maxDmaMaps(): number {
    return this.#client.server.maxDmaMaps;
  }

  async region(index: number): Promise<BusRegion> {
    return this.#region(index);
  }

  async interrupt(index: number): Promise<BusInterruptInfo> {
    return this.#interrupt(index);
  }

  async read(region: number, offset: number, into: Uint8Array): Promise<void> {
    this.#checkAccess(region, offset, into.length);
    into.set(await this.#asking(this.#client.read(region, offset, into.length)));
  }

  async write(region: number, offset: number, from: Uint8Array, options: { readonly posted?: boolean } = {}): Promise<void> {
    this.#checkAccess(region, offset, from.length);
    await this.#asking(this.#client.write(region, offset, from, { posted: options.posted === true }));
  }

  async map(index: number, window: Window): Promise<BusMapping> {
    const { areas } = this.#region(index);
    if (areas.length === 0) throw new BusError('ERR_BUS_NOT_MAPPABLE', `the server offers no part of region ${index} that can be mapped`);
    return this.#asking(this.#client.mapRegion(index, window, { areas }), { dma: 'ERR_BUS_NOT_MAPPABLE' });
  }

  async setInterrupts(index: number, start: number, fds: readonly number[]): Promise<void> {
    this.#checkVectors(index, start, fds.length);
    // The protocol has no -1: runs of descriptors, and runs without.
    for (let at = 0, end = 0; at < fds.length; at = end) {
      const connects = fds[at] !== -1;
      while (end < fds.length && (fds[end] !== -1) === connects) end++;
      const first = start + at;
      await this.#asking(connects ? this.#client.setIrqEventfds(index, first, fds.slice(at, end)) : this.#client.removeIrqEventfds(index, first, end - at));
    }
  }

  async clearInterrupts(index: number): Promise<void> {
    this.#checkVectors(index, 0, 0);
    await this.#asking(this.#client.clearIrqs(index));
  }

  async maskInterrupts(index: number, start: number, count: number, masked: boolean): Promise<void> {
    this.#checkVectors(index, start, count);
    await this.#asking(masked ? this.#client.maskIrq(index, start, count) : this.#client.unmaskIrq(index, start, count));
  }

  async dmaMap({ iova, sizeBytes, readable, writable, fd, fdOffset, address }: BusDmaMap): Promise<void> {
    // For servers that come by messages although they have the file.
    const at = address - this.#window.base;
    const memory = at >= 0n && at + BigInt(sizeBytes) <= BigInt(this.#window.u8.length) ? { memory: this.#window.u8.subarray(Number(at), Number(at) + sizeBytes) } : {};
    await this.#asking(this.#client.dmaMap({ iova, sizeBytes, readable, writable, fd, fdOffset, ...memory }), DMA_CODES);
  }

  async dmaUnmap(iova: bigint, sizeBytes: number): Promise<void> {
    await this.#asking(this.#client.dmaUnmap(iova, sizeBytes), DMA_CODES);
  }

  async reset(): Promise<void> {
    if (!this.resettable) throw new BusError('ERR_BUS_REFUSED', 'the device has no reset', { errno: EOPNOTSUPP });
    await this.#asking(this.#client.reset());
  }

  onReleaseRequest(callback: () => void): Disposable {
    // Its own, so that one that is registered twice is called twice.
    const called = (): void => { callback(); };
    this.#releaseCallbacks.add(called);
    return { [Symbol.dispose]: () => { this.#releaseCallbacks.delete(called); } };
  }

  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#client.close();
    await this.#client.closed;
    this.#releaseRequests?.end();
    this.#window[Symbol.dispose]();
  }

  async #describe(): Promise<void> {
    for (let index = 0; index < this.regionCount; index++) {
      const region = await this.#unlessMissing(this.#client.regionInfo(index));
      const { sizeBytes, readable, writable, areas, type } = region ?? { sizeBytes: 0, readable: false, writable: false, areas: [] };
      this.#regions.push({ index, sizeBytes, readable, writable, areas, ...(type === undefined ? {} : { type }) });
    }
    for (let index = 0; index < this.interruptCount; index++) {
      const { count, flags } = await this.#unlessMissing(this.#client.irqInfo(index)) ?? { count: 0, flags: 0 };
      this.#interrupts.push({ index, count, flags });
    }
    const bars = this.#regions.slice(0, MAX_BARS);
    if (bars.every(({ areas }) => areas.length === 0)) return;
    const table = await this.#findMsixTable();
    for (const bar of bars) this.#regions[bar.index] = { ...bar, areas: withoutMsixTable(bar.index, bar.areas, table) };
  }

  /** EINVAL is how servers say that there is nothing at an index. */
  async #unlessMissing<T>(answer: Promise<T>): Promise<T | undefined> {
    try {
      return await this.#asking(answer);
    } catch (error) {
      if (error instanceof BusError && error.code === 'ERR_BUS_REFUSED' && error.errno === EINVAL) return undefined;
      throw error;
    }
  }

  async #findMsixTable(): Promise<MsixTable | undefined> {
    const config = new Uint8Array(Math.min(this.#regions[VFIO_PCI_CONFIG_REGION_INDEX]?.sizeBytes ?? 0, CONFIG_SPACE_BYTES));
    await this.read(VFIO_PCI_CONFIG_REGION_INDEX, 0, config);
    return findMsixTable(config);
  }

  async #listenForReleaseRequests(sys: Sys, ref: boolean): Promise<void> {
    if ((this.#interrupts[VFIO_PCI_REQ_IRQ_INDEX]?.count ?? 0) === 0) return;
    const onRequest = (): void => { for (const callback of [...this.#releaseCallbacks]) callback(); };
    const listener = new InterruptListener(sys, [0], onRequest, { ref }, { unmask: undefined, disconnect: () => Promise.resolve(), closed: () => {} });
    this.#releaseRequests = listener;
    await this.setInterrupts(VFIO_PCI_REQ_IRQ_INDEX, 0, [listener.eventfds.get(0)!]);
  }

  #region(index: number): BusRegion {
    const region = this.#regions[index];
    if (region === undefined) throw new BusError('ERR_BUS_RANGE', `region ${index}; the device has ${this.regionCount}`);
    return region;
  }

  #interrupt(index: number): BusInterruptInfo {
    const interrupt = this.#interrupts[index];
    if (interrupt === undefined) throw new BusError('ERR_BUS_RANGE', `interrupt index ${index}; the device has ${this.interruptCount}`);
    return interrupt;
  }

  #checkAccess(index: number, offset: number, length: number): void {
    const { sizeBytes } = this.#region(index);
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + length > sizeBytes) throw new BusError('ERR_BUS_RANGE', `${length} bytes at ${offset} of region ${index}, which has ${sizeBytes}`);
  }

  #checkVectors(index: number, start: number, count: number): void {
    const info = this.#interrupt(index);
    if (!Number.isInteger(start) || start < 0 || !Number.isInteger(count) || count < 0 || start + count > info.count) {
      throw new BusError('ERR_BUS_RANGE', `vectors ${start}+${count} of interrupt index ${index}, which has ${info.count}`);
    }
  }

  async #asking<T>(answer: Promise<T>, codes: Parameters<typeof asBusError>[1] = {}): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      throw this.#errorOf(error, codes);
    }
  }

  #errorOf(error: unknown, codes: Parameters<typeof asBusError>[1] = {}): unknown {
    const converted = asBusError(error, codes);
    if (converted instanceof BusError && converted.code === 'ERR_BUS_GONE' && this.#closing !== undefined) return new BusError('ERR_BUS_CLOSED', 'the device is closed', { cause: error });
    return converted;
  }
}

const DMA_CODES: Readonly<Partial<Record<ClientErrorCode, BusErrorCode>>> = { ERR_VFU_CLIENT_ARGUMENT: 'ERR_BUS_DMA', ERR_VFU_CLIENT_REFUSED: 'ERR_BUS_DMA' };
