/** The guest's Rx ring by examples (iavf.md 9.3), on the kernels and on their twins. */
import { FRAME_RX_L4_BAD, FRAME_RX_L4_GOOD } from '@emudev/ethdev';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  DEV_HENA, DEV_LUT, DEV_PAUSED, DEV_RX_KICK, DEVF_MULTICAST_PROMISC, DEVF_UNICAST_PROMISC, DEVF_VLAN_PRUNING, DEVF_VLAN_STRIP,
  DEVS_RX_FILTERED, DEVS_RX_NO_QUEUE, DEVS_RX_OVERSIZE, DEVS_RX_RUNT, Q_HEAD, QFAULT_BUFFER, QFAULT_TAIL, QS_BROADCAST, QS_BYTES,
  QS_DISCARDS, QS_ERRORS, QS_MULTICAST, QS_PACKETS, QS_UNICAST, RX_BAD_BUFFER_LIMIT,
} from '../src/layout.ts';
import { createTwins, TwinMemory } from '../src/twins/index.ts';
import { implementations } from './both-ways.ts';
import { frameOf, MAC } from './frames.ts';
import { CHUNK_IOVA, guestOffset, READ, Rig, WRITE, type QueueOptions } from './rig.ts';

const rig = new Rig();
const both = implementations(rig);
const RING = 64;
const BUFFER_STRIDE = 0x4000n;

