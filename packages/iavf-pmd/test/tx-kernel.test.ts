import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { FRAME_IPV6, FRAME_L4_SCTP, FRAME_L4_TCP, FRAME_L4_UDP, FRAME_TX_IPV4_CSUM, FRAME_TX_L4_CSUM, FRAME_TX_TSO, FRAME_TX_VLAN } from '@emudev/ethdev';
import { QS_BYTES, QS_ERRORS, QS_NO_ROOM, QS_PACKETS, Q_ENABLED, Q_HEAD, RS_INTERVAL, TXQ_USO, TX_DESCRIPTOR_BYTES } from '../src/layout.ts';
import { txBurstTwin } from '../src/twins/tx.ts';
import { BUFFERS, BUFFER_BYTES, DATA, DEVICE_ADDRESS, DOORBELL, LENGTH, MAX_FRAME, QUEUE, RECORDS, RING, STRIDE, counter, field32, freshTxQueue, kernels, runBoth, u8, view } from './rig.ts';

interface Frame {
  data?: number;
  length: number;
  flags?: number;
  tci?: number;
  mss?: number;
  l2?: number;
  l3?: number;
  l4?: number;
}
function writeRecord(index: number, f: Frame): void {
  const at = RECORDS + index * 32;
  u8.fill(0, at, at + 32);
  view.setUint32(at, f.data ?? DATA, true);
  view.setUint32(at + 4, f.length, true);
  view.setUint32(at + 8, f.flags ?? 0, true);
  [f.tci, f.mss, f.l2, f.l3, f.l4].forEach((value, i) => {
    view.setUint16(at + 12 + 2 * i, value ?? 0, true);
  });
}
function send(...frames: Frame[]): number {
  frames.forEach((f, i) => {
    writeRecord(i, f);
  });
  return kernels.txBurst(QUEUE, RECORDS, frames.length);
}
const word = (index: number): bigint => view.getBigUint64(RING + index * TX_DESCRIPTOR_BYTES + 8, true);
const bits = (value: bigint, low: number, count: number): number => Number((value >> BigInt(low)) & ((1n << BigInt(count)) - 1n));
const command = (index: number): number => bits(word(index), 4, 12);
const size = (index: number): number => bits(word(index), 34, 14);
/** The device's side: completes every descriptor that has RS. */
function completeAll(): void {
  for (let i = 0; i < LENGTH; i++) if ((command(i) & 2) !== 0) view.setBigUint64(RING + i * TX_DESCRIPTOR_BYTES + 8, word(i) | 0xfn, true);
}
const fill = (count: number, f: Frame = { length: 60 }): Frame[] => new Array<Frame>(count).fill(f);

beforeEach(() => {
  freshTxQueue();
  for (let i = 0; i < 4096; i++) u8[DATA + i] = i * 13;
});

