/** Frames whose payload is copied straight from the sender's memory: what a hostile or busy guest can do between the two copies. */
import { MISS_CELL_BYTES } from '@emudev/dma';
import type { LcoreContext } from '@emudev/ethdev';
import { FRAME_LENT } from '@emudev/ethdev';
import { beforeEach, describe, expect, it } from 'vitest';
import { createDatapath } from '../src/datapath.ts';
import { DEV_LENDS, DEV_PAUSED, PAUSED_AWAY, PAUSED_FOR_NOW, Q_BOUNCED, Q_LENT, QS_DISCARDS, QS_PACKETS } from '../src/layout.ts';
import { frameOf, MAC, verifyFrame } from './frames.ts';
import { CHUNK_IOVA, guestOffset, READ, Rig, WRITE } from './rig.ts';

const rig = new Rig();
const RX_IOVA = CHUNK_IOVA + 0x100000n;
const HEAD_BYTES = 64;
/** A part of the window that the rig leaves alone. */
const MISS_CELLS = 0x78000;
/** Bits of qw1 of an Rx write-back. */
const L3L4P = 1n << 3n;
const L4E = 1n << 23n;
const isDone = (slot: number): boolean => (rig.get64(rig.txDescriptor(0, slot) + 8) & 0xfn) === 0xfn;

