/** A card that lends frames to itself: whatever the packets and buffers are like, kernels and twins agree once all loans have ended. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEV_LENDS, DEV_STATS, LEND_ABOVE_BYTES, MIN_TX_FRAME_BYTES, PADDED_FRAME_BYTES, Q_STATS, QS_PACKETS } from '../src/layout.ts';
import { bothWays, implementations } from './both-ways.ts';
import { frameOf, type FrameOptions } from './frames.ts';
import { CHUNK_IOVA, GUEST, guestOffset, READ, Rig, WRITE } from './rig.ts';

const rig = new Rig();
const both = implementations(rig);
const PAGES_IOVA = CHUNK_IOVA + 0x200000n;
const COUNT_MASK = 0xffff;
const LENT = 1 << 18;
const PLAIN = 0n;
/** IIPT IPv4 with checksum, L4T TCP, OFFSET 14/20/20. */
const TCP_CHECKSUM = 0x1600n | (7n << 16n) | (5n << 23n) | (5n << 30n);

/** No frames lie in the pages. Nor zeroes, whose checksum has two right values. */
const pages = Buffer.from(Array.from({ length: 0x200000 }, (_, n) => (n * 31 + (n >> 9)) & 0xff));

const kind = fc.record({
  options: fc.record({
    payload: fc.oneof(fc.nat(80), fc.integer({ min: 200, max: 1460 }), fc.integer({ min: 1460, max: 9000 })),
    protocol: fc.constantFrom('tcp', 'udp', 'sctp', 'icmp'),
    ip: fc.constantFrom(4, 4, 6),
    vlan: fc.constantFrom(undefined, undefined, 5),
  }),
  etherType: fc.constantFrom(undefined, undefined, 0x88b5, 0x0806),
  broken: fc.integer({ min: 0, max: 9 }),
  padding: fc.constantFrom(0, 0, 0, 6),
  command: fc.constantFrom(PLAIN, PLAIN, PLAIN, TCP_CHECKSUM),
  rs: fc.boolean(),
  group: fc.integer({ min: 0, max: 9 }),
  descriptors: fc.constantFrom(1, 1, 1, 2),
  where: fc.constantFrom('chunk', 'chunk', 'pages', 'nowhere'),
});
const card = fc.record({
  packets: fc.array(kind, { minLength: 1, maxLength: 30 }),
  max: fc.constantFrom(64, 64, 5),
  arenaBytes: fc.constantFrom(0x100000, 0x100000, 20000),
  buffer: fc.constantFrom(2048, 2048, 512, 4096),
  flags: fc.constantFrom(0, 8),
  room: fc.constantFrom(255, 255, 10),
  taken: fc.boolean(),
});

