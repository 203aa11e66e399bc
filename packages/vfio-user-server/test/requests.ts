/** Numbers and payloads of requests, field by field: no encoder of the code under test takes part. */
import { concat, fields, version } from './raw-client.ts';

export const VERSION = 1;
export const DMA_MAP = 2;
export const DMA_UNMAP = 3;
export const GET_INFO = 4;
export const REGION_INFO = 5;
export const IO_FDS = 6;
export const IRQ_INFO = 7;
export const SET_IRQS = 8;
export const READ = 9;
export const WRITE = 10;
export const DMA_READ = 11;
export const DMA_WRITE = 12;
export const RESET = 13;
export const MULTI = 15;
export const FEATURE = 16;
export const MIG_READ = 17;
export const MIG_WRITE = 18;
export const EPERM = 1;
export const ENOENT = 2;
export const EIO = 5;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const EINVAL = 22;
export const ENOTTY = 25;
export const ENOSPC = 28;
/** SET_IRQS: data types and actions. */
export const NONE = 1;
export const BOOL = 2;
export const EVENTFD = 4;
export const MASK = 8;
export const UNMASK = 16;
export const TRIGGER = 32;
/** DEVICE_FEATURE: operations, features, states. */
export const GET = 0x10000;
export const SET = 0x20000;
export const PROBE = 0x40000;
export const MIGRATION = 1;
export const MIG_STATE = 2;
export const LOG_START = 6;
export const LOG_STOP = 7;
export const LOG_REPORT = 8;
export const STOP = 1;
export const RUNNING = 2;
export const STOP_COPY = 3;
export const RESUMING = 4;
export const PRE_COPY = 6;

export const PAGE = 0x1000n;

export const info: Uint8Array = fields(16, 0, 0, 0);
export const caps = (text: string): Uint8Array => version(`{"capabilities":${text}}`);
export const regionInfo = (index: number, argsz: number): Uint8Array => concat(fields(argsz, 0, index, 0, 0n, 0n), new Uint8Array(Math.max(0, argsz - 32)));
export const ioFds = (index: number, argsz = 16, flags = 0, count = 0): Uint8Array => fields(argsz, flags, index, count);
export const setIrqs = (flags: number, index: number, start: number, count: number, data: Uint8Array = new Uint8Array(0)): Uint8Array => fields(20 + data.length, flags, index, start, count, data);
export const access = (offset: bigint, region: number, count: number, data: Uint8Array = new Uint8Array(0)): Uint8Array => fields(offset, region, count, data);
export const dmaMap = (address: bigint, size: bigint, offset = 0n, flags = 3): Uint8Array => fields(32, flags, offset, address, size);
export const dmaUnmap = (address: bigint, size: bigint, flags = 0, argsz = 24): Uint8Array => fields(argsz, flags, address, size);
export const feature = (flags: number, data: Uint8Array = new Uint8Array(0), argsz: number = 8 + data.length): Uint8Array => fields(argsz, flags, data);
export const setState = (state: number): Uint8Array => feature(SET | MIG_STATE, fields(state, 0xffffffff));
export const logStart = (pageSize: bigint, ranges: readonly (readonly [bigint, bigint])[] = []): Uint8Array => feature(SET | LOG_START, fields(pageSize, ranges.length, 0, ...ranges.flat()));
/** With room for `bitmapBytes` of answer. */
export const report = (iova: bigint, length: bigint, pageSize: bigint, bitmapBytes = 8): Uint8Array => feature(GET | LOG_REPORT, fields(iova, length, pageSize), 32 + bitmapBytes);
export const migRead = (size: number): Uint8Array => fields(8 + size, size);
export const migWrite = (data: Uint8Array): Uint8Array => fields(8 + data.length, data.length, data);
