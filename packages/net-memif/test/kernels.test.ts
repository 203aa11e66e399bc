/**
 * Kernels and twins were written separately: on random rings, buffers and bursts they agree in every byte. And whatever the peer's
 * memory holds, nothing changes outside of that memory, the queue's block and the burst.
 */
import { Worker } from 'node:worker_threads';
import { FRAME_RECORD_BYTES } from '@emudev/ethdev';
import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import {
  DESCRIPTOR_BYTES, FAULT_BUFFER, FAULT_INDEX, OUTCOME_EMPTY, OUTCOME_FAULT, OUTCOME_SIGNAL, QUEUE_BURST_BYTES, QUEUE_BURST_ERRORS, QUEUE_BYTES, QUEUE_DOWN, QUEUE_FAULT, QUEUE_INDEX, QUEUE_NEXT, QUEUE_OUTCOME,
  QUEUE_STATE, RING_DESCRIPTORS, RING_FLAGS, RING_HEAD, RING_MASK_INTERRUPT, RING_TAIL,
} from '../src/layout.ts';
import { MAX_FRAME_BYTES } from '../src/limits.ts';
import { rxBurstTwin } from '../src/twins/rx.ts';
import { txBurstTwin } from '../src/twins/tx.ts';
import {
  ARENA, ARENA_BYTES, BUFFERS_OFFSET, BUFFER_BYTES, CELLS, FRAMES, QUEUE, RECORDS, REGIONS, RING, SIZE, STRIDE, changedOutside, field, fresh, kernels, memory, runBoth, setDescriptor, setField, u8, view,
} from './support/rig.ts';

const RUNS = { numRuns: 1000 };
const twinMemory = { view, u8 };
const OWN = [{ at: QUEUE, bytes: QUEUE_BYTES }];

/** Mostly what a peer would write, often at an edge, sometimes anything. */
const length = fc.oneof(fc.nat(300), fc.constantFrom(0, 13, 14, 64, 1500, MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1, 0x8003, 0xffffffff), fc.nat(0xffffffff));
const offset = fc.oneof(fc.nat(0x9000), fc.constantFrom(0x7fff, 0x8002, 0x8003, 0xffffffff), fc.nat(0xffffffff));
const descriptor = fc.record({ flags: fc.constantFrom(0, 0, 0, 1, 1, 2, 0xffff), region: fc.constantFrom(0, 0, 0, 1, 1, 2, 0xffff), length, offset });
const ring = fc.array(descriptor, { minLength: SIZE, maxLength: SIZE });
const peer = fc.record({
  server: fc.boolean(),
  /** Where we are, near the wrap of 2^16 as often as not. */
  at: fc.oneof(fc.nat(0xffff), fc.integer({ min: 0xfff0, max: 0xffff })),
  /** How far the peer is ahead; more than a ring is a fault. */
  ahead: fc.oneof({ weight: 20, arbitrary: fc.nat(SIZE) }, fc.constantFrom(SIZE + 1, 0x8000, 0xffff)),
  /** Client: how many buffers it has supplied and not got back. */
  supplied: fc.nat(SIZE),
  up: fc.integer({ min: 0, max: 30 }).map((n) => n > 0),
  ring,
});

function writeRing(descriptors: readonly { flags: number; region: number; length: number; offset: number }[]): void {
  for (const [slot, { flags, region, length: bytes, offset: at }] of descriptors.entries()) setDescriptor(slot, flags, region, bytes, at);
}

