/** Frames whose payload is copied straight from the sender's memory: what a hostile or busy guest can do between the two copies. */
import { MISS_CELL_BYTES } from '@emudev/dma';
import type { LcoreContext } from '@emudev/ethdev';
import { FRAME_L4_TCP, FRAME_LENT, FRAME_TX_L4_CSUM } from '@emudev/ethdev';
import { beforeEach, describe, expect, it } from 'vitest';
import { createDatapath } from '../src/datapath.ts';
import { DEV_LENDS, DEV_PAUSED, PAUSED_AWAY, PAUSED_FOR_NOW, Q_BOUNCED, Q_HEAD, Q_LENT, QS_DISCARDS, QS_PACKETS } from '../src/layout.ts';
import { frameOf, MAC, verifyFrame, type FrameOptions, type Layout } from './frames.ts';
import { CHUNK_IOVA, guestOffset, READ, Rig, WRITE } from './rig.ts';

const rig = new Rig();
const RX_IOVA = CHUNK_IOVA + 0x100000n;
const HEAD_BYTES = 64;
/** A part of the window that the rig leaves alone. */
const MISS_CELLS = 0x78000;
/** Bits of qw1 of an Rx write-back. */
const L3L4P = 1n << 3n;
const IPE = 1n << 22n;
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

  /** `work`: more bits of qw1. Returns where it lies. */
  function post(bytes: Uint8Array, work = 0n): number {
    const tail = rig.tail(rig.txBlock(0));
    const iova = CHUNK_IOVA + BigInt(tail * 2048);
    rig.write(guestOffset(iova), bytes);
    rig.set64(rig.txDescriptor(0, tail), iova);
    rig.set64(rig.txDescriptor(0, tail) + 8, 0x30n | work | (BigInt(bytes.length) << 34n));
    rig.setTail(rig.txBlock(0), tail + 1);
    return guestOffset(iova);
  }
  function checksumWork({ l2, l3, l4 }: Layout, { ip = 4, protocol = 'tcp' }: FrameOptions): bigint {
    return (ip === 4 ? 0x600n : 0x200n) | (protocol === 'tcp' ? 0x1000n : 0x3000n) | (BigInt((l2 / 2) | ((l3 / 4) << 7) | ((l4 / 4) << 14)) << 16n);
  }
  /** The card is asked for the checksums. */
  function postUndone(options: FrameOptions, change: (bytes: Buffer) => void = () => {}): { readonly at: number; readonly layout: Layout } {
    const layout = frameOf({ payload: 1431, ...options, undone: 'checksum' });
    change(layout.bytes);
    return { at: post(layout.bytes, checksumWork(layout, options)), layout };
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

  describe('with checksums to insert', () => {
    const UNDONE = FRAME_LENT | FRAME_TX_L4_CSUM;
    const flagsOf = (n: number): number => rig.frameFlags(n) & UNDONE;
    const allGood = { ip: true, l4: true };

    it.each<[string, FrameOptions, number]>([
      ['TCP', {}, UNDONE],
      ['TCP with options', { tcpOptions: 12 }, UNDONE],
      ['TCP of an odd length', { payload: 1430 }, UNDONE],
      ['TCP with a tag', { vlan: 7 }, UNDONE],
      ['UDP', { protocol: 'udp' }, UNDONE],
      // Whose checksum does not lie in the part that is copied, or might not
      ['TCP over IPv6', { ip: 6 }, 0],
      ['UDP over IPv6', { ip: 6, protocol: 'udp' }, 0],
    ])('delivers %s with the right ones, and says so', (_, options, flags) => {
      const { layout } = postUndone(options);
      datapath.rxBurst(0, rig.burst, 32);
      expect(flagsOf(0)).toBe(flags);
      datapath.txBurst(0, rig.burst, 1);
      datapath.takeBack!(0, rig.burst, 0);
      const complete = frameOf({ payload: 1431, ...options });
      expect(received(0)).toEqual(complete.bytes);
      expect(verifyFrame(received(0), layout)).toMatchObject(allGood);
      expect(statusOf(0) & (L3L4P | L4E)).toBe(L3L4P);
    });

    it('gives each of several receivers the right ones', () => {
      const { layout } = postUndone({});
      datapath.rxBurst(0, rig.burst, 32);
      for (let n = 0; n < 3; n++) {
        datapath.txBurst(0, rig.burst, 1);
        expect(verifyFrame(received(n), layout)).toMatchObject(allGood);
      }
      datapath.takeBack!(0, rig.burst, 0);
      // To all of them, and with a tag to be stripped: the first one needs it whole
      rig.setFlags(8);
      const options = { vlan: 9, payload: 1431, destination: Buffer.alloc(6, 0xff) };
      postUndone(options);
      datapath.rxBurst(0, rig.burst, 32);
      expect(flagsOf(0)).toBe(UNDONE);
      const { bytes } = frameOf(options);
      for (const n of [3, 4]) {
        datapath.txBurst(0, rig.burst, 1);
        expect(received(n)).toEqual(Buffer.concat([bytes.subarray(0, 12), bytes.subarray(16)]));
        expect(statusOf(n) & (L3L4P | L4E)).toBe(L3L4P);
      }
    });

    it.each<[string, (bytes: Buffer) => void]>([
      ['has left a wrong sum', (bytes) => { bytes[50]! ^= 0x40; }],
      ['has left none', (bytes) => { bytes.fill(0, 50, 52); }],
      ['has left the sum of another address', (bytes) => { bytes[29]! ^= 0x03; }],
    ])('vouches for none that is wrong because the driver %s', (_, change) => {
      const { layout } = postUndone({}, change);
      datapath.rxBurst(0, rig.burst, 32);
      expect(flagsOf(0)).toBe(UNDONE);
      datapath.txBurst(0, rig.burst, 1);
      expect(verifyFrame(received(0), layout)).toMatchObject({ ip: true, l4: false });
      expect(statusOf(0) & (L3L4P | L4E)).toBe(L3L4P | L4E);
    });

    it('vouches for none that padding behind the packet has got into', () => {
      const layout = frameOf({ payload: 1431, undone: 'checksum' });
      post(Buffer.concat([layout.bytes, Buffer.alloc(6, 0x5a)]), checksumWork(layout, {}));
      datapath.rxBurst(0, rig.burst, 32);
      expect(flagsOf(0)).toBe(UNDONE);
      datapath.txBurst(0, rig.burst, 1);
      expect(verifyFrame(received(0), layout)).toMatchObject({ ip: true, l4: false });
      expect(statusOf(0) & (L3L4P | L4E)).toBe(L3L4P | L4E);
    });

    it.each<[string, FrameOptions, number]>([
      ['where TCP has it, into UDP', { protocol: 'udp' }, 20],
      ['into a header that would begin later', {}, 24],
    ])('inserts one %s, as asked for, and judges what comes of it', (_, options, l3) => {
      const layout = frameOf({ payload: 1431, ...options, undone: 'checksum' });
      const work = checksumWork({ ...layout, l3 }, {});
      rig.set(rig.device + DEV_LENDS, 0);
      post(layout.bytes, work);
      datapath.rxBurst(0, rig.burst, 32);
      datapath.txBurst(0, rig.burst, 1);
      rig.set(rig.device + DEV_LENDS, 1);
      post(layout.bytes, work);
      datapath.rxBurst(0, rig.burst, 32);
      expect(flagsOf(0)).toBe(UNDONE);
      datapath.txBurst(0, rig.burst, 1);
      expect(received(1)).toEqual(received(0));
      expect(received(1)).not.toEqual(layout.bytes);
      expect(statusOf(1)).toBe(statusOf(0));
    });

    it('takes the sum of the payload that it delivers, and the headers it has judged by', () => {
      const { at, layout } = postUndone({});
      datapath.rxBurst(0, rig.burst, 32);
      rig.u8.fill(0xff, at, at + HEAD_BYTES);
      for (const n of [HEAD_BYTES, 700, 1484]) rig.u8[at + n]! ^= 0x5a;
      datapath.txBurst(0, rig.burst, 1);
      expect(received(0).subarray(0, 50)).toEqual(frameOf({ payload: 1431 }).bytes.subarray(0, 50));
      expect(received(0)[700]).toBe(layout.bytes[700]! ^ 0x5a);
      expect(verifyFrame(received(0), layout)).toMatchObject(allGood);
      expect(statusOf(0) & (L3L4P | L4E)).toBe(L3L4P);
    });

    it('keeps frames with the right ones', () => {
      const { at, layout } = postUndone({});
      datapath.rxBurst(0, rig.burst, 32);
      rig.set(rig.device + DEV_PAUSED, PAUSED_FOR_NOW);
      datapath.txBurst(0, rig.burst, 1);
      datapath.takeBack!(0, rig.burst, 1);
      rig.u8.fill(0, at, at + 2048);
      rig.set(rig.device + DEV_PAUSED, 0);
      expect(rig.frameFlags(0)).toBe(0);
      expect(verifyFrame(rig.frame(0), layout)).toMatchObject(allGood);
      datapath.txBurst(0, rig.burst, 1);
      expect(verifyFrame(received(0), layout)).toMatchObject(allGood);
      expect(statusOf(0) & (L3L4P | L4E)).toBe(L3L4P);
    });

    it.each([
      ['TCP', 'tcp', 50, 0],
      ['UDP, for which zero means none', 'udp', 40, 0xffff],
    ] as const)('that are zero: %s', (_, protocol, field, onWire) => {
      // What is missing to make the sum over everything 0xffff is put into the payload
      const complete = frameOf({ payload: 1430, protocol });
      const { at } = postUndone({ payload: 1430, protocol });
      const sum = complete.bytes.readUInt16BE(field);
      const old = complete.bytes.readUInt16BE(100);
      rig.view.setUint16(at + 100, (old + sum) % 0xffff);
      datapath.rxBurst(0, rig.burst, 32);
      datapath.txBurst(0, rig.burst, 1);
      expect(received(0).readUInt16BE(field)).toBe(onWire);
      expect(statusOf(0) & (L3L4P | L4E)).toBe(L3L4P);
    });

    it('lends none to a peer that inserts them itself', () => {
      rig.setPeerCaps(FRAME_TX_L4_CSUM);
      post(large.bytes);
      postUndone({});
      postUndone({});
      expect(datapath.rxBurst(0, rig.burst, 32)).toBe(3);
      const left = FRAME_TX_L4_CSUM | FRAME_L4_TCP;
      expect([0, 1, 2].map((n) => rig.frameFlags(n))).toEqual([FRAME_LENT, left, left]);
      datapath.takeBack!(0, rig.burst, 0);
      expect([0, 1, 2].map(isDone)).toEqual([true, true, true]);
    });

    it('leaves those of IPv4 alone unless it is asked for them', () => {
      const layout = frameOf({ payload: 1431, undone: 'checksum' });
      post(layout.bytes, checksumWork(layout, {}) & ~0x200n);
      datapath.rxBurst(0, rig.burst, 32);
      datapath.txBurst(0, rig.burst, 1);
      expect(verifyFrame(received(0), layout)).toMatchObject({ ip: false, l4: true });
      expect(statusOf(0) & (L3L4P | IPE | L4E)).toBe(L3L4P | IPE);
    });
  });

  describe('whatever lies among them', () => {
    const EOP_RS = 0x30n;
    const RS = 0x20n;

    it('keeps every descriptor behind the first, of packets of any kind', () => {
      const short = frameOf();
      post(short.bytes);
      post(large.bytes);
      post(short.bytes);
      // In two buffers, of which each has RS
      post(large.bytes.subarray(0, 100));
      rig.set64(rig.txDescriptor(0, 3) + 8, RS | (100n << 34n));
      post(large.bytes.subarray(100));
      // Neither data nor context, and too short
      post(short.bytes);
      rig.set64(rig.txDescriptor(0, 5) + 8, EOP_RS | 3n);
      post(short.bytes.subarray(0, 16));
      post(short.bytes.subarray(0, 54));
      post(large.bytes);
      // In two buffers, of which the last has RS
      post(large.bytes.subarray(0, 100));
      rig.set64(rig.txDescriptor(0, 9) + 8, 100n << 34n);
      post(large.bytes.subarray(100));
      expect(datapath.rxBurst(0, rig.burst, 32)).toBe(7);
      const all = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
      expect(all.map(isDone)).toEqual(all.map((n) => n === 0));
      datapath.txBurst(0, rig.burst, 7);
      datapath.takeBack!(0, rig.burst, 0);
      expect(all.map(isDone)).toEqual(all.map((n) => n !== 9));
      expect([0, 1, 2, 3, 5, 6].map(received)).toEqual([short.bytes, large.bytes, short.bytes, large.bytes, large.bytes, large.bytes]);
    });

    it('gives nothing back that has no RS, nor a context descriptor', () => {
      post(large.bytes);
      rig.set64(rig.txDescriptor(0, 0) + 8, rig.get64(rig.txDescriptor(0, 0) + 8) & ~RS);
      // TSYN where data descriptors have RS
      post(large.bytes);
      const context = RS | 1n;
      rig.set64(rig.txDescriptor(0, 1) + 8, context);
      post(large.bytes);
      expect(datapath.rxBurst(0, rig.burst, 32)).toBe(2);
      datapath.txBurst(0, rig.burst, 2);
      datapath.takeBack!(0, rig.burst, 0);
      expect([0, 1, 2].map(isDone)).toEqual([false, false, true]);
      expect(rig.get64(rig.txDescriptor(0, 1) + 8)).toBe(context);
    });

    it('gives descriptors back beyond the end of the ring', () => {
      rig.set(rig.txBlock(0) + Q_HEAD, 62);
      rig.setTail(rig.txBlock(0), 62);
      post(large.bytes);
      post(frameOf().bytes);
      rig.setTail(rig.txBlock(0), 0);
      post(large.bytes);
      post(large.bytes);
      expect(datapath.rxBurst(0, rig.burst, 3)).toBe(3);
      expect([62, 63, 0, 1].map(isDone)).toEqual([false, false, false, false]);
      datapath.txBurst(0, rig.burst, 3);
      datapath.takeBack!(0, rig.burst, 0);
      expect([62, 63, 0, 1].map(isDone)).toEqual([true, true, true, false]);
    });
  });
});
