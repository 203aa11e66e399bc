/** Bursts that need memory which is not in the window: they end before its packet, consume and count nothing of it, and go on later. */
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { DEVS_RX_FILTERED, Q_RX_ADDRESSES, QS_DISCARDS, QS_ERRORS, QS_PACKETS } from '../src/layout.ts';
import { implementations } from './both-ways.ts';
import { frameOf, MAC } from './frames.ts';
import { CHUNK_IOVA, GUEST, READ, Rig, WRITE } from './rig.ts';

const rig = new Rig();
const both = implementations(rig);
const RING = 64;
const MISS = 1 << 17;
const RAISE = 1 << 16;
/** A chunk that is mapped for the device and absent, and one whose pages come one by one. */
const ABSENT = 0x77_0000_0000n;
const IN_PAGES = 0x2_0000_0000n;
const PRESENT_PAGES = GUEST + 0x200000;

describe.each(['wasm', 'twins'] as const)('%s', (which) => {
  const kernels = both[which];

  beforeEach(() => {
    rig.reset();
    rig.mapGuest();
    rig.mapPages(IN_PAGES, [PRESENT_PAGES | READ | WRITE, 0, (PRESENT_PAGES + 0x1000) | READ | WRITE, (PRESENT_PAGES + 0x2000) | READ]);
    rig.addMac(MAC);
    kernels.setAsking(1);
    kernels.deny(0, 0, 0);
  });
  afterAll(() => { kernels.setAsking(0); });

  const missed = (): bigint => (BigInt(kernels.missHigh() >>> 0) << 32n) | BigInt(kernels.missLow() >>> 0);
  const deny = (iova: bigint): void => { kernels.deny(Number(iova >> 32n), Number(iova & 0xffff_ffffn), 1); };

  describe('what the guest sends', () => {
    const post = (...packets: { at: bigint; bytes?: number; cmd?: number }[]): void => {
      rig.enableTx(0, { length: RING });
      packets.forEach(({ at, bytes = 200, cmd = 3 }, n) => {
        rig.set64(rig.txDescriptor(0, n), at);
        rig.set64(rig.txDescriptor(0, n) + 8, (BigInt(cmd) << 4n) | (BigInt(bytes) << 34n));
      });
      rig.setTail(rig.txBlock(0), packets.length);
    };
    const burst = (): number => kernels.rxBurst(rig.device, 0, rig.burst.records, 64, rig.burst.arena, rig.burst.arenaBytes);
    const state = (): number[] => [rig.head(rig.txBlock(0)), rig.stat(rig.txBlock(0), QS_PACKETS), rig.stat(rig.txBlock(0), QS_ERRORS)];

    it.each([['a chunk that is absent', ABSENT], ['a page that is absent', IN_PAGES + 0x1800n]])('%s ends the burst before its packet, as often as it is tried', (_what, at) => {
      post({ at: CHUNK_IOVA }, { at: CHUNK_IOVA + 4096n }, { at }, { at: CHUNK_IOVA });
      expect(burst()).toBe(2 | RAISE | MISS);
      expect([missed(), state()]).toEqual([at, [2, 2, 0]]);
      expect(burst()).toBe(MISS);
      expect(state()).toEqual([2, 2, 0]);
    });

    it('and goes on where it stopped when it is there', () => {
      post({ at: ABSENT }, { at: CHUNK_IOVA });
      expect(burst()).toBe(MISS);
      rig.mapChunk(ABSENT, GUEST, READ);
      expect(burst()).toBe(2 | RAISE);
      expect(state()).toEqual([2, 2, 0]);
    });

    it('an address that was denied is an error of its packet, and only this address', () => {
      post({ at: ABSENT }, { at: ABSENT + 0x5000n }, { at: CHUNK_IOVA });
      deny(ABSENT);
      expect(burst()).toBe(RAISE | MISS);
      expect([missed(), state()]).toEqual([ABSENT + 0x5000n, [1, 0, 1]]);
      deny(ABSENT + 0x5000n);
      expect(burst()).toBe(1 | RAISE);
      expect(state()).toEqual([3, 1, 2]);
    });

    it('a packet of several buffers waits whole', () => {
      post({ at: CHUNK_IOVA, cmd: 2 }, { at: IN_PAGES + 4000n, cmd: 2 }, { at: CHUNK_IOVA });
      expect(burst()).toBe(MISS);
      expect([missed(), state()]).toEqual([IN_PAGES + 0x1000n, [0, 0, 0]]);
      deny(IN_PAGES + 0x1000n);
      expect(burst()).toBe(RAISE);
      expect(state()).toEqual([3, 0, 1]);
    });

    it('what an entry forbids is an error at once', () => {
      rig.mapChunk(0x5_0000_0000n, GUEST, WRITE);
      post({ at: 0x5_0000_0000n }, { at: CHUNK_IOVA });
      expect(burst()).toBe(1 | RAISE);
      expect(state()).toEqual([2, 1, 1]);
    });
  });

  describe('what the guest is sent', () => {
    const frame = frameOf().bytes;
    const foreign = frameOf({ destination: Buffer.from('020000000099', 'hex') } as Parameters<typeof frameOf>[0]).bytes;
    foreign.set([2, 0, 0, 0, 0, 0x99]);
    const long = Buffer.concat([frame, Buffer.alloc(2100)]);
    const post = (...buffers: bigint[]): void => {
      rig.enableRx(0, { length: RING });
      buffers.forEach((at, n) => {
        rig.set64(rig.rxDescriptor(0, n), at);
        rig.set64(rig.rxDescriptor(0, n) + 8, 0n);
      });
      rig.setTail(rig.rxBlock(0), buffers.length);
    };
    const send = (count: number, from = 0): number => kernels.txBurst(rig.device, rig.record(from), count);
    const state = (): number[] => [rig.head(rig.rxBlock(0)), rig.stat(rig.rxBlock(0), QS_PACKETS), rig.stat(rig.rxBlock(0), QS_DISCARDS), rig.deviceStat(DEVS_RX_FILTERED)];
    const done = (slot: number): boolean => (rig.get64(rig.rxDescriptor(0, slot) + 8) & 1n) === 1n;

    it('frames before the miss are there, it and those behind are not, and nothing is counted twice', () => {
      post(CHUNK_IOVA, ABSENT, CHUNK_IOVA + 4096n, CHUNK_IOVA + 8192n);
      rig.fillBurst([foreign, frame, foreign, frame, foreign, frame].map((bytes) => ({ bytes })));
      expect(send(6)).toBe(3 | MISS);
      expect([missed(), state(), done(0), done(1)]).toEqual([ABSENT, [1, 1, 0, 2], true, false]);
      expect(send(3, 3)).toBe(MISS);
      expect(state()).toEqual([1, 1, 0, 2]);
      rig.mapChunk(ABSENT, GUEST + 0x10000, WRITE);
      expect(send(3, 3)).toBe(3);
      expect(state()).toEqual([3, 3, 0, 3]);
      expect(rig.bytes(GUEST + 0x10000, frame.length)).toEqual(frame);
    });

    it('a frame of several buffers waits whole', () => {
      post(CHUNK_IOVA, IN_PAGES + 3000n, CHUNK_IOVA + 8192n);
      rig.fillBurst([{ bytes: long }]);
      expect(send(1)).toBe(1);
      expect([state(), done(0), done(1)]).toEqual([[2, 1, 0, 0], true, true]);
      post(CHUNK_IOVA, IN_PAGES + 0x1000n, CHUNK_IOVA + 8192n);
      rig.set(rig.rxBlock(0) + 12, 0);
      expect(send(1)).toBe(MISS);
      expect([missed(), done(0), done(1), state()]).toEqual([IN_PAGES + 0x1000n, false, false, [0, 1, 0, 0]]);
    });

    it('a buffer that was denied goes back as an error', () => {
      post(ABSENT, CHUNK_IOVA);
      rig.fillBurst([{ bytes: frame }, { bytes: frame }]);
      deny(ABSENT);
      expect(send(2)).toBe(2);
      expect([state(), done(0), done(1)]).toEqual([[2, 1, 1, 0], true, true]);
    });

    it('a frame that finds no room is discarded, wherever the next buffer lies', () => {
      post(ABSENT);
      rig.fillBurst([{ bytes: long }]);
      expect(send(1)).toBe(1);
      expect(state()).toEqual([0, 0, 1, 0]);
    });
  });
});

