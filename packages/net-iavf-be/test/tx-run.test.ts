/** Runs of Tx packets that are one descriptor each: the borders at which the walk through ring and memory has to end, with something else behind each. */
import { beforeEach, describe, expect, it } from 'vitest';
import { Q_HEAD, QS_ERRORS, QS_PACKETS } from '../src/layout.ts';
import { implementations } from './both-ways.ts';
import { frameOf, verifyFrame } from './frames.ts';
import { CHUNK_IOVA, GUEST, READ, Rig, WRITE } from './rig.ts';

const rig = new Rig();
const both = implementations(rig);
const RING = 64;
const CHUNK_BYTES = 0x200000;
const PAGE_BYTES = 4096;
/** Of the chunk behind the one that is mapped as a whole. */
const NEXT_IOVA = CHUNK_IOVA + BigInt(CHUNK_BYTES);
const EOP_RS = 0x30n;
const IPV4_CSUM_TCP = 0x1600n;

describe.each(['wasm', 'twins'] as const)('%s', (which) => {
  describe.each([
    { what: 'to send as they are', work: 0n },
    { what: 'with checksums to insert', work: IPV4_CSUM_TCP },
  ])('packets $what', ({ work }) => {
    const frames = [0, 1, 2, 3].map((n) => frameOf({ protocol: 'tcp', payload: 200, seq: n, ...(work === 0n ? {} : { undone: 'checksum' }) }));
    const bytes = frames[0]!.bytes.length;
    let next: number;

    beforeEach(() => {
      rig.reset();
      rig.mapGuest();
      rig.enableTx(0, { length: RING });
      next = 0;
    });

    function describeAt(index: number, iova: bigint): void {
      const { l2, l3, l4 } = frames[0]!;
      const offset = BigInt((l2 / 2) | ((l3 / 4) << 7) | ((l4 / 4) << 14));
      rig.set64(rig.txDescriptor(0, index), iova);
      rig.set64(rig.txDescriptor(0, index) + 8, EOP_RS | work | (work === 0n ? 0n : offset << 16n) | (BigInt(bytes) << 34n));
    }
    function post(iova: bigint): void {
      describeAt(next, iova);
      next = (next + 1) % RING;
    }
    /** What becomes of them: numbers of the frames that arrive as they should, and how many are refused. */
    function arrive(): { frames: number[]; refused: number } {
      rig.setTail(rig.txBlock(0), next);
      const count = both[which].rxBurst(rig.device, 0, rig.burst.records, 64, rig.burst.arena, rig.burst.arenaBytes) & 0xffff;
      const arrived = Array.from({ length: count }, (_, n) => {
        const frame = rig.frame(n);
        if (work !== 0n) expect(verifyFrame(frame, frames[0]!)).toMatchObject({ ip: true, l4: true });
        else return frames.findIndex((one) => one.bytes.equals(frame));
        // But for the checksums
        return frames.findIndex((one) => one.bytes.subarray(38, 50).equals(frame.subarray(38, 50)) && one.bytes.subarray(54).equals(frame.subarray(54)));
      });
      expect(rig.head(rig.txBlock(0))).toBe(next);
      expect(rig.stat(rig.txBlock(0), QS_PACKETS)).toBe(count);
      return { frames: arrived, refused: rig.stat(rig.txBlock(0), QS_ERRORS) };
    }
    const inChunk = (n: number): bigint => {
      rig.write(GUEST + n * 2048, frames[n]!.bytes);
      return CHUNK_IOVA + BigInt(n * 2048);
    };

    it('end at the end of the ring, whatever lies behind it', () => {
      rig.set(rig.txBlock(0) + Q_HEAD, RING - 2);
      next = RING - 2;
      for (const n of [0, 1, 2]) post(inChunk(n));
      describeAt(RING, inChunk(3));
      describeAt(RING + 1, inChunk(3));
      expect(arrive()).toEqual({ frames: [0, 1, 2], refused: 0 });
    });

    it('that go beyond the end of a chunk are continued where the next one is', () => {
      const page = GUEST + 0x100000;
      rig.mapPages(NEXT_IOVA, [page | READ]);
      post(inChunk(0));
      rig.write(GUEST + CHUNK_BYTES - 100, frames[1]!.bytes.subarray(0, 100));
      rig.write(page, frames[1]!.bytes.subarray(100));
      post(NEXT_IOVA - 100n);
      post(inChunk(2));
      expect(arrive()).toEqual({ frames: [0, 1, 2], refused: 0 });
    });

    it('that go beyond the end of all memory are refused', () => {
      for (const n of [0, 1, 2]) {
        post(inChunk(n));
        rig.write(GUEST + CHUNK_BYTES - 100, frames[3]!.bytes);
        post(NEXT_IOVA - 100n);
      }
      expect(arrive()).toEqual({ frames: [0, 1, 2], refused: 3 });
    });

    it('that begin where a whole chunk does not are refused beyond its end all the same', () => {
      rig.write(GUEST + CHUNK_BYTES - bytes + 1, frames[3]!.bytes);
      post(CHUNK_IOVA + BigInt(CHUNK_BYTES - bytes));
      post(CHUNK_IOVA + BigInt(CHUNK_BYTES - bytes + 1));
      rig.write(GUEST + CHUNK_BYTES - bytes, frames[0]!.bytes);
      expect(arrive()).toEqual({ frames: [0], refused: 1 });
    });

    it('on pages of one chunk are taken from where each page is', () => {
      const pages = [0x140000, 0x120000, 0x100000].map((at) => GUEST + at);
      rig.mapPages(NEXT_IOVA, [...pages.map((page) => page | READ | WRITE), 0]);
      rig.write(pages[0]!, frames[0]!.bytes);
      rig.write(pages[1]! + 64, frames[1]!.bytes);
      rig.write(pages[1]! + PAGE_BYTES - 100, frames[2]!.bytes.subarray(0, 100));
      rig.write(pages[2]!, frames[2]!.bytes.subarray(100));
      rig.write(pages[2]! + PAGE_BYTES - 100, frames[3]!.bytes);
      for (const at of [0, PAGE_BYTES + 64, 2 * PAGE_BYTES - 100, 3 * PAGE_BYTES - 100, 0]) post(NEXT_IOVA + BigInt(at));
      post(inChunk(3));
      expect(arrive()).toEqual({ frames: [0, 1, 2, 0, 3], refused: 1 });
    });
  });
});
