/**
 * Any message as names and values, for tracing tools. Nothing is judged here: what a decoder would refuse is shown as it is, and only
 * a payload that ends too early, or has no known structure, is called malformed.
 */
import { getU32, getU64 } from './bytes.ts';
import { commandName } from './commands.ts';
import type { DmaDialect } from './commands/dma-access.ts';
import * as c from './constants.ts';
import { describeFeature } from './describe/features.ts';
import { describeRegionAccess, describeRegionInfo, describeRegionIoFds, describeWriteMulti } from './describe/region-messages.ts';
import {
  bitmapText, bytesText, DEVICE_FLAGS, DMA_MAP_FLAGS, DMA_UNMAP_FLAGS, IRQ_INFO_FLAGS, irqIndexName, printable, regionName, SET_IRQS_FLAGS,
} from './describe/values.ts';
import { type DescribedField, Malformed, PayloadWalk } from './describe/walk.ts';
import { errnoName } from './errno.ts';
import { type Header, isCommand, isReply } from './header.ts';
import { MAX_VERSION_FRAME_BYTES } from './limits.ts';

export { errnoName } from './errno.ts';
export { featureName, headerFlagNames, irqIndexName, migrationStateName, regionName } from './describe/values.ts';
export type { DescribedField } from './describe/walk.ts';

/** A message as `describeMessage` shows it. */
export interface MessageDescription {
  /** The command's, of requests and replies alike: 'REGION_READ', or 'command 99'. */
  readonly name: string;
  /** In wire order. An error reply begins with `error`; descriptors that came along are counted in `fds`, at the end. */
  readonly fields: readonly DescribedField[];
  /** Set when the payload could not be decoded to its end: why. `fields` has what could. */
  readonly malformed?: string;
}

/** What helps to describe a message and is not in its bytes. */
export interface DescribeContext {
  /** Descriptors that came with the message. */
  readonly fdCount?: number;
  /** How DMA_READ and DMA_WRITE are laid out; by default what the lengths of the message point to. */
  readonly dmaDialect?: DmaDialect;
  /** Payload and command of the request, when a reply is described. */
  readonly request?: { readonly command: number; readonly payload: Uint8Array };
  /** The name of a register, for offsets of region accesses; it must not throw. */
  readonly registerName?: (region: number, offset: number, bytes: number) => string | undefined;
  /** Bytes of data shown; 32 by default. */
  readonly maxDataBytes?: number;
  /** Entries of a list (areas, sub-regions, writes, ranges) shown; 16 by default. */
  readonly maxListed?: number;
}

const NO_CONTEXT: DescribeContext = {};

/** Never throws, whatever the bytes; every string is printable ASCII. */
export function describeMessage(header: Header, payload: Uint8Array, context: DescribeContext = NO_CONTEXT): MessageDescription {
  const walk = new PayloadWalk(payload, context.maxDataBytes ?? 32, context.maxListed ?? 16);
  let malformed: string | undefined;
  try {
    if (isCommand(header.flags)) describeRequest(header.command, walk, context);
    else if (!isReply(header.flags)) throw new Malformed(`type ${header.flags & c.VFIO_USER_F_TYPE_MASK} is reserved`);
    else if ((header.flags & c.VFIO_USER_F_ERROR) !== 0) walk.note('error', errnoName(header.error));
    else describeReply(header.command, walk, context);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    malformed = error.message;
  }
  noteRest(walk);
  if ((context.fdCount ?? 0) > 0) walk.note('fds', String(context.fdCount));
  const description = { name: commandName(header.command), fields: walk.fields };
  return malformed === undefined ? description : { ...description, malformed };
}

/** Bytes behind the structure: clients pad requests to argsz, some servers put the success payload behind an error. */
function noteRest(walk: PayloadWalk): void {
  if (walk.left === 0) return;
  const rest = walk.payload.subarray(walk.at);
  if (rest.every((byte) => byte === 0)) walk.note('padding', `${rest.length} zero bytes`);
  else walk.note('rest', bytesText(rest, walk.maxDataBytes));
}

