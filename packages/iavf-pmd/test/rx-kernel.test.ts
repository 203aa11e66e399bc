import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { FRAME_RX_IP_GOOD, FRAME_RX_L4_BAD, FRAME_RX_RSS, FRAME_RX_VLAN } from '@emudev/ethdev';
import { RXS_DD, RXS_EOP, RXS_FLTSTAT_RSS, RXS_L2TAG1P, RXS_L3L4P, RXS_L4E, RXS_RXE, RX_LENGTH_SHIFT, RX_PTYPE_SHIFT } from '../src/descriptors.ts';
import { QS_BYTES, QS_ERRORS, QS_LARGE, QS_NO_ROOM, QS_PACKETS, Q_ENABLED, Q_HEAD, Q_TAIL, RXQ_LAST, RXQ_SHORT, RX_PATIENCE } from '../src/layout.ts';
import { rxBurstTwin } from '../src/twins/rx.ts';
import { ARENA, BUFFERS, BUFFER_BYTES, DEVICE_ADDRESS, DOORBELL, LENGTH, QUEUE, RECORDS, RING, STRIDE, counter, field32, freshRxQueue, kernels, runBoth, u8, view } from './rig.ts';

const ARENA_BYTES = 1024;
/** Of a descriptor: what the tests below run with. */
let stride = 32;
function freshQueue(): void {
  freshRxQueue();
  view.setUint32(QUEUE + RXQ_SHORT, stride === 16 ? 1 : 0, true);
}
/** The lcore's count of polls. */
let now = 0;
const burst = (max = 32, arenaBytes = ARENA_BYTES): number => kernels.rxBurst(QUEUE, RECORDS, max, ARENA, arenaBytes, ++now);
/** The lcore has polled other queues for a while. */
const pollOthers = (polls = RX_PATIENCE): void => {
  now += polls;
};
const word = (low: number, length: number, ptype = 0): bigint =>
  BigInt(low) | (BigInt(ptype) << BigInt(RX_PTYPE_SHIFT)) | (BigInt(length) << BigInt(RX_LENGTH_SHIFT));
/** The device's side: a write-back in slot `index`. */
function writeBack(index: number, qw1: bigint, qw0 = 0n): void {
  view.setBigUint64(RING + index * stride, qw0, true);
  view.setBigUint64(RING + index * stride + 8, qw1, true);
}
const record = (index: number): number[] => Array.from({ length: 8 }, (_, i) => view.getUint32(RECORDS + index * 32 + 4 * i, true));