describe('txBurst', () => {
  test('one frame, one descriptor: EOP, RS and FCS, its bytes copied, the tail stored', () => {
    expect(send({ length: 61 })).toBe(1);
    expect(word(0)).toBe((61n << 34n) | (0x7n << 4n));
    expect(view.getBigUint64(RING, true)).toBe(DEVICE_ADDRESS);
    expect([...u8.slice(BUFFERS, BUFFERS + 62)]).toEqual([...u8.slice(DATA, DATA + 61), 0]);
    expect(view.getUint32(DOORBELL, true)).toBe(1);
    expect([counter(QS_PACKETS), counter(QS_BYTES)]).toEqual([1, 61]);
  });

  test('RS only on the last frame of a burst and on every 32nd descriptor', () => {
    send(...fill(40));
    const withRs = Array.from({ length: 40 }, (_, i) => i).filter((i) => (command(i) & 2) !== 0);
    expect(withRs).toEqual([31, 39]);
  });

  test('a long frame spans descriptors; EOP on the last only', () => {
    send({ length: 2 * BUFFER_BYTES + 5 });
    expect([size(0), size(1), size(2)]).toEqual([BUFFER_BYTES, BUFFER_BYTES, 5]);
    expect([command(0) & 1, command(1) & 1, command(2) & 1]).toEqual([0, 0, 1]);
    expect(view.getBigUint64(RING + 2 * TX_DESCRIPTOR_BYTES, true)).toBe(DEVICE_ADDRESS + BigInt(2 * STRIDE));
    expect([...u8.slice(BUFFERS + 2 * STRIDE, BUFFERS + 2 * STRIDE + 5)]).toEqual([...u8.slice(DATA + 2 * BUFFER_BYTES, DATA + 2 * BUFFER_BYTES + 5)]);
  });

  test('a full ring takes what fits, and takes again after the device has completed', () => {
    expect(send(...fill(LENGTH + 10))).toBe(LENGTH - 1);
    expect(counter(QS_NO_ROOM)).toBe(1);
    expect(send({ length: 60 })).toBe(0);
    completeAll();
    // What was sent after the last RS is still the device's: fewer than RS_INTERVAL slots.
    expect(send(...fill(LENGTH))).toBeGreaterThan(LENGTH - 1 - RS_INTERVAL);
  });

  test('checksums, VLAN and segmentation become command, offset, tag and context', () => {
    u8[DATA + 14] = 0x45;
    send(
      { length: 100, flags: FRAME_TX_VLAN | FRAME_TX_IPV4_CSUM | FRAME_TX_L4_CSUM | FRAME_L4_UDP, tci: 0xabc, l2: 14, l3: 20, l4: 8 },
      { length: 600, flags: FRAME_TX_TSO | FRAME_L4_TCP | FRAME_IPV6, mss: 64, l2: 14, l3: 40, l4: 32 },
    );
    expect(command(0)).toBe(0x005 | 0x008 | 0x060 | 0x300);
    expect([bits(word(0), 16, 7), bits(word(0), 23, 7), bits(word(0), 30, 4), bits(word(0), 48, 16)]).toEqual([7, 5, 2, 0xabc]);
    expect([bits(word(1), 0, 4), bits(word(1), 4, 14), bits(word(1), 30, 18), bits(word(1), 50, 14)]).toEqual([1, 1, 600 - 86, 64]);
    expect(command(2) & 0x360).toBe(0x100 | 0x020);
  });

  test.each<[string, Frame]>([
    ['too short for the device', { length: 16 }],
    ['too long', { length: MAX_FRAME + 1 }],
    ['with a segment size below the hardware range', { length: 600, flags: FRAME_TX_TSO | FRAME_L4_TCP, mss: 63, l2: 14, l3: 20, l4: 20 }],
    ['with headers longer than itself', { length: 60, flags: FRAME_TX_L4_CSUM | FRAME_L4_TCP, l2: 14, l3: 40, l4: 32 }],
    ['with an odd header', { length: 60, flags: FRAME_TX_IPV4_CSUM, l2: 15, l3: 20 }],
    ['UDP to segment where the device cannot', { length: 600, flags: FRAME_TX_TSO | FRAME_L4_UDP, mss: 100, l2: 14, l3: 20, l4: 8 }],
  ])('a frame %s is counted and does not block the next', (_what, bad) => {
    expect(send(bad, { length: 60 })).toBe(2);
    expect([counter(QS_ERRORS), counter(QS_PACKETS), field32(Q_HEAD)]).toEqual([1, 1, 1]);
  });

  test('a disabled queue takes nothing and leaves the doorbell alone', () => {
    view.setUint32(QUEUE + Q_ENABLED, 0, true);
    expect(send({ length: 60 })).toBe(0);
    expect(view.getUint32(DOORBELL, true)).toBe(0);
  });

  test('kernel and twin agree on whatever frames come and however the device completes', () => {
    const flag = fc.constantFrom(0, FRAME_TX_IPV4_CSUM, FRAME_TX_L4_CSUM, FRAME_TX_TSO, FRAME_TX_VLAN, FRAME_TX_VLAN | FRAME_TX_TSO, FRAME_TX_IPV4_CSUM | FRAME_TX_L4_CSUM);
    const l4 = fc.constantFrom(0, FRAME_L4_TCP, FRAME_L4_TCP, FRAME_L4_UDP, FRAME_L4_SCTP, FRAME_L4_TCP | FRAME_IPV6);
    const frame = fc.record({
      data: fc.integer({ min: 0, max: 200 }).map((n) => DATA + n),
      length: fc.oneof(fc.integer({ min: 0, max: 130 }), fc.integer({ min: 17, max: 700 }), fc.integer({ min: 3000, max: 9000 })),
      flags: fc.tuple(flag, l4, fc.constantFrom(0, 1, 0x22)).map(([a, b, c]) => (a | b | c) >>> 0),
      tci: fc.integer({ min: 0, max: 0xffff }),
      mss: fc.constantFrom(0, 63, 64, 100, 500, 9668, 9669),
      l2: fc.constantFrom(14, 18, 15, 300),
      l3: fc.constantFrom(20, 40, 0, 22, 600),
      l4: fc.constantFrom(20, 8, 0, 21, 64),
    });
    const step = fc.record({ frames: fc.array(frame, { maxLength: 24 }), complete: fc.boolean(), uso: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 10 }), (steps) => {
        freshTxQueue();
        for (const { frames, complete, uso } of steps) {
          view.setUint32(QUEUE + TXQ_USO, uso ? 1 : 0, true);
          frames.forEach((f, i) => {
            writeRecord(i, f);
          });
          const { results, images } = runBoth(
            () => kernels.txBurst(QUEUE, RECORDS, frames.length),
            () => txBurstTwin({ view, u8 }, QUEUE, RECORDS, frames.length),
          );
          expect(results[0]).toBe(results[1]);
          expect(images[0].equals(images[1])).toBe(true);
          if (complete) completeAll();
        }
      }),
      { numRuns: 300 },
    );
  });
});
