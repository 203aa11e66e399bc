/** A received frame that goes out by the queue pair it came from is not copied: its Rx slot and the Tx slot exchange their buffers. */
import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { RXS_DD, RXS_EOP, RX_LENGTH_SHIFT } from '../src/descriptors.ts';
import { Q_ENABLED, Q_LENGTH, Q_TAIL, RX_DESCRIPTOR_BYTES, RX_PATIENCE, TX_DESCRIPTOR_BYTES } from '../src/layout.ts';
import { rxBurstTwin } from '../src/twins/rx.ts';
import { txBurstTwin } from '../src/twins/tx.ts';
import {
  ARENA, BUFFERS, BUFFER_BYTES, DATA, DEVICE_ADDRESS, LENGTH, PARTNER, PARTNER_RING, PARTNER_SLOTS, QUEUE, RECORDS, RING, SLOTS, STRIDE, freshPair,
  kernels, runBoth, u8, view,
} from './rig.ts';

const u32 = (at: number): number => view.getUint32(at, true);
/** The device's side: frames of `length` bytes in the next `count` Rx slots from `first` on. */
function deviceSends(first: number, count: number, length = 60): void {
  for (let i = 0; i < count; i++) {
    const slot = (first + i) % LENGTH;
    view.setBigUint64(PARTNER_RING + slot * RX_DESCRIPTOR_BYTES + 8, BigInt(RXS_DD | RXS_EOP) | (BigInt(length) << BigInt(RX_LENGTH_SHIFT)), true);
  }
}
/** The lcore's count of polls: none of these bursts waits for a fuller one. */
let now = 0;
function receive(): number {
  now += RX_PATIENCE + 1;
  return kernels.rxBurst(PARTNER, RECORDS, 32, ARENA, 4096, now);
}
const sent = (index: number): bigint => view.getBigUint64(RING + index * TX_DESCRIPTOR_BYTES, true);
const posted = (slot: number): bigint => view.getBigUint64(PARTNER_RING + slot * RX_DESCRIPTOR_BYTES, true);
const addressOf = (buffer: number): bigint => DEVICE_ADDRESS + BigInt(buffer * STRIDE);
function completeAll(): void {
  for (let i = 0; i < LENGTH; i++) u8[RING + i * TX_DESCRIPTOR_BYTES + 8]! |= 0xf;
}
/** Every buffer belongs to exactly one slot. */
function expectPermutation(): void {
  const owned = Array.from({ length: LENGTH }, (_, i) => [u32(PARTNER_SLOTS + 4 * i), u32(SLOTS + 4 * i)]).flat();
  expect(owned.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 2 * LENGTH }, (_, i) => i * STRIDE));
}

beforeEach(freshPair);

