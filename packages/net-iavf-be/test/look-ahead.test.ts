/** Kernels that ask for cache lines ahead of time: they change nothing that anybody sees, wherever the guest's words point. */
import { FRAME_RECORD_BYTES } from '@emudev/ethdev';
import { describe, expect, it } from 'vitest';
import {
  DEV_BYTES, DEV_PAUSED, DEV_SCRATCH, MAX_RX_BUFFERS, Q_BYTES, Q_ENABLED, Q_FAULT, Q_HEAD, Q_LENT, Q_RING, Q_RX_ADDRESSES, Q_STAGE, Q_TSO_TOTAL, QFAULT_BUFFER,
  QFAULT_NONE, STAGE_AHEAD, STAGE_BYTES, STAGE_CRC_TABLE,
} from '../src/layout.ts';
import { implementations } from './both-ways.ts';
import { frameOf, MAC } from './frames.ts';
import { CHUNK_IOVA, GUEST, READ, Rig, RIG_BYTES, WRITE } from './rig.ts';

const rig = new Rig();
const { wasm, twins } = implementations(rig);
const PAGES_IOVA = CHUNK_IOVA + 0x200000n;
/** The fifth part of its chunk. */
const PART_IOVA = CHUNK_IOVA + 0x480000n;
const PART = GUEST + 0x40000;
const RING = 64;

describe('prefetch', () => {
  it.each([0, 1, RING - 1, RING, 0x7fffffff, 0xffffffff])('changes nothing, whatever the tail (%i)', (tail) => {
    rig.reset();
    rig.mapGuest();
    rig.enableTx(0, { length: RING });
    rig.enableRx(0, { length: RING });
    rig.setTail(rig.txBlock(0), tail);
    rig.setTail(rig.rxBlock(0), tail);
    const before = rig.bytes(0, RIG_BYTES);
    for (const queue of [0, 1, 15, 0xffff]) wasm.prefetch(rig.device, queue, 1);
    for (const word of [rig.rxBlock(0) + Q_RING, rig.txBlock(0) + Q_RING, rig.txBlock(0) + Q_ENABLED]) {
      rig.set(word, 0);
      wasm.prefetch(rig.device, 0, 1);
    }
    rig.set(rig.device + DEV_PAUSED, 1);
    wasm.prefetch(rig.device, 0, 1);
    rig.write(0, before);
    wasm.prefetch(rig.device, 0, 1);
    expect(rig.bytes(0, RIG_BYTES).equals(before)).toBe(true);
  });
});

describe('prefetch tells whether rxBurst has something to do', () => {
  it.each([
    ['nothing', 5, 0, 0, false],
    ['descriptors', 6, 0, 0, true],
    ['descriptors beyond the end of the ring', 4, 0, 0, true],
    ['a frame that is being cut into segments', 5, 1000, 0, true],
    ['descriptors that an lcore has lent before it died', 5, 0, 2, true],
    ['a tail that is a fault', RING, 0, 0, true],
  ])('%s', (_, tail, staged, lent, expected) => {
    rig.reset();
    rig.mapGuest();
    rig.enableTx(0, { length: RING });
    rig.enableRx(0, { length: RING });
    rig.set(rig.txBlock(0) + Q_HEAD, 5);
    rig.set(rig.txBlock(0) + Q_TSO_TOTAL, staged);
    rig.set(rig.txBlock(0) + Q_LENT, lent);
    rig.setTail(rig.txBlock(0), tail);
    expect(wasm.prefetch(rig.device, 0, 1) !== 0).toBe(expected);
    expect(wasm.prefetch(rig.device, 1, 1)).toBe(0);
    rig.set(rig.device + DEV_PAUSED, 1);
    expect(wasm.prefetch(rig.device, 0, 1)).toBe(0);
  });
});

describe('prefetch takes lines of posted Rx descriptors by a store that says nothing', () => {
  it.each([
    ['as many as frames wait', 5, 6, 40, QFAULT_NONE, [5, 9]],
    ['no more than are posted', 5, 30, 7, QFAULT_NONE, [5]],
    ['those of four lines', 5, 30, 40, QFAULT_NONE, [5, 9, 13, 17]],
    ['not over the end of the ring', RING - 5, 30, 40, QFAULT_NONE, [RING - 5, RING - 1]],
    ['none where none is posted', 5, 30, 5, QFAULT_NONE, []],
    ['none of a tail that is a fault', 5, 30, RING, QFAULT_NONE, []],
    ['none of a ring that has a fault', 5, 30, 40, QFAULT_BUFFER, []],
    ['none where another thread may be writing them', 5, 30, 40, QFAULT_NONE, [], 0],
  ])('%s', (_, head, waiting, tail, fault, taken, sends = 1) => {
    rig.reset();
    rig.mapGuest();
    rig.enableTx(0, { length: RING });
    rig.enableRx(0, { length: RING, short: true });
    for (let n = 0; n < RING; n++) {
      rig.set64(rig.rxDescriptor(0, n), CHUNK_IOVA + BigInt(n));
      rig.set64(rig.rxDescriptor(0, n) + 8, 0x77n << 32n);
    }
    rig.setTail(rig.txBlock(0), waiting);
    rig.set(rig.rxBlock(0) + Q_HEAD, head);
    rig.set(rig.rxBlock(0) + Q_FAULT, fault);
    rig.setTail(rig.rxBlock(0), tail);
    expect(wasm.prefetch(rig.device, 0, sends)).toBe(1);
    const slots = Array.from({ length: RING }, (_slot, n) => n);
    expect(slots.map((n) => rig.get64(rig.rxDescriptor(0, n)))).toEqual(slots.map((n) => CHUNK_IOVA + BigInt(n)));
    expect(slots.filter((n) => rig.get64(rig.rxDescriptor(0, n) + 8) === 0n)).toEqual(taken);
  });
});

