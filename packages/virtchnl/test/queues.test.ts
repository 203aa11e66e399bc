import { describe, expect, it } from 'vitest';
import { decodeConfigVsiQueues, encodeConfigVsiQueues, encodeQueueSelect, VirtchnlError, type QueuePairConfig } from '../src/index.ts';

const pair = (queueId: number): QueuePairConfig => ({
  tx: { vsiId: 1, queueId, ringLength: 512, ringAddress: 0x1000n },
  rx: { vsiId: 1, queueId, ringLength: 512, ringAddress: 0x2000n, bufferBytes: 2048, maxPacketBytes: 1536 },
});

describe('CONFIG_VSI_QUEUES', () => {
  it('is sent in the legacy length, one pair too long', () => {
    expect(encodeConfigVsiQueues({ vsiId: 1, pairs: [pair(0)] })).toHaveLength(72 + 64);
    expect(encodeConfigVsiQueues({ vsiId: 1, pairs: Array.from({ length: 16 }, (_, q) => pair(q)) })).toHaveLength(72 + 64 * 16);
  });

  it('has its fields at the offsets of the specification', () => {
    const view = new DataView(encodeConfigVsiQueues({ vsiId: 7, pairs: [pair(3)] }).buffer);
    expect([view.getUint16(0, true), view.getUint16(2, true)]).toEqual([7, 1]);
    expect([view.getUint16(10, true), view.getUint16(12, true), view.getBigUint64(16, true)]).toEqual([3, 512, 0x1000n]);
    expect([view.getUint16(34, true), view.getUint32(36, true), view.getUint32(44, true), view.getUint32(48, true), view.getBigUint64(56, true)]).toEqual([3, 512, 2048, 1536, 0x2000n]);
  });

  it('ignores garbage in the padding that the legacy length brings', () => {
    const bytes = encodeConfigVsiQueues({ vsiId: 1, pairs: [pair(0)] });
    const dirty = bytes.slice();
    dirty.fill(0xa5, 72);
    expect(decodeConfigVsiQueues(dirty)).toEqual(decodeConfigVsiQueues(bytes));
  });

  it('refuses to encode what does not fit: a field, or a message over 4096 bytes', () => {
    expect(() => encodeConfigVsiQueues({ vsiId: 0x1_0000, pairs: [pair(0)] })).toThrow(VirtchnlError);
    expect(() => encodeConfigVsiQueues({ vsiId: 1, pairs: [{ ...pair(0), tx: { ...pair(0).tx, ringAddress: -1n } }] })).toThrow(VirtchnlError);
    expect(() => encodeConfigVsiQueues({ vsiId: 1, pairs: Array.from({ length: 64 }, (_, q) => pair(q)) })).toThrow(/4096/);
  });
});

describe('queue selection', () => {
  it('takes bit 31 as an ordinary bit', () => {
    const view = new DataView(encodeQueueSelect({ vsiId: 1, rxQueues: 1 << 31, txQueues: 0 }).buffer);
    expect(view.getUint32(4, true)).toBe(0x8000_0000);
  });
});
