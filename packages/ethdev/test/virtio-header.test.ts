import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { Window } from '@emudev/dma';
import {
  FRAME_IPV6, FRAME_L4_TCP, FRAME_L4_UDP, FRAME_RX_IP_GOOD, FRAME_RX_L4_GOOD, FRAME_TX_L4_CSUM, FRAME_TX_MASK, FRAME_TX_TSO, VIRTIO_HEADER_BYTES, VirtioReceiver,
  allocateBurst, isSegmentable, payloadPerWrite, windowBytes, type Burst, type LcoreContext, type TxFrame,
} from '@emudev/ethdev';
import { crc32c } from '../src/virtio-header/crc32c.ts';

test('CRC32c of the usual nine digits', () => {
  const digits = new TextEncoder().encode('..123456789..');
  expect(crc32c(digits, 2, 9)).toBe(0xe3069283);
});

test('a long TSO frame is cut between segments, in pieces that an IP packet holds', () => {
  const frame: TxFrame = { data: 0, length: 200_054, flags: 0, segment: 1448, l2: 14, l3: 20, l4: 20 };
  expect(payloadPerWrite(frame)).toBe(45 * 1448);
  expect(payloadPerWrite(frame) + 40).toBeLessThanOrEqual(65_535);
  // One segment has to fit, else the loop over pieces would not move.
  expect(isSegmentable({ ...frame, segment: 65_495 })).toBe(true);
  expect(isSegmentable({ ...frame, segment: 65_496 })).toBe(false);
});

const window = Window.open();
const stage = window.alloc(70_000);
const burst = allocateBurst(window, 64, 1 << 18);
afterAll(() => {
  burst[Symbol.dispose]();
  window.free(stage);
  expect(window.allocatedBytes).toBe(0);
  window[Symbol.dispose]();
});
const { memory, base, u8, i32, u32, view } = window;
const context: LcoreContext = { lcore: 0, memory, base, u8, i32, u32, view };
const MAX_FRAME = 9732;
const receiver = (peer = 0, maxFrame = MAX_FRAME): VirtioReceiver => new VirtioReceiver(context, windowBytes(context), 3, peer, maxFrame);

const be16 = (value: number): number[] => [(value >>> 8) & 255, value & 255];
const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value & 0xffff)];
const at16 = (bytes: Uint8Array, at: number): number => bytes[at]! * 256 + bytes[at + 1]!;
const at32 = (bytes: Uint8Array, at: number): number => at16(bytes, at) * 65536 + at16(bytes, at + 2);
function ones(bytes: Iterable<number>): number {
  let sum = 0;
  let i = 0;
  for (const byte of bytes) sum += i++ % 2 === 0 ? byte * 256 : byte;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

interface Large {
  readonly six: boolean;
  readonly tcp: boolean;
  readonly tags: number;
  readonly payload: number;
  readonly segment: number;
  readonly options: number;
  readonly sequence: number;
  readonly flags: number;
}
const addresses = (six: boolean): number[] => (six ? [...Array.from({ length: 32 }, (_, i) => i + 1)] : [10, 0, 0, 1, 10, 0, 0, 2]);
const payloadByte = (i: number): number => (i * 31 + (i >>> 8)) & 255;

/** A frame as the kernel hands it over: one large packet, its checksum field holding the pseudo-header sum. */
function place(large: Large, gsoType = large.tcp ? (large.six ? 4 : 1) : 5): number {
  const { six, tcp, tags, payload, segment, options, sequence, flags } = large;
  const l4Bytes = tcp ? 20 + options : 8;
  const pseudo = ones([...addresses(six), 0, tcp ? 6 : 17, ...be16((l4Bytes + payload) & 0xffff)]);
  const l4 = tcp
    ? [...be16(1), ...be16(2), ...be32(sequence), ...be32(9), ((l4Bytes / 4) << 4) & 255, flags, 1, 1, ...be16(pseudo), 0, 0, ...new Array<number>(options).fill(1)]
    : [...be16(1), ...be16(2), ...be16(l4Bytes + payload), ...be16(pseudo)];
  const total = (six ? 0 : 20) + l4Bytes + payload;
  const l3 = six ? [0x60, 0, 0, 0, ...be16(total), tcp ? 6 : 17, 64] : [0x45, 0, ...be16(total), 0xff, 0xfe, 0x40, 0, 64, tcp ? 6 : 17, 0, 0];
  const l2 = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, ...Array.from({ length: tags }, () => [0x81, 0, 0, 5]).flat(), ...be16(six ? 0x86dd : 0x0800)];
  const head = [...l2, ...l3, ...addresses(six), ...l4];
  const frame = stage + VIRTIO_HEADER_BYTES;
  u8.fill(0, stage, frame);
  u8.set(head, frame);
  for (let i = 0; i < payload; i++) u8[frame + head.length + i] = payloadByte(i);
  view.setUint8(stage, 1);
  view.setUint8(stage + 1, gsoType);
  view.setUint16(stage + 2, head.length, true);
  view.setUint16(stage + 4, segment, true);
  view.setUint16(stage + 6, head.length - l4Bytes, true);
  view.setUint16(stage + 8, tcp ? 16 : 6, true);
  return head.length + payload;
}

