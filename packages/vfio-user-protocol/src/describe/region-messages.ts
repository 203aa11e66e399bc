/** What belongs to regions: their description, their descriptors, accesses to them. */
import { getU16, getU32, getU64 } from '../bytes.ts';
import {
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_CAP_TYPE, VFIO_REGION_INFO_FLAG_CAPS, VFIO_USER_IO_FD_TYPE_IOEVENTFD,
  VFIO_USER_IO_FD_TYPE_IOEVENTFD_SHADOW, VFIO_USER_IO_FD_TYPE_IOREGIONFD,
} from '../constants.ts';
import { MAX_REGION_CAPABILITIES } from '../limits.ts';
import { dataText, flagNames, hex, IOEVENTFD_FLAGS, IOREGIONFD_FLAGS, REGION_FLAGS, regionName } from './values.ts';
import { Malformed, type PayloadWalk } from './walk.ts';

export type RegisterName = ((region: number, offset: number, bytes: number) => string | undefined) | undefined;

/** '0x4<COMMAND>' where the register has a name. */
function offsetText(region: number, offset: bigint, bytes: number, registerName: RegisterName): string {
  const register = offset <= BigInt(Number.MAX_SAFE_INTEGER) ? registerName?.(region, Number(offset), bytes) : undefined;
  return register === undefined ? hex(offset) : `${hex(offset)}<${register}>`;
}

export function describeRegionAccess(walk: PayloadWalk, registerName: RegisterName, withData: boolean): void {
  const offset = getU64(walk.payload, walk.skip(8, 'offset'));
  const region = getU32(walk.payload, walk.skip(4, 'region'));
  const count = getU32(walk.payload, walk.skip(4, 'count'));
  walk.note('offset', offsetText(region, offset, count, registerName));
  walk.note('region', regionName(region));
  walk.note('count', String(count));
  if (withData) walk.data('data', count);
}

export function describeWriteMulti(walk: PayloadWalk, registerName: RegisterName): void {
  const count = walk.u64('wr_cnt', String);
  walk.list(count, 24, 'writes', (at, i) => {
    const region = getU32(walk.payload, at + 8);
    const length = getU32(walk.payload, at + 12);
    const value = length <= 8 ? dataText(walk.payload.subarray(at + 16, at + 16 + length), 8) : `${length} bytes, 8 at most`;
    walk.note(`write[${i}]`, `${regionName(region)}+${offsetText(region, getU64(walk.payload, at), length, registerName)} = ${value}`);
  });
}

export function describeRegionInfo(walk: PayloadWalk): void {
  walk.u32('argsz');
  const flags = walk.flags('flags', REGION_FLAGS);
  walk.u32('index', regionName);
  const capOffset = walk.u32('cap_offset');
  walk.u64('size');
  walk.u64('offset');
  let at = (flags & VFIO_REGION_INFO_FLAG_CAPS) === 0 ? 0 : capOffset;
  // The chain may only point forwards: a loop cannot be walked.
  for (let n = 0; at !== 0; n++) {
    if (n === MAX_REGION_CAPABILITIES) throw new Malformed(`more than ${n} capabilities`);
    if (at < walk.at) throw new Malformed(`a capability at ${at}, before ${walk.at}`);
    walk.at = at;
    const header = walk.skip(8, 'capability');
    describeCapability(walk, getU16(walk.payload, header), getU16(walk.payload, header + 2));
    at = getU32(walk.payload, header + 4);
  }
}

function describeCapability(walk: PayloadWalk, id: number, version: number): void {
  switch (id) {
    case VFIO_REGION_INFO_CAP_SPARSE_MMAP: {
      const areas = getU32(walk.payload, walk.skip(8, 'nr_areas'));
      walk.note('sparse_mmap', `${areas} areas`);
      walk.list(areas, 16, 'areas', (at, i) => { walk.note(`area[${i}]`, `${hex(getU64(walk.payload, at))}+${hex(getU64(walk.payload, at + 8))}`); });
      return;
    }
    case VFIO_REGION_INFO_CAP_TYPE:
      walk.u32('type', hex);
      walk.u32('subtype', hex);
      return;
    case VFIO_REGION_INFO_CAP_MSIX_MAPPABLE: return walk.note('msix_mappable', 'yes');
    default: walk.note('capability', `id ${id}, version ${version}`);
  }
}

export function describeRegionIoFds(walk: PayloadWalk, reply: boolean): void {
  const argsz = walk.u32('argsz');
  walk.reserved('flags');
  walk.u32('index', regionName);
  if (!reply) return walk.reserved('count');
  const count = walk.u32('count');
  // Without room for all records a reply has none; the specification's have 40 bytes, libvfio-user's 48.
  if (walk.left === 0) return;
  const stride = argsz === 16 + 40 * count ? 40 : 48;
  walk.list(count, stride, 'sub-regions', (at, i) => { walk.note(`subregion[${i}]`, subRegionText(walk.payload, at, stride)); });
}

function subRegionText(payload: Uint8Array, at: number, stride: number): string {
  const range = `${hex(getU64(payload, at))}+${hex(getU64(payload, at + 8))}`;
  const fd = `fd[${getU32(payload, at + 16) | 0}]`;
  const type = getU32(payload, at + 20);
  const flags = getU32(payload, at + 24);
  switch (type) {
    case VFIO_USER_IO_FD_TYPE_IOEVENTFD:
      return `ioeventfd ${range} ${fd} ${flagNames(flags, IOEVENTFD_FLAGS)} datamatch ${hex(getU64(payload, at + stride - 8))}`;
    case VFIO_USER_IO_FD_TYPE_IOREGIONFD:
      return `ioregionfd ${range} ${fd} ${flagNames(flags, IOREGIONFD_FLAGS)} user_data ${hex(getU64(payload, at + 32))}`;
    case VFIO_USER_IO_FD_TYPE_IOEVENTFD_SHADOW: {
      const memory = `memory fd[${getU32(payload, at + 28) | 0}]+${hex(getU64(payload, at + 32))}`;
      return `shadow ${range} ${fd} ${flagNames(flags, IOEVENTFD_FLAGS)} ${memory} datamatch ${hex(getU64(payload, at + stride - 8))}`;
    }
    default: return `type ${type} ${range} ${fd} ${hex(flags)}`;
  }
}