describe('rxBurst', () => {
  test('agrees with its twin in every byte, and changes nothing else', () => {
    const burst = fc.record({ max: fc.nat(SIZE + 2), arenaBytes: fc.constantFrom(0, MAX_FRAME_BYTES - 1, MAX_FRAME_BYTES, MAX_FRAME_BYTES + 64, ARENA_BYTES) });
    fc.assert(fc.property(peer, burst, ({ server, at, ahead, supplied, up, ring: descriptors }, { max, arenaBytes }) => {
      fresh(server);
      writeRing(descriptors);
      if (!up) setField(QUEUE_STATE, QUEUE_DOWN);
      setField(QUEUE_INDEX, server ? at : (at + supplied) & 0xffff);
      setField(QUEUE_NEXT, at);
      view.setUint16(RING + (server ? RING_HEAD : RING_TAIL), at + ahead, true);
      const { results, before, images } = runBoth(
        () => kernels.rxBurst(CELLS, QUEUE, RECORDS, max, ARENA, arenaBytes),
        () => rxBurstTwin(twinMemory, CELLS, QUEUE, RECORDS, max, ARENA, arenaBytes),
      );
      expect(results[0]).toBe(results[1]);
      expect(images[0].equals(images[1])).toBe(true);
      const written = [...OWN, { at: RING, bytes: BUFFERS_OFFSET }, { at: RECORDS, bytes: results[0] * FRAME_RECORD_BYTES }, { at: ARENA, bytes: arenaBytes }];
      expect(changedOutside(before, images[0], written)).toBe(false);
    }), RUNS);
  });

  describe.each([['server', true], ['client', false]] as const)('%s', (_, server) => {
    beforeEach(() => {
      fresh(server);
      setField(QUEUE_INDEX, server ? 0 : SIZE);
    });
    const publish = (index: number): void => {
      view.setUint16(RING + (server ? RING_HEAD : RING_TAIL), index, true);
    };
    const burst = (max = 32): number => kernels.rxBurst(CELLS, QUEUE, RECORDS, max, ARENA, ARENA_BYTES);

    test('frames of one buffer and of several, from the last byte of a region, in order', () => {
      const { at, bytes } = REGIONS[1]!;
      setDescriptor(0, 0, 1, 100, bytes - 100);
      setDescriptor(1, 1, 0, 16, 0x500);
      setDescriptor(2, 0, 0, 7, 0x700);
      publish(3);
      expect(burst()).toBe(2);
      expect([0, 4, 28].map((word) => view.getUint32(RECORDS + word, true))).toEqual([ARENA, 100, 5]);
      expect([0, 4].map((word) => view.getUint32(RECORDS + 32 + word, true))).toEqual([ARENA + 128, 23]);
      expect(u8.slice(ARENA, ARENA + 100)).toEqual(u8.slice(at + bytes - 100, at + bytes));
      expect([...u8.slice(ARENA + 128, ARENA + 151)]).toEqual([...u8.slice(RING + 0x500, RING + 0x510), ...u8.slice(RING + 0x700, RING + 0x707)]);
      expect([QUEUE_OUTCOME, QUEUE_BURST_BYTES, QUEUE_BURST_ERRORS].map(field)).toEqual([0, 123, 0]);
      // A server gives descriptors back by its tail, a client by new ones behind its head.
      expect(view.getUint16(RING + (server ? RING_TAIL : RING_HEAD), true)).toBe(server ? 3 : SIZE + 3);
    });

    test('an empty ring is one, an index too far is a fault, and a queue that is down neither', () => {
      publish(0);
      expect([burst(), field(QUEUE_OUTCOME)]).toEqual([0, OUTCOME_EMPTY]);
      publish(SIZE + 1);
      expect([burst(), field(QUEUE_OUTCOME), field(QUEUE_FAULT)]).toEqual([0, OUTCOME_FAULT, FAULT_INDEX]);
      setField(QUEUE_STATE, QUEUE_DOWN);
      expect([burst(), field(QUEUE_OUTCOME)]).toEqual([0, 0]);
    });
  });
});

