/** Devices by way of their own node, /dev/vfio/devices/vfioN, with an address space of /dev/iommu (Documentation/userspace-api/iommufd.rst of Linux; 6.6). */
import { LinuxError } from '@emudev/linux';
import { BusError } from '../errors.ts';
import { MAX_ARGSZ_ATTEMPTS, MAX_DMA_MAPS, MAX_VFIO_RANGES } from '../limits.ts';
import type { Sysfs } from '../sysfs.ts';
import { viewOf } from '../vfio-abi/bytes.ts';
import {
  allocatedIoas, boundDeviceId, decodeIoasRanges, encodeAttach, encodeBindIommufd, encodeDetach, encodeIoasAlloc, encodeIoasMap, encodeIoasRanges, encodeIoasUnmap, encodeIommuDestroy,
  unmappedIoasBytes,
} from '../vfio-abi/iommufd.ts';
import {
  IOMMU_DESTROY, IOMMU_IOAS_ALLOC, IOMMU_IOAS_IOVA_RANGES, IOMMU_IOAS_MAP, IOMMU_IOAS_UNMAP, VFIO_DEVICE_ATTACH_IOMMUFD_PT, VFIO_DEVICE_BIND_IOMMUFD, VFIO_DEVICE_DETACH_IOMMUFD_PT,
} from '../vfio-abi/ioctl.ts';
import type { IovaRange, VfioDmaMap } from '../vfio-abi/type1.ts';
import { dma, opening, regardless, smallestPage } from './access.ts';
import type { DeviceAccess, DmaSpace, VfioSys } from './access.ts';
import { MappedIovas } from './mapped-iovas.ts';

const RANGE_BYTES = 16;
/** Ranges that there is room for at first: the kernel says if it needs more. */
const EXPECTED_RANGES = 16;
const EBUSY = 16;
const EINVAL = 22;
const EMSGSIZE = 90;

/** Opens the device whose node is `name` (`vfioN`), with an address space of its own. ERR_BUS_BUSY, ERR_BUS_UNUSABLE, ERR_BUS_GONE; nothing is open then. */
export function openThroughCdev(sys: VfioSys, sysfs: Sysfs, name: string): DeviceAccess {
  const node = sysfs.nodePath(['vfio', 'devices', name]);
  /** Each step's way back; they are taken in reverse. */
  const undo: (() => unknown)[] = [];
  const close = (): void => { regardless(...undo.reverse().splice(0)); };
  try {
    const iommuNode = sysfs.nodePath(['iommu']);
    const iommufd = opening(iommuNode, () => sys.open(iommuNode, { read: true, write: true }));
    undo.push(() => { sys.close(iommufd); });
    const fd = opening(node, () => sys.open(node, { read: true, write: true }));
    undo.push(() => { sys.close(fd); });
    const bind = encodeBindIommufd(iommufd);
    // Until it is bound the device refuses everything else; that it is somebody else's it says here.
    opening(node, () => boundOnce(() => sys.ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, bind)));
    boundDeviceId(bind);
    const alloc = encodeIoasAlloc();
    opening(iommuNode, () => sys.ioctl(iommufd, IOMMU_IOAS_ALLOC, alloc));
    const ioas = allocatedIoas(alloc);
    undo.push(() => sys.ioctl(iommufd, IOMMU_DESTROY, encodeIommuDestroy(ioas)));
    opening(node, () => sys.ioctl(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, encodeAttach(ioas)));
    undo.push(() => sys.ioctl(fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, encodeDetach()));
    return { fd, dma: new Ioas(sys, iommufd, ioas, iommuNode), close };
  } catch (error) {
    close();
    throw error;
  }
}

/** There is nothing invalid in the request: a device that another process has bound already is EINVAL. */
function boundOnce(bind: () => number): void {
  try {
    bind();
  } catch (error) {
    throw error instanceof LinuxError && error.errno === EINVAL ? new LinuxError(EBUSY, error.syscall, '', error.message) : error;
  }
}

