/** What a region is: struct vfio_region_info and its capabilities. */
import { VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_CAP_TYPE, VFIO_REGION_INFO_FLAG_CAPS } from '@emudev/vfio-user-protocol';
import { BusError } from '../errors.ts';
import { MAX_VFIO_RANGES } from '../limits.ts';
import { received } from './bytes.ts';
import { bodyOf, capabilitiesOf } from './capability-chain.ts';
import type { VfioCapability } from './capability-chain.ts';

/** Bytes of struct vfio_region_info, without capabilities. */
export const VFIO_REGION_INFO_BYTES = 32;
const SPARSE_FIXED_BYTES = 16;
const AREA_BYTES = 16;
const TYPE_BYTES = 16;

/** A part of a region, in bytes from the region's start. */
export interface VfioArea {
  readonly offset: bigint;
  readonly sizeBytes: bigint;
}

/** struct vfio_region_info with what its capabilities say. */
export interface VfioRegionInfo {
  readonly index: number;
  /** VFIO_REGION_INFO_FLAG_*. */
  readonly flags: number;
  /** 0: there is no such region, whatever else is said. */
  readonly sizeBytes: bigint;
  /** Where the region begins in the device's file: the device's choice, never computed. */
  readonly fileOffset: bigint;
  /** The parts that may be mapped, ascending, none empty; undefined where nothing restricts what the flags say. */
  readonly areas?: readonly VfioArea[];
  /** Of a region specific to the device. */
  readonly type?: { readonly type: number; readonly subtype: number };
  /** The MSI-X table may be mapped along with the rest of its BAR. */
  readonly msixMappable: boolean;
}

/** The question: puts the index where `askWithArgsz` has made room. */
export function putRegionIndex(structure: Uint8Array, index: number): void {
  received(structure, VFIO_REGION_INFO_BYTES, 'vfio_region_info').setUint32(8, index, true);
}

/**
 * The answer to `VFIO_DEVICE_GET_REGION_INFO`, whole (`askWithArgsz`: on a call that is too short the kernel sets the flag for capabilities, but not
 * their offset). ERR_BUS_VFIO_CHAIN for a chain or an area that leaves its bounds.
 */
export function decodeVfioRegionInfo(bytes: Uint8Array): VfioRegionInfo {
  const name = 'vfio_region_info';
  const view = received(bytes, VFIO_REGION_INFO_BYTES, name);
  const flags = view.getUint32(4, true);
  const sizeBytes = view.getBigUint64(16, true);
  const first = (flags & VFIO_REGION_INFO_FLAG_CAPS) === 0 ? 0 : view.getUint32(12, true);
  const capabilities = capabilitiesOf(bytes, first, VFIO_REGION_INFO_BYTES, name);
  const find = (id: number): VfioCapability | undefined => capabilities.find((capability) => capability.id === id);
  const [sparse, type] = [find(VFIO_REGION_INFO_CAP_SPARSE_MMAP), find(VFIO_REGION_INFO_CAP_TYPE)];
  return {
    index: view.getUint32(8, true), flags, sizeBytes, fileOffset: view.getBigUint64(24, true),
    ...(sparse === undefined ? {} : { areas: areasOf(sparse, sizeBytes) }),
    ...(type === undefined ? {} : { type: typeOf(type) }),
    msixMappable: find(VFIO_REGION_INFO_CAP_MSIX_MAPPABLE) !== undefined,
  };
}

function areasOf(capability: VfioCapability, regionBytes: bigint): readonly VfioArea[] {
  const name = 'the sparse-mmap capability';
  const count = bodyOf(capability, SPARSE_FIXED_BYTES, name).getUint32(8, true);
  if (count > MAX_VFIO_RANGES) throw new BusError('ERR_BUS_VFIO_CHAIN', `${name} has ${count} areas, more than ${MAX_VFIO_RANGES}`);
  const view = bodyOf(capability, SPARSE_FIXED_BYTES + AREA_BYTES * count, name);
  const areas = Array.from({ length: count }, (_, i) => {
    const at = SPARSE_FIXED_BYTES + AREA_BYTES * i;
    return { offset: view.getBigUint64(at, true), sizeBytes: view.getBigUint64(at + 8, true) };
  }).filter((area) => area.sizeBytes > 0n).sort((a, b) => (a.offset < b.offset ? -1 : a.offset > b.offset ? 1 : 0));
  let end = 0n;
  for (const { offset, sizeBytes } of areas) {
    if (offset < end || offset + sizeBytes > regionBytes) throw new BusError('ERR_BUS_VFIO_CHAIN', `${name}: area 0x${offset.toString(16)}+0x${sizeBytes.toString(16)} overlaps another or leaves the region of 0x${regionBytes.toString(16)} bytes`);
    end = offset + sizeBytes;
  }
  return areas;
}

function typeOf(capability: VfioCapability): { readonly type: number; readonly subtype: number } {
  const view = bodyOf(capability, TYPE_BYTES, 'the region-type capability');
  return { type: view.getUint32(8, true), subtype: view.getUint32(12, true) };
}
