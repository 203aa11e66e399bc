/** Segmentation by examples: the segments are put together again and compared with what the guest sent. */
import { FRAME_IPV6, FRAME_L4_TCP, FRAME_SEGMENT, FRAME_TX_TSO } from '@emudev/ethdev';
import { beforeEach, describe, expect, it } from 'vitest';
import { QS_BYTES, QS_ERRORS, QS_PACKETS } from '../src/layout.ts';
import { implementations } from './both-ways.ts';
import { frameOf, verifyFrame, type FrameOptions, type Layout } from './frames.ts';
import { CHUNK_IOVA, guestOffset, Rig } from './rig.ts';

const rig = new Rig();
const both = implementations(rig);
const RING = 256;
const EOP_RS = 0x3;
const TAG1 = 0x8;
const IPV6 = 0x20;
const IPV4 = 0x60;
const TCP = 0x100;
const UDP = 0x300;
const FIN = 0x01;
const PSH = 0x08;
const ACK = 0x10;
const CWR = 0x80;

describe.each(['wasm', 'twins'] as const)('%s', (which) => {
  const kernels = both[which];
  let next: number;

  beforeEach(() => {
    rig.reset();
    rig.mapGuest();
    rig.enableTx(0, { length: RING });
    next = 0;
  });

  function descriptor(qw0: bigint, qw1: bigint): void {
    rig.set64(rig.txDescriptor(0, next), qw0);
    rig.set64(rig.txDescriptor(0, next) + 8, qw1);
    rig.setTail(rig.txBlock(0), ++next % RING);
  }
  /** Posts the frame as a context and data descriptors with buffers of `piece` bytes. */
  function post(frame: Layout, mss: number, cmd: number, options: { piece?: number; tag?: number; tsoLength?: number } = {}): void {
    const payload = frame.bytes.length - frame.l2 - frame.l3 - frame.l4;
    descriptor(0xffff_ffff_ffff_fff0n, 1n | (1n << 4n) | (BigInt(options.tsoLength ?? payload) << 30n) | (BigInt(mss) << 50n));
    rig.write(guestOffset(CHUNK_IOVA), frame.bytes);
    const offset = BigInt((frame.l2 / 2) | ((frame.l3 / 4) << 7) | ((frame.l4 / 4) << 14));
    const piece = options.piece ?? 16383;
    for (let at = 0; at < frame.bytes.length; at += piece) {
      const size = Math.min(piece, frame.bytes.length - at);
      const last = at + size === frame.bytes.length;
      descriptor(
        CHUNK_IOVA + BigInt(at),
        (BigInt(cmd | (last ? EOP_RS : 0)) << 4n) | (offset << 16n) | (BigInt(size) << 34n) | (BigInt(options.tag ?? 0) << 48n),
      );
    }
  }
  const burst = (max = 256, arenaBytes = rig.burst.arenaBytes): number =>
    kernels.rxBurst(rig.device, 0, rig.burst.records, max, rig.burst.arena, arenaBytes);
  /** All segments, over as many bursts as it takes. */
  function segments(max?: number, arenaBytes?: number): Buffer[] {
    const frames: Buffer[] = [];
    for (let n = burst(max, arenaBytes) & 0xffff; n > 0; n = burst(max, arenaBytes) & 0xffff) {
      for (let k = 0; k < n; k++) frames.push(rig.frame(k));
    }
    return frames;
  }
  const stat = (counter: number): number => rig.stat(rig.txBlock(0), counter);

  function check(frame: Layout, frames: readonly Buffer[], mss: number, tagBytes = 0): void {
    const at = { l2: frame.l2 + tagBytes, l3: frame.l3 };
    const l4 = at.l2 + at.l3;
    const header = l4 + frame.l4;
    const payload = frame.bytes.subarray(frame.l2 + frame.l3 + frame.l4);
    expect(frames.length).toBe(Math.ceil(payload.length / mss));
    const pieces = frames.map((segment, n) => {
      const verdict = verifyFrame(segment, at);
      expect(verdict).toMatchObject({ ip: true, l4: true });
      expect(verdict.length - frame.l4).toBe(Math.min(mss, payload.length - n * mss));
      return segment.subarray(header, l4 + verdict.length);
    });
    expect(Buffer.concat(pieces).equals(payload)).toBe(true);
  }

  const cases: [string, FrameOptions, number, number][] = [
    ['IPv4, MSS 64, timestamps', { payload: 1000, tcpOptions: 12 }, 64, IPV4 | TCP],
    ['IPv4, MSS 1448, last segment short', { payload: 10000 }, 1448, IPV4 | TCP],
    ['IPv4, MSS 8948', { payload: 60000 }, 8948, IPV4 | TCP],
    ['IPv4, a multiple of the MSS', { payload: 4344 }, 1448, IPV4 | TCP],
    ['IPv4, less than one MSS', { payload: 100 }, 1448, IPV4 | TCP],
    ['IPv6', { ip: 6, payload: 20000 }, 1428, IPV6 | TCP],
    ['IPv6 with hop-by-hop options', { ip: 6, payload: 5000, hopByHop: 8 }, 1420, IPV6 | TCP],
    ['UDP over IPv4', { protocol: 'udp', payload: 4500 }, 1400, IPV4 | UDP],
    ['UDP over IPv6, odd sizes', { ip: 6, protocol: 'udp', payload: 4501 }, 1399, IPV6 | UDP],
  ];
  it.each(cases)('cuts %s', (_name, options, mss, cmd) => {
    const frame = frameOf({ ...options, undone: 'tso' });
    post(frame, mss, cmd);
    check(frame, segments(), mss);
    expect(stat(QS_ERRORS)).toBe(0);
  });

  it('numbers segments, and keeps CWR to the first, FIN and PSH to the last', () => {
    const frame = frameOf({ payload: 300, seq: 0xffffff80, id: 0xfffe, tcpFlags: FIN | PSH | ACK | CWR, undone: 'tso' });
    post(frame, 100, IPV4 | TCP);
    const frames = segments();
    expect(frames.map((f) => f.readUInt32BE(38))).toEqual([0xffffff80, 0xffffffe4, 0x48]);
    expect(frames.map((f) => f.readUInt16BE(18))).toEqual([0xfffe, 0xffff, 0]);
    expect(frames.map((f) => f[47])).toEqual([ACK | CWR, ACK, FIN | PSH | ACK]);
  });

  it('gathers more than twenty buffers and counts packets as they go on the wire', () => {
    const frame = frameOf({ payload: 9990, undone: 'tso' });
    post(frame, 1000, IPV4 | TCP, { piece: 333 });
    check(frame, segments(), 1000);
    expect([stat(QS_PACKETS), stat(QS_BYTES)]).toEqual([10, 9990 + 10 * 54]);
  });

  it('tags every segment', () => {
    const frame = frameOf({ payload: 3000, undone: 'tso' });
    post(frame, 1000, IPV4 | TCP | TAG1, { tag: 0x2005 });
    const frames = segments();
    check(frame, frames, 1000, 4);
    expect(frames.map((f) => f.subarray(12, 16).toString('hex'))).toEqual(['81002005', '81002005', '81002005']);
  });

  it('emits a frame over as many bursts as max and arena ask for, and then what was posted behind it', () => {
    const frame = frameOf({ payload: 10000, undone: 'tso' });
    post(frame, 1000, IPV4 | TCP);
    const small = frameOf({ payload: 100 });
    rig.write(guestOffset(CHUNK_IOVA + 0x40000n), small.bytes);
    descriptor(CHUNK_IOVA + 0x40000n, (BigInt(EOP_RS) << 4n) | (BigInt(small.bytes.length) << 34n));
    const frames = segments(3, 4096);
    expect(frames.pop()).toEqual(small.bytes);
    check(frame, frames, 1000);
  });

  it('gives the descriptors back with the first segments: the data has been read', () => {
    post(frameOf({ payload: 10000, undone: 'tso' }), 1000, IPV4 | TCP);
    expect(burst(1)).toBe(1 | (1 << 16));
    rig.u8.fill(0, guestOffset(CHUNK_IOVA), guestOffset(CHUNK_IOVA) + 11000); // the guest frees and reuses its buffers
    expect(burst(1)).toBe(1);
    expect(verifyFrame(rig.frame(0), { l2: 14, l3: 20 })).toMatchObject({ ip: true, l4: true });
  });

  it('leaves segmentation to a peer that can do it, up to what IP can say', () => {
    rig.setPeerCaps(FRAME_TX_TSO);
    const frame = frameOf({ ip: 6, payload: 65000, undone: 'tso' });
    post(frame, 1428, IPV6 | TCP);
    expect(burst() & 0xffff).toBe(1);
    expect(rig.frame(0).equals(frame.bytes)).toBe(true);
    expect(rig.frameFlags(0)).toBe(FRAME_TX_TSO | FRAME_L4_TCP | FRAME_IPV6);
    expect(rig.view.getUint16(rig.record(0) + FRAME_SEGMENT, true)).toBe(1428);
    expect(stat(QS_PACKETS)).toBe(46);
    const larger = frameOf({ payload: 70000, undone: 'tso' });
    post(larger, 1448, IPV4 | TCP);
    check(larger, segments(), 1448);
  });

  it.each([
    ['MSS 0', 0, IPV4 | TCP, {}],
    ['MSS 63', 63, IPV4 | TCP, {}],
    ['an MSS that makes frames too long', 9700, IPV4 | TCP, {}],
    ['TSO LEN 0', 1448, IPV4 | TCP, { tsoLength: 0 }],
    ['no L4 type', 1448, IPV4, {}],
    ['no IP type', 1448, TCP, {}],
    ['an L4 header too short', 1448, IPV4 | TCP, { l4: 16 }],
    ['headers longer than the frame', 1448, IPV4 | TCP, { l2: 254, l3: 508, l4: 60 }],
    ['an IPv6 header too short', 1448, IPV6 | TCP, {}],
  ] as const)('drops and counts %s', (_name, mss, cmd, change: { tsoLength?: number; l2?: number; l3?: number; l4?: number }) => {
    const frame = frameOf({ payload: 'l2' in change ? 100 : 20000, undone: 'tso' });
    post({ ...frame, ...change }, mss, cmd, change.tsoLength === undefined ? {} : { tsoLength: change.tsoLength });
    expect(burst()).toBe(1 << 16);
    expect(stat(QS_ERRORS)).toBe(1);
    expect(rig.u8[rig.txDescriptor(0, next - 1) + 8]! & 0xf).toBe(0xf);
  });
});
