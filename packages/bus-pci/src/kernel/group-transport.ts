/** Devices by way of their IOMMU group: /dev/vfio/GROUP in a container. A group is opened once, and is this process's until it is closed. */
import { LinuxError } from '@emudev/linux';
import { BusError } from '../errors.ts';
import type { Sysfs } from '../sysfs.ts';
import { decodeGroupStatus, GROUP_STATUS_BYTES } from '../vfio-abi/device-info.ts';
import { VFIO_GROUP_FLAGS_CONTAINER_SET, VFIO_GROUP_FLAGS_VIABLE, VFIO_GROUP_GET_DEVICE_FD, VFIO_GROUP_GET_STATUS } from '../vfio-abi/ioctl.ts';
import { sized } from '../vfio-abi/bytes.ts';
import { opening, regardless } from './access.ts';
import type { DeviceAccess, VfioSys } from './access.ts';
import { VfioContainer } from './container.ts';

const EACCES = 13;
const EINVAL = 22;
/** Of a device that is no PCI function, a mediated one: the name with a token is none. */
const ENODEV = 19;

interface OpenGroup {
  readonly fd: number;
  readonly container: VfioContainer;
  devices: number;
}

/** The groups that one source has open. */
export class VfioGroups {
  readonly #sys: VfioSys;
  readonly #sysfs: Sysfs;
  readonly #shared: boolean;
  readonly #vfToken: string | undefined;
  /** By number, which stays a group's own as long as it is open. */
  readonly #open = new Map<number, OpenGroup>();
  /** The shared one. */
  #container: VfioContainer | undefined;

  /** `shared`: one container for all groups; otherwise each has its own. `vfToken`: for functions that want one. */
  constructor(sys: VfioSys, sysfs: Sysfs, { shared, vfToken }: { readonly shared: boolean; readonly vfToken: string | undefined }) {
    this.#sys = sys;
    this.#sysfs = sysfs;
    this.#shared = shared;
    this.#vfToken = vfToken;
  }

  /** Opens the device of this name (BDF or UUID). ERR_BUS_BUSY, ERR_BUS_UNUSABLE, ERR_BUS_GONE; nothing more is open then than before. */
  openDevice(number: number, device: string): DeviceAccess {
    const group = this.#open.get(number) ?? this.#openGroup(number);
    group.devices++;
    try {
      const fd = opening(device, () => this.#deviceFd(group.fd, device));
      return {
        fd,
        dma: group.container,
        close: () => {
          regardless(() => { this.#sys.close(fd); });
          this.#leave(number, group);
        },
      };
    } catch (error) {
      this.#leave(number, group);
      throw error;
    }
  }

  /** The kernel takes a token with the name; with one that is of no use there it takes neither (EINVAL). */
  #deviceFd(group: number, device: string): number {
    const ask = (name: string): number => this.#sys.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, Buffer.from(`${name}\0`, 'latin1'));
    try {
      if (this.#vfToken !== undefined) return ask(`${device} vf_token=${this.#vfToken}`);
    } catch (error) {
      if (!(error instanceof LinuxError)) throw error;
      if (error.errno !== EINVAL && error.errno !== ENODEV) throw tokenError(error, device);
    }
    try {
      return ask(device);
    } catch (error) {
      throw error instanceof LinuxError ? tokenError(error, device) : error;
    }
  }

  #openGroup(number: number): OpenGroup {
    const path = this.#sysfs.nodePath(['vfio', String(number)]);
    // The container first: without it there is no use in taking the group away from others.
    const container = this.#container?.empty === false ? this.#container : VfioContainer.open(this.#sys, this.#sysfs);
    let fd: number;
    try {
      fd = this.#attached(path, container);
    } catch (error) {
      container.closeIfEmpty();
      throw error;
    }
    if (this.#shared) this.#container = container;
    const group = { fd, container, devices: 0 };
    this.#open.set(number, group);
    return group;
  }

  #attached(path: string, container: VfioContainer): number {
    const fd = opening(path, () => this.#sys.open(path, { read: true, write: true }));
    try {
      this.#checkStatus(fd, path);
      container.attach(fd, path);
      return fd;
    } catch (error) {
      regardless(() => { this.#sys.close(fd); });
      throw error;
    }
  }

  #checkStatus(fd: number, path: string): void {
    const { bytes } = sized(GROUP_STATUS_BYTES);
    opening(path, () => this.#sys.ioctl(fd, VFIO_GROUP_GET_STATUS, bytes));
    const { flags } = decodeGroupStatus(bytes);
    if ((flags & VFIO_GROUP_FLAGS_VIABLE) === 0) throw new BusError('ERR_BUS_UNUSABLE', `${path} is not viable: every device of the group has to be bound to vfio-pci, or to no driver`);
    if ((flags & VFIO_GROUP_FLAGS_CONTAINER_SET) !== 0) throw new BusError('ERR_BUS_BUSY', `${path} is in a container already`);
  }

  #leave(number: number, group: OpenGroup): void {
    if (--group.devices > 0) return;
    this.#open.delete(number);
    group.container.detach(group.fd);
  }
}

/** The node may be opened, and the device not: only a token is missing then, or wrong. */
function tokenError(error: LinuxError, device: string): unknown {
  if (error.errno !== EACCES) return error;
  return new BusError('ERR_BUS_UNUSABLE', `${device}: the right VF token is needed, that of the function whose virtual function it is (EACCES)`, { errno: EACCES, cause: error });
}
