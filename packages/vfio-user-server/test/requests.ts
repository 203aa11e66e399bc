/** Numbers and payloads of requests, field by field: no encoder of the code under test takes part. */
import { concat, fields, version } from './raw-client.ts';

export const [VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, REGION_INFO, IO_FDS, IRQ_INFO, SET_IRQS, READ, WRITE, DMA_READ, DMA_WRITE, RESET] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13] as const;
export const [MULTI, FEATURE, MIG_READ, MIG_WRITE] = [15, 16, 17, 18] as const;
export const [EPERM, ENOENT, EIO, EFAULT, EBUSY, EEXIST, EINVAL, ENOTTY, ENOSPC] = [1, 2, 5, 14, 16, 17, 22, 25, 28] as const;
/** SET_IRQS: data types and actions. */
export const [NONE, BOOL, EVENTFD, MASK, UNMASK, TRIGGER] = [1, 2, 4, 8, 16, 32] as const;
/** DEVICE_FEATURE: operations, features, states. */
export const [GET, SET, PROBE] = [0x10000, 0x20000, 0x40000] as const;
export const [MIGRATION, MIG_STATE, LOG_START, LOG_STOP, LOG_REPORT] = [1, 2, 6, 7, 8] as const;
export const [STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY] = [1, 2, 3, 4, 6] as const;

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
