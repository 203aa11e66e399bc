/**
 * DEVICE_FEATURE (16): `argsz u32 | flags u32 | data`. The flags hold a feature number and what to do with it; PROBE asks
 * whether GET or SET would be possible. SET and PROBE replies echo the request byte for byte, GET replies carry the data.
 */
import { getU32, getU64, putU32, putU64 } from '../bytes.ts';
import {
  VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_MASK, VFIO_DEVICE_FEATURE_PROBE, VFIO_DEVICE_FEATURE_SET,
} from '../constants.ts';
import { badPeer, badRequest } from '../errors.ts';
import { MAX_ARGSZ_BYTES, MAX_DMA_LOGGING_RANGES } from '../limits.ts';
import { needArgsz, needReply } from '../payload.ts';
import { dirtyBitmapBytes } from './dma-unmap.ts';

/** Fixed part of a DEVICE_FEATURE request or reply: argsz, flags. */
export const DEVICE_FEATURE_BYTES = 8;
const OPERATIONS = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_PROBE;

/** A DEVICE_FEATURE request or reply (struct vfio_device_feature of linux/vfio.h). */
export interface DeviceFeature {
  /** Room for the reply payload. */
  readonly argsz: number;
  /** VFIO_DEVICE_FEATURE_* number. */
  readonly feature: number;
  /** VFIO_DEVICE_FEATURE_GET, _SET and _PROBE bits, at least one. */
  readonly operations: number;
  /** What follows the fixed part; a view. */
  readonly data: Uint8Array;
}

const EMPTY = new Uint8Array(0);

/** `argsz` defaults to the length of the request: right for SET and PROBE, too small for most GETs. */
export function encodeDeviceFeature(feature: number, operations: number, data: Uint8Array = EMPTY, argsz: number = DEVICE_FEATURE_BYTES + data.length): Uint8Array {
  const bytes = new Uint8Array(DEVICE_FEATURE_BYTES + data.length);
  putU32(bytes, 0, argsz);
  putU32(bytes, 4, (feature | operations) >>> 0);
  bytes.set(data, DEVICE_FEATURE_BYTES);
  return bytes;
}

/**
 * Which features exist, and their data, is the server's to judge. GET and SET exclude each other; together with PROBE they ask for both.
 * Any argsz from the fixed part on is taken: what a reply may hold is bounded by what the feature's decoder accepts.
 */
export function decodeDeviceFeature(payload: Uint8Array): DeviceFeature {
  const argsz = needArgsz(payload, DEVICE_FEATURE_BYTES, 'DEVICE_FEATURE');
  const flags = getU32(payload, 4);
  if (!flagsAreValid(flags)) throw badRequest('ERR_VFU_FLAGS', `DEVICE_FEATURE: flags 0x${flags.toString(16)}`);
  return { argsz, feature: flags & VFIO_DEVICE_FEATURE_MASK, operations: flags & OPERATIONS, data: payload.subarray(DEVICE_FEATURE_BYTES) };
}

/** The reply to GET (`data` is the feature's), or the echo of SET and PROBE. ERR_VFU_PAYLOAD, ERR_VFU_FLAGS: both close. */
export function decodeDeviceFeatureReply(payload: Uint8Array): DeviceFeature {
  needReply(payload, DEVICE_FEATURE_BYTES, 'DEVICE_FEATURE');
  const flags = getU32(payload, 4);
  if (!flagsAreValid(flags)) throw badPeer('ERR_VFU_FLAGS', `DEVICE_FEATURE reply: flags 0x${flags.toString(16)}`);
  return { argsz: getU32(payload, 0), feature: flags & VFIO_DEVICE_FEATURE_MASK, operations: flags & OPERATIONS, data: payload.subarray(DEVICE_FEATURE_BYTES) };
}

function flagsAreValid(flags: number): boolean {
  const operations = flags & OPERATIONS;
  return (flags & ~(VFIO_DEVICE_FEATURE_MASK | OPERATIONS)) === 0 && operations !== 0 && operations !== (VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET);
}

function needData(data: Uint8Array, bytes: number, name: string): void {
  if (data.length < bytes) throw badRequest('ERR_VFU_PAYLOAD', `DEVICE_FEATURE ${name}: ${data.length} bytes of data, needs ${bytes}`);
}

