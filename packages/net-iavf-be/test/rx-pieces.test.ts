/** Runs of frames for several Rx buffers: what ends a run, and that whatever ends it is dealt with all the same. */
import { beforeEach, describe, expect, it } from 'vitest';
import { DEVS_RX_OVERSIZE, Q_HEAD, Q_MAX_PACKET, QS_BROADCAST, QS_BYTES, QS_DISCARDS, QS_ERRORS, QS_PACKETS, QS_UNICAST } from '../src/layout.ts';
import { implementations } from './both-ways.ts';
import { frameOf, MAC } from './frames.ts';
import { CHUNK_IOVA, GUEST, Rig, WRITE } from './rig.ts';

const rig = new Rig();
const both = implementations(rig);
const RING = 64;
const BUFFER = 256;
const STRIDE = 1024;
const NEXT_IOVA = CHUNK_IOVA + 0x200000n;
const DD = 1n;
const EOP = 2n;
const RXE = 1n << 19n;
const L3L4P = 1n << 3n;
const L4E = 1n << 23n;

describe.each(['wasm', 'twins'] as const)('%s', (which) => {
  describe.each([{ short: false }, { short: true }])('$short = descriptors of 16 bytes:', ({ short }) => {
    /** Where a buffer that is not in the run's chunk is. */
    const elsewhere = new Map<number, number>();

    beforeEach(() => {
      rig.reset();
      rig.mapGuest();
      rig.addMac(MAC);
      rig.enableRx(0, { length: RING, buffer: BUFFER, short });
      elsewhere.clear();
      for (let n = 0; n < RING; n++) offer(n, CHUNK_IOVA + BigInt(n * STRIDE));
      rig.setTail(rig.rxBlock(0), RING - 1);
    });

    function offer(index: number, iova: bigint, at?: number): void {
      rig.set64(rig.rxDescriptor(0, index), iova);
      rig.set64(rig.rxDescriptor(0, index) + 8, 0n);
      if (at !== undefined) elsewhere.set(index, at);
    }
    const sent = (n: number, bytes: number): Buffer => frameOf({ payload: bytes - 54, seq: n }).bytes;
    const deliver = (...frames: Uint8Array[]): number => both[which].txBurst(rig.device, rig.burst.records, rig.fillBurst(frames.map((bytes) => ({ bytes }))));
    const qw1 = (index: number): bigint => rig.get64(rig.rxDescriptor(0, index % RING) + 8);
    const isFree = (index: number): boolean => (qw1(index) & DD) === 0n;
    /** The frame whose first descriptor this is, as a driver joins it, and how many it has. */
    function received(index: number): { bytes: Buffer; buffers: number; last: bigint } {
      const parts: Buffer[] = [];
      for (let n = index; ; n++) {
        const word = qw1(n);
        expect(word & (DD | RXE)).toBe(DD);
        parts.push(rig.bytes(elsewhere.get(n % RING) ?? GUEST + (n % RING) * STRIDE, Number((word >> 38n) & 0x3fffn)));
        if ((word & EOP) !== 0n) return { bytes: Buffer.concat(parts), buffers: parts.length, last: word };
        expect(parts.at(-1)!.length).toBe(BUFFER);
      }
    }
    const stat = (counter: number): number => rig.stat(rig.rxBlock(0), counter);
    const head = (): number => rig.head(rig.rxBlock(0));

    it('every length fills as many buffers as it needs, and nothing is written behind it', () => {
      // Around one, two and five buffers, and with a last part of every size that is copied in another way
      const lengths = [257, 258, 264, 271, 272, 288, 304, 320, 384, 511, 512, 513, 640, 1279, 1280];
      rig.u8.fill(0xee, GUEST, GUEST + RING * STRIDE);
      const frames = lengths.map((bytes, n) => sent(n, bytes));
      expect(deliver(...frames)).toBe(lengths.length);
      let at = 0;
      for (const frame of frames) {
        const { bytes, buffers } = received(at);
        expect(bytes.equals(frame)).toBe(true);
        expect(buffers).toBe(Math.ceil(frame.length / BUFFER));
        at += buffers;
        expect(rig.u8[GUEST + (at - 1) * STRIDE + (((frame.length - 1) % BUFFER) + 1)]).toBe(0xee);
      }
      expect(head()).toBe(at);
      expect([stat(QS_PACKETS), stat(QS_UNICAST), stat(QS_BYTES)]).toEqual([lengths.length, lengths.length, lengths.reduce((a, b) => a + b)]);
    });

    it('round the end of the ring frames go on, and nothing behind it is touched', () => {
      rig.set(rig.rxBlock(0) + Q_HEAD, RING - 4);
      rig.setTail(rig.rxBlock(0), RING - 5);
      for (const n of [RING, RING + 1]) offer(n, CHUNK_IOVA + 0x100000n);
      const behind = rig.bytes(rig.rxDescriptor(0, RING), 64);
      const frames = [0, 1, 2].map((n) => sent(n, 700));
      deliver(...frames);
      frames.forEach((frame, n) => expect(received(RING - 4 + 3 * n).bytes.equals(frame)).toBe(true));
      expect(head()).toBe(5);
      expect(rig.bytes(rig.rxDescriptor(0, RING), 64)).toEqual(behind);
    });

    it('a run up to the end of the ring leaves its head at the beginning', () => {
      rig.set(rig.rxBlock(0) + Q_HEAD, RING - 6);
      rig.setTail(rig.rxBlock(0), RING - 7);
      deliver(sent(0, 700), sent(1, 700));
      expect(received(RING - 3).bytes.equals(sent(1, 700))).toBe(true);
      expect(head()).toBe(0);
    });

    it('a frame for which there are too few buffers is discarded, and takes none', () => {
      rig.setTail(rig.rxBlock(0), 5);
      deliver(sent(0, 700), sent(1, 700), sent(2, 400));
      expect(received(0).bytes.equals(sent(0, 700))).toBe(true);
      expect(received(3).bytes.equals(sent(2, 400))).toBe(true);
      expect([head(), stat(QS_PACKETS), stat(QS_DISCARDS)]).toEqual([5, 2, 1]);
    });

    it('a frame that needs six is discarded among others', () => {
      deliver(sent(0, 700), sent(1, 1300), sent(2, 700));
      expect(received(3).bytes.equals(sent(2, 700))).toBe(true);
      expect([head(), stat(QS_PACKETS), stat(QS_DISCARDS)]).toEqual([6, 2, 1]);
    });

    it('a frame that is longer than the queue takes is discarded among others', () => {
      rig.set(rig.rxBlock(0) + Q_MAX_PACKET, 704);
      deliver(sent(0, 700), sent(1, 701), sent(2, 700));
      expect(received(3).bytes.equals(sent(2, 700))).toBe(true);
      expect([head(), stat(QS_PACKETS), rig.deviceStat(DEVS_RX_OVERSIZE)]).toEqual([6, 2, 1]);
    });

    it.each([
      { what: 'is not mapped', iova: NEXT_IOVA + 0x1000n },
      { what: 'ends beyond all memory', iova: NEXT_IOVA - 255n },
      { what: 'wraps', iova: 0xffffffffffffff80n },
    ])('a buffer in the middle that $what makes a receive error, and none of the frame is written', ({ iova }) => {
      rig.u8.fill(0xee, GUEST, GUEST + RING * STRIDE);
      offer(4, iova);
      deliver(sent(0, 700), sent(1, 700), sent(2, 700));
      expect(received(0).bytes.equals(sent(0, 700))).toBe(true);
      for (const n of [3, 4]) expect(qw1(n) & (DD | EOP | RXE)).toBe(DD | EOP | RXE);
      expect(rig.bytes(GUEST + 3 * STRIDE, BUFFER).equals(Buffer.alloc(BUFFER, 0xee))).toBe(true);
      expect(received(5).bytes.equals(sent(2, 700))).toBe(true);
      expect([stat(QS_PACKETS), stat(QS_ERRORS)]).toEqual([2, 1]);
    });

    it('buffers lie in any chunk and on any page, also across their borders', () => {
      const pages = [0x140000, 0x120000].map((at) => GUEST + at);
      rig.mapPages(NEXT_IOVA, pages.map((page) => page | WRITE));
      offer(1, NEXT_IOVA + 512n, pages[0]! + 512);
      offer(2, NEXT_IOVA + 0x1000n, pages[1]!);
      offer(4, NEXT_IOVA + 0x1800n, pages[1]! + 0x800);
      offer(6, NEXT_IOVA - 100n);
      deliver(sent(0, 700), sent(1, 700), sent(2, 700));
      for (const n of [0, 1]) expect(received(3 * n).bytes.equals(sent(n, 700))).toBe(true);
      const last = sent(2, 700);
      expect(rig.bytes(GUEST + 0x200000 - 100, 100).equals(last.subarray(0, 100))).toBe(true);
      expect(rig.bytes(pages[0]!, BUFFER - 100).equals(last.subarray(100, BUFFER))).toBe(true);
      offer(10, NEXT_IOVA + 0xf00n + 100n);
      deliver(sent(3, 700));
      const crossing = sent(3, 700);
      expect(rig.bytes(pages[0]! + 0xf64, 156).equals(crossing.subarray(BUFFER, BUFFER + 156))).toBe(true);
      expect(rig.bytes(pages[1]!, 100).equals(crossing.subarray(BUFFER + 156, 2 * BUFFER))).toBe(true);
      expect(head()).toBe(12);
    });

    it('checksums are verified wherever a frame has its parts, and groups and short frames go between', () => {
      const broken = sent(1, 700);
      broken[699]! ^= 0x10;
      const broadcast = sent(2, 700);
      broadcast.fill(0xff, 0, 6);
      deliver(sent(0, 700), broken, broadcast, sent(3, 200), sent(4, 700));
      expect(received(0).last & (L3L4P | L4E)).toBe(L3L4P);
      expect(received(3).last & (L3L4P | L4E)).toBe(L3L4P | L4E);
      expect(received(3).bytes.equals(broken)).toBe(true);
      expect(received(6).bytes.equals(broadcast)).toBe(true);
      expect(received(9).bytes.equals(sent(3, 200))).toBe(true);
      expect(received(10)).toMatchObject({ buffers: 3 });
      expect(received(10).bytes.equals(sent(4, 700))).toBe(true);
      expect(isFree(13)).toBe(true);
      expect([stat(QS_PACKETS), stat(QS_UNICAST), stat(QS_BROADCAST)]).toEqual([5, 4, 1]);
    });
  });
});
