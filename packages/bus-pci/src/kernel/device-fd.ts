/** An open device of the kernel, whichever way it was opened: a descriptor with regions, interrupts and a DMA address space. */
import { DmaError } from '@emudev/dma';
import type { Window, WindowMapping } from '@emudev/dma';
import { LinuxError } from '@emudev/linux';
import { VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_PCI_CONFIG_REGION_INDEX } from '@emudev/vfio-user-protocol';
import { formatAddress } from '../address.ts';
import type { PciAddress } from '../address.ts';
import { BusError } from '../errors.ts';
import { DMA_PAGE_BYTES, MAX_DEVICE_INDEXES } from '../limits.ts';
import type { BusDeviceEnd, BusDmaMap, BusInterruptInfo, BusMapping, BusRegion, PciTransport } from '../transport.ts';
import { askWithArgsz } from '../vfio-abi/capability-chain.ts';
import { decodeDeviceInfo, DEVICE_INFO_BYTES } from '../vfio-abi/device-info.ts';
import type { VfioDeviceInfo } from '../vfio-abi/device-info.ts';
import { VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_REGION_INFO, VFIO_DEVICE_RESET } from '../vfio-abi/ioctl.ts';
import { decodeVfioRegionInfo, putRegionIndex, VFIO_REGION_INFO_BYTES } from '../vfio-abi/region-info.ts';
import { opening, regardless } from './access.ts';
import type { DeviceAccess, VfioSys } from './access.ts';
import { KernelInterrupts } from './interrupts.ts';
import { absentRegion, kernelRegion } from './regions.ts';
import type { KernelRegion } from './regions.ts';

const EIO = 5;
const ENODEV = 19;
const EINVAL = 22;
/** As much of configuration space as capabilities are in. */
const CONFIG_BYTES = 256;
const ADDRESSES = 1n << 64n;

/**
 * All calls are carried out at once, so in the order in which they come. Once the device has gone, or is closed, nothing of it is open any more, except
 * for what is mapped: until that is disposed of the kernel takes the device to be in use.
 */
export class KernelDevice implements PciTransport {
  readonly address: PciAddress;
  readonly regionCount: number;
  readonly interruptCount: number;
  readonly resettable: boolean;
  readonly closed: Promise<BusDeviceEnd>;
  readonly #sys: VfioSys;
  readonly #access: DeviceAccess;
  readonly #interrupts: KernelInterrupts;
  readonly #regions = new Map<number, KernelRegion>();
  /** Sizes by IOVA. */
  readonly #dmaMaps = new Map<bigint, number>();
  readonly #settleClosed: (end: BusDeviceEnd) => void;
  #end: BusDeviceEnd | undefined;

  /** Takes `access` over, also where it throws: ERR_BUS_UNUSABLE for what is no PCI device, ERR_BUS_GONE, ERR_BUS_VFIO_ARGSZ, ERR_BUS_VFIO_CHAIN. */
  static open(sys: VfioSys, address: PciAddress, access: DeviceAccess): KernelDevice {
    const name = formatAddress(address);
    try {
      const info = opening(name, () => decodeDeviceInfo(askWithArgsz(DEVICE_INFO_BYTES, 'vfio_device_info', (structure) => { sys.ioctl(access.fd, VFIO_DEVICE_GET_INFO, structure); })));
      if ((info.flags & VFIO_DEVICE_FLAGS_PCI) === 0) throw new BusError('ERR_BUS_UNUSABLE', `${name} is no PCI device: VFIO's flags are 0x${info.flags.toString(16)}`);
      // CLIENT: whoever goes through all of them does so this often.
      const most = Math.max(info.numRegions, info.numIrqs);
      if (most > MAX_DEVICE_INDEXES) throw new BusError('ERR_BUS_VFIO_ARGSZ', `${name} has ${info.numRegions} regions and ${info.numIrqs} kinds of interrupts; at most ${MAX_DEVICE_INDEXES} are taken`);
      return new KernelDevice(sys, address, access, info);
    } catch (error) {
      access.close();
      throw error;
    }
  }