// VFIO_DEVICE_FEATURE_MIGRATION (1): GET only.

/** Data of the MIGRATION feature: flags u64. */
export const MIGRATION_FEATURE_BYTES = 8;

/** `flags`: VFIO_MIGRATION_STOP_COPY, _P2P and _PRE_COPY. */
export function encodeMigrationFeature(flags: number): Uint8Array {
  const bytes = new Uint8Array(MIGRATION_FEATURE_BYTES);
  putU32(bytes, 0, flags);
  return bytes;
}

/** VFIO_MIGRATION_* flags out of a GET reply's data. ERR_VFU_PAYLOAD closes. */
export function decodeMigrationFeatureReply(data: Uint8Array): number {
  needReply(data, MIGRATION_FEATURE_BYTES, 'DEVICE_FEATURE MIGRATION');
  return getU32(data, 0);
}

// VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE (2): GET and SET.

/** Data of the MIG_DEVICE_STATE feature: state u32, descriptor u32. */
export const MIG_DEVICE_STATE_BYTES = 8;

/** Numbers of enum vfio_device_mig_state: 0 ERROR to 7 PRE_COPY_P2P. The data travels in MIG_DATA_*, so the descriptor field is always -1. */
export function encodeMigDeviceState(state: number): Uint8Array {
  const bytes = new Uint8Array(MIG_DEVICE_STATE_BYTES);
  putU32(bytes, 0, state);
  putU32(bytes, 4, 0xffff_ffff);
  return bytes;
}

/** The state that a SET asks for, any u32: whether it exists is the server's to judge. ERR_VFU_PAYLOAD where the data is too short. */
export function decodeMigDeviceState(data: Uint8Array): number {
  needData(data, MIG_DEVICE_STATE_BYTES, 'MIG_DEVICE_STATE');
  return getU32(data, 0);
}

/** The state in a GET reply's data, any u32. ERR_VFU_PAYLOAD closes. */
export function decodeMigDeviceStateReply(data: Uint8Array): number {
  needReply(data, MIG_DEVICE_STATE_BYTES, 'DEVICE_FEATURE MIG_DEVICE_STATE');
  return getU32(data, 0);
}

// VFIO_DEVICE_FEATURE_DMA_LOGGING_START (6) and _STOP (7): SET only.

const LOGGING_FIXED_BYTES = 16;
const LOGGING_RANGE_BYTES = 16;

/** Device addresses [iova, iova + length), bytes (struct vfio_device_feature_dma_logging_range). */
export interface IovaRange {
  readonly iova: bigint;
  readonly length: bigint;
}

/** Data of DMA_LOGGING_START (struct vfio_device_feature_dma_logging_control). */
export interface DmaLogging {
  /** The consumer's wish; a power of two. */
  readonly pageSize: bigint;
  /** None: everything. */
  readonly ranges: readonly IovaRange[];
}

/** Data of DMA_LOGGING_START; DMA_LOGGING_STOP takes the same. */
export function encodeDmaLogging(logging: DmaLogging): Uint8Array {
  const bytes = new Uint8Array(LOGGING_FIXED_BYTES + LOGGING_RANGE_BYTES * logging.ranges.length);
  putU64(bytes, 0, logging.pageSize);
  putU32(bytes, 8, logging.ranges.length);
  logging.ranges.forEach((range, i) => {
    putU64(bytes, LOGGING_FIXED_BYTES + LOGGING_RANGE_BYTES * i, range.iova);
    putU64(bytes, LOGGING_FIXED_BYTES + LOGGING_RANGE_BYTES * i + 8, range.length);
  });
  return bytes;
}

/** Checks lengths, overflow and the page size; not whether ranges overlap. */
export function decodeDmaLogging(data: Uint8Array): DmaLogging {
  const name = 'DMA_LOGGING_START';
  needData(data, LOGGING_FIXED_BYTES, name);
  const pageSize = getU64(data, 0);
  if (pageSize === 0n || (pageSize & (pageSize - 1n)) !== 0n) throw badRequest('ERR_VFU_RANGE', `${name}: page size ${pageSize} is no power of two`);
  const count = getU32(data, 8);
  if (count > MAX_DMA_LOGGING_RANGES) throw badRequest('ERR_VFU_RANGE', `${name}: ${count} ranges, the limit is ${MAX_DMA_LOGGING_RANGES}`);
  needData(data, LOGGING_FIXED_BYTES + LOGGING_RANGE_BYTES * count, name);
  const ranges = Array.from({ length: count }, (_, i) => getRange(data, LOGGING_FIXED_BYTES + LOGGING_RANGE_BYTES * i, name));
  return { pageSize, ranges };
}