describe('lent frames', () => {
  it('are delivered as whole ones are, by kernels and twins', () => {
    let lent = 0;
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
          const frame = Buffer.concat([frameOf(packet.options as FrameOptions).bytes, Buffer.alloc(packet.padding)]);
          if (packet.etherType !== undefined) frame.writeUInt16BE(packet.etherType, 12);
          if (packet.broken === 0) frame[frame.length - 1]! ^= 1;
          if (packet.group === 0) frame.fill(0xff, 0, 6);
          const at = CHUNK_IOVA + BigInt(n * 0x8000 + (n % 11));
          rig.write(guestOffset(at), frame);
          const iova = packet.where === 'chunk' ? at : packet.where === 'pages' ? PAGES_IOVA + BigInt(n * 8192 + 100) : 0x77n;
          const first = packet.descriptors === 1 ? frame.length : MIN_TX_FRAME_BYTES;
          const command = packet.command | (packet.rs ? 0x20n : 0n);
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
            results.push(received, taken ? kernels.txBurst(rig.device, rig.burst.records, count) : 0);
            // Which frames had to be whole on the way is the kernels' own affair
            results.push(kernels.takeBack(rig.device, 0, rig.burst.records, count));
            // A burst that has refused as many packets as it may take frames goes on in the next one
            if (count === 0 && rig.head(rig.txBlock(0)) === head) break;
          }
          return results;
        });
        expect(rig.head(rig.txBlock(0))).toBe(slot);
      }),
      { numRuns: 150 },
    );
    expect(lent).toBeGreaterThan(100);
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
    });
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
          frames.forEach(({ headers: options, payload, tags, changes, ihl }, n) => {
            const whole = frameOf({ ...options, payload } as FrameOptions).bytes;
            const bytes = Buffer.concat([whole.subarray(0, 12), ...tags.map((tag) => Buffer.from([tag >> 8, tag & 0xff, 0, 5])), whole.subarray(12)]);
            if (ihl !== 0) bytes[14] = 0x40 | ihl;
            for (const [at, value] of changes) bytes[at] = value;
            rig.write(GUEST + n * 4096, bytes);
            rig.set64(rig.txDescriptor(0, n), CHUNK_IOVA + BigInt(n * 4096));
            rig.set64(rig.txDescriptor(0, n) + 8, 0x30n | (BigInt(bytes.length) << 34n));
          });
          rig.setTail(rig.txBlock(0), frames.length);
          // What lies behind a head is not the frame's
          rig.u8.fill(0x55, rig.burst.arena, rig.burst.arena + rig.burst.arenaBytes);
          const received = both.wasm.rxBurst(rig.device, 0, rig.burst.records, 64, rig.burst.arena, rig.burst.arenaBytes);
          expect(received & (COUNT_MASK | LENT)).toBe(frames.length | (lends === 1 ? LENT : 0));
          both.wasm.txBurst(rig.device, rig.burst.records, frames.length);
          both.wasm.takeBack(rig.device, 0, rig.burst.records, 0);
          const counters = [rig.bytes(rig.device + DEV_STATS, 64), rig.bytes(rig.txBlock(0) + Q_STATS, 64), rig.bytes(rig.rxBlock(0) + Q_STATS, 64)];
          return Buffer.concat([rig.bytes(GUEST, 0x200000), ...counters]);
        };
        const copied = outcome(0);
        expect(outcome(1).compare(copied)).toBe(0);
      }),
      { numRuns: 150 },
    );
  });

  it('have short ones among them, and no kind of packet breaks up all bursts', () => {
    rig.reset();
    rig.mapGuest();
    rig.set(rig.device + DEV_LENDS, 1);
    rig.enableTx(0, { length: 256 });
    for (let n = 0; n < 200; n++) {
      const bytes = BigInt(n % 2 === 0 ? LEND_ABOVE_BYTES + 1 : PADDED_FRAME_BYTES);
      rig.set64(rig.txDescriptor(0, n), CHUNK_IOVA + BigInt(n * 2048));
      // From 100 on every second packet has a checksum to be inserted
      rig.set64(rig.txDescriptor(0, n) + 8, 0x30n | (bytes << 34n) | (n >= 100 && n % 2 === 1 ? TCP_CHECKSUM : 0n));
    }
    rig.setTail(rig.txBlock(0), 200);
    for (const kernels of [both.wasm, both.twins]) {
      const burst = (): number => {
        const result = kernels.rxBurst(rig.device, 0, rig.burst.records, 32, rig.burst.arena, rig.burst.arenaBytes);
        kernels.takeBack(rig.device, 0, rig.burst.records, 0);
        return result & (COUNT_MASK | LENT);
      };
      const before = rig.bytes(0, 0x800000);
      expect([burst(), burst(), burst()]).toEqual([32 | LENT, 32 | LENT, 32 | LENT]);
      // 96, 98 and 100 are lent; then 102 and what follows are copied, for a while
      expect([burst(), burst(), burst()]).toEqual([5 | LENT, 32, 32]);
      expect(rig.stat(rig.txBlock(0), QS_PACKETS)).toBe(165);
      rig.write(0, before);
    }
  });
});
