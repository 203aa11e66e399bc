/** A device, and a source of devices, that do as a test says. */
import type { Window } from '@emudev/dma';
import { linux, OwnedFd } from '@emudev/linux';
import { BusError, formatAddress, parseAddress } from '../src/index.ts';
import type { BusDeviceEnd, BusDmaMap, BusInterruptInfo, BusMapping, BusRegion, DeviceSource, FoundDevice, HotPlugEvent, PciAddress, PciIds, PciTransport } from '../src/index.ts';

export const IDS: PciIds = { vendor: 0x8086, device: 0x1889, subsystemVendor: 0x1234, subsystemDevice: 0x5678, classCode: 0x020000 };

export interface DeviceScript {
  readonly ids?: PciIds;
  readonly configBytes?: number;
  readonly bars?: readonly { readonly sizeBytes: number; readonly io?: boolean; readonly areas?: BusRegion['areas'] }[];
  readonly interrupts?: readonly { readonly count: number; readonly flags?: number }[];
  readonly iovaRanges?: PciTransport['iovaRanges'];
  readonly maxDmaMaps?: number;
  readonly notMappable?: boolean;
}

/** Registers are plain memory; interrupts, maps and calls are recorded. */
export class ScriptedTransport implements PciTransport {
  readonly address: PciAddress;
  readonly regionCount = 9;
  readonly interruptCount = 5;
  readonly resettable = true;
  readonly iovaRanges: PciTransport['iovaRanges'];
  readonly dmaPageBytes = 4096;
  readonly maxDmaMaps: number;
  readonly closed: Promise<BusDeviceEnd>;
  readonly memory: readonly Uint8Array[];
  /** Every call that changes something, as text. */
  readonly calls: string[] = [];
  /** By index, then by vector. */
  readonly eventfds: Map<number, Map<number, number>> = new Map<number, Map<number, number>>();
  readonly maps: Map<bigint, BusDmaMap> = new Map<bigint, BusDmaMap>();
  mappings = 0;
  refuses: ((call: string) => boolean) | undefined;
  ended: BusDeviceEnd | undefined;
  isClosed = false;
  readonly #script: DeviceScript;
  readonly #resolveClosed: (end: BusDeviceEnd) => void;
  readonly #release = new Set<() => void>();

