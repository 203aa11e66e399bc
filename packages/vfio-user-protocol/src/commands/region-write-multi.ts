/** REGION_WRITE_MULTI (15): several small writes, executed strictly in order. The reply says how many were. */
import { getU32, getU53, getU64, putU32, putU53, putU64 } from '../bytes.ts';
import { badRequest } from '../errors.ts';
import { MAX_WRITE_MULTI } from '../limits.ts';
import { getReplyU53, needReply, needRequest } from '../payload.ts';
import type { RegionData } from './region-access.ts';

const HEAD_BYTES = 8;
const ENTRY_BYTES = 24;
const MAX_ENTRY_DATA = 8;

/** The request. RangeError for an entry of more than 8 bytes of data. */
export function encodeRegionWriteMulti(writes: readonly { readonly offset: number; readonly region: number; readonly data: Uint8Array }[]): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES + ENTRY_BYTES * writes.length);
  putU64(bytes, 0, BigInt(writes.length));
  writes.forEach((write, i) => {
    const at = HEAD_BYTES + ENTRY_BYTES * i;
    if (write.data.length > MAX_ENTRY_DATA) throw new RangeError(`REGION_WRITE_MULTI: entry ${i} has ${write.data.length} bytes, at most ${MAX_ENTRY_DATA}`);
    putU53(bytes, at, write.offset);
    putU32(bytes, at + 8, write.region);
    putU32(bytes, at + 12, write.data.length);
    bytes.set(write.data, at + 16);
  });
  return bytes;
}

/** All or nothing: one bad entry refuses the message before any write is executed. */
export function decodeRegionWriteMulti(payload: Uint8Array): RegionData[] {
  needRequest(payload, HEAD_BYTES, 'REGION_WRITE_MULTI');
  const count = getU64(payload, 0);
  if (count > BigInt(MAX_WRITE_MULTI)) throw badRequest('ERR_VFU_RANGE', `REGION_WRITE_MULTI: ${count} writes, the limit is ${MAX_WRITE_MULTI}`);
  const n = Number(count);
  if (payload.length !== HEAD_BYTES + ENTRY_BYTES * n) throw badRequest('ERR_VFU_PAYLOAD', `REGION_WRITE_MULTI: payload of ${payload.length} bytes for ${n} writes`);
  const writes: RegionData[] = [];
  for (let i = 0; i < n; i++) {
    const at = HEAD_BYTES + ENTRY_BYTES * i;
    const length = getU32(payload, at + 12);
    if (length > MAX_ENTRY_DATA) throw badRequest('ERR_VFU_RANGE', `REGION_WRITE_MULTI: entry ${i} has ${length} bytes, at most ${MAX_ENTRY_DATA}`);
    writes.push({ offset: getU53(payload, at), region: getU32(payload, at + 8), count: length, data: payload.subarray(at + 16, at + 16 + length) });
  }
  return writes;
}

/** The reply: how many writes of the request were executed. */
export function encodeRegionWriteMultiReply(executed: number): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES);
  putU53(bytes, 0, executed);
  return bytes;
}

/** How many writes were executed. ERR_VFU_PAYLOAD, ERR_VFU_RANGE: both close. */
export function decodeRegionWriteMultiReply(payload: Uint8Array): number {
  needReply(payload, HEAD_BYTES, 'REGION_WRITE_MULTI');
  return getReplyU53(payload, 0, 'REGION_WRITE_MULTI');
}
