/**
 * VFIO of a kernel that is a script: a `Sys` that answers for /dev/vfio and /dev/iommu, and is the real one for everything else. Open files are real
 * memory files, so that they are counted and can be mapped; what devices do is in `fake-vfio-models.ts`.
 */
import { linux, LinuxError, errnoNumber, type Sys } from '@emudev/linux';
import type { FakeKernel } from './fake-kernel.ts';
import { fillType1Info, poke } from './fake-vfio-iommu.ts';
import type { FakeModel } from './fake-vfio-device.ts';

export type { FakeModel, FakeRegion } from './fake-vfio-device.ts';

interface FakeDevice {
  readonly name: string;
  readonly group: number;
  readonly node: string | undefined;
  readonly model: FakeModel;
  vanished: boolean;
  /** A virtual function of one that was opened with this VF token. */
  vfToken?: string;
}

interface Maps { readonly ranges: Map<bigint, bigint>; }
interface Container extends Maps { readonly kind: 'container'; readonly groups: Set<number>; iommu: boolean }
interface Group { readonly kind: 'group'; readonly number: number; container: Container | undefined }
interface Iommufd { readonly kind: 'iommufd'; readonly spaces: Map<number, Maps> }
interface Device { readonly kind: 'device'; readonly device: FakeDevice; infoRead: boolean; bound: boolean; attached: boolean; readonly signals: Map<number, (number | undefined)[]>; asked: number }
type Node = Container | Group | Iommufd | Device;

const fail = (errno: string): never => { throw new LinuxError(errnoNumber(errno), 'ioctl', 'fake'); };
const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

export class FakeVfio {
  readonly sys: Sys;
  readonly #root: string;
  readonly #kernel: FakeKernel;
  readonly #nodes = new Map<number, Node>();
  readonly #devices = new Map<string, FakeDevice>();
  readonly #onClose: (() => void)[] = [];
  /** Listeners of announcements, and our ends of their sockets. */
  readonly #listeners = new Map<number, number>();
  #nextIoas = 1;
  /** Groups that somebody else has open, and those with a device that is neither free nor VFIO's. */
  readonly busyGroups: Set<number> = new Set<number>();
  readonly unviableGroups: Set<number> = new Set<number>();
  /** RLIMIT_MEMLOCK, bytes. */
  lockLimit: number = Number.MAX_SAFE_INTEGER;
  apiVersion = 0;
  extensions: Set<number> = new Set<number>([1, 3]);
  pageSizes = 0x4020_1000n;
  /** First and last address of each. */
  iovaRanges: readonly (readonly [bigint, bigint])[] = [[0n, 0xfedf_ffffn], [0xfef0_0000n, 0xffff_ffff_ffffn]];
  mapsAvailable = 65_535;
  /** false: as kernels before 5.4, which say page sizes and no more. */
  saysRanges = true;
  /** The next calls with these numbers on that kind of file fail, once each. */
  readonly faults: { readonly kind: Node['kind']; readonly request: number | 'pread' | 'pwrite' | 'short'; readonly errno: string }[] = [];
  /** Requests seen, in order: 'group 0x3b67'. */
  readonly requests: string[] = [];