  private constructor(sys: VfioSys, address: PciAddress, access: DeviceAccess, info: VfioDeviceInfo) {
    this.#sys = sys;
    this.#access = access;
    this.#interrupts = new KernelInterrupts(sys, access.fd);
    this.address = address;
    this.regionCount = info.numRegions;
    this.interruptCount = info.numIrqs;
    this.resettable = (info.flags & VFIO_DEVICE_FLAGS_RESET) !== 0;
    ({ promise: this.closed, resolve: this.#settleClosed } = Promise.withResolvers<BusDeviceEnd>());
  }

  get iovaRanges(): PciTransport['iovaRanges'] {
    return this.#access.dma.iovaRanges;
  }

  get dmaPageBytes(): number {
    return this.#access.dma.pageBytes;
  }

  get maxDmaMaps(): number {
    return this.#access.dma.maxMaps;
  }

  // `async` throughout: what is thrown becomes a rejection, and the call itself is made before the promise is returned.

  async region(index: number): Promise<BusRegion> {
    return this.#call(`region ${index}`, () => this.#region(index).region);
  }

  async interrupt(index: number): Promise<BusInterruptInfo> {
    this.#checkIndex('interrupt', index, this.interruptCount);
    return this.#call(`interrupt ${index}`, () => this.#interrupts.info(index));
  }

  async read(region: number, offset: number, into: Uint8Array): Promise<void> {
    this.#transfer('read', region, offset, into.length, (at) => this.#sys.pread(this.#access.fd, into, at));
  }

  async write(region: number, offset: number, from: Uint8Array): Promise<void> {
    this.#transfer('write', region, offset, from.length, (at) => this.#sys.pwrite(this.#access.fd, from, at));
  }

  async map(index: number, window: Window): Promise<BusMapping> {
    return this.#call(`mapping region ${index}`, () => this.#map(index, window));
  }

  async setInterrupts(index: number, start: number, fds: readonly number[]): Promise<void> {
    this.#checkIndex('interrupt', index, this.interruptCount);
    this.#call(`connecting interrupt ${index}`, () => { this.#interrupts.connect(index, start, fds); });
  }

  async clearInterrupts(index: number): Promise<void> {
    this.#checkIndex('interrupt', index, this.interruptCount);
    this.#call(`disconnecting interrupt ${index}`, () => { this.#interrupts.disconnect(index); });
  }

  async maskInterrupts(index: number, start: number, count: number, masked: boolean): Promise<void> {
    this.#checkIndex('interrupt', index, this.interruptCount);
    this.#call(`${masked ? '' : 'un'}masking interrupt ${index}`, () => { this.#interrupts.mask(index, start, count, masked); });
  }

  freeIova(sizeBytes: number, align: number, from: bigint): bigint | undefined {
    return this.#access.dma.freeIova(BigInt(sizeBytes), BigInt(align), from);
  }

  async dmaMap(map: BusDmaMap): Promise<void> {
    this.#call('a DMA map', () => {
      this.#checkDma(map);
      const { iova, sizeBytes, address, readable, writable } = map;
      this.#access.dma.map({ iova, address, sizeBytes: BigInt(sizeBytes), readable, writable });
      this.#dmaMaps.set(iova, sizeBytes);
    });
  }