interface Got {
  readonly bytes: Uint8Array;
  readonly flags: number;
}
function records(into: Burst, count: number): Got[] {
  return Array.from({ length: count }, (_, i) => {
    const at = into.records + 32 * i;
    const data = view.getUint32(at, true);
    const length = view.getUint32(at + 4, true);
    expect(data).toBeGreaterThanOrEqual(into.arena);
    expect(data + length).toBeLessThanOrEqual(into.arena + into.arenaBytes);
    expect(view.getUint16(at + 28, true)).toBe(3);
    return { bytes: u8.slice(data, data + length), flags: view.getUint32(at + 8, true) };
  });
}

/** All of what is in hand, in bursts of `most` frames. */
function drain(from: VirtioReceiver, into: Burst, most: number): Got[] {
  const got: Got[] = [];
  do {
    from.begin(into);
    from.emit(most);
    const now = records(into, from.count);
    expect(from.total).toBe(now.reduce((sum, { bytes }) => sum + bytes.length, 0));
    if (from.count === 0) break;
    got.push(...now);
  } while (from.pending);
  return got;
}

describe('a large packet of the kernel', () => {
  const large = fc.record({
    six: fc.boolean(), tcp: fc.boolean(), tags: fc.integer({ min: 0, max: 2 }), payload: fc.integer({ min: 1, max: 65_000 }), segment: fc.integer({ min: 400, max: 9000 }),
    options: fc.constantFrom(0, 12, 40), sequence: fc.nat(0xffffffff), flags: fc.nat(255),
  });

  test('becomes segments that carry the same bytes, each correct for itself, over as many bursts as it takes', () => {
    fc.assert(fc.property(large, fc.integer({ min: 1, max: 64 }), fc.integer({ min: 9800, max: 1 << 18 }), (it, most, arenaBytes) => {
      const rx = receiver();
      expect(rx.accept(stage, stage + VIRTIO_HEADER_BYTES, place(it))).toBe(true);
      const frames = drain(rx, { ...burst, arenaBytes }, most);
      expect(frames.length).toBe(Math.ceil(it.payload / it.segment));
      let position = 0;
      for (const [i, { bytes, flags }] of frames.entries()) {
        expect(flags).toBe(FRAME_RX_IP_GOOD | FRAME_RX_L4_GOOD);
        const l3 = bytes.slice(14 + 4 * it.tags);
        const l4 = l3.slice(it.six ? 40 : 20);
        expect(it.six ? 40 + at16(l3, 4) : at16(l3, 2)).toBe(l3.length);
        if (!it.six) {
          expect(ones(l3.slice(0, 20))).toBe(0xffff);
          expect(at16(l3, 4)).toBe((0xfffe + i) & 0xffff);
        }
        expect(ones([...addresses(it.six), 0, it.tcp ? 6 : 17, ...be16(l4.length), ...l4])).toBe(0xffff);
        if (it.tcp) {
          expect(at32(l4, 4)).toBe((it.sequence + position) >>> 0);
          const last = i === frames.length - 1;
          expect(l4[13]).toBe(it.flags & ~(last ? 0 : 0x09) & ~(i === 0 ? 0 : 0x80));
        } else {
          expect(at16(l4, 4)).toBe(l4.length);
        }
        const content = l4.slice(it.tcp ? 20 + it.options : 8);
        expect(content.every((byte, k) => byte === payloadByte(position + k))).toBe(true);
        position += content.length;
      }
      expect(position).toBe(it.payload);
    }), { numRuns: 60 });
  });

  test('goes on whole to a peer that cuts TCP itself, described as a sender would', () => {
    const rx = receiver(FRAME_TX_MASK);
    const length = place({ six: false, tcp: true, tags: 1, payload: 60_000, segment: 1448, options: 12, sequence: 1, flags: 0x18 });
    expect(rx.accept(stage, stage + VIRTIO_HEADER_BYTES, length)).toBe(true);
    const [frame, ...more] = drain(rx, burst, 64);
    expect(more).toEqual([]);
    expect(frame!.bytes.length).toBe(length);
    expect(frame!.flags).toBe(FRAME_TX_TSO | FRAME_L4_TCP);
    expect([14, 16, 18, 20].map((at) => view.getUint16(burst.records + at, true))).toEqual([1448, 18, 20, 32]);
    // The pseudo-header sum without length.
    expect(at16(frame!.bytes, 18 + 20 + 16)).toBe(ones([...addresses(false), 0, 6]));
  });

  test('is cut here where the peer cuts no UDP', () => {
    const rx = receiver(FRAME_TX_MASK);
    expect(rx.accept(stage, stage + VIRTIO_HEADER_BYTES, place({ six: true, tcp: false, tags: 0, payload: 5000, segment: 1000, options: 0, sequence: 0, flags: 0 }))).toBe(true);
    expect(drain(rx, burst, 64).length).toBe(5);
  });
});