describe.each([32, 16])('rxBurst, descriptors of %i bytes', (bytes) => {
  beforeEach(() => {
    stride = bytes;
    freshQueue();
    now = RX_PATIENCE;
  });

  test('hands out frames where they lie, with what the device said about them', () => {
    writeBack(0, word(RXS_DD | RXS_EOP, 60));
    writeBack(1, word(RXS_DD | RXS_EOP | RXS_L2TAG1P | RXS_L3L4P | RXS_L4E | RXS_FLTSTAT_RSS, 100, 26), (0xcafe_f00dn << 32n) | (0x1234n << 16n));
    expect(burst()).toBe(2);
    expect(record(0)).toEqual([BUFFERS, 60, 0, 0, 0, 0, 0, 3]);
    expect(record(1)).toEqual([BUFFERS + STRIDE, 100, FRAME_RX_VLAN | FRAME_RX_IP_GOOD | FRAME_RX_L4_BAD | FRAME_RX_RSS, 0x1234, 0, 0, 0xcafef00d, 3]);
    expect([counter(QS_PACKETS), counter(QS_BYTES)]).toEqual([2, 160]);
  });

  test('posts the buffers again on the next burst only, with their addresses, and rings once', () => {
    for (let i = 0; i < 3; i++) writeBack(i, word(RXS_DD | RXS_EOP, 60));
    burst();
    expect(field32(Q_TAIL)).toBe(LENGTH - 1);
    expect(view.getUint32(DOORBELL, true)).toBe(0);
    pollOthers();
    expect(burst()).toBe(0);
    expect(view.getUint32(DOORBELL, true)).toBe(2);
    expect(view.getBigUint64(RING + stride, true)).toBe(DEVICE_ADDRESS + BigInt(STRIDE));
    expect(view.getBigUint64(RING + stride + 8, true)).toBe(0n);
  });

  test('a device that marks every descriptor done for ever is followed no further than what was posted', () => {
    for (let i = 0; i < LENGTH; i++) writeBack(i, word(RXS_DD | RXS_EOP, 60));
    expect(burst(1000)).toBe(LENGTH - 1);
    expect(field32(Q_HEAD)).toBe(LENGTH - 1);
  });

  test('a frame in several buffers waits for its end, then is whole', () => {
    u8.fill(1, BUFFERS, BUFFERS + BUFFER_BYTES);
    u8.fill(2, BUFFERS + STRIDE, BUFFERS + STRIDE + 10);
    writeBack(0, word(RXS_DD, BUFFER_BYTES));
    expect(burst()).toBe(0);
    writeBack(1, word(RXS_DD | RXS_EOP, 10));
    expect(burst()).toBe(1);
    expect(record(0).slice(0, 2)).toEqual([ARENA, BUFFER_BYTES + 10]);
    expect([...u8.slice(ARENA + BUFFER_BYTES - 1, ARENA + BUFFER_BYTES + 11)]).toEqual([1, ...new Array<number>(10).fill(2), 0]);
    expect(counter(QS_LARGE)).toBe(1);
  });

  test.each([
    ['longer than its buffer', word(RXS_DD | RXS_EOP, BUFFER_BYTES + 1)],
    ['of no length', word(RXS_DD | RXS_EOP, 0)],
    ['received in error', word(RXS_DD | RXS_EOP | RXS_RXE, 60)],
  ])('a frame %s is dropped and counted, and the next one delivered', (_what, bad) => {
    writeBack(0, bad);
    writeBack(1, word(RXS_DD | RXS_EOP, 61));
    expect(burst()).toBe(1);
    expect(record(0).slice(0, 2)).toEqual([BUFFERS + STRIDE, 61]);
    expect(counter(QS_ERRORS)).toBe(1);
  });

  test('a frame without end is dropped up to wherever it ends', () => {
    for (let i = 0; i < 9; i++) writeBack(i, word(RXS_DD, BUFFER_BYTES));
    expect(burst()).toBe(0);
    writeBack(9, word(RXS_DD | RXS_EOP, 10));
    writeBack(10, word(RXS_DD | RXS_EOP, 62));
    expect(burst()).toBe(1);
    expect(record(0)[1]).toBe(62);
    expect(counter(QS_ERRORS)).toBe(1);
  });

  test('a device that never says where a frame ends costs one frame at a time, and no time', () => {
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < LENGTH; i++) writeBack(i, word(RXS_DD, BUFFER_BYTES));
      expect(burst()).toBe(0);
      pollOthers();
    }
    expect(counter(QS_ERRORS)).toBe(1);
    const head = field32(Q_HEAD);
    burst();
    writeBack(head, word(RXS_DD | RXS_EOP, 10));
    writeBack((head + 1) % LENGTH, word(RXS_DD | RXS_EOP, 63));
    expect([burst(), record(0)[1]]).toEqual([1, 63]);
  });

  test('a frame whose write-back changes while it is put together is dropped and counted', () => {
    writeBack(0, word(RXS_DD, BUFFER_BYTES));
    writeBack(1, word(RXS_DD | RXS_EOP, 10));
    writeBack(2, word(RXS_DD | RXS_EOP, 64));
    // Stands for the device: where the first part is copied to the second one's descriptor lies.
    expect(kernels.rxBurst(QUEUE, RECORDS, 32, RING + stride - BUFFER_BYTES + 16, ARENA_BYTES, ++now)).toBe(1);
    expect([record(0).slice(0, 2), counter(QS_ERRORS), counter(QS_PACKETS), counter(QS_BYTES)]).toEqual([[BUFFERS + 2 * STRIDE, 64], 1, 1, 64]);
  });

  test('a frame larger than the arena is lost and counted, not waited for', () => {
    writeBack(0, word(RXS_DD, BUFFER_BYTES));
    writeBack(1, word(RXS_DD | RXS_EOP, BUFFER_BYTES));
    expect(burst(32, 200)).toBe(0);
    expect(counter(QS_NO_ROOM)).toBe(1);
    expect(field32(Q_HEAD)).toBe(2);
  });

  test('after a burst it waits for a fuller one, but not for long', () => {
    writeBack(0, word(RXS_DD | RXS_EOP, 60));
    expect(burst()).toBe(1);
    writeBack(1, word(RXS_DD | RXS_EOP, 60));
    const polls = Array.from({ length: RX_PATIENCE + 1 }, () => burst());
    expect(polls).toEqual([...new Array<number>(RX_PATIENCE).fill(0), 1]);
    for (let i = 2; i < 2 + 32; i++) writeBack(i, word(RXS_DD | RXS_EOP, 60));
    expect(burst(32)).toBe(32);
  });

  test('a quarter of the ring is full enough', () => {
    writeBack(0, word(RXS_DD | RXS_EOP, 60));
    expect(burst(64)).toBe(1);
    for (let i = 1; i <= LENGTH / 4; i++) writeBack(i, word(RXS_DD | RXS_EOP, 60));
    expect(burst(64)).toBe(0);
    writeBack(LENGTH / 4 + 1, word(RXS_DD | RXS_EOP, 60));
    expect(burst(64)).toBe(LENGTH / 4 + 1);
  });

  test('it does not wait where few descriptors are posted: the device may be waiting for more', () => {
    const most = LENGTH - LENGTH / 4;
    for (let i = 0; i < most; i++) writeBack(i, word(RXS_DD | RXS_EOP, 60));
    expect(burst(64)).toBe(most);
    expect(burst(64)).toBe(0);
    expect(view.getUint32(DOORBELL, true)).toBe(most - 1);
  });

  test('polls of other queues count as waiting, and so does a wrap of the count', () => {
    now = 0xffff_ffff - RX_PATIENCE / 2;
    writeBack(0, word(RXS_DD | RXS_EOP, 60));
    expect(burst()).toBe(1);
    writeBack(1, word(RXS_DD | RXS_EOP, 60));
    pollOthers(RX_PATIENCE - 1);
    expect([burst(), burst()]).toEqual([0, 1]);
  });

  test('a disabled queue is left alone', () => {
    writeBack(0, word(RXS_DD | RXS_EOP, 60));
    view.setUint32(QUEUE + Q_ENABLED, 0, true);
    expect(burst()).toBe(0);
    expect(field32(Q_HEAD)).toBe(0);
  });

  test('kernel and twin agree on whatever a device writes', () => {
    const descriptor = fc.record({
      low: fc.integer({ min: 0, max: 0xffffffff }).map((n) => n >>> 0),
      done: fc.boolean(),
      sane: fc.boolean(),
      end: fc.boolean(),
      length: fc.oneof(fc.integer({ min: 0, max: BUFFER_BYTES + 4 }), fc.integer({ min: 0, max: 0x3fff })),
      ptype: fc.oneof(fc.constantFrom(22, 24, 26, 27, 28, 29, 88, 92, 94, 95, 21, 87), fc.integer({ min: 0, max: 255 })),
      qw0: fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }),
    });
    const step = fc.record({ polls: fc.oneof(fc.constant(1), fc.constant(RX_PATIENCE + 1), fc.integer({ min: 0, max: 0xffff_ffff })), written: fc.array(descriptor, { maxLength: 40 }), max: fc.integer({ min: 0, max: 40 }), arena: fc.constantFrom(64, 300, 1024) });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), fc.integer({ min: 0, max: 0xffff_ffff }), (steps, last) => {
        freshQueue();
        for (let i = 0; i < LENGTH * STRIDE; i++) u8[BUFFERS + i] = i * 7;
        let device = 0;
        view.setUint32(QUEUE + RXQ_LAST, last, true);
        for (const { polls, written, max, arena } of steps) {
          now = (now + polls) | 0;
          for (const d of written) {
            const low = d.sane ? (d.low & 0x3f000c & ~RXS_RXE) | 1 | (d.end ? 2 : 0) : (d.low & ~1) | (d.done ? 1 : 0);
            writeBack(device, word((low & 0x3fffffff) >>> 0, d.length, d.ptype), d.qw0);
            device = (device + 1) % LENGTH;
          }
          const { results, images } = runBoth(
            () => kernels.rxBurst(QUEUE, RECORDS, max, ARENA, arena, now),
            () => rxBurstTwin({ view, u8 }, QUEUE, RECORDS, max, ARENA, arena, now),
          );
          expect(results[0]).toBe(results[1]);
          expect(images[0].equals(images[1])).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
  });
});