describe.each(['wasm', 'ts'] as const)('%s', (kernels) => {
  const context: LcoreContext = { lcore: 0, memory: rig.memory, base: 0n, u8: rig.u8, i32: rig.i32, u32: rig.u32, view: rig.view };
  const datapath = createDatapath(context, { device: rig.device, kernels }, () => true);
  const large = frameOf({ payload: 1431 });
  const received = (slot: number): Buffer => {
    const bytes = Number(rig.get64(rig.rxDescriptor(0, slot) + 8) >> 38n) & 0x3fff;
    return rig.bytes(guestOffset(RX_IOVA) + slot * 2048, bytes);
  };
  const statusOf = (slot: number): bigint => rig.get64(rig.rxDescriptor(0, slot) + 8);

  beforeEach(() => {
    rig.reset();
    rig.mapGuest();
    rig.addMac(MAC);
    rig.set(rig.device + DEV_LENDS, 1);
    rig.enableTx();
    rig.enableRx();
    for (let n = 0; n < 64; n++) rig.set64(rig.rxDescriptor(0, n), RX_IOVA + BigInt(n * 2048));
    rig.setTail(rig.rxBlock(0), 63);
  });

  /** Returns where it lies. */
  function post(bytes: Uint8Array): number {
    const tail = rig.tail(rig.txBlock(0));
    const iova = CHUNK_IOVA + BigInt(tail * 2048);
    rig.write(guestOffset(iova), bytes);
    rig.set64(rig.txDescriptor(0, tail), iova);
    rig.set64(rig.txDescriptor(0, tail) + 8, 0x30n | (BigInt(bytes.length) << 34n));
    rig.setTail(rig.txBlock(0), tail + 1);
    return guestOffset(iova);
  }

  it('gives descriptors back after the frames have been taken, and none of a run before', () => {
    for (const frame of [large, frameOf(), large]) post(frame.bytes);
    expect(datapath.rxBurst(0, rig.burst, 32)).toBe(3);
    expect([rig.frameFlags(0), rig.frameFlags(1), rig.frameFlags(2)]).toEqual([FRAME_LENT, 0, FRAME_LENT]);
    expect(datapath.txBurst(0, rig.burst, 3)).toBe(3);
    expect([0, 1, 2].map(isDone)).toEqual([false, false, false]);
    datapath.takeBack!(0, rig.burst, 0);
    expect([0, 1, 2].map(isDone)).toEqual([true, true, true]);
    expect([0, 1, 2].map(received)).toEqual([large.bytes, frameOf().bytes, large.bytes]);
    expect([0, 1, 2].map((n) => statusOf(n) & (L3L4P | L4E))).toEqual([L3L4P, L3L4P, L3L4P]);
  });

  it('delivers the headers it has judged by, whatever the sender writes over them', () => {
    const at = post(large.bytes);
    expect(datapath.rxBurst(0, rig.burst, 32)).toBe(1);
    rig.u8.fill(0xff, at, at + HEAD_BYTES);
    expect(datapath.txBurst(0, rig.burst, 1)).toBe(1);
    expect(received(0)).toEqual(large.bytes);
    expect(statusOf(0) & (L3L4P | L4E)).toBe(L3L4P);
  });

  it.each([0, 700, 1484 - HEAD_BYTES])('judges the checksum of the payload that it delivers (byte %i changed)', (changed) => {
    const at = post(large.bytes);
    datapath.rxBurst(0, rig.burst, 32);
    rig.u8[at + HEAD_BYTES + changed]! ^= 0x55;
    datapath.txBurst(0, rig.burst, 1);
    expect(received(0)[HEAD_BYTES + changed]).toBe(large.bytes[HEAD_BYTES + changed]! ^ 0x55);
    expect(verifyFrame(received(0), large)).toMatchObject({ ip: true, l4: false });
    expect(statusOf(0) & (L3L4P | L4E)).toBe(L3L4P | L4E);
  });

  it.each([
    ['IPv6', frameOf({ ip: 6, hopByHop: 48, payload: 1300 })],
    ['a tag to be stripped', frameOf({ vlan: 7, payload: 1300 })],
    ['padding behind the packet', { ...large, bytes: Buffer.concat([large.bytes, Buffer.alloc(5)]) }],
    ['a group address', frameOf({ destination: Buffer.alloc(6, 0xff), payload: 1300 })],
    ['several buffers', frameOf({ payload: 5000 })],
  ])('delivers what takes more than a copy: %s', (_, { bytes, l2 }) => {
    rig.setFlags(8); // strip tags
    post(bytes);
    expect(datapath.rxBurst(0, rig.burst, 32)).toBe(1);
    expect(rig.frameFlags(0)).toBe(FRAME_LENT);
    datapath.txBurst(0, rig.burst, 1);
    datapath.takeBack!(0, rig.burst, 0);
    const expected = l2 === 18 ? Buffer.concat([bytes.subarray(0, 12), bytes.subarray(16)]) : bytes;
    expect(rig.bytes(guestOffset(RX_IOVA), expected.length)).toEqual(expected);
  });

  it('keeps frames for a guest that is paused for now as whole ones, and the sender has its memory back', () => {
    const at = post(large.bytes);
    datapath.rxBurst(0, rig.burst, 32);
    rig.set(rig.device + DEV_PAUSED, PAUSED_FOR_NOW);
    expect(datapath.txBurst(0, rig.burst, 1)).toBe(0);
    expect(datapath.holding!(0)).toBe(true);
    datapath.takeBack!(0, rig.burst, 1);
    expect(isDone(0)).toBe(true);
    // The guest uses its buffer again, or it is unmapped and holds zeroes
    rig.u8.fill(0, at, at + 2048);
    rig.set(rig.device + DEV_PAUSED, 0);
    expect(rig.frameFlags(0)).toBe(0);
    expect(datapath.txBurst(0, rig.burst, 1)).toBe(1);
    expect(received(0)).toEqual(large.bytes);
  });

  it('keeps frames whose buffer has to be brought in, those before it have been delivered', () => {
    const cells = { offset: MISS_CELLS, count: 17, bell: MISS_CELLS - 64 };
    const asking = createDatapath(context, { device: rig.device, kernels, misses: cells }, () => true);
    const ABSENT = 0x77_0000_0000n;
    rig.set64(rig.rxDescriptor(0, 1), ABSENT);
    const places = [post(large.bytes), post(large.bytes), post(frameOf({ payload: 600 }).bytes)];
    expect(asking.rxBurst(0, rig.burst, 32)).toBe(3);
    expect(asking.txBurst(0, rig.burst, 3)).toBe(1);
    expect(asking.holding!(0)).toBe(true);
    const rest = { ...rig.burst, records: rig.record(1) };
    asking.takeBack!(0, rest, 2);
    expect([0, 1, 2].map(isDone)).toEqual([true, true, true]);
    for (const at of places) rig.u8.fill(0xee, at, at + 2048);
    rig.mapChunk(ABSENT, guestOffset(RX_IOVA), WRITE);
    rig.set(MISS_CELLS + 16 * MISS_CELL_BYTES, 0); // the answer: it is there
    expect(asking.txBurst(0, rest, 2)).toBe(2);
    asking.takeBack!(0, rest, 0);
    expect(rig.bytes(guestOffset(RX_IOVA), large.bytes.length)).toEqual(large.bytes);
    expect(received(2)).toEqual(frameOf({ payload: 600 }).bytes);
    expect([0, 1, 2].map((n) => statusOf(n) & (L3L4P | L4E))).toEqual([L3L4P, L3L4P, L3L4P]);
  });

  it('lends as far as the sender\'s memory is there', () => {
    const asking = createDatapath(context, { device: rig.device, kernels, misses: { offset: MISS_CELLS, count: 17, bell: MISS_CELLS - 64 } }, () => true);
    post(large.bytes);
    post(large.bytes);
    rig.set64(rig.txDescriptor(0, 1), 0x78_0000_0000n);
    post(large.bytes);
    expect(asking.rxBurst(0, rig.burst, 32)).toBe(1);
    asking.txBurst(0, rig.burst, 1);
    asking.takeBack!(0, rig.burst, 0);
    expect([0, 1, 2].map(isDone)).toEqual([true, false, false]);
    expect(asking.rxBurst(0, rig.burst, 32)).toBe(0);
    rig.mapChunk(0x78_0000_0000n, guestOffset(CHUNK_IOVA), READ);
    rig.set(MISS_CELLS, 0);
    expect(asking.rxBurst(0, rig.burst, 32)).toBe(2);
    asking.txBurst(0, rig.burst, 2);
    asking.takeBack!(0, rig.burst, 0);
    expect([0, 1, 2].map(isDone)).toEqual([true, true, true]);
    expect([0, 1, 2].map(received)).toEqual([large.bytes, large.bytes, large.bytes]);
  });

  it('gives descriptors back when the frames are lost: no room, or nobody there', () => {
    rig.setTail(rig.rxBlock(0), rig.head(rig.rxBlock(0)));
    post(large.bytes);
    datapath.rxBurst(0, rig.burst, 32);
    expect(datapath.txBurst(0, rig.burst, 1)).toBe(1);
    datapath.takeBack!(0, rig.burst, 0);
    expect([isDone(0), rig.stat(rig.rxBlock(0), QS_DISCARDS)]).toEqual([true, 1]);
    post(large.bytes);
    datapath.rxBurst(0, rig.burst, 32);
    rig.set(rig.device + DEV_PAUSED, PAUSED_AWAY); // a reset begins
    expect(datapath.txBurst(0, rig.burst, 1)).toBe(0);
    datapath.takeBack!(0, rig.burst, 0);
    expect([isDone(1), rig.get(rig.txBlock(0) + Q_LENT)]).toEqual([true, 0]);
    expect(rig.stat(rig.rxBlock(0), QS_PACKETS)).toBe(0);
  });

  it('lends nothing where the far end does not take it, nor from a bounced ring', () => {
    rig.set(rig.device + DEV_LENDS, 0);
    post(large.bytes);
    datapath.rxBurst(0, rig.burst, 32);
    expect([rig.frameFlags(0), isDone(0)]).toEqual([0, true]);
    rig.set(rig.device + DEV_LENDS, 1);
    rig.set(rig.txBlock(0) + Q_BOUNCED, 1);
    post(large.bytes);
    datapath.rxBurst(0, rig.burst, 32);
    expect([rig.frameFlags(0), isDone(1)]).toEqual([0, true]);
  });
});