function describeRequest(command: number, walk: PayloadWalk, context: DescribeContext): void {
  switch (command) {
    case c.VFIO_USER_VERSION: return describeVersion(walk);
    case c.VFIO_USER_DMA_MAP:
      walk.u32('argsz');
      walk.flags('flags', DMA_MAP_FLAGS);
      walk.u64('offset');
      walk.u64('address');
      walk.u64('size');
      return;
    case c.VFIO_USER_DMA_UNMAP: return describeUnmap(walk, false);
    case c.VFIO_USER_DEVICE_GET_INFO:
      walk.u32('argsz');
      walk.reserved('flags');
      walk.reserved('num_regions');
      walk.reserved('num_irqs');
      return;
    case c.VFIO_USER_DEVICE_GET_REGION_INFO: return describeGetRegionInfo(walk);
    case c.VFIO_USER_DEVICE_GET_REGION_IO_FDS: return describeRegionIoFds(walk, false);
    case c.VFIO_USER_DEVICE_GET_IRQ_INFO: return describeGetIrqInfo(walk);
    case c.VFIO_USER_DEVICE_SET_IRQS: return describeSetIrqs(walk);
    case c.VFIO_USER_REGION_READ: return describeRegionAccess(walk, context.registerName, false);
    case c.VFIO_USER_REGION_WRITE: return describeRegionAccess(walk, context.registerName, true);
    case c.VFIO_USER_DMA_READ: return describeDma(walk, context.dmaDialect ?? 'lvu', false);
    case c.VFIO_USER_DMA_WRITE: return describeDma(walk, dialectOfWrite(walk.payload) ?? context.dmaDialect ?? 'lvu', true);
    case c.VFIO_USER_DEVICE_RESET: return;
    case c.VFIO_USER_REGION_WRITE_MULTI: return describeWriteMulti(walk, context.registerName);
    case c.VFIO_USER_DEVICE_FEATURE: return describeFeature(walk);
    case c.VFIO_USER_MIG_DATA_READ:
      walk.u32('argsz');
      walk.u32('size');
      return;
    case c.VFIO_USER_MIG_DATA_WRITE: return describeMigData(walk);
    default: throw new Malformed('an unknown command');
  }
}

function describeReply(command: number, walk: PayloadWalk, context: DescribeContext): void {
  if (context.request !== undefined && context.request.command !== command) throw new Malformed(`a reply to ${commandName(context.request.command)}`);
  switch (command) {
    case c.VFIO_USER_VERSION: return describeVersion(walk);
    case c.VFIO_USER_DMA_UNMAP: return describeUnmap(walk, true);
    case c.VFIO_USER_DEVICE_GET_INFO:
      walk.u32('argsz');
      walk.flags('flags', DEVICE_FLAGS);
      walk.u32('num_regions');
      walk.u32('num_irqs');
      return;
    case c.VFIO_USER_DEVICE_GET_REGION_INFO: return describeRegionInfo(walk);
    case c.VFIO_USER_DEVICE_GET_REGION_IO_FDS: return describeRegionIoFds(walk, true);
    case c.VFIO_USER_DEVICE_GET_IRQ_INFO:
      walk.u32('argsz');
      walk.flags('flags', IRQ_INFO_FLAGS);
      walk.u32('index', irqIndexName);
      walk.u32('count');
      return;
    // libvfio-user answers an access of no bytes by a header alone.
    case c.VFIO_USER_REGION_READ: return walk.left === 0 ? undefined : describeRegionAccess(walk, context.registerName, true);
    case c.VFIO_USER_REGION_WRITE: return walk.left === 0 ? undefined : describeRegionAccess(walk, context.registerName, false);
    case c.VFIO_USER_DMA_READ: return describeDma(walk, dialectOfReadReply(walk.payload) ?? context.dmaDialect ?? 'lvu', true);
    case c.VFIO_USER_DMA_WRITE: return describeDmaWriteReply(walk);
    case c.VFIO_USER_REGION_WRITE_MULTI:
      walk.u64('wr_cnt', String);
      return;
    case c.VFIO_USER_DEVICE_FEATURE: return describeFeature(walk);
    case c.VFIO_USER_MIG_DATA_READ: return describeMigData(walk);
    case c.VFIO_USER_DMA_MAP: case c.VFIO_USER_DEVICE_SET_IRQS: case c.VFIO_USER_DEVICE_RESET: case c.VFIO_USER_MIG_DATA_WRITE: return;
    default: throw new Malformed('a reply to an unknown command');
  }
}