describe('txBurst', () => {
  function writeFrames(lengths: readonly number[]): void {
    for (const [i, bytes] of lengths.entries()) {
      view.setUint32(RECORDS + i * FRAME_RECORD_BYTES, FRAMES + i * 64, true);
      view.setUint32(RECORDS + i * FRAME_RECORD_BYTES + 4, bytes, true);
    }
  }

  test('agrees with its twin in every byte, and changes nothing else', () => {
    const frames = fc.array(fc.oneof(fc.nat(1600), fc.constantFrom(0, 1, BUFFER_BYTES, BUFFER_BYTES + 1, SIZE * BUFFER_BYTES, SIZE * BUFFER_BYTES + 1, MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1, 0xffffffff)), { maxLength: SIZE + 2 });
    // A server's peer mostly names buffers that can be: else the first one ends it all.
    const good = fc.record({ flags: fc.constantFrom(0, 1), region: fc.constant(0), length: fc.integer({ min: 1, max: 2000 }), offset: fc.integer({ min: BUFFERS_OFFSET, max: 0x6000 }) });
    const anyRing = fc.oneof(ring, fc.array(good, { minLength: SIZE, maxLength: SIZE }));
    fc.assert(fc.property(peer, anyRing, frames, fc.boolean(), ({ server, at, ahead, up }, descriptors, lengths, masked) => {
      fresh(server);
      writeRing(descriptors);
      if (!up) setField(QUEUE_STATE, QUEUE_DOWN);
      setField(QUEUE_INDEX, at);
      // A server is to fill what lies ahead of it; a client has filled what lies behind it.
      view.setUint16(RING + (server ? RING_HEAD : RING_TAIL), server ? at + ahead : at - ahead, true);
      view.setUint16(RING + RING_FLAGS, masked ? RING_MASK_INTERRUPT : 0, true);
      writeFrames(lengths);
      const { results, before, images } = runBoth(
        () => kernels.txBurst(CELLS, QUEUE, RECORDS, lengths.length),
        () => txBurstTwin(twinMemory, CELLS, QUEUE, RECORDS, lengths.length),
      );
      expect(results[0]).toBe(results[1]);
      expect(images[0].equals(images[1])).toBe(true);
      expect(changedOutside(before, images[0], [...OWN, ...REGIONS])).toBe(false);
    }), RUNS);
  });

  test('a client fills its own buffers, whatever the server has made of their descriptors', () => {
    fresh(false);
    writeRing(Array.from({ length: SIZE }, () => ({ flags: 0xffff, region: 0xffff, length: 0xffffffff, offset: 0xffffffff })));
    view.setUint16(RING + RING_TAIL, 0, true);
    view.setUint16(RING + RING_FLAGS, 0, true);
    writeFrames([64, BUFFER_BYTES + 1]);
    expect(kernels.txBurst(CELLS, QUEUE, RECORDS, 2)).toBe(2);
    expect([QUEUE_OUTCOME, QUEUE_BURST_BYTES, QUEUE_INDEX].map(field)).toEqual([OUTCOME_SIGNAL, 64 + BUFFER_BYTES + 1, 3]);
    expect(view.getUint16(RING + RING_HEAD, true)).toBe(3);
    const second = RING + BUFFERS_OFFSET + STRIDE;
    expect(u8.slice(second, second + BUFFER_BYTES)).toEqual(u8.slice(FRAMES + 64, FRAMES + 64 + BUFFER_BYTES));
  });

  test('behind the end of the ring the next descriptor is the first, whatever lies there', () => {
    fresh(true);
    for (const [n, slot] of [SIZE - 1, 0, 1, SIZE, SIZE + 1].entries()) setDescriptor(slot, 1, 0, 200, 0x1000 + 256 * n);
    setField(QUEUE_INDEX, SIZE - 1);
    view.setUint16(RING + RING_HEAD, SIZE + 2, true);
    writeFrames([60, 64, 68]);
    const behind = RING + RING_DESCRIPTORS + SIZE * DESCRIPTOR_BYTES;
    const before = u8.slice(behind, RING + 0x1000);
    expect(kernels.txBurst(CELLS, QUEUE, RECORDS, 3)).toBe(3);
    for (const [n, bytes] of [60, 64, 68].entries()) {
      const [at, from] = [RING + 0x1000 + 256 * n, FRAMES + 64 * n];
      expect(u8.slice(at, at + bytes)).toEqual(u8.slice(from, from + bytes));
      expect(view.getBigUint64(RING + RING_DESCRIPTORS + [SIZE - 1, 0, 1][n]! * DESCRIPTOR_BYTES, true)).toBe(BigInt(bytes) << 32n);
    }
    expect(u8.slice(behind, RING + 0x1000)).toEqual(before);
    expect([view.getUint16(RING + RING_TAIL, true), field(QUEUE_BURST_BYTES)]).toEqual([SIZE + 2, 192]);
  });

  test('a server sends what fits before a buffer that cannot be, then gives up', () => {
    fresh(true);
    setDescriptor(0, 0, 0, 100, 0x1000);
    setDescriptor(1, 0, 1, 0x1006, 0);
    view.setUint16(RING + RING_HEAD, 2, true);
    view.setUint16(RING + RING_FLAGS, RING_MASK_INTERRUPT, true);
    writeFrames([64, 64, 64]);
    expect(kernels.txBurst(CELLS, QUEUE, RECORDS, 3)).toBe(1);
    expect([QUEUE_OUTCOME, QUEUE_FAULT, QUEUE_BURST_BYTES].map(field)).toEqual([OUTCOME_FAULT, FAULT_BUFFER, 64]);
    expect(view.getUint16(RING + RING_TAIL, true)).toBe(1);
  });
});