describe.each(['wasm', 'twins'] as const)('%s', (which) => {
  const kernels = both[which];

  beforeEach(() => {
    rig.reset();
    rig.mapGuest();
    rig.addMac(MAC);
  });

  const bufferIova = (index: number): bigint => CHUNK_IOVA + BigInt(index % 64) * BUFFER_STRIDE;
  /** A ring whose driver has posted `posted` buffers; every word of the descriptors is stale otherwise. */
  function ring(options: QueueOptions & { posted?: number } = {}, queue = 0): void {
    const length = options.length ?? RING;
    rig.enableRx(queue, options);
    for (let n = 0; n < length; n++) {
      rig.set64(rig.rxDescriptor(queue, n), bufferIova(n));
      for (let word = 8; word < rig.rxDescriptorBytes(queue); word += 8) rig.set64(rig.rxDescriptor(queue, n) + word, -1n);
    }
    rig.setTail(rig.rxBlock(queue), options.posted ?? length - 1);
  }
  const deliver = (...frames: (Uint8Array | { bytes: Uint8Array; flags?: number })[]): number =>
    kernels.txBurst(rig.device, rig.burst.records, rig.fillBurst(frames.map((f) => (f instanceof Uint8Array ? { bytes: f } : f))));
  /** A written-back descriptor, taken apart as the legacy format has it. */
  function descriptor(index: number, queue = 0): { dd: boolean; eop: boolean; tag: number | undefined; hash: number | undefined; l3l4p: boolean; ipe: boolean; l4e: boolean; rxe: boolean; cast: number; ptype: number; length: number; rest: bigint } {
    const at = rig.rxDescriptor(queue, index);
    const qw0 = rig.get64(at);
    const qw1 = rig.get64(at + 8);
    const bit = (n: bigint): boolean => ((qw1 >> n) & 1n) === 1n;
    return {
      dd: bit(0n), eop: bit(1n), tag: bit(2n) ? Number((qw0 >> 16n) & 0xffffn) : undefined,
      hash: ((qw1 >> 12n) & 3n) === 3n ? Number(qw0 >> 32n) : undefined,
      l3l4p: bit(3n), ipe: bit(22n), l4e: bit(23n), rxe: bit(19n), cast: Number((qw1 >> 9n) & 3n), ptype: Number((qw1 >> 30n) & 0xffn),
      length: Number((qw1 >> 38n) & 0x3fffn), rest: (rig.rxDescriptorBytes(queue) === 16 ? 0n : rig.get64(at + 16) | rig.get64(at + 24)) | (qw1 >> 52n),
    };
  }
  const buffer = (index: number, length: number): Buffer => rig.bytes(guestOffset(bufferIova(index)), length);
  const stat = (counter: number, queue = 0): number => rig.stat(rig.rxBlock(queue), counter);

  it('writes the frame, all four quadwords, and asks for an interrupt', () => {
    ring();
    const frame = frameOf().bytes;
    expect(deliver(frame)).toBe(1);
    expect(buffer(0, frame.length)).toEqual(frame);
    expect(descriptor(0)).toMatchObject({ dd: true, eop: true, tag: undefined, l3l4p: true, ipe: false, l4e: false, cast: 0, ptype: 26, length: 80, rest: 0n });
    expect(rig.get(rig.device + DEV_RX_KICK)).toBe(1);
    expect(rig.get64(rig.rxDescriptor(0, 1) + 8)).toBe(2n ** 64n - 1n); // nothing but the frame's descriptor
    expect([stat(QS_PACKETS), stat(QS_BYTES), stat(QS_UNICAST)]).toEqual([1, 80, 1]);
    deliver();
    expect(rig.get(rig.device + DEV_RX_KICK)).toBe(0);
  });

  describe('descriptors of 16 bytes', () => {
    /** What a driver finds beside the descriptors that are the device's, and behind the ring. */
    const untouched = (...written: number[]): void => {
      for (let n = 0; n < RING; n++) if (!written.includes(n)) expect([rig.get64(rig.rxDescriptor(0, n)), rig.get64(rig.rxDescriptor(0, n) + 8)]).toEqual([bufferIova(n), 2n ** 64n - 1n]);
      expect([rig.get64(rig.rxDescriptor(0, RING)), rig.get64(rig.rxDescriptor(0, RING) + 8)]).toEqual([0n, 0n]);
    };

    it('are the first two quadwords, and the next one is not touched', () => {
      ring({ short: true });
      rig.setFlags(DEVF_VLAN_STRIP);
      const frame = frameOf().bytes;
      const tagged = Buffer.concat([frame.subarray(0, 12), Buffer.from('81000123', 'hex'), frame.subarray(12)]);
      expect(deliver(frame, tagged)).toBe(2);
      expect([buffer(0, frame.length), buffer(1, frame.length)]).toEqual([frame, frame]);
      expect([descriptor(0), descriptor(1)]).toMatchObject([{ dd: true, eop: true, tag: undefined, ptype: 26, length: 80, rest: 0n }, { dd: true, eop: true, tag: 0x123, ptype: 26, length: 80, rest: 0n }]);
      untouched(0, 1);
    });

    it.each([128, 64])('a frame of several buffers goes round the end of the ring (from %i on with its last bytes)', (last) => {
      ring({ short: true, buffer: 128, posted: 2 });
      rig.set(rig.rxBlock(0) + Q_HEAD, RING - 1);
      const frame = Buffer.concat([MAC, MAC, Buffer.from('88b5', 'hex'), Buffer.alloc(2 * 128 + last - 14, 7)]);
      deliver(frame);
      expect(Buffer.concat([buffer(RING - 1, 128), buffer(0, 128), buffer(1, last)])).toEqual(frame);
      expect([RING - 1, 0, 1].map((n) => descriptor(n)).map(({ dd, eop, length }) => ({ dd, eop, length }))).toEqual([
        { dd: true, eop: false, length: 128 }, { dd: true, eop: false, length: 128 }, { dd: true, eop: true, length: last },
      ]);
      untouched(RING - 1, 0, 1);
      expect(rig.head(rig.rxBlock(0))).toBe(2);
    });

    it('a buffer that is not mapped goes back as a receive error', () => {
      ring({ short: true });
      rig.set64(rig.rxDescriptor(0, 0), 0xdead_0000n);
      deliver(frameOf().bytes, frameOf().bytes);
      expect([descriptor(0), descriptor(1)]).toMatchObject([{ dd: true, eop: true, rxe: true }, { dd: true, eop: true, rxe: false }]);
      untouched(0, 1);
    });
  });

  it.each([{ short: false }, { short: true }])('frames up to the end of the ring, then those behind it (%o)', (options) => {
    ring({ ...options, posted: 2 });
    rig.set(rig.rxBlock(0) + Q_HEAD, RING - 2);
    const frames = [1, 2, 3, 4].map((n) => frameOf({ payload: 20 + n }).bytes);
    expect([deliver(frames[0]!, frames[1]!), rig.head(rig.rxBlock(0))]).toEqual([2, 0]);
    expect([deliver(frames[2]!, frames[3]!), rig.head(rig.rxBlock(0))]).toEqual([2, 2]);
    expect([RING - 2, RING - 1, 0, 1].map((n, i) => buffer(n, frames[i]!.length))).toEqual(frames);
    expect(stat(QS_PACKETS)).toBe(4);
    expect(deliver(frames[0]!)).toBe(1);
    expect([stat(QS_PACKETS), stat(QS_DISCARDS)]).toEqual([4, 1]);
  });

  it('pads a short frame to 60 bytes', () => {
    ring();
    rig.u8.fill(0xee, guestOffset(bufferIova(0)), guestOffset(bufferIova(0)) + 64);
    const arp = Buffer.concat([MAC, MAC, Buffer.from('0806', 'hex'), Buffer.alloc(28, 0x11)]);
    deliver(arp);
    expect(buffer(0, 61)).toEqual(Buffer.concat([arp, Buffer.alloc(18), Buffer.of(0xee)]));
    expect(descriptor(0)).toMatchObject({ length: 60, ptype: 11, hash: undefined });
  });

  it.each([[2, 300], [5, 640]])('spreads a frame over %i buffers of 128 bytes', (count, length) => {
    ring({ buffer: 128 });
    const frame = frameOf({ payload: length - 54 }).bytes;
    deliver(frame);
    const used = Math.ceil(length / 128);
    expect(used).toBeGreaterThanOrEqual(count);
    expect(Buffer.concat(Array.from({ length: used }, (_, n) => buffer(n, Math.min(128, length - 128 * n))))).toEqual(frame);
    for (let n = 0; n < used; n++) {
      const last = n === used - 1;
      expect(descriptor(n)).toMatchObject({ dd: true, eop: last, length: last ? length - 128 * n : 128, rest: 0n });
    }
    expect(descriptor(used - 1)).toMatchObject({ ptype: 26, l3l4p: true, l4e: false });
    expect(rig.head(rig.rxBlock(0))).toBe(used);
  });

  it('discards a frame that needs six buffers, is longer than the ring or the device takes, or finds too few buffers', () => {
    ring({ buffer: 128, maxPacket: 1522, posted: 2 });
    deliver(frameOf({ payload: 641 - 54 }).bytes, frameOf({ payload: 300 }).bytes);
    expect(stat(QS_DISCARDS)).toBe(2);
    deliver(frameOf({ payload: 1519 - 54 }).bytes, Buffer.alloc(9729));
    expect(rig.deviceStat(DEVS_RX_OVERSIZE)).toBe(2);
    deliver(Buffer.alloc(13));
    expect(rig.deviceStat(DEVS_RX_RUNT)).toBe(1);
    expect(rig.head(rig.rxBlock(0))).toBe(0);
    expect(rig.get(rig.device + DEV_RX_KICK)).toBe(0);
    deliver(frameOf({ payload: 256 - 54 }).bytes); // two buffers: fits
    expect(stat(QS_PACKETS)).toBe(1);
  });

  it('uses up the ring, discards while it is empty, and goes on after a refill, around the end', () => {
    ring({ posted: 2 });
    rig.set(rig.rxBlock(0) + Q_HEAD, RING - 1);
    const frame = frameOf().bytes;
    deliver(frame, frame, frame, frame);
    expect([stat(QS_PACKETS), stat(QS_DISCARDS)]).toEqual([3, 1]);
    expect([RING - 1, 0, 1].map((n) => descriptor(n).length)).toEqual([80, 80, 80]);
    rig.setTail(rig.rxBlock(0), 3);
    deliver(frame);
    expect(stat(QS_PACKETS)).toBe(4);
  });

  it('writes a buffer that crosses pages piece by piece', () => {
    ring();
    rig.mapPages(CHUNK_IOVA + 0x200000n, [guestOffset(CHUNK_IOVA) + 0x150000 + (READ | WRITE), guestOffset(CHUNK_IOVA) + 0x140000 + WRITE]);
    rig.set64(rig.rxDescriptor(0, 0), CHUNK_IOVA + 0x201000n - 40n);
    const frame = frameOf({ payload: 1000, vlan: 5 }).bytes;
    rig.setFlags(DEVF_VLAN_STRIP);
    deliver(frame);
    const expected = Buffer.concat([frame.subarray(0, 12), frame.subarray(16)]);
    expect(rig.bytes(guestOffset(CHUNK_IOVA) + 0x151000 - 40, 40)).toEqual(expected.subarray(0, 40));
    expect(rig.bytes(guestOffset(CHUNK_IOVA) + 0x140000, expected.length - 40)).toEqual(expected.subarray(40));
  });

  it('returns unmapped and read-only buffers as receive errors, and takes the queue from a guest that goes on', () => {
    ring();
    rig.mapChunk(0x4000_0000n, guestOffset(CHUNK_IOVA), READ);
    for (let n = 0; n < RING; n++) if (n !== 3) rig.set64(rig.rxDescriptor(0, n), n === 0 ? 0xdead_0000n : 0x4000_0000n);
    const frame = frameOf().bytes;
    deliver(frame, frame, frame, frame);
    expect(descriptor(0)).toMatchObject({ dd: true, eop: true, rxe: true, length: 60, rest: 0n });
    expect(buffer(3, frame.length)).toEqual(frame);
    expect([stat(QS_ERRORS), stat(QS_DISCARDS), stat(QS_PACKETS)]).toEqual([3, 3, 1]);
    expect(rig.get(rig.device + DEV_RX_KICK)).toBe(1);
    deliver(...Array.from({ length: RX_BAD_BUFFER_LIMIT + 3 }, () => frame));
    expect(rig.fault(rig.rxBlock(0))).toBe(QFAULT_BUFFER);
    expect(stat(QS_ERRORS)).toBe(3 + RX_BAD_BUFFER_LIMIT);
    expect(rig.deviceStat(DEVS_RX_NO_QUEUE)).toBe(3);
  });

  it('writes nothing of a frame of which one buffer is bad', () => {
    ring({ buffer: 128 });
    rig.set64(rig.rxDescriptor(0, 1), 0xdead_0000n);
    rig.u8.fill(0xee, guestOffset(bufferIova(0)), guestOffset(bufferIova(0)) + 128);
    deliver(frameOf({ payload: 300 }).bytes);
    expect(buffer(0, 128)).toEqual(Buffer.alloc(128, 0xee));
    expect([descriptor(0).rxe, descriptor(1).rxe, descriptor(2).rxe]).toEqual([true, true, true]); // 2: stale, not written
    expect(rig.head(rig.rxBlock(0))).toBe(2);
  });

  it('strips the tag into L2TAG1 with its priority, or leaves it in the frame', () => {
    ring();
    const frame = frameOf({ vlan: 0x6005, payload: 100 }).bytes;
    deliver(frame);
    rig.setFlags(DEVF_VLAN_STRIP);
    deliver(frame);
    expect(descriptor(0)).toMatchObject({ tag: undefined, length: frame.length, ptype: 26, l3l4p: true, l4e: false });
    expect(descriptor(1)).toMatchObject({ tag: 0x6005, length: frame.length - 4, ptype: 26, l3l4p: true, l4e: false });
    expect(buffer(1, frame.length - 4)).toEqual(Buffer.concat([frame.subarray(0, 12), frame.subarray(16)]));
    expect(descriptor(1).hash).toBe(descriptor(0).hash);
  });

  it('filters by destination address', () => {
    ring();
    const to = (destination: string): Buffer => frameOf({ destination: Buffer.from(destination, 'hex') }).bytes;
    const frames = [to('020000000001'), to('020000000009'), to('01005e000001'), to('01005e000002'), to('ffffffffffff')];
    rig.addMac(Buffer.from('01005e000001', 'hex'));
    deliver(...frames);
    expect([stat(QS_UNICAST), stat(QS_MULTICAST), stat(QS_BROADCAST), rig.deviceStat(DEVS_RX_FILTERED)]).toEqual([1, 1, 1, 2]);
    expect([0, 1, 2].map((n) => descriptor(n).cast)).toEqual([0, 1, 2]);
    rig.setFlags(DEVF_MULTICAST_PROMISC);
    deliver(...frames);
    expect(rig.deviceStat(DEVS_RX_FILTERED)).toBe(3);
    rig.setFlags(DEVF_UNICAST_PROMISC);
    deliver(...frames);
    expect(rig.deviceStat(DEVS_RX_FILTERED)).toBe(3);
    expect(stat(QS_DISCARDS)).toBe(0);
  });

  it('finds every address of a crowded filter', () => {
    ring({ length: 512 });
    const addresses = Array.from({ length: 400 }, (_, n) => Buffer.from([2, 0, 0, n >> 8, n & 0xff, 7]));
    addresses.forEach((mac) => rig.addMac(mac));
    for (let n = 0; n < 400; n += 200) deliver(...addresses.slice(n, n + 200).map((destination) => frameOf({ destination }).bytes));
    expect(stat(QS_PACKETS)).toBe(400);
  });

  it('prunes VLANs that are not listed, but not untagged and priority-tagged frames', () => {
    ring();
    rig.addVlan(5);
    const frames = [frameOf().bytes, frameOf({ vlan: 0x2000 }).bytes, frameOf({ vlan: 5 }).bytes, frameOf({ vlan: 6 }).bytes];
    deliver(...frames);
    expect(stat(QS_PACKETS)).toBe(4);
    rig.setFlags(DEVF_VLAN_PRUNING);
    deliver(...frames);
    expect([stat(QS_PACKETS), rig.deviceStat(DEVS_RX_FILTERED)]).toEqual([7, 1]);
    rig.setFlags(DEVF_VLAN_PRUNING | DEVF_UNICAST_PROMISC);
    deliver(...frames);
    expect(stat(QS_PACKETS)).toBe(11);
  });

  const good = { l3l4p: true, ipe: false, l4e: false };
  const open = { l3l4p: false, ipe: false, l4e: false };
  it.each([
    ['TCP', frameOf().bytes, { ...good, ptype: 26 }],
    ['UDP', frameOf({ protocol: 'udp', payload: 1001 }).bytes, { ...good, ptype: 24 }],
    ['TCP over IPv6', frameOf({ ip: 6, payload: 501 }).bytes, { ...good, ptype: 92 }],
    ['UDP over IPv6', frameOf({ ip: 6, protocol: 'udp' }).bytes, { ...good, ptype: 90 }],
    ['a wrong IPv4 checksum', change(frameOf().bytes, 24), { l3l4p: true, ipe: true, l4e: false, ptype: 26 }],
    ['a wrong TCP checksum', change(frameOf().bytes, 60), { l3l4p: true, ipe: false, l4e: true, ptype: 26 }],
    ['a wrong UDP checksum over IPv6', change(frameOf({ ip: 6, protocol: 'udp' }).bytes, 70), { l3l4p: true, ipe: false, l4e: true, ptype: 90 }],
    ['UDP without checksum', frameOf({ protocol: 'udp' }).bytes.fill(0, 40, 42), { ...good, ptype: 24 }],
    ['IPv6 UDP without checksum', frameOf({ ip: 6, protocol: 'udp' }).bytes.fill(0, 60, 62), { ...open, ptype: 90 }],
    ['Ethernet padding behind the packet', Buffer.concat([frameOf({ payload: 1 }).bytes, Buffer.alloc(9, 0xaa)]), { ...good, ptype: 26 }],
    ['SCTP', frameOf({ protocol: 'sctp' }).bytes, { ...open, ptype: 27 }],
    ['ICMP', frameOf({ protocol: 'icmp' }).bytes, { ...open, ptype: 28 }],
    ['ICMPv6', frameOf({ ip: 6, protocol: 'icmp' }).bytes, { ...open, ptype: 94 }],
    ['IPv6 with extension headers', frameOf({ ip: 6, hopByHop: 16 }).bytes, { ...open, ptype: 92 }],
    ['a fragment', Buffer.from(frameOf().bytes).fill(0x20, 20, 21), { ...open, ptype: 22 }],
    ['an IPv4 length beyond the frame', Buffer.from(frameOf().bytes).fill(0xff, 16, 18), { ...open, ptype: 1 }],
    ['an IPv4 header length beyond the frame', Buffer.from(frameOf({ protocol: 'icmp', payload: 0 }).bytes).fill(0x4f, 14, 15), { ...open, ptype: 1 }],
    ['a TCP header cut short', frameOf({ protocol: 'icmp' }).bytes.fill(6, 23, 24).fill(30, 17, 18), { ...open, ptype: 23 }],
    ['LLDP', Buffer.concat([MAC, MAC, Buffer.from('88cc', 'hex'), Buffer.alloc(50)]), { ...open, ptype: 6 }],
    ['something else', Buffer.concat([MAC, MAC, Buffer.from('9000', 'hex'), Buffer.alloc(50)]), { ...open, ptype: 1 }],
  ])('classifies and verifies %s', (_name, frame, expected) => {
    ring();
    deliver(frame);
    expect(descriptor(0)).toMatchObject(expected);
  });

  it.each([
    ['one buffer', { buffer: 2048 }, {}],
    ['several buffers', { buffer: 512 }, {}],
    ['one buffer, tagged', { buffer: 2048 }, { vlan: 5 }],
    ['one buffer, IPv6', { buffer: 2048 }, { ip: 6, protocol: 'udp' }],
  ] as const)('finds a wrong byte in frames of every length: %s', (_name, options, kind) => {
    for (const payload of [...Array.from({ length: 240 }, (_, n) => n + 1), 700, 1001, 1460]) {
      ring(options);
      rig.set(rig.rxBlock(0) + Q_HEAD, 0);
      const frame = frameOf({ ...kind, payload });
      deliver(frame.bytes, change(frame.bytes, frame.bytes.length - 1), change(frame.bytes, frame.l2 + frame.l3 + 1));
      const parts = Math.ceil(Math.max(60, frame.bytes.length) / options.buffer);
      const said = [1, 2, 3].map((n) => descriptor(n * parts - 1));
      expect({ payload, l3l4p: said.map((d) => d.l3l4p), l4e: said.map((d) => d.l4e) }).toEqual({ payload, l3l4p: [true, true, true], l4e: [false, true, true] });
    }
  });

  it('believes a sending port that has verified the checksum', () => {
    ring();
    const wrong = change(frameOf().bytes, 60);
    deliver({ bytes: wrong, flags: FRAME_RX_L4_GOOD }, { bytes: frameOf().bytes, flags: FRAME_RX_L4_BAD });
    expect([descriptor(0).l4e, descriptor(1).l4e]).toEqual([false, true]);
  });

  // Microsoft, "Verifying the RSS Hash Calculation": source, destination, ports, hash with ports, hash of addresses alone
  it.each([
    [4, '66.9.149.187', '161.142.100.80', [2794, 1766], 0x51ccc178, 0x323e8fc2],
    [4, '199.92.111.2', '65.69.140.83', [14230, 4739], 0xc626b0ea, 0xd718262a],
    [4, '24.19.198.95', '12.22.207.184', [12898, 38024], 0x5c2b394a, 0xd2d0a5de],
    [4, '38.27.205.30', '209.142.163.6', [48228, 2217], 0xafc7327f, 0x82989176],
    [4, '153.39.163.191', '202.188.127.2', [44251, 1303], 0x10e828a2, 0x5d1809c5],
    [6, '3ffe:2501:200:1fff:0:0:0:7', '3ffe:2501:200:3:0:0:0:1', [2794, 1766], 0x40207d3d, 0x2cc18cd5],
    [6, '3ffe:501:8:0:260:97ff:fe40:efab', 'ff02:0:0:0:0:0:0:1', [14230, 4739], 0xdde51bbf, 0x0f0c461c],
    [6, '3ffe:1900:4545:3:200:f8ff:fe21:67cf', 'fe80:0:0:0:200:f8ff:fe21:67cf', [44251, 38024], 0x02d1feef, 0x4b61e985],
  ] as const)('hashes IPv%i %s to %s', (ip, source, target, ports, withPorts, addresses) => {
    ring();
    ring({}, 1);
    rig.setLut((entry) => entry % 2);
    const options = { ip, source, target, ports };
    deliver(...(['tcp', 'udp', 'sctp', 'icmp'] as const).map((protocol) => frameOf({ ...options, protocol }).bytes));
    const portsQueue = withPorts % 2;
    expect([0, 1, 2].map((n) => descriptor(n, portsQueue).hash)).toEqual([withPorts, withPorts, withPorts]);
    const last = addresses % 2;
    expect(descriptor(last === portsQueue ? 3 : 0, last).hash).toBe(addresses);
  });

  it('hashes only the types that the guest has enabled; the rest goes to the first entry of the LUT', () => {
    ring();
    ring({}, 1);
    rig.set64(rig.device + DEV_HENA, 1n << 33n); // IPv4 TCP
    deliver(frameOf().bytes, frameOf({ protocol: 'udp' }).bytes, frameOf({ ip: 6 }).bytes);
    expect([0, 1, 2].map((n) => descriptor(n).hash === undefined)).toEqual([false, true, true]);
    rig.u8[rig.device + DEV_LUT] = 1; // changed at run time
    rig.set64(rig.device + DEV_HENA, 0n);
    deliver(frameOf().bytes);
    expect(stat(QS_PACKETS, 1)).toBe(1);
    expect(rig.get(rig.device + DEV_RX_KICK)).toBe(2);
    rig.u8[rig.device + DEV_LUT] = 9; // a queue that was never granted
    deliver(frameOf().bytes);
    expect(rig.deviceStat(DEVS_RX_NO_QUEUE)).toBe(1);
  });

  it('latches a tail outside of the ring, and counts what the queue then loses', () => {
    ring();
    rig.setTail(rig.rxBlock(0), RING);
    deliver(frameOf().bytes, frameOf().bytes);
    expect(rig.fault(rig.rxBlock(0))).toBe(QFAULT_TAIL);
    expect([stat(QS_DISCARDS), rig.deviceStat(DEVS_RX_NO_QUEUE)]).toEqual([1, 1]);
  });

  it('takes nothing while paused', () => {
    ring();
    rig.set(rig.device + DEV_PAUSED, 1);
    expect(deliver(frameOf().bytes)).toBe(0);
    expect(descriptor(0).length).toBe(0x3fff); // stale, untouched
  });
});