function getRange(data: Uint8Array, at: number, name: string): IovaRange {
  const range = { iova: getU64(data, at), length: getU64(data, at + 8) };
  if (range.length === 0n || range.iova + range.length > 1n << 64n) throw badRequest('ERR_VFU_RANGE', `${name}: 0x${range.iova.toString(16)} + 0x${range.length.toString(16)} is no range of addresses`);
  return range;
}

// VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT (8): GET only; reads and clears.

/** Fixed part of DMA_LOGGING_REPORT's data: iova, length and page size, u64 each; a reply's bitmap follows. */
export const DMA_LOGGING_REPORT_BYTES = 24;

/** Which dirty pages are asked for, or reported (struct vfio_device_feature_dma_logging_report). */
export interface DmaLoggingReport extends IovaRange {
  /** Bytes that one bit stands for; a power of two, whatever the logging itself uses. */
  readonly pageSize: bigint;
}

/** Data of DMA_LOGGING_REPORT: of a request without `bitmap`, of a reply with it (one bit per page, lowest address and lowest bit first). */
export function encodeDmaLoggingReport(report: DmaLoggingReport, bitmap: Uint8Array = EMPTY): Uint8Array {
  const bytes = new Uint8Array(DMA_LOGGING_REPORT_BYTES + bitmap.length);
  putU64(bytes, 0, report.iova);
  putU64(bytes, 8, report.length);
  putU64(bytes, 16, report.pageSize);
  bytes.set(bitmap, DMA_LOGGING_REPORT_BYTES);
  return bytes;
}

/** Also checks that `argsz` has room for the bitmap. */
export function decodeDmaLoggingReport(data: Uint8Array, argsz: number): DmaLoggingReport & { readonly bitmapBytes: number } {
  const name = 'DMA_LOGGING_REPORT';
  needData(data, DMA_LOGGING_REPORT_BYTES, name);
  const report = { ...getRange(data, 0, name), pageSize: getU64(data, 16) };
  const bitmapBytes = dirtyBitmapBytes(report.length, report.pageSize);
  if (bitmapBytes < 0n) throw badRequest('ERR_VFU_RANGE', `${name}: page size ${report.pageSize} for 0x${report.length.toString(16)} bytes`);
  const needed = BigInt(DEVICE_FEATURE_BYTES + DMA_LOGGING_REPORT_BYTES) + bitmapBytes;
  if (needed > BigInt(MAX_ARGSZ_BYTES)) throw badRequest('ERR_VFU_RANGE', `${name}: a bitmap of ${bitmapBytes} bytes, more than fit ${MAX_ARGSZ_BYTES}`);
  if (BigInt(argsz) < needed) throw badRequest('ERR_VFU_ARGSZ', `${name}: argsz ${argsz} has no room for a bitmap of ${bitmapBytes} bytes`);
  return { ...report, bitmapBytes: Number(bitmapBytes) };
}

/** Checks that the bitmap (a view) has the length that range and page size imply; whether they are those asked for is the caller's to compare. ERR_VFU_PAYLOAD closes. */
export function decodeDmaLoggingReportReply(data: Uint8Array): DmaLoggingReport & { readonly bitmap: Uint8Array } {
  const name = 'DEVICE_FEATURE DMA_LOGGING_REPORT';
  needReply(data, DMA_LOGGING_REPORT_BYTES, name);
  const report = { iova: getU64(data, 0), length: getU64(data, 8), pageSize: getU64(data, 16) };
  const bitmap = data.subarray(DMA_LOGGING_REPORT_BYTES);
  if (BigInt(bitmap.length) !== dirtyBitmapBytes(report.length, report.pageSize)) throw badPeer('ERR_VFU_PAYLOAD', `${name} reply: ${bitmap.length} bytes of bitmap for 0x${report.length.toString(16)} bytes in pages of ${report.pageSize}`);
  return { ...report, bitmap };
}