  async dmaUnmap(iova: bigint, sizeBytes: number): Promise<void> {
    this.#call('a DMA unmap', () => {
      if (this.#dmaMaps.get(iova) !== sizeBytes) throw new BusError('ERR_BUS_DMA', `IOVA 0x${iova.toString(16)} is not mapped with 0x${sizeBytes.toString(16)} bytes`);
      this.#access.dma.unmap(iova, BigInt(sizeBytes));
      this.#dmaMaps.delete(iova);
    });
  }

  async reset(): Promise<void> {
    this.#call('a reset', () => {
      if (!this.resettable) throw new BusError('ERR_BUS_REFUSED', `${formatAddress(this.address)} cannot be reset`, { errno: EINVAL });
      this.#sys.ioctl(this.#access.fd, VFIO_DEVICE_RESET, 0);
    });
  }

  onReleaseRequest(callback: () => void): Disposable {
    return this.#call('the request interrupt', () => this.#interrupts.onReleaseRequest(callback));
  }

  async close(): Promise<void> {
    this.#finish('closed');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #finish(end: BusDeviceEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.#interrupts.end();
    for (const [iova, sizeBytes] of this.#dmaMaps) regardless(() => { this.#access.dma.unmap(iova, BigInt(sizeBytes)); });
    this.#dmaMaps.clear();
    this.#access.close();
    this.#settleClosed(end);
  }

  #call<T>(attempted: string, call: () => T): T {
    if (this.#end === 'closed') throw new BusError('ERR_BUS_CLOSED', `${formatAddress(this.address)} is closed`);
    if (this.#end === 'gone') throw new BusError('ERR_BUS_GONE', `${formatAddress(this.address)} is not there any more`);
    try {
      return call();
    } catch (error) {
      throw this.#failure(error, attempted);
    }
  }

  #failure(error: unknown, attempted: string): unknown {
    if (!(error instanceof LinuxError)) return error;
    const { errno, code } = error;
    if (errno === ENODEV || (errno === EIO && this.#vanished())) {
      this.#finish('gone');
      return new BusError('ERR_BUS_GONE', `${attempted}: ${formatAddress(this.address)} is not there any more (${code})`, { cause: error });
    }
    const hint = errno === EIO ? '; is memory space enabled in its command register?' : '';
    return new BusError('ERR_BUS_REFUSED', `${attempted} of ${formatAddress(this.address)}: ${code}${hint}`, { errno, cause: error });
  }

  /** vfio-pci says EIO for BARs that are switched off, too. A function that is not there has the vendor 0xffff, if it can be asked at all. */
  #vanished(): boolean {
    const vendor = new Uint8Array(2);
    try {
      const { region, fileOffset } = this.#region(VFIO_PCI_CONFIG_REGION_INDEX);
      return region.sizeBytes < 2 || this.#sys.pread(this.#access.fd, vendor, fileOffset) !== 2 || (vendor[0] === 0xff && vendor[1] === 0xff);
    } catch {
      return true;
    }
  }

  #checkIndex(what: string, index: number, count: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= count) throw new BusError('ERR_BUS_RANGE', `${what} ${index}: ${formatAddress(this.address)} has 0 to ${count - 1}`);
  }

  #region(index: number): KernelRegion {
    this.#checkIndex('region', index, this.regionCount);
    let region = this.#regions.get(index);
    if (region === undefined) {
      region = this.#askRegion(index);
      this.#regions.set(index, region);
    }
    return region;
  }

  #askRegion(index: number): KernelRegion {
    let structure: Uint8Array;
    try {
      structure = askWithArgsz(VFIO_REGION_INFO_BYTES, 'vfio_region_info', (bytes) => {
        putRegionIndex(bytes, index);
        this.#sys.ioctl(this.#access.fd, VFIO_DEVICE_GET_REGION_INFO, bytes);
      });
    } catch (error) {
      if (error instanceof LinuxError && error.errno === EINVAL) return absentRegion(index);
      throw error;
    }
    return kernelRegion(index, decodeVfioRegionInfo(structure), () => this.#configHead());
  }

  /** A dword at a time, as configuration space is read; the sizes of some end in the middle of one. */
  #configHead(): Uint8Array {
    const { region, fileOffset } = this.#region(VFIO_PCI_CONFIG_REGION_INDEX);
    const bytes = new Uint8Array(Math.min(region.sizeBytes, CONFIG_BYTES) & ~3);
    for (let at = 0; at < bytes.length; at += 4) {
      const got = this.#sys.pread(this.#access.fd, bytes.subarray(at, at + 4), fileOffset + at);
      if (got !== 4) throw new BusError('ERR_BUS_REFUSED', `configuration space at ${at}: ${got} bytes of 4`);
    }
    return bytes;
  }

  #transfer(what: 'read' | 'write', index: number, offset: number, length: number, access: (at: number) => number): void {
    this.#call(`a ${what} of region ${index}`, () => {
      const { region, fileOffset } = this.#region(index);
      // Drivers of the kernel do not all check: behind the region may be another one.
      if (!Number.isSafeInteger(offset) || offset < 0 || offset + length > region.sizeBytes) {
        throw new BusError('ERR_BUS_RANGE', `${length} bytes at ${offset} of region ${index}, which has ${region.sizeBytes}`);
      }
      if (length === 0) return;
      const done = access(fileOffset + offset);
      if (done !== length) throw new BusError('ERR_BUS_REFUSED', `a ${what} of ${length} bytes at ${offset} of region ${index}: ${done} were done`);
    });
  }

  #map(index: number, window: Window): BusMapping {
    const { region, fileOffset } = this.#region(index);
    if (region.areas.length === 0) throw new BusError('ERR_BUS_NOT_MAPPABLE', `nothing of region ${index} can be mapped`);
    const mappings: WindowMapping[] = [];
    const dispose = (): void => { for (const mapping of mappings.splice(0)) mapping[Symbol.dispose](); };
    try {
      const areas = region.areas.map(({ offset, sizeBytes }) => {
        const lengthBytes = Math.ceil(sizeBytes / DMA_PAGE_BYTES) * DMA_PAGE_BYTES;
        const mapping = window.map({ fd: this.#access.fd, fdOffset: fileOffset + offset, lengthBytes, write: region.writable, blockBytes: DMA_PAGE_BYTES });
        mappings.push(mapping);
        return { offset, sizeBytes, windowOffset: mapping.offset };
      });
      return { areas, [Symbol.dispose]: dispose };
    } catch (error) {
      dispose();
      if (!(error instanceof DmaError)) throw error;
      if (error.errno === ENODEV && error.cause instanceof LinuxError) throw error.cause;
      throw new BusError('ERR_BUS_NOT_MAPPABLE', `region ${index}: ${error.message}`, { errno: error.errno, cause: error });
    }
  }

  #checkDma({ iova, sizeBytes, address }: BusDmaMap): void {
    const page = this.#access.dma.pageBytes;
    const aligned = Number.isSafeInteger(sizeBytes) && sizeBytes > 0 && sizeBytes % page === 0 && iova % BigInt(page) === 0n && address % BigInt(page) === 0n;
    if (!aligned) throw new BusError('ERR_BUS_DMA', `IOVA 0x${iova.toString(16)}, address 0x${address.toString(16)} and ${sizeBytes} bytes have to be multiples of ${page}, and more than none`);
    const last = iova + BigInt(sizeBytes) - 1n;
    const ranges = this.#access.dma.iovaRanges ?? [{ first: 0n, last: ADDRESSES - 1n }];
    if (!ranges.some((range) => iova >= range.first && last <= range.last)) throw new BusError('ERR_BUS_DMA', `the device does not reach IOVA 0x${iova.toString(16)} to 0x${last.toString(16)}`);
  }
}
