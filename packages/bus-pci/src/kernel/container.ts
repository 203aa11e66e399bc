/** A VFIO container: the IOMMU context of one or more groups (Documentation/driver-api/vfio.rst of Linux). */
import { BusError } from '../errors.ts';
import { MAX_DMA_MAPS } from '../limits.ts';
import type { Sysfs } from '../sysfs.ts';
import { viewOf } from '../vfio-abi/bytes.ts';
import { askWithArgsz } from '../vfio-abi/capability-chain.ts';
import {
  VFIO_CHECK_EXTENSION, VFIO_GET_API_VERSION, VFIO_GROUP_SET_CONTAINER, VFIO_GROUP_UNSET_CONTAINER, VFIO_IOMMU_GET_INFO, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA, VFIO_SET_IOMMU,
  VFIO_TYPE1V2_IOMMU,
} from '../vfio-abi/ioctl.ts';
import { decodeType1Info, encodeDmaMap, encodeDmaUnmap, TYPE1_INFO_BYTES, unmappedBytes } from '../vfio-abi/type1.ts';
import type { IovaRange, Type1Info, VfioDmaMap } from '../vfio-abi/type1.ts';
import { dma, opening, regardless, smallestPage } from './access.ts';
import type { DmaSpace, VfioSys } from './access.ts';
import { MappedIovas } from './mapped-iovas.ts';

/** Closed by its last group. All devices in it see the same addresses. */
export class VfioContainer implements DmaSpace {
  readonly #sys: VfioSys;
  readonly #fd: number;
  #groups = 0;
  #info: Type1Info = {};
  readonly #mapped = new MappedIovas();

  /** ERR_BUS_UNUSABLE where this kernel has no VFIO that we know, or nobody may use it. */
  static open(sys: VfioSys, sysfs: Sysfs): VfioContainer {
    const path = sysfs.nodePath(['vfio', 'vfio']);
    const fd = opening(path, () => sys.open(path, { read: true, write: true }));
    try {
      const version = opening(path, () => sys.ioctl(fd, VFIO_GET_API_VERSION, 0));
      if (version !== 0) throw new BusError('ERR_BUS_UNUSABLE', `${path}: version ${version} of VFIO, 0 is known`);
      if (opening(path, () => sys.ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1V2_IOMMU)) === 0) {
        throw new BusError('ERR_BUS_UNUSABLE', `${path}: it does not do type 1 version 2: is the module vfio_iommu_type1 loaded?`);
      }
      return new VfioContainer(sys, fd);
    } catch (error) {
      regardless(() => { sys.close(fd); });
      throw error;
    }
  }

  private constructor(sys: VfioSys, fd: number) {
    this.#sys = sys;
    this.#fd = fd;
  }

  get iovaRanges(): readonly IovaRange[] | undefined {
    return this.#info.iovaRanges;
  }

  get pageBytes(): number {
    return smallestPage(this.#info.pageSizes);
  }

  get maxMaps(): number {
    return this.#info.mapsAvailable ?? MAX_DMA_MAPS;
  }

  /** A group joins. The first one decides what the IOMMU can do, and which kind it is has to be said then, once. */
  attach(group: number, name: string): void {
    const argument = new Uint8Array(4);
    viewOf(argument).setInt32(0, this.#fd, true);
    opening(name, () => this.#sys.ioctl(group, VFIO_GROUP_SET_CONTAINER, argument));
    try {
      if (this.#groups === 0) opening(name, () => this.#sys.ioctl(this.#fd, VFIO_SET_IOMMU, VFIO_TYPE1V2_IOMMU));
      this.#info = opening(name, () => decodeType1Info(askWithArgsz(TYPE1_INFO_BYTES, 'vfio_iommu_type1_info', (structure) => { this.#sys.ioctl(this.#fd, VFIO_IOMMU_GET_INFO, structure); })));
    } catch (error) {
      regardless(() => this.#sys.ioctl(group, VFIO_GROUP_UNSET_CONTAINER, 0));
      throw error;
    }
    this.#groups++;
  }

  /** A group leaves, and its descriptor is closed; with the last one the container goes. Never throws. */
  detach(group: number): void {
    regardless(() => this.#sys.ioctl(group, VFIO_GROUP_UNSET_CONTAINER, 0), () => { this.#sys.close(group); });
    this.#groups--;
    this.closeIfEmpty();
  }

  /** It has no groups, or is closed. */
  get empty(): boolean {
    return this.#groups === 0;
  }

  /** Once, by whoever found no group for it, or by its last group. Never throws. */
  closeIfEmpty(): void {
    if (this.empty) regardless(() => { this.#sys.close(this.#fd); });
  }

  freeIova(sizeBytes: bigint, align: bigint, from: bigint): bigint | undefined {
    return this.#mapped.free(sizeBytes, align, from, this.iovaRanges);
  }

  map(map: VfioDmaMap): void {
    dma('a DMA map', map, () => this.#sys.ioctl(this.#fd, VFIO_IOMMU_MAP_DMA, encodeDmaMap(map)));
    this.#mapped.add(map.iova, map.sizeBytes);
  }

  unmap(iova: bigint, sizeBytes: bigint): void {
    const argument = encodeDmaUnmap(iova, sizeBytes);
    dma('a DMA unmap', { iova, sizeBytes }, () => this.#sys.ioctl(this.#fd, VFIO_IOMMU_UNMAP_DMA, argument));
    this.#mapped.remove(iova);
    const unmapped = unmappedBytes(argument);
    if (unmapped !== sizeBytes) throw new BusError('ERR_BUS_DMA', `the kernel has unmapped 0x${unmapped.toString(16)} bytes at IOVA 0x${iova.toString(16)}, not 0x${sizeBytes.toString(16)}`);
  }
}