function describeVersion(walk: PayloadWalk): void {
  walk.u16('major');
  walk.u16('minor');
  if (walk.left === 0) return;
  const end = walk.payload.indexOf(0, walk.at);
  const whole = end === -1 ? walk.payload.length : end;
  // A longer text is cut for the eye; no peer accepts it anyway.
  const text = new TextDecoder().decode(walk.payload.subarray(walk.at, Math.min(whole, walk.at + MAX_VERSION_FRAME_BYTES)));
  walk.at = end === -1 ? whole : whole + 1;
  const compact = compactJson(text);
  walk.note('json', printable(compact ?? JSON.stringify(text)));
  if (end === -1) throw new Malformed('JSON without a terminating NUL');
  if (compact === undefined) throw new Malformed('malformed JSON');
}

function compactJson(text: string): string | undefined {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** The GET requests are the structure of their reply; what is not for the server to read is zero, and shown only where it is not. */
function describeGetRegionInfo(walk: PayloadWalk): void {
  walk.u32('argsz');
  walk.reserved('flags');
  walk.u32('index', regionName);
  walk.reserved('cap_offset');
  walk.reserved('size', 8);
  walk.reserved('offset', 8);
}

function describeGetIrqInfo(walk: PayloadWalk): void {
  walk.u32('argsz');
  walk.reserved('flags');
  walk.u32('index', irqIndexName);
  walk.reserved('count');
}

function describeUnmap(walk: PayloadWalk, reply: boolean): void {
  walk.u32('argsz');
  const flags = walk.flags('flags', DMA_UNMAP_FLAGS);
  walk.u64('address');
  walk.u64('size');
  if ((flags & c.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) === 0) return;
  walk.u64('page_size');
  const bytes = walk.u64('bitmap_size');
  if (!reply) return;
  const present = bytes > walk.left ? walk.left : Number(bytes);
  walk.note('dirty', bitmapText(walk.payload.subarray(walk.at, walk.at + present)));
  walk.at += present;
  if (present < bytes) throw new Malformed(`${present} bytes of bitmap, ${bytes} are announced`);
}

function describeSetIrqs(walk: PayloadWalk): void {
  walk.u32('argsz');
  const flags = walk.flags('flags', SET_IRQS_FLAGS);
  walk.u32('index', irqIndexName);
  walk.u32('start');
  const count = walk.u32('count');
  if ((flags & c.VFIO_IRQ_SET_DATA_BOOL) !== 0) walk.data('bools', count);
}

/** By the length of a DMA_WRITE, which differs; undefined where it fits neither (it has been cut, say). */
function dialectOfWrite(payload: Uint8Array): DmaDialect | undefined {
  if (payload.length < 16) return undefined;
  if (getU64(payload, 8) === BigInt(payload.length - 16)) return 'lvu';
  return payload.length === Math.max(16, 12 + getU32(payload, 8)) ? 'qemu' : undefined;
}

/** A reply to DMA_READ is as long in either: QEMU's data begins in what is the upper half of the other's count, and its end is void. */
function dialectOfReadReply(payload: Uint8Array): DmaDialect | undefined {
  if (payload.length < 16 || getU32(payload, 8) !== payload.length - 16) return undefined;
  if (getU32(payload, 12) !== 0) return 'qemu';
  return payload.length >= 20 && getU32(payload, payload.length - 4) !== 0 ? 'lvu' : undefined;
}

function describeDma(walk: PayloadWalk, dialect: DmaDialect, withData: boolean): void {
  walk.u64('address');
  const count = dialect === 'qemu' ? walk.u32('count') : walk.u64('count', String);
  if (withData) walk.data('data', count);
}

function describeDmaWriteReply(walk: PayloadWalk): void {
  // QEMU answers by a header alone; one table of the specification has a count of 4 bytes.
  if (walk.left === 0) return;
  walk.u64('address');
  if (walk.left < 8) walk.u32('count');
  else walk.u64('count', String);
}

function describeMigData(walk: PayloadWalk): void {
  walk.u32('argsz');
  walk.data('data', walk.u32('size'));
}
