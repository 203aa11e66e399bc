/** A card that lends frames to itself: whatever the packets and buffers are like, kernels and twins agree once all loans have ended. */
import { FRAME_LENT, FRAME_TX_L4_CSUM } from '@emudev/ethdev';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEV_LENDS, DEV_STATS, LEND_ABOVE_BYTES, MIN_TX_FRAME_BYTES, Q_STATS, QS_PACKETS } from '../src/layout.ts';
import { bothWays, implementations } from './both-ways.ts';
import { frameOf, type FrameOptions, type Layout } from './frames.ts';
import { CHUNK_IOVA, GUEST, guestOffset, READ, Rig, WRITE } from './rig.ts';

const rig = new Rig();
const both = implementations(rig);
const PAGES_IOVA = CHUNK_IOVA + 0x200000n;
const COUNT_MASK = 0xffff;
const LENT = 1 << 18;
/** Bits of qw1 of an Rx write-back. */
const L3L4P = 1n << 3n;
const L4E = 1n << 23n;
/** IIPT of IPv4, with and without its checksum, and of IPv6; L4T. */
const IPV4_CHECKSUM = 0x600n;
const IPV4 = 0x400n;
const IPV6 = 0x200n;
const L4T = { tcp: 0x1000n, udp: 0x3000n, sctp: 0x2000n, icmp: 0n } as const;
const offsetOf = ({ l2, l3, l4 }: Layout): bigint => BigInt((l2 / 2) | ((l3 / 4) << 7) | ((l4 / 4) << 14)) << 16n;
/** TCP in IPv4 without tag or options. */
const TCP_CHECKSUM = IPV4_CHECKSUM | L4T.tcp | offsetOf({ l2: 14, l3: 20, l4: 20, bytes: Buffer.alloc(0) });

/** No frames lie in the pages. Nor zeroes, whose checksum has two right values. */
const pages = Buffer.from(Array.from({ length: 0x200000 }, (_, n) => (n * 31 + (n >> 9)) & 0xff));

const kind = fc.record({
  options: fc.record({
    payload: fc.oneof(fc.nat(80), fc.integer({ min: 200, max: 1460 }), fc.integer({ min: 1460, max: 9000 })),
    protocol: fc.constantFrom('tcp', 'tcp', 'udp', 'udp', 'sctp', 'icmp'),
    ip: fc.constantFrom(4, 4, 4, 6),
    tcpOptions: fc.constantFrom(0, 12),
    vlan: fc.constantFrom(undefined, undefined, 5),
  }),
  /** Which checksums the card is asked for: those of the packet, or some others. */
  checksums: fc.constantFrom('none', 'none', 'right', 'right', 'right', 'tcp', 'udp', 'ip'),
  /** In the field where the sum is to go on, as a driver should leave it or not. */
  seed: fc.constantFrom('right', 'right', 'right', 'wrong', 'zero'),
  etherType: fc.constantFrom(...Array.from({ length: 8 }, () => undefined), 0x88b5, 0x0806),
  broken: fc.integer({ min: 0, max: 9 }),
  padding: fc.constantFrom(0, 0, 0, 6),
  rs: fc.boolean(),
  group: fc.integer({ min: 0, max: 9 }),
  descriptors: fc.constantFrom(1, 1, 1, 1, 1, 2),
  where: fc.constantFrom(...Array.from({ length: 8 }, () => 'chunk'), 'pages', 'nowhere'),
});
const card = fc.record({
  packets: fc.array(kind, { minLength: 1, maxLength: 30 }),
  max: fc.constantFrom(64, 64, 5),
  arenaBytes: fc.constantFrom(0x100000, 0x100000, 20000),
  buffer: fc.constantFrom(2048, 2048, 512, 4096),
  flags: fc.constantFrom(0, 8),
  room: fc.constantFrom(255, 255, 10),
  taken: fc.constantFrom(true, true, false),
});