  constructor(address: PciAddress, script: DeviceScript = {}) {
    this.address = address;
    this.#script = script;
    this.iovaRanges = script.iovaRanges;
    this.maxDmaMaps = script.maxDmaMaps ?? 16;
    ({ promise: this.closed, resolve: this.#resolveClosed } = Promise.withResolvers<BusDeviceEnd>());
    const config = new Uint8Array(script.configBytes ?? 256);
    if (config.length > 0) fillHeader(config, script);
    this.memory = Array.from({ length: 9 }, (_, i) => (i === 7 ? config : new Uint8Array(script.bars?.[i]?.sizeBytes ?? 0)));
  }

  async region(index: number): Promise<BusRegion> {
    return { index, sizeBytes: this.memory[index]!.length, readable: true, writable: true, areas: this.#script.bars?.[index]?.areas ?? [] };
  }

  async interrupt(index: number): Promise<BusInterruptInfo> {
    return { index, count: this.#script.interrupts?.[index]?.count ?? 0, flags: this.#script.interrupts?.[index]?.flags ?? 1 };
  }

  async read(region: number, offset: number, into: Uint8Array): Promise<void> {
    this.#check('read');
    if (offset + into.length > this.memory[region]!.length) throw new BusError('ERR_BUS_RANGE', 'beyond the region');
    this.calls.push(`read ${region} ${offset}+${into.length}`);
    into.set(this.memory[region]!.subarray(offset, offset + into.length));
  }

  async write(region: number, offset: number, from: Uint8Array, options: { readonly posted?: boolean } = {}): Promise<void> {
    this.#check('write');
    this.calls.push(`${options.posted === true ? 'post' : 'write'} ${region} ${offset}+${from.length}`);
    this.memory[region]!.set(from, offset);
  }

  async map(region: number, window: Window): Promise<BusMapping> {
    this.#check('map');
    if (this.#script.notMappable === true) throw new BusError('ERR_BUS_NOT_MAPPABLE', 'not safe');
    const { areas } = await this.region(region);
    using file = new OwnedFd(linux.memfdCreate('scripted', { allowSealing: false }));
    linux.ftruncate(file.fd, this.memory[region]!.length);
    const mapped = areas.map((area) => window.map({ fd: file.fd, fdOffset: area.offset, lengthBytes: area.sizeBytes, write: true }));
    this.mappings++;
    return { areas: areas.map((area, i) => ({ ...area, windowOffset: mapped[i]!.offset })), [Symbol.dispose]: () => {
      this.mappings--;
      for (const each of mapped) each[Symbol.dispose]();
    } };
  }

  async setInterrupts(index: number, start: number, fds: readonly number[]): Promise<void> {
    this.#check('setInterrupts');
    this.calls.push(`irqs ${index} ${start} ${fds.map((fd) => (fd === -1 ? '-' : 'fd')).join(' ')}`);
    const vectors = this.eventfds.get(index) ?? new Map<number, number>();
    this.eventfds.set(index, vectors);
    fds.forEach((fd, i) => (fd === -1 ? vectors.delete(start + i) : vectors.set(start + i, fd)));
  }

  async clearInterrupts(index: number): Promise<void> {
    this.#check('clearInterrupts');
    this.calls.push(`clear ${index}`);
    this.eventfds.delete(index);
  }

  async maskInterrupts(index: number, start: number, count: number, masked: boolean): Promise<void> {
    this.#check('maskInterrupts');
    this.calls.push(`${masked ? 'mask' : 'unmask'} ${index} ${start}+${count}`);
  }

  async dmaMap(map: BusDmaMap): Promise<void> {
    this.#check('dmaMap');
    this.maps.set(map.iova, map);
  }

  async dmaUnmap(iova: bigint): Promise<void> {
    this.#check('dmaUnmap');
    this.maps.delete(iova);
  }

  async reset(): Promise<void> {
    this.#check('reset');
    this.calls.push('reset');
    this.memory[7]!.fill(0, 4, 6);
  }

  onReleaseRequest(callback: () => void): Disposable {
    this.#check('onReleaseRequest');
    this.#release.add(callback);
    return { [Symbol.dispose]: () => { this.#release.delete(callback); } };
  }

  async close(): Promise<void> {
    this.calls.push('close');
    this.isClosed = true;
    this.#end('closed');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The device vanishes. */
  goAway(): void {
    this.#end('gone');
  }

  /** Its owner wants it back. */
  wantBack(): void {
    for (const callback of this.#release) callback();
  }

  signal(index: number, vector: number): void {
    linux.eventfdSignal(this.eventfds.get(index)!.get(vector)!);
  }

  #end(end: BusDeviceEnd): void {
    this.ended ??= end;
    this.#resolveClosed(this.ended);
  }

  #check(call: string): void {
    if (this.ended !== undefined) throw new BusError(this.ended === 'gone' ? 'ERR_BUS_GONE' : 'ERR_BUS_CLOSED', `${call}: ${this.ended}`);
    if (this.refuses?.(call) === true) throw new BusError('ERR_BUS_REFUSED', `${call} is refused`);
  }
}

function fillHeader(config: Uint8Array, { ids = IDS, bars = [] }: DeviceScript): void {
  const view = new DataView(config.buffer);
  view.setUint16(0, ids.vendor, true);
  view.setUint16(2, ids.device, true);
  view.setUint32(8, ids.classCode << 8, true);
  view.setUint16(0x2c, ids.subsystemVendor, true);
  view.setUint16(0x2e, ids.subsystemDevice, true);
  bars.forEach((bar, i) => { config[0x10 + 4 * i] = bar.io === true ? 1 : 0; });
}

/** Devices by address; `open` makes a ScriptedTransport. */
export class ScriptedSource implements DeviceSource {
  readonly kinds: readonly PciAddress['kind'][];
  readonly present: Map<string, FoundDevice> = new Map<string, FoundDevice>();
  readonly scripts: Map<string, DeviceScript> = new Map<string, DeviceScript>();
  readonly opened: ScriptedTransport[] = [];
  openError: unknown;
  scanError: unknown;
  watch?: (callback: (event: HotPlugEvent) => void, onError: (error: unknown) => void) => Disposable;
  #callback: ((event: HotPlugEvent) => void) | undefined;

  constructor(kinds: readonly PciAddress['kind'][] = ['pci', 'mdev']) {
    this.kinds = kinds;
  }

  /** Announces what `event` is told. */
  static watched(kinds?: readonly PciAddress['kind'][]): ScriptedSource {
    const source = new ScriptedSource(kinds);
    source.watch = (callback) => {
      source.#callback = callback;
      return { [Symbol.dispose]: () => { source.#callback = undefined; } };
    };
    return source;
  }

  get isWatched(): boolean {
    return this.#callback !== undefined;
  }

  /** Nobody has closed them. */
  get stillOpen(): readonly ScriptedTransport[] {
    return this.opened.filter(({ isClosed }) => !isClosed);
  }

  add(text: string, script: DeviceScript = {}, found: Partial<FoundDevice> = {}): this {
    const address = parseAddress(text);
    const name = formatAddress(address);
    // As in sysfs: only PCI functions show their ids.
    this.present.set(name, { address, ...(address.kind === 'pci' ? { ids: script.ids ?? IDS } : {}), ...found });
    this.scripts.set(name, script);
    return this;
  }

  remove(text: string): void {
    this.present.delete(formatAddress(parseAddress(text)));
  }

  event(kind: HotPlugEvent['kind'], text?: string): void {
    this.#callback?.({ kind, ...(text === undefined ? {} : { address: parseAddress(text) }) });
  }

  async scan(): Promise<readonly FoundDevice[]> {
    if (this.scanError !== undefined) throw this.scanError as Error;
    return [...this.present.values()];
  }

  async open(address: PciAddress): Promise<PciTransport> {
    if (this.openError !== undefined) throw this.openError as Error;
    const name = formatAddress(address);
    if (!this.present.has(name)) throw new BusError('ERR_BUS_GONE', `${name} is not there`);
    if (this.stillOpen.some((each) => formatAddress(each.address) === name)) throw new BusError('ERR_BUS_BUSY', `${name} is open already`);
    const transport = new ScriptedTransport(address, this.scripts.get(name));
    this.opened.push(transport);
    return transport;
  }
}
