/** The devices that the kernel has: PCI functions bound to vfio-pci, and mediated devices. */
import { linux, LinuxError } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import { formatAddress, parseUuid } from '../address.ts';
import type { MdevAddress, PciAddress, PciFunctionAddress } from '../address.ts';
import type { DeviceSource, HotPlugEvent } from '../device-source.ts';
import { bindPciFunction, unbindPciFunction } from '../driver-binding.ts';
import type { BindingOptions } from '../driver-binding.ts';
import { BusError } from '../errors.ts';
import type { FoundDevice } from '../found.ts';
import { MAX_UEVENT_BYTES, MAX_UEVENTS_PER_TURN } from '../limits.ts';
import { PCI_DEVICES, scanFunction, scanKernelPci } from '../scan-kernel-pci.ts';
import { MDEV_DEVICES, scanMdev, scanMediated } from '../scan-mdev.ts';
import { Sysfs } from '../sysfs.ts';
import type { PciTransport } from '../transport.ts';
import { cdevOf } from '../vfio-node.ts';
import type { DeviceAccess, VfioSys } from './access.ts';
import { openThroughCdev } from './cdev-transport.ts';
import { KernelDevice } from './device-fd.ts';
import { VfioGroups } from './group-transport.ts';
import { parseUevent } from './uevent.ts';

/** For a `KernelSource`. */
export interface KernelSourceOptions {
  /** Where sysfs and /dev are. */
  readonly sysfs?: Sysfs;
  readonly sys?: VfioSys & Pick<Sys, 'ueventOpen' | 'ueventRead'>;
  /**
   * How devices are opened: `group` through /dev/vfio/GROUP and a container, `cdev` through a node of their own and /dev/iommu (Linux 6.6, where it is
   * configured), `auto` (the default) the latter where both nodes are there.
   */
  readonly mode?: 'auto' | 'group' | 'cdev';
  /**
   * One container for all groups, so one address space for all devices: an IOVA can be in use by another device, and each device reaches the
   * memory of all; but memory that several use is locked once only. By default every group has its own. Devices of one group always share.
   */
  readonly sharedContainer?: boolean;
  /**
   * A UUID, the VF token: vfio-pci gives the virtual functions of a function that it has itself only to who knows the token that was chosen when
   * that function was opened. Said where it is wanted; goes by way of the group, so `mode` must not be `cdev`.
   */
  readonly vfToken?: string;
}

type KernelAddress = PciFunctionAddress | MdevAddress;

/** Finds and opens devices of the kernel. A group that one source has open is busy for every other, in this process, too. */
export class KernelSource implements DeviceSource {
  readonly kinds: readonly PciAddress['kind'][] = ['pci', 'mdev'];
  readonly #sysfs: Sysfs;
  readonly #sys: VfioSys & Pick<Sys, 'ueventOpen' | 'ueventRead'>;
  readonly #mode: 'auto' | 'group' | 'cdev';
  readonly #groups: VfioGroups;
  /** Text forms of the addresses of the devices that are open. */
  readonly #open = new Set<string>();

  constructor({ sysfs = new Sysfs(), sys = linux, mode = 'auto', sharedContainer = false, vfToken }: KernelSourceOptions = {}) {
    if (vfToken !== undefined && mode === 'cdev') throw new BusError('ERR_BUS_ARGUMENT', 'a VF token goes by way of the group, not of the node');
    this.#sysfs = sysfs;
    this.#sys = sys;
    this.#mode = vfToken === undefined ? mode : 'group';
    this.#groups = new VfioGroups(sys, sysfs, { shared: sharedContainer, vfToken: vfToken === undefined ? undefined : parseUuid(vfToken) });
  }