/** A peer that writes whatever it likes to its first region, all the time. */
const SCRIBBLER = `
  const { workerData: { memory, at, bytes, headBytes, ringBytes, stop } , parentPort } = require('node:worker_threads');
  const [u32, i32] = [new Uint32Array(memory.buffer), new Int32Array(stop)];
  let state = 1;
  const random = () => { state ^= state << 13; state ^= state >>> 17; state ^= state << 5; return state >>> 0; };
  parentPort.postMessage('writing');
  while (Atomics.load(i32, 0) === 0) {
    // Mostly numbers that nearly fit, mostly descriptors; the indices are the test's.
    const word = (at + headBytes + random() % (random() % 4 === 0 ? bytes - headBytes - 4 : ringBytes - headBytes)) >>> 2;
    u32[word] = random() >>> (random() % 32);
  }
`;

test('a peer that rewrites its memory meanwhile gets no more than it could by standing still', async () => {
  const { at, bytes } = REGIONS[0]!;
  const stop = new SharedArrayBuffer(4);
  fresh(true);
  const before = Buffer.from(u8.slice(CELLS, CELLS + 0x20000));
  const scribbler = new Worker(SCRIBBLER, { eval: true, workerData: { memory, at, bytes, headBytes: RING_DESCRIPTORS, ringBytes: RING_DESCRIPTORS + SIZE * DESCRIPTOR_BYTES, stop } });
  try {
    await new Promise((resolve, reject) => scribbler.once('message', resolve).once('error', reject));
    let frames = 0;
    for (let n = 0; n < 20_000; n++) {
      view.setUint16(RING + RING_HEAD, field(QUEUE_INDEX) + SIZE, true);
      const count = kernels.rxBurst(CELLS, QUEUE, RECORDS, SIZE, ARENA, ARENA_BYTES);
      expect(count).toBeLessThanOrEqual(SIZE);
      for (let i = 0; i < count; i++) {
        const data = view.getUint32(RECORDS + i * FRAME_RECORD_BYTES, true);
        const frameBytes = view.getUint32(RECORDS + i * FRAME_RECORD_BYTES + 4, true);
        if (data < ARENA || frameBytes < 14 || frameBytes > MAX_FRAME_BYTES || data + frameBytes > ARENA + ARENA_BYTES) expect.fail(`a frame of ${frameBytes} bytes at ${data}`);
      }
      frames += count;
      // What was received is sent.
      view.setUint16(RING + RING_HEAD, field(QUEUE_INDEX) + SIZE, true);
      expect(kernels.txBurst(CELLS, QUEUE, RECORDS, count)).toBeLessThanOrEqual(count);
    }
    expect(frames).toBeGreaterThan(0);
  } finally {
    Atomics.store(new Int32Array(stop), 0, 1);
    await scribbler.terminate();
  }
  const after = Buffer.from(u8.slice(CELLS, CELLS + 0x20000));
  expect(changedOutside(before, after, [...OWN, ...REGIONS, { at: RECORDS, bytes: SIZE * FRAME_RECORD_BYTES }, { at: ARENA, bytes: ARENA_BYTES }])).toBe(false);
});