describe('buffers in chunks, on pages and in a part of a chunk, in turn', () => {
  /**
   * Every third address is of a page table, one page of which may only be read, one only be written, and one is not there; every third of the
   * only part of a chunk, and one of another part.
   */
  function prepare(): void {
    rig.reset();
    rig.mapGuest();
    rig.addMac(MAC);
    rig.mapPages(PAGES_IOVA, Array.from({ length: 512 }, (_, n) => (n === 9 ? 0 : (GUEST + 0x200000 + n * 4096) | (n === 6 ? READ : n === 12 ? WRITE : READ | WRITE))));
    rig.mapPart(PART_IOVA, PART, READ | WRITE);
    rig.enableTx(0, { length: RING });
    rig.enableRx(0, { length: RING });
    for (let n = 0; n < RING; n++) {
      const [iova, at] = [
        [PAGES_IOVA + BigInt(n * 4096 + 64), GUEST + 0x200000 + n * 4096 + 64],
        [PART_IOVA + BigInt(n === 10 ? 0x20000 : n * 2048), PART + n * 2048],
        [CHUNK_IOVA + BigInt(n * 2048), GUEST + n * 2048],
      ][n % 3] as [bigint, number];
      rig.write(at, frameOf().bytes);
      rig.set64(rig.txDescriptor(0, n), iova);
      rig.set64(rig.txDescriptor(0, n) + 8, 0x10n | (60n << 34n));
      rig.set64(rig.rxDescriptor(0, n), iova);
    }
    rig.setTail(rig.txBlock(0), RING - 1);
    rig.setTail(rig.rxBlock(0), RING - 1);
  }
  /** All memory but what is the kernels' own. */
  function withoutScratch(): Buffer {
    const addresses = rig.rxBlock(0) + Q_RX_ADDRESSES;
    const stage = rig.get(rig.txBlock(0) + Q_STAGE);
    return rig.bytes(0, RIG_BYTES).fill(0, stage + STAGE_AHEAD, stage + STAGE_CRC_TABLE).fill(0, rig.device + DEV_SCRATCH, rig.device + DEV_BYTES).fill(0, addresses, addresses + 8 * MAX_RX_BUFFERS);
  }
  /** From the same state. */
  function run(kernels: typeof wasm): { readonly results: number[]; readonly image: Buffer } {
    prepare();
    const { records, arena, arenaBytes } = rig.burst;
    const received = kernels.rxBurst(rig.device, 0, records, 64, arena, arenaBytes);
    const sent = kernels.txBurst(rig.device, records, received & 0xffff);
    return { results: [received, sent], image: withoutScratch() };
  }

  it('go where their own descriptors say, with the rights of their pages', () => {
    const kernels = run(wasm);
    const expected = run(twins);
    expect(kernels.results).toEqual(expected.results);
    // All but the two that are not there and the one that may not be read
    expect(kernels.results[0]).toBe(RING - 1 - 3);
    expect(kernels.image.equals(expected.image)).toBe(true);
  });

  it('are kept where no lcore comes near that sends to the same card, or polls another of its queues', () => {
    prepare();
    const stage = rig.get(rig.txBlock(0) + Q_STAGE);
    rig.u8.fill(0xee, rig.device + DEV_SCRATCH, rig.device + DEV_BYTES);
    const before = rig.bytes(0, RIG_BYTES);
    const { records, capacity, arena, arenaBytes } = rig.burst;
    wasm.rxBurst(rig.device, 0, records, 64, arena, arenaBytes);
    const after = rig.bytes(0, RIG_BYTES);
    // What is this queue's and this lcore's; that an entry was used is noted in it
    const own = [[rig.txBlock(0), Q_BYTES], [stage, STAGE_BYTES], [records, capacity * FRAME_RECORD_BYTES], [arena, arenaBytes], ...[...rig.entries].map((entry) => [entry + 12, 4])];
    for (const [from, bytes] of own as [number, number][]) before.copy(after, from, from, from + bytes);
    expect(after.equals(before)).toBe(true);
  });
});