  constructor(kernel: FakeKernel) {
    this.#kernel = kernel;
    this.#root = `${kernel.root}/dev/`;
    kernel.file('dev/vfio/vfio');
    kernel.file('dev/iommu');
    this.sys = {
      ...linux,
      open: (path, access) => (path.startsWith(this.#root) ? this.#open(path.slice(this.#root.length)) : linux.open(path, access)),
      close: (fd) => { this.#close(fd); },
      ioctl: (fd, request, argument) => {
        const node = this.#nodes.get(fd);
        return node === undefined ? linux.ioctl(fd, request, argument) : this.#ioctl(fd, node, request, argument);
      },
      ueventOpen: () => {
        const [near, far] = linux.unixSocketPair({ type: 'seqpacket' });
        this.#listeners.set(near, far);
        return near;
      },
      ueventRead: (fd, into) => linux.read(fd, into),
      pread: (fd, into, offset) => this.#transfer(fd, into, offset, 'read'),
      pwrite: (fd, from, offset) => this.#transfer(fd, from, offset, 'write'),
    };
  }

  /** A device that can be opened by `name`, in a group; `node`: as `vfioN`, too. */
  device(name: string, group: number, model: FakeModel, node?: string): FakeModel {
    this.#devices.set(name, { name, group, node, model, vanished: false });
    this.#kernel.file(`dev/vfio/${group}`);
    if (node !== undefined) this.#kernel.file(`dev/vfio/devices/${node}`);
    return model;
  }

  /** From now on the device, a virtual function, is opened with this token only. */
  requireToken(name: string, vfToken: string): void {
    this.#devices.get(name)!.vfToken = vfToken;
  }

  /** Settles when nobody has the device open. */
  async whenClosed(name: string): Promise<void> {
    while ([...this.#nodes.values()].some((node) => node.kind === 'device' && node.device.name === name)) await new Promise<void>((resolve) => this.#onClose.push(resolve));
  }

  /** Takes a device away that nobody has open. */
  removed(name: string): void {
    this.#devices.delete(name);
  }

  /** What the kernel announces, to all that listen. */
  announce(action: string, path: string, pairs: Readonly<Record<string, string>>): void {
    const message = [`${action}@${path}`, ...Object.entries({ ACTION: action, DEVPATH: path, ...pairs }).map(([key, value]) => `${key}=${value}`), ''].join('\0');
    for (const socket of this.#listeners.values()) linux.write(socket, Buffer.from(message));
  }

  /** Nothing is mapped any more, whoever has mapped it. */
  loseMaps(): void {
    for (const node of this.#nodes.values()) {
      if (node.kind === 'container') node.ranges.clear();
      if (node.kind === 'iommufd') for (const { ranges } of node.spaces.values()) ranges.clear();
    }
  }

  /** The device is not there any more: all that is open of it says ENODEV. */
  vanish(name: string): void {
    this.#devices.get(name)!.vanished = true;
  }

  /** The device asks to be closed, or whatever else an interrupt of it means. */
  signal(name: string, index: number, vector = 0): void {
    for (const node of this.#nodes.values()) {
      const fd = node.kind === 'device' && node.device.name === name ? node.signals.get(index)?.[vector] : undefined;
      if (fd !== undefined) linux.eventfdSignal(fd);
    }
  }

  get openFiles(): number {
    return this.#nodes.size;
  }

  get lockedBytes(): number {
    let sum = 0n;
    for (const node of this.#nodes.values()) {
      for (const { ranges } of node.kind === 'iommufd' ? node.spaces.values() : node.kind === 'container' ? [node] : []) for (const size of ranges.values()) sum += size;
    }
    return Number(sum);
  }

  /** Eventfds that devices have. */
  get connected(): number {
    return [...this.#nodes.values()].flatMap((node) => (node.kind === 'device' ? [...node.signals.values()].flat() : [])).filter((fd) => fd !== undefined).length;
  }

  #opened(node: Node, sizeBytes = 0): number {
    const fd = linux.memfdCreate('fake-vfio', { allowSealing: false });
    linux.ftruncate(fd, sizeBytes);
    this.#nodes.set(fd, node);
    return fd;
  }

  #open(path: string): number {
    if (path === 'vfio/vfio') return this.#opened({ kind: 'container', groups: new Set(), iommu: false, ranges: new Map() });
    if (path === 'iommu') return this.#opened({ kind: 'iommufd', spaces: new Map() });
    const number = Number(/^vfio\/(\d+)$/.exec(path)?.[1] ?? -1);
    if (number >= 0) {
      const busy = this.busyGroups.has(number) || [...this.#nodes.values()].some((node) => node.kind === 'group' && node.number === number);
      if (busy) throw new LinuxError(errnoNumber('EBUSY'), 'open', path);
      return this.#opened({ kind: 'group', number, container: undefined });
    }
    const device = [...this.#devices.values()].find(({ node }) => path === `vfio/devices/${node}`);
    if (device === undefined) throw new LinuxError(errnoNumber('ENODEV'), 'open', path);
    return this.#openDevice(device, false);
  }

  #openDevice(device: FakeDevice, bound: boolean): number {
    const end = Math.max(...device.model.regions.map((region) => (region === undefined ? 0 : region.offset + region.sizeBytes)));
    return this.#opened({ kind: 'device', device, infoRead: false, bound, attached: bound, signals: new Map(), asked: 0 }, end);
  }

  #close(fd: number): void {
    const node = this.#nodes.get(fd);
    this.#nodes.delete(fd);
    if (node?.kind === 'device') for (const index of node.signals.keys()) this.#connect(node, index, 0, []);
    if (node?.kind === 'group') node.container?.groups.delete(node.number);
    const listener = this.#listeners.get(fd);
    if (listener !== undefined) linux.close(listener);
    this.#listeners.delete(fd);
    linux.close(fd);
    for (const resolve of this.#onClose.splice(0)) resolve();
  }

  #ioctl(fd: number, node: Node, request: number, argument: number | bigint | Uint8Array): number {
    this.requests.push(`${node.kind} 0x${request.toString(16)}`);
    this.#fault(node.kind, request);
    if (node.kind === 'device' && node.device.vanished) fail('ENODEV');
    switch (node.kind) {
      case 'container': return this.#containerRequest(node, request, argument);
      case 'group': return this.#groupRequest(fd, node, request, argument);
      case 'iommufd': return this.#iommufdRequest(node, request, argument as Uint8Array);
      case 'device': return this.#deviceRequest(node, request, argument);
    }
  }

  #fault(kind: Node['kind'], request: number | 'pread' | 'pwrite' | 'short'): boolean {
    const at = this.faults.findIndex((fault) => fault.kind === kind && fault.request === request);
    if (at === -1) return false;
    const { errno } = this.faults.splice(at, 1)[0]!;
    return request === 'short' ? true : fail(errno);
  }

  #containerRequest(node: Container, request: number, argument: number | bigint | Uint8Array): number {
    switch (request) {
      case 0x3b64: return this.apiVersion;
      case 0x3b65: return this.extensions.has(Number(argument)) ? 1 : 0;
      case 0x3b66:
        if (node.iommu || node.groups.size === 0) return fail('EINVAL');
        node.iommu = true;
        return 0;
    }
    if (!node.iommu) return fail('EINVAL');
    const bytes = argument as Uint8Array;
    const data = view(bytes);
    switch (request) {
      case 0x3b70:
        fillType1Info(bytes, this);
        return 0;
      case 0x3b71: return this.#map(node, data.getBigUint64(16, true), data.getBigUint64(24, true));
      case 0x3b72: {
        const size = this.#unmap(node, data.getBigUint64(8, true), data.getBigUint64(16, true));
        data.setBigUint64(16, size, true);
        return 0;
      }
      default: return fail('ENOTTY');
    }
  }

  #map({ ranges }: Maps, iova: bigint, size: bigint): number {
    if (size === 0n || (iova | size) % 4096n !== 0n) fail('EINVAL');
    for (const [at, length] of ranges) if (iova < at + length && at < iova + size) fail('EEXIST');
    if (ranges.size >= this.mapsAvailable) fail('ENOSPC');
    if (this.lockedBytes + Number(size) > this.lockLimit) fail('ENOMEM');
    ranges.set(iova, size);
    return 0;
  }

  #unmap({ ranges }: Maps, iova: bigint, size: bigint): bigint {
    if (ranges.get(iova) !== size) return 0n;
    ranges.delete(iova);
    return size;
  }

  #groupRequest(fd: number, node: Group, request: number, argument: number | bigint | Uint8Array): number {
    switch (request) {
      case 0x3b67:
        view(argument as Uint8Array).setUint32(4, (this.unviableGroups.has(node.number) ? 0 : 1) | (node.container === undefined ? 0 : 2), true);
        return 0;
      case 0x3b68: {
        const container = this.#nodes.get(view(argument as Uint8Array).getInt32(0, true));
        if (container?.kind !== 'container' || node.container !== undefined) return fail('EINVAL');
        node.container = container;
        container.groups.add(node.number);
        return 0;
      }
      case 0x3b69:
        if (node.container === undefined) return fail('EINVAL');
        if ([...this.#nodes.values()].some((other) => other.kind === 'device' && other.device.group === node.number)) return fail('EBUSY');
        node.container.groups.delete(node.number);
        if (node.container.groups.size === 0) { node.container.iommu = false; node.container.ranges.clear(); }
        node.container = undefined;
        return 0;
      case 0x3b6a: {
        const text = Buffer.from(argument as Uint8Array).toString('latin1');
        const [name, token] = text.slice(0, -1).split(' vf_token=');
        const device = this.#devices.get(name!);
        if (node.container?.iommu !== true) return fail('EINVAL');
        if (!text.endsWith('\0') || device?.group !== node.number || device.vanished) return fail('ENODEV');
        // As vfio_pci_validate_vf_token.
        if (device.vfToken === undefined && token !== undefined) return fail('EINVAL');
        if (device.vfToken !== token) return fail('EACCES');
        return this.#openDevice(device, true);
      }
      default: return fail(fd >= 0 ? 'ENOTTY' : 'EBADF');
    }
  }

  #iommufdRequest(node: Iommufd, request: number, bytes: Uint8Array): number {
    const data = view(bytes);
    const space = (at: number): Maps => node.spaces.get(data.getUint32(at, true)) ?? fail('ENOENT');
    switch (request) {
      case 0x3b80:
        if ([...this.#nodes.values()].some((other) => other.kind === 'device' && other.attached)) return fail('EBUSY');
        space(4);
        node.spaces.delete(data.getUint32(4, true));
        return 0;
      case 0x3b81: {
        const id = this.#nextIoas++;
        node.spaces.set(id, { ranges: new Map() });
        data.setUint32(8, id, true);
        return 0;
      }
      case 0x3b84: {
        space(4);
        const room = data.getUint32(8, true);
        const target = data.getBigUint64(16, true);
        this.iovaRanges.slice(0, room).forEach(([first, last], i) => { poke(target + BigInt(16 * i), first, last); });
        data.setUint32(8, this.iovaRanges.length, true);
        data.setBigUint64(24, this.pageSizes & -this.pageSizes, true);
        return room < this.iovaRanges.length ? fail('EMSGSIZE') : 0;
      }
      case 0x3b85: return this.#map(space(8), data.getBigUint64(32, true), data.getBigUint64(24, true));
      case 0x3b86: {
        const size = this.#unmap(space(4), data.getBigUint64(8, true), data.getBigUint64(16, true));
        data.setBigUint64(16, size, true);
        return size === 0n ? fail('ENOENT') : 0;
      }
      default: return fail('ENOTTY');
    }
  }

  #deviceRequest(node: Device, request: number, argument: number | bigint | Uint8Array): number {
    const { model } = node.device;
    const bytes = argument as Uint8Array;
    if (!node.bound && request !== 0x3b76) return fail('EINVAL');
    switch (request) {
      case 0x3b76:
        if (node.bound) return fail('EINVAL');
        if (this.busyGroups.has(node.device.group) || [...this.#nodes.values()].some((other) => other !== node && other.kind === 'device' && other.bound && other.device === node.device)) return fail('EBUSY');
        if (this.#nodes.get(view(bytes).getInt32(8, true))?.kind !== 'iommufd') return fail('EBADF');
        node.bound = true;
        view(bytes).setUint32(12, 2, true);
        return 0;
      case 0x3b77: node.attached = true; return 0;
      case 0x3b78: node.attached = false; return 0;
      case 0x3b6b: return this.#deviceInfo(node, bytes);
      case 0x3b6c: return this.#regionInfo(node, bytes);
      case 0x3b6d: {
        const irq = model.infoFirst === true && !node.infoRead ? undefined : model.irqs[view(bytes).getUint32(8, true)];
        if (irq === undefined) return fail('EINVAL');
        view(bytes).setUint32(4, irq.flags, true);
        view(bytes).setUint32(12, irq.count, true);
        return 0;
      }
      case 0x3b6e: return this.#setIrqs(node, bytes);
      case 0x3b6f:
        model.reset?.();
        return 0;
      default: return fail('ENOTTY');
    }
  }

  #deviceInfo(node: Device, bytes: Uint8Array): number {
    const { model } = node.device;
    const data = view(bytes);
    const infoBytes = model.infoBytes ?? 20;
    node.infoRead = true;
    data.setUint32(4, model.flags, true);
    data.setUint32(8, model.regions.length, true);
    data.setUint32(12, model.irqs.length, true);
    if (infoBytes > bytes.length) data.setUint32(0, infoBytes, true);
    return 0;
  }

  #regionInfo(node: Device, bytes: Uint8Array): number {
    const data = view(bytes);
    const region = node.device.model.regions[data.getUint32(8, true)];
    if (region === undefined) return fail('EINVAL');
    const { capabilities = new Uint8Array(), firstCapability = 32, growing = [] } = region;
    const needed = growing[node.asked++] ?? 32 + capabilities.length;
    data.setUint32(4, region.flags | (capabilities.length > 0 ? 8 : 0), true);
    data.setBigUint64(16, BigInt(region.sizeBytes), true);
    data.setBigUint64(24, BigInt(region.offset), true);
    if (needed > bytes.length) data.setUint32(0, needed, true);
    else if (capabilities.length > 0) {
      data.setUint32(12, firstCapability, true);
      bytes.set(capabilities, 32);
    }
    return 0;
  }

  #setIrqs(node: Device, bytes: Uint8Array): number {
    const { model } = node.device;
    const data = view(bytes);
    const [argsz, flags, index, start, count] = [0, 4, 8, 12, 16].map((at) => data.getUint32(at, true)) as [number, number, number, number, number];
    const irq = model.irqs[index];
    if (model.settable === false || irq === undefined || start + count > irq.count || (model.infoFirst === true && !node.infoRead)) return fail('EINVAL');
    if ((flags & 4) !== 0 && argsz < 20 + 4 * count) return fail('EINVAL');
    if ((flags & 0x18) !== 0) {
      model.log?.push(`${(flags & 8) !== 0 ? 'mask' : 'unmask'} ${index}: ${start}+${count}`);
      return 0;
    }
    const fds = (flags & 4) === 0 ? [] : Array.from({ length: count }, (_, i) => data.getInt32(20 + 4 * i, true));
    model.log?.push((flags & 4) === 0 ? `off ${index}` : `connect ${index}: ${start}, ${fds.map((fd) => (fd === -1 ? 'none' : 'eventfd')).join(' ')}`);
    if (fds.some((fd) => fd !== -1 && !linux.isEventfd(fd))) return fail('EBADF');
    this.#connect(node, index, start, (flags & 4) === 0 ? undefined : fds);
    return 0;
  }

  /** The kernel holds the eventfds itself. `fds` undefined: all are let go. */
  #connect(node: Device, index: number, start: number, fds: readonly number[] | undefined): void {
    const signals = node.signals.get(index) ?? [];
    const letGo = (vector: number): void => {
      const fd = signals[vector];
      if (fd !== undefined) linux.close(fd);
      signals[vector] = undefined;
    };
    if (fds === undefined || fds.length === 0) signals.forEach((_, vector) => { letGo(vector); });
    fds?.forEach((fd, i) => {
      letGo(start + i);
      if (fd !== -1) signals[start + i] = linux.dup(fd);
    });
    node.signals.set(index, signals);
    node.device.model.connected?.(index, signals.map((fd) => () => { if (fd !== undefined) linux.eventfdSignal(fd); }));
  }

  #transfer(fd: number, bytes: Uint8Array, offset: number, what: 'read' | 'write'): number {
    const real = what === 'read' ? linux.pread : linux.pwrite;
    const node = this.#nodes.get(fd);
    if (node?.kind !== 'device') return real(fd, bytes, offset);
    this.#fault('device', what === 'read' ? 'pread' : 'pwrite');
    if (this.#fault('device', 'short')) return bytes.length - 1;
    const { model, vanished } = node.device;
    if (vanished) throw new LinuxError(errnoNumber('ENODEV'), what, 'fake');
    const index = model.regions.findIndex((region) => region !== undefined && offset >= region.offset && offset + bytes.length <= region.offset + region.sizeBytes);
    if (index === -1) throw new LinuxError(errnoNumber('EINVAL'), what, `fake, ${offset}`);
    const at = offset - model.regions[index]!.offset;
    return (what === 'read' ? model.read?.(index, at, bytes) : model.write?.(index, at, bytes)) ?? real(fd, bytes, offset);
  }
}