it('a buffer that is brought in between two looks at it is written once', () => {
  rig.reset();
  rig.mapGuest();
  rig.addMac(MAC);
  both.wasm.setAsking(1);
  both.wasm.deny(0, 0, 0);
  rig.enableRx(0, { length: RING });
  // Stands for the control thread: the page table lies over the queue block, where the address that was looked up in vain is noted
  // as the entry of its own page.
  const field = rig.rxBlock(0) + Q_RX_ADDRESSES;
  const index = (field & 0x7ff) / 4;
  const iova = 0x5_0000_0000n + BigInt(GUEST + (index << 12) + WRITE);
  rig.mapChunk(iova, field & ~0x7ff, 4);
  rig.set64(rig.rxDescriptor(0, 0), iova);
  rig.set64(rig.rxDescriptor(0, 1), CHUNK_IOVA);
  rig.setTail(rig.rxBlock(0), 2);
  const { bytes } = frameOf();
  rig.fillBurst([{ bytes }, { bytes }]);
  expect([both.wasm.txBurst(rig.device, rig.record(0), 2), rig.head(rig.rxBlock(0)), rig.stat(rig.rxBlock(0), QS_PACKETS)]).toEqual([2, 2, 2]);
  expect(rig.bytes(Number(iova & 0xffff_ffffn), bytes.length)).toEqual(bytes);
  both.wasm.setAsking(0);
});