/** An address space of iommufd. */
class Ioas implements DmaSpace {
  readonly iovaRanges: readonly IovaRange[];
  readonly pageBytes: number;
  readonly maxMaps: number = MAX_DMA_MAPS;
  readonly #sys: VfioSys;
  readonly #fd: number;
  readonly #id: number;
  readonly #mapped = new MappedIovas();

  constructor(sys: VfioSys, fd: number, id: number, node: string) {
    this.#sys = sys;
    this.#fd = fd;
    this.#id = id;
    const { ranges, alignment } = opening(node, () => this.#ranges());
    this.iovaRanges = ranges;
    this.pageBytes = smallestPage(alignment);
  }

  /** What the attached device can reach: asked after it is attached. */
  #ranges(): { readonly ranges: readonly IovaRange[]; readonly alignment: bigint } {
    let room = EXPECTED_RANGES;
    for (let attempt = 0; attempt < MAX_ARGSZ_ATTEMPTS; attempt++) {
      const into = new Uint8Array(new ArrayBuffer(room * RANGE_BYTES));
      const argument = encodeIoasRanges(this.#id, room, this.#sys.addressOf(into.buffer));
      let short = false;
      try {
        this.#sys.ioctl(this.#fd, IOMMU_IOAS_IOVA_RANGES, argument);
      } catch (error) {
        if (!(error instanceof LinuxError) || error.errno !== EMSGSIZE) throw error;
        short = true;
      }
      // CLIENT: the kernel's word, for memory that is about to be allocated or read.
      const { count, alignment } = decodeIoasRanges(argument);
      if (count > MAX_VFIO_RANGES) throw new BusError('ERR_BUS_VFIO_CHAIN', `${count} ranges of IOVAs; at most ${MAX_VFIO_RANGES} are taken`);
      if (!short && count <= room) return { ranges: rangesIn(into, count), alignment };
      room = Math.max(count, room + 1);
    }
    throw new BusError('ERR_BUS_VFIO_ARGSZ', `the ranges of IOVAs need more room each time they are asked for, ${room} now`);
  }

  freeIova(sizeBytes: bigint, align: bigint, from: bigint): bigint | undefined {
    return this.#mapped.free(sizeBytes, align, from, this.iovaRanges);
  }

  map(map: VfioDmaMap): void {
    dma('a DMA map', map, () => this.#sys.ioctl(this.#fd, IOMMU_IOAS_MAP, encodeIoasMap(this.#id, map)));
    this.#mapped.add(map.iova, map.sizeBytes);
  }

  unmap(iova: bigint, sizeBytes: bigint): void {
    const argument = encodeIoasUnmap(this.#id, iova, sizeBytes);
    dma('a DMA unmap', { iova, sizeBytes }, () => this.#sys.ioctl(this.#fd, IOMMU_IOAS_UNMAP, argument));
    this.#mapped.remove(iova);
    const unmapped = unmappedIoasBytes(argument);
    if (unmapped !== sizeBytes) throw new BusError('ERR_BUS_DMA', `the kernel has unmapped 0x${unmapped.toString(16)} bytes at IOVA 0x${iova.toString(16)}, not 0x${sizeBytes.toString(16)}`);
  }
}

function rangesIn(bytes: Uint8Array, count: number): readonly IovaRange[] {
  const view = viewOf(bytes);
  const ranges = Array.from({ length: count }, (_, i) => ({ first: view.getBigUint64(RANGE_BYTES * i, true), last: view.getBigUint64(RANGE_BYTES * i + 8, true) }));
  ranges.forEach(({ first, last }, i) => {
    if (last < first || (i > 0 && first <= ranges[i - 1]!.last)) throw new BusError('ERR_BUS_VFIO_CHAIN', `IOVAs 0x${first.toString(16)} to 0x${last.toString(16)}: empty or not in order`);
  });
  return ranges;
}