describe('a frame sent by the pair it came from', () => {
  test('leaves where it lies, and its slot is posted with the other buffer', () => {
    deviceSends(0, 3);
    expect(receive()).toBe(3);
    const before = Buffer.from(u8.slice(BUFFERS, BUFFERS + 2 * LENGTH * STRIDE));
    expect(kernels.txBurst(QUEUE, RECORDS, 3)).toBe(3);
    expect([sent(0), sent(1), sent(2)]).toEqual([addressOf(0), addressOf(1), addressOf(2)]);
    expect(Buffer.from(u8.slice(BUFFERS, BUFFERS + 2 * LENGTH * STRIDE)).equals(before)).toBe(true);
    expect(receive()).toBe(0);
    // The last slot before the one that is never posted, and the three
    expect([posted(LENGTH - 1), posted(0), posted(1)]).toEqual([addressOf(LENGTH - 1), addressOf(LENGTH), addressOf(LENGTH + 1)]);
    expectPermutation();
  });

  test('may begin behind the start of its buffer', () => {
    deviceSends(0, 1);
    receive();
    view.setUint32(RECORDS, u32(RECORDS) + 4, true);
    view.setUint32(RECORDS + 4, 56, true);
    kernels.txBurst(QUEUE, RECORDS, 1);
    expect(sent(0)).toBe(addressOf(0) + 4n);
    expectPermutation();
  });

  test('and sent once more is copied the second time', () => {
    deviceSends(0, 1);
    receive();
    u8.copyWithin(RECORDS + 32, RECORDS, RECORDS + 32);
    u8[BUFFERS] = 0x5a;
    kernels.txBurst(QUEUE, RECORDS, 2);
    expect([sent(0), sent(1)]).toEqual([addressOf(0), addressOf(LENGTH + 1)]);
    expect(u8[BUFFERS + (LENGTH + 1) * STRIDE]).toBe(0x5a);
    expectPermutation();
  });

  test('may come round the end of a ring that is shorter than the one it leaves by', () => {
    const length = 8;
    view.setUint32(PARTNER + Q_LENGTH, length, true);
    view.setUint32(PARTNER + Q_TAIL, length - 1, true);
    deviceSends(0, 6);
    expect([receive(), kernels.txBurst(QUEUE, RECORDS, 6)]).toEqual([6, 6]);
    expect(receive()).toBe(0);
    deviceSends(6, 2);
    deviceSends(0, 2);
    expect([receive(), kernels.txBurst(QUEUE, RECORDS, 4)]).toEqual([4, 4]);
    expect([6, 7, 8, 9].map(sent)).toEqual([6, 7, LENGTH, LENGTH + 1].map(addressOf));
    expectPermutation();
  });
});

describe('a frame is copied', () => {
  test.each<[string, () => void]>([
    ['that lies elsewhere', () => view.setUint32(RECORDS, DATA, true)],
    ['whose slot is posted again', () => void receive()],
    ['that runs over the end of its buffer', () => {
      view.setUint32(RECORDS, BUFFERS + 100, true);
    }],
    ['if the other queue is disabled', () => view.setUint32(PARTNER + Q_ENABLED, 0, true)],
  ])('%s', (_what, change) => {
    deviceSends(0, 2);
    receive();
    change();
    kernels.txBurst(QUEUE, RECORDS, 1);
    expect(sent(0)).toBe(addressOf(LENGTH));
    expectPermutation();
  });
});

test('kernel and twin agree, and no buffer is ever lost or owned twice', () => {
  const target = fc.record({
    of: fc.integer({ min: 0, max: 31 }),
    shift: fc.constantFrom(0, 0, 0, 2, 100),
    elsewhere: fc.constantFrom(false, false, false, true),
    length: fc.constantFrom(60, 17, BUFFER_BYTES, 200),
  });
  const step = fc.record({ come: fc.integer({ min: 0, max: 32 }), go: fc.array(target, { maxLength: 32 }), complete: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), (steps) => {
      freshPair();
      let device = 0;
      for (const { come, go, complete } of steps) {
        deviceSends(device, come);
        device = (device + come) % LENGTH;
        now += RX_PATIENCE + 1;
        const received = runBoth(
          () => kernels.rxBurst(PARTNER, RECORDS, 32, ARENA, 4096, now),
          () => rxBurstTwin({ view, u8 }, PARTNER, RECORDS, 32, ARENA, 4096, now),
        );
        expect(received.results[0]).toBe(received.results[1]);
        expect(received.images[0].equals(received.images[1])).toBe(true);
        const places = Array.from({ length: 32 }, (_, i) => u32(RECORDS + 32 * i));
        go.forEach(({ of, shift, elsewhere, length }, i) => {
          view.setUint32(RECORDS + 32 * i, elsewhere ? DATA : places[of]! + shift, true);
          view.setUint32(RECORDS + 32 * i + 4, length, true);
          view.setUint32(RECORDS + 32 * i + 8, 0, true);
        });
        const { results, images } = runBoth(
          () => kernels.txBurst(QUEUE, RECORDS, go.length),
          () => txBurstTwin({ view, u8 }, QUEUE, RECORDS, go.length),
        );
        expect(results[0]).toBe(results[1]);
        expect(images[0].equals(images[1])).toBe(true);
        expectPermutation();
        if (complete) completeAll();
      }
    }),
    { numRuns: 150 },
  );
});