function change(frame: Buffer, at: number): Buffer {
  const copy = Buffer.from(frame);
  copy[at]! ^= 0x55;
  return copy;
}

it('gives descriptors back in ring order, each ownership bit after the other words and the frame', () => {
  class Recording extends TwinMemory {
    readonly stores: number[] = [];
    override setU32(offset: number, value: number): void {
      this.stores.push(offset);
      super.setU32(offset, value);
    }
    override setU8(offset: number, value: number): void {
      this.stores.push(offset);
      super.setU8(offset, value);
    }
    override publish(offset: number, low: number, high: number): void {
      this.stores.push(offset);
      super.publish(offset, low, high);
    }
  }
  rig.reset();
  rig.mapGuest();
  rig.addMac(MAC);
  rig.enableRx(0, { buffer: 128 });
  for (let n = 0; n < 3; n++) rig.set64(rig.rxDescriptor(0, n), CHUNK_IOVA + BigInt(n) * BUFFER_STRIDE);
  rig.setTail(rig.rxBlock(0), 3);
  const memory = new Recording(rig.view, rig.i32);
  createTwins(memory).txBurst(rig.device, rig.burst.records, rig.fillBurst([{ bytes: frameOf({ payload: 300 }).bytes }]));
  const ring = rig.rxDescriptor(0, 0);
  const stores = memory.stores.filter((offset) => offset >= guestOffset(CHUNK_IOVA));
  const at = (offset: number): number => stores.lastIndexOf(offset);
  expect(at(ring + 8)).toBeLessThan(at(ring + 32 + 8));
  expect(at(ring + 32 + 8)).toBeLessThan(at(ring + 64 + 8));
  for (let n = 0; n < 3; n++) {
    for (let word = 0; word < 32; word++) if (word < 8 || word >= 16) expect(at(ring + 32 * n + word)).toBeLessThan(at(ring + 32 * n + 8));
    expect(at(guestOffset(CHUNK_IOVA + BigInt(n) * BUFFER_STRIDE))).toBeLessThan(at(ring + 8));
  }
});