  async scan(signal?: AbortSignal): Promise<readonly FoundDevice[]> {
    return [...await scanKernelPci(this.#sysfs, signal), ...await scanMdev(this.#sysfs, signal)];
  }

  /** A device of this source that is open already is ERR_BUS_BUSY, too. */
  async open(address: PciAddress, signal?: AbortSignal): Promise<PciTransport> {
    if (address.kind === 'vfio-user') throw new BusError('ERR_BUS_UNUSABLE', `${formatAddress(address)} is no device of the kernel`);
    const name = formatAddress(address);
    const found = await this.#find(address, name);
    if (found === undefined) throw new BusError('ERR_BUS_GONE', `the kernel has no device ${name}`);
    if (found.unusable !== undefined) throw new BusError('ERR_BUS_UNUSABLE', `${name}: ${found.unusable.detail}`);
    const cdev = await this.#cdev(address, name);
    signal?.throwIfAborted();
    // From here on nothing waits, so nobody comes between.
    if (this.#open.has(name)) throw new BusError('ERR_BUS_BUSY', `${name} is open already`);
    const access = this.#access(name, found, cdev);
    this.#open.add(name);
    const close = (): void => {
      this.#open.delete(name);
      access.close();
    };
    return KernelDevice.open(this.#sys, address, { ...access, close });
  }

  /** The name of the node by which the device is to be opened; undefined: by its group. */
  async #cdev(address: KernelAddress, name: string): Promise<string | undefined> {
    if (this.#mode === 'group') return undefined;
    // Some kernels make nodes, and have no address spaces for the devices behind them.
    if (this.#mode === 'auto' && !await this.#sysfs.hasNode(['iommu'])) return undefined;
    return cdevOf(this.#sysfs, pathOf(address, name));
  }

  #find(address: KernelAddress, name: string): Promise<FoundDevice | undefined> {
    return address.kind === 'pci' ? scanFunction(this.#sysfs, name, address) : scanMediated(this.#sysfs, name);
  }

  #access(name: string, found: FoundDevice, cdev: string | undefined): DeviceAccess {
    if (cdev !== undefined) return openThroughCdev(this.#sys, this.#sysfs, cdev);
    if (this.#mode === 'cdev') throw new BusError('ERR_BUS_UNUSABLE', `${name} has no node below ${this.#sysfs.nodePath(['vfio', 'devices'])}: that needs Linux 6.6 with CONFIG_VFIO_DEVICE_CDEV`);
    return this.#groups.openDevice(found.iommuGroup!, name);
  }

  /** Gives a function to vfio-pci (`bindPciFunction`); resolves to the kernel driver that had it. */
  bind(address: PciFunctionAddress, options?: BindingOptions): Promise<string | undefined> {
    return bindPciFunction(this.#sysfs, address, options);
  }

  /** Gives it back to the kernel (`unbindPciFunction`); resolves to the driver that has it now. */
  unbind(address: PciFunctionAddress, options?: BindingOptions): Promise<string | undefined> {
    return unbindPciFunction(this.#sysfs, address, options);
  }

  /** What the kernel announces. Where it has to leave events out, one says that something has changed. The process may end meanwhile. */
  watch(callback: (event: HotPlugEvent) => void, onError: (error: unknown) => void): Disposable {
    const sys = this.#sys;
    const fd = sys.ueventOpen();
    const bytes = new Uint8Array(MAX_UEVENT_BYTES);
    let watching = true;
    const next = (): HotPlugEvent | 'none' | 'other' => {
      let length: number | undefined;
      try {
        length = sys.ueventRead(fd, bytes);
      } catch (error) {
        if (error instanceof LinuxError && error.code === 'ENOBUFS') return { kind: 'changed' };
        throw error;
      }
      if (length === undefined) return 'none';
      return parseUevent(Buffer.from(bytes.subarray(0, length)).toString('latin1')) ?? 'other';
    };
    const watch = sys.watch(fd, { readable: true }, () => {
      try {
        // The event loop goes on in between, however much is announced; what is left calls again.
        for (let n = 0; watching && n < MAX_UEVENTS_PER_TURN; n++) {
          const event = next();
          if (event === 'none') return;
          if (event !== 'other') callback(event);
        }
      } catch (error) {
        stop();
        onError(error);
      }
    }, { ref: false });
    const stop = (): void => {
      if (!watching) return;
      watching = false;
      watch[Symbol.dispose]();
      sys.close(fd);
    };
    return { [Symbol.dispose]: stop };
  }
}

const pathOf = (address: KernelAddress, name: string): readonly string[] => [...(address.kind === 'pci' ? PCI_DEVICES : MDEV_DEVICES), name];