describe('lent frames', () => {
  it('are delivered as whole ones are, by kernels and twins', () => {
    let lent = 0;
    let summed = 0;
    let vouched = 0;
    fc.assert(
      fc.property(card, ({ packets, max, arenaBytes, buffer, flags, room, taken }) => {
        rig.reset();
        rig.mapGuest();
        rig.write(GUEST + 0x200000, pages);
        rig.mapPages(PAGES_IOVA, Array.from({ length: 512 }, (_, n) => (n % 5 === 0 ? 0 : (GUEST + 0x200000 + ((n * 37) % 512) * 4096) | (n % 7 === 0 ? WRITE : READ | WRITE))));
        rig.set(rig.device + DEV_LENDS, 1);
        rig.addMac(Buffer.from('020000000001', 'hex'));
        rig.setFlags(flags);
        rig.enableTx(0, { length: 256 });
        rig.enableRx(0, { length: 256, buffer });
        // Below 1 MiB what is sent, above what is received
        for (let n = 0; n < 256; n++) rig.set64(rig.rxDescriptor(0, n), CHUNK_IOVA + 0x100000n + BigInt((n % 200) * 4096 + (n % 3)));
        rig.setTail(rig.rxBlock(0), room);
        let slot = 0;
        packets.forEach((packet, n) => {
          const { checksums, seed } = packet;
          const layout = frameOf({ ...(packet.options as FrameOptions), ...(checksums === 'right' ? { undone: 'checksum' } : {}) });
          const frame = Buffer.concat([layout.bytes, Buffer.alloc(packet.padding, 0x5a)]);
          const { protocol, ip } = packet.options;
          if (seed !== 'right' && (protocol === 'tcp' || protocol === 'udp')) {
            const field = layout.l2 + layout.l3 + (protocol === 'tcp' ? 16 : 6);
            frame.writeUInt16LE(seed === 'zero' ? 0 : (frame.readUInt16LE(field) + 1) & 0xffff, field);
          }
          const iipt = ip === 6 ? IPV6 : n % 2 === 0 ? IPV4_CHECKSUM : IPV4;
          const work = { none: 0n, right: L4T[protocol as keyof typeof L4T] | iipt, tcp: L4T.tcp | iipt, udp: L4T.udp | iipt, ip: iipt }[checksums];
          if (packet.etherType !== undefined) frame.writeUInt16BE(packet.etherType, 12);
          if (packet.broken === 0) frame[frame.length - 1]! ^= 1;
          if (packet.group === 0) frame.fill(0xff, 0, 6);
          const at = CHUNK_IOVA + BigInt(n * 0x8000 + (n % 11));
          rig.write(guestOffset(at), frame);
          const iova = packet.where === 'chunk' ? at : packet.where === 'pages' ? PAGES_IOVA + BigInt(n * 8192 + 100) : 0x77n;
          const first = packet.descriptors === 1 ? frame.length : MIN_TX_FRAME_BYTES;
          const command = work | (work === 0n ? 0n : offsetOf(layout)) | (packet.rs ? 0x20n : 0n);
          rig.set64(rig.txDescriptor(0, slot), iova);
          rig.set64(rig.txDescriptor(0, slot++) + 8, command | (packet.descriptors === 1 ? 0x10n : 0n) | (BigInt(first) << 34n));
          if (packet.descriptors === 1) return;
          rig.set64(rig.txDescriptor(0, slot), iova + BigInt(first));
          rig.set64(rig.txDescriptor(0, slot++) + 8, command | 0x10n | (BigInt(frame.length - first) << 34n));
        });
        rig.setTail(rig.txBlock(0), slot);
        bothWays(rig, both, (kernels) => {
          const results: number[] = [];
          for (let burst = 0; burst < 40; burst++) {
            const head = rig.head(rig.txBlock(0));
            const received = kernels.rxBurst(rig.device, 0, rig.burst.records, max, rig.burst.arena, arenaBytes);
            const count = received & COUNT_MASK;
            if (received & LENT) lent++;
            for (let n = 0; n < count; n++) summed += (rig.frameFlags(n) & (FRAME_LENT | FRAME_TX_L4_CSUM)) === (FRAME_LENT | FRAME_TX_L4_CSUM) ? 1 : 0;
            results.push(received, taken ? kernels.txBurst(rig.device, rig.burst.records, count) : 0);
            // Which frames had to be whole on the way is the kernels' own affair
            results.push(kernels.takeBack(rig.device, 0, rig.burst.records, count));
            // A burst that has refused as many packets as it may take frames goes on in the next one
            if (count === 0 && rig.head(rig.txBlock(0)) === head) break;
          }
          return results;
        });
        expect(rig.head(rig.txBlock(0))).toBe(slot);
        for (let n = 0; n < rig.head(rig.rxBlock(0)); n++) if ((rig.get64(rig.rxDescriptor(0, n) + 8) & (L3L4P | L4E)) === L3L4P) vouched++;
      }),
      { numRuns: 150 },
    );
    expect(lent).toBeGreaterThan(100);
    expect(summed).toBeGreaterThan(100);
    expect(vouched).toBeGreaterThan(30);
  });

  it('reach the guest as if they had been copied, headers of any kind and length', () => {
    // Extension headers, options, tags in tags: 48 and 40 bytes of them do not fit into the head
    const headers = fc.oneof(
      fc.record({ ip: fc.constant(6 as const), hopByHop: fc.constantFrom(0, 8, 48, 200), protocol: fc.constantFrom('tcp', 'udp', 'icmp') }),
      fc.record({ ip: fc.constant(4 as const), protocol: fc.constantFrom('tcp', 'udp', 'sctp'), tcpOptions: fc.constantFrom(0, 12, 40), tcpFlags: fc.constantFrom(0x10, 0x02), vlan: fc.constantFrom(undefined, 5) }),
    );
    const frame = fc.record({
      headers,
      payload: fc.integer({ min: 240, max: 1800 }),
      tags: fc.constantFrom([], [], [0x8100], [0x88a8], [0x8100, 0x8100]),
      /** Bytes among the headers that are anything: lengths, types, options of IPv4. */
      changes: fc.array(fc.tuple(fc.integer({ min: 12, max: 75 }), fc.nat(255)), { maxLength: 3 }),
      ihl: fc.constantFrom(0, 0, 6, 15),
      /** Whose checksum is to be inserted, and how far the header lengths of the request are off. */
      sum: fc.constantFrom('none', 'tcp', 'udp', 'tcp', 'udp'),
      off: fc.constantFrom(0, 0, 0, 4),
    });
    let lent = 0;
    fc.assert(
      fc.property(fc.array(frame, { minLength: 1, maxLength: 12 }), fc.constantFrom(0, 8), (frames, flags) => {
        const outcome = (lends: number): Buffer => {
          rig.reset();
          rig.mapGuest();
          rig.set(rig.device + DEV_LENDS, lends);
          rig.addMac(Buffer.from('020000000001', 'hex'));
          rig.setFlags(flags);
          rig.enableTx(0, { length: 64 });
          rig.enableRx(0, { length: 64, buffer: 2048 });
          for (let n = 0; n < 64; n++) rig.set64(rig.rxDescriptor(0, n), CHUNK_IOVA + 0x100000n + BigInt(n * 2048));
          rig.setTail(rig.rxBlock(0), 63);
          frames.forEach(({ headers: options, payload, tags, changes, ihl, sum, off }, n) => {
            const layout = frameOf({ ...options, payload, ...(sum === 'none' ? {} : { undone: 'checksum' }) } as FrameOptions);
            const whole = layout.bytes;
            const bytes = Buffer.concat([whole.subarray(0, 12), ...tags.map((tag) => Buffer.from([tag >> 8, tag & 0xff, 0, 5])), whole.subarray(12)]);
            if (ihl !== 0) bytes[14] = 0x40 | ihl;
            for (const [at, value] of changes) bytes[at] = value;
            rig.write(GUEST + n * 4096, bytes);
            rig.set64(rig.txDescriptor(0, n), CHUNK_IOVA + BigInt(n * 4096));
            const l2 = layout.l2 + bytes.length - whole.length + (off >> 1);
            const work = sum === 'none' ? 0n : L4T[sum as 'tcp' | 'udp'] | (options.ip === 6 ? IPV6 : IPV4_CHECKSUM) | offsetOf({ ...layout, l2, l3: layout.l3 + off });
            rig.set64(rig.txDescriptor(0, n) + 8, 0x30n | work | (BigInt(bytes.length) << 34n));
          });
          rig.setTail(rig.txBlock(0), frames.length);
          // What lies behind a head is not the frame's
          rig.u8.fill(0x55, rig.burst.arena, rig.burst.arena + rig.burst.arenaBytes);
          const received = both.wasm.rxBurst(rig.device, 0, rig.burst.records, 64, rig.burst.arena, rig.burst.arenaBytes);
          expect(received & COUNT_MASK).toBe(frames.length);
          for (let n = 0; n < frames.length; n++) if ((rig.frameFlags(n) & FRAME_LENT) !== 0) lent++;
          both.wasm.txBurst(rig.device, rig.burst.records, frames.length);
          both.wasm.takeBack(rig.device, 0, rig.burst.records, 0);
          const counters = [rig.bytes(rig.device + DEV_STATS, 64), rig.bytes(rig.txBlock(0) + Q_STATS, 64), rig.bytes(rig.rxBlock(0) + Q_STATS, 64)];
          return Buffer.concat([rig.bytes(GUEST, 0x200000), ...counters]);
        };
        const before = lent;
        const copied = outcome(0);
        expect(lent).toBe(before);
        expect(outcome(1).compare(copied)).toBe(0);
      }),
      { numRuns: 150 },
    );
    expect(lent).toBeGreaterThan(300);
  });

  /** Short ones are acknowledgements; what a guest sends in one direction of a TCP connection, and receives in the other. */
  it.each([
    { what: 'to send as they are', long: 0n, short: 0n },
    { what: 'with checksums to insert', long: TCP_CHECKSUM, short: TCP_CHECKSUM },
    { what: 'with checksums to insert, in headers of two lengths', long: TCP_CHECKSUM, short: TCP_CHECKSUM + (3n << 30n) },
    { what: 'with checksums to insert in every second one', long: TCP_CHECKSUM, short: 0n },
    { what: 'with checksums to insert in the short ones', long: 0n, short: TCP_CHECKSUM },
  ])('have short ones among them: all long ones are lent $what', ({ long, short }) => {
    rig.reset();
    rig.mapGuest();
    rig.set(rig.device + DEV_LENDS, 1);
    rig.enableTx(0, { length: 256 });
    for (let n = 0; n < 200; n++) {
      const bytes = n % 2 === 0 ? LEND_ABOVE_BYTES + 1 : n % 4 === 1 ? 66 : LEND_ABOVE_BYTES;
      rig.set64(rig.txDescriptor(0, n), CHUNK_IOVA + BigInt(n * 2048));
      rig.set64(rig.txDescriptor(0, n) + 8, 0x30n | (BigInt(bytes) << 34n) | (n % 2 === 0 ? long : short));
    }
    rig.setTail(rig.txBlock(0), 200);
    const before = rig.bytes(0, 0x800000);
    for (const kernels of [both.wasm, both.twins]) {
      rig.write(0, before);
      for (let burst = 0; burst < 6; burst++) {
        const result = kernels.rxBurst(rig.device, 0, rig.burst.records, 32, rig.burst.arena, rig.burst.arenaBytes);
        expect(result & (COUNT_MASK | LENT)).toBe(32 | LENT);
        expect(Array.from({ length: 32 }, (_, n) => (rig.frameFlags(n) & FRAME_LENT) !== 0)).toEqual(Array.from({ length: 32 }, (_, n) => n % 2 === 0));
        expect(kernels.takeBack(rig.device, 0, rig.burst.records, 0)).toBe(1);
      }
      expect(rig.stat(rig.txBlock(0), QS_PACKETS)).toBe(192);
    }
  });
});