describe('a frame whose checksum is missing', () => {
  const plain = { tags: 0, payload: 333, segment: 0, options: 0, sequence: 7, flags: 0x10 } as const;

  test.each([[false, true], [true, true], [false, false], [true, false]])('is finished (IPv6 %s, TCP %s), or left to a peer that can', (six, tcp) => {
    const here = receiver();
    expect(here.accept(stage, stage + VIRTIO_HEADER_BYTES, place({ ...plain, six, tcp }, 0))).toBe(true);
    const [finished] = drain(here, burst, 64);
    expect(finished!.flags).toBe(FRAME_RX_L4_GOOD);
    const l4 = finished!.bytes.slice(14 + (six ? 40 : 20));
    expect(ones([...addresses(six), 0, tcp ? 6 : 17, ...be16(l4.length), ...l4])).toBe(0xffff);

    const there = receiver(FRAME_TX_L4_CSUM);
    expect(there.accept(stage, stage + VIRTIO_HEADER_BYTES, place({ ...plain, six, tcp }, 0))).toBe(true);
    const [left] = drain(there, burst, 64);
    expect(left!.flags).toBe(FRAME_TX_L4_CSUM | (tcp ? FRAME_L4_TCP : FRAME_L4_UDP) | (six ? FRAME_IPV6 : 0));
    expect([16, 18, 20].map((at) => view.getUint16(burst.records + at, true))).toEqual([14, six ? 40 : 20, tcp ? 20 : 8]);
  });
});

test('whatever the header says, records stay inside the arena and nothing else is written', () => {
  const canary = window.alloc(4096);
  fc.assert(fc.property(fc.uint8Array({ minLength: VIRTIO_HEADER_BYTES, maxLength: 300 }), fc.boolean(), fc.constantFrom(0, FRAME_TX_MASK), fc.integer({ min: 0, max: 2000 }), (bytes, plausible, peer, arenaBytes) => {
    u8.fill(0x5a, canary, canary + 4096);
    const into: Burst = { records: burst.records, capacity: 64, arena: canary + 1024, arenaBytes };
    u8.set(bytes, stage);
    if (plausible) {
      // Most of them would fail at the first check otherwise.
      view.setUint8(stage, 1);
      view.setUint8(stage + 1, [0, 1, 4, 5][bytes[1]! & 3]!);
      view.setUint16(stage + 4, view.getUint16(stage + 4) & 0x3ff, true);
      view.setUint16(stage + 6, view.getUint16(stage + 6) & 0x7f, true);
      if (bytes.length > 26) view.setUint16(stage + VIRTIO_HEADER_BYTES + 12, (bytes[2]! & 1) === 0 ? 0x0800 : 0x86dd);
    }
    const rx = receiver(peer, 1518);
    const length = bytes.length - VIRTIO_HEADER_BYTES;
    if (length > 0 && rx.accept(stage, stage + VIRTIO_HEADER_BYTES, length)) {
      let emitted = 0;
      for (let bursts = 0; rx.pending && bursts < 400; bursts++) {
        rx.begin(into);
        rx.emit(64);
        emitted += records(into, rx.count).length;
      }
      expect(rx.pending).toBe(false);
      expect(emitted).toBeLessThanOrEqual(length);
    } else {
      expect(rx.pending).toBe(false);
    }
    expect(u8.subarray(canary, canary + 1024).every((byte) => byte === 0x5a)).toBe(true);
    expect(u8.subarray(canary + 1024 + arenaBytes, canary + 4096).every((byte) => byte === 0x5a)).toBe(true);
  }), { numRuns: 400 });
  window.free(canary);
});
