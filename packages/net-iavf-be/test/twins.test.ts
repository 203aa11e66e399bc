/**
 * Kernels and twins were written separately; on random rings, descriptors, frames and translation tables they must agree in
 * every byte. And whatever the guest writes, nothing changes outside of what is mapped for writing and the device's own state.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DEV_BYTES, DEV_LENDS, Q_BAD_BUFFERS, Q_FAULT, Q_HEAD, Q_LENGTH, Q_RING, Q_STAGE, Q_STATS, Q_TSO_TOTAL, STAGE_BYTES,
} from '../src/layout.ts';
import type { Kernels } from '../src/twins/index.ts';
import { bothWays, implementations } from './both-ways.ts';
import { CHUNK_IOVA, GUEST, GUEST_BYTES, READ, Rig, WRITE } from './rig.ts';

const rig = new Rig();
const both = implementations(rig);
const PAGES_IOVA = CHUNK_IOVA + 0x200000n;
const FLAT = 0xfffff;
const LENT = 1 << 18;

/** A generator of its own for bulk content, seeded by fast-check: arbitraries for every byte would be slow. */
function random(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}
const noise = Buffer.alloc(GUEST_BYTES);
{
  const next = random(12345);
  for (let n = 0; n < noise.length; n += 4) noise.writeUInt32LE(next(), n);
}

/** Guest memory with a whole chunk and a chunk of pages: shuffled, with holes, read-only and write-only ones. */
function mapRandomly(next: () => number): void {
  rig.write(GUEST, noise);
  const permission = [0, READ, WRITE, READ | WRITE, READ | WRITE, READ | WRITE][next() % 6]!;
  rig.mapChunk(CHUNK_IOVA, GUEST, next() % 4 === 0 ? permission : READ | WRITE);
  rig.mapPages(
    PAGES_IOVA,
    Array.from({ length: 512 }, (_, n) => (next() % 8 === 0 ? 0 : (GUEST + 0x200000 + ((n * 37 + 11) % 512) * 4096) | (next() % 8 === 0 ? READ : READ | WRITE))),
  );
}
function anIova(next: () => number): bigint {
  switch (next() % 16) {
    case 0: return (BigInt(next()) << 32n) | BigInt(next()); // anywhere: not mapped
    case 1: return 0xffffffffffffff00n + BigInt(next() % 256); // wraps
    case 2: return CHUNK_IOVA + 0x200000n - BigInt(next() % 4000); // across the chunk border
    case 3: case 4: case 5: return PAGES_IOVA + BigInt(next() % 0x200000);
    default: return CHUNK_IOVA + BigInt(next() % 0x180000);
  }
}

function txDescriptor(index: number, address: bigint, qw1: bigint): void {
  rig.set64(rig.txDescriptor(0, index), address);
  rig.set64(rig.txDescriptor(0, index) + 8, qw1);
}
const choose = <T>(next: () => number, values: readonly T[]): T => values[next() % values.length]!;
const chance = (next: () => number, percent: number): boolean => next() % 100 < percent;

/** A packet as a driver would post it, sometimes with one thing wrong. Returns descriptors used. */
function postPacket(next: () => number, at: number, length: number): number {
  let used = 0;
  const slot = (): number => (at + used++) % length;
  const ipv6 = chance(next, 40);
  const l4t = next() % 4;
  const iipt = ipv6 ? 1 : choose(next, [0, 2, 3, 3]);
  const l3 = choose(next, ipv6 ? [10, 12] : [5, 5, 6, 15]);
  const l4 = choose(next, [[0], [5, 8], [3], [2]][l4t]!);
  const offset = BigInt(chance(next, 5) ? next() & 0x3ffff : 7 | (l3 << 7) | (l4 << 14));
  const segmented = chance(next, 30) && l4t !== 0;
  if (segmented || chance(next, 5)) {
    const command = segmented ? 1n : BigInt(next() & 0xf);
    const mss = BigInt(chance(next, 5) ? next() & 0x3fff : 64 + (next() % 2000));
    const tsoLength = chance(next, 5) ? 0n : 1000n;
    txDescriptor(slot(), BigInt(next()), 1n | (command << 4n) | (tsoLength << 30n) | (mss << 50n));
  }
  const command = (iipt << 5) | (l4t << 8) | (chance(next, 20) ? 0x8 : 0) | (chance(next, 5) ? 0x10 : 0) | (next() & 0x4);
  const buffers = chance(next, 50) ? 1 : 1 + (next() % 6);
  for (let n = 0; n < buffers; n++) {
    const last = n === buffers - 1;
    const type = chance(next, 2) ? BigInt(next() & 0xf) : 0n;
    const size = BigInt(segmented ? next() % 9000 : chance(next, 90) ? next() % 400 : next() % 16384);
    const flags = BigInt(command | (last ? 1 : 0) | (last || chance(next, 5) ? next() & 2 : 0));
    txDescriptor(slot(), anIova(next), type | (flags << 4n) | (offset << 16n) | (size << 34n) | (BigInt(next() & 0xffff) << 48n));
  }
  return used;
}

/** IPv4/IPv6 frames with mostly right headers, some mutations, and sometimes right checksums (a zero one for UDP). */
function aFrame(next: () => number): Buffer {
  const length = chance(next, 60) ? 14 + (next() % 200) : next() % 10000;
  const from = next() % (noise.length - 10000);
  const frame = Buffer.from(noise.subarray(from, from + length));
  if (length < 100) return frame;
  choose(next, [() => frame.fill(0xff, 0, 6), () => frame.write('020000000001', 'hex'), () => frame.write('01005e000001', 'hex'), () => undefined])();
  let l3 = 14;
  if (chance(next, 30)) {
    frame.writeUInt16BE(0x8100, 12);
    frame.writeUInt16BE(choose(next, [0, 5, 7, 0x6005]), 14);
    l3 = 18;
  }
  const protocol = choose(next, [6, 17, 132, 1, 58, 99]);
  if (chance(next, 50)) {
    frame.writeUInt16BE(0x0800, l3 - 2);
    frame[l3] = 0x45 + (chance(next, 10) ? next() % 11 : 0);
    frame.writeUInt16BE(length - l3 - (next() % 3), l3 + 2);
    frame.writeUInt16BE(chance(next, 10) ? next() & 0xffff : 0x4000, l3 + 6);
    frame[l3 + 9] = protocol;
    if (protocol === 17) frame.writeUInt16BE(frame.readUInt16BE(l3 + 2) - 20, l3 + 24);
    if (chance(next, 50)) frame.writeUInt16BE(0, l3 + 26);
  } else if (chance(next, 80)) {
    frame.writeUInt16BE(0x86dd, l3 - 2);
    frame[l3] = 0x60;
    frame.writeUInt16BE(length - l3 - 40, l3 + 4);
    frame[l3 + 6] = choose(next, [protocol, protocol, 0, 43, 44, 60]);
    if (chance(next, 50)) frame.writeUInt16BE(length - l3 - 40, l3 + 44);
    frame[l3 + 40] = protocol; // next header, when there is an extension
    if (chance(next, 70)) frame[l3 + 41] = 0;
  } else {
    frame.writeUInt16BE(choose(next, [0x0806, 0x88cc, 0x88f7, 0x8100]), l3 - 2);
  }
  return frame;
}

function rxDevice(next: () => number): void {
  mapRandomly(next);
  rig.setLut((entry) => entry % 2);
  rig.setFlags(next() & 0xf);
  rig.addMac(Buffer.from('020000000001', 'hex'));
  rig.addVlan(5);
  if (chance(next, 20)) rig.set64(rig.device + 48, BigInt(next()) << 16n);
  const length = choose(next, [64, 96, 512]);
  for (const queue of [0, 1]) {
    if (chance(next, 5)) continue;
    rig.enableRx(queue, { length, buffer: choose(next, [128, 1024, 2048, 4096]), maxPacket: choose(next, [1522, 9732]), short: chance(next, 50) });
    for (let n = 0; n < length; n++) rig.set64(rig.rxDescriptor(queue, n), anIova(next));
    rig.set(rig.rxBlock(queue) + Q_HEAD, next() % length);
    rig.setTail(rig.rxBlock(queue), next() % (length + (chance(next, 3) ? 1000 : 0)));
  }
}

/** Fails when a byte changed that the device had no right to change. */
function assertContained(before: Buffer, after: Buffer): void {
  const allow = (from: number, bytes: number): void => {
    before.copy(after, from, from, from + bytes);
  };
  const received = after.compare(before, rig.rxBlock(0), rig.rxBlock(2), rig.rxBlock(0), rig.rxBlock(2)) !== 0;
  allow(rig.device + 44, 4); // DEV_RX_KICK
  allow(rig.device + 128, DEV_BYTES - 128);
  for (let q = 0; q < 2; q++) {
    for (const block of [rig.txBlock(q), rig.rxBlock(q)]) {
      allow(block + Q_HEAD, 4);
      allow(block + Q_FAULT, 4);
      allow(block + Q_TSO_TOTAL - 4, 24);
      allow(block + Q_STATS, 64);
      allow(block + Q_BAD_BUFFERS, 4);
    }
    if (rig.get(rig.txBlock(q) + Q_STAGE) !== 0) allow(rig.get(rig.txBlock(q) + Q_STAGE), STAGE_BYTES);
    const tx = rig.get(rig.txBlock(q) + Q_RING);
    for (let n = 0; tx !== 0 && n < rig.get(rig.txBlock(q) + Q_LENGTH); n++) allow(tx + 16 * n + 8, 1); // the type nibble's byte
    const rx = rig.get(rig.rxBlock(q) + Q_RING);
    if (rx !== 0) allow(rx, rig.rxDescriptorBytes(q) * rig.get(rig.rxBlock(q) + Q_LENGTH));
  }
  allow(rig.burst.records, rig.burst.capacity * 32);
  allow(rig.burst.arena, rig.burst.arenaBytes);
  // That an entry was used is noted in it
  for (const entry of rig.entries) allow(entry + 12, 4);
  if (received) {
    // The chunk's entry and the page table as the rig laid them out
    for (let n = 0; n < 512; n++) {
      const page = before.readUInt32LE(0x48000 + 4 * n);
      if (page & WRITE) allow(page & ~0xfff, 4096);
    }
    if (chunkIsWritable()) allow(GUEST, 0x200000);
  }
  if (after.compare(before) !== 0) throw new Error(`0x${after.findIndex((byte, n) => byte !== before[n]).toString(16)} was changed`);
}
function chunkIsWritable(): boolean {
  return (rig.get(rig.entryOf(CHUNK_IOVA) + 8) & WRITE) !== 0;
}

/** A burst, after which all loans have ended. */
function receive(kernels: Kernels, max: number, bytes: number): number[] {
  const received = kernels.rxBurst(rig.device, 0, rig.burst.records, max, rig.burst.arena, bytes);
  return [received, received & LENT ? kernels.takeBack(rig.device, 0, rig.burst.records, received & 0xffff) : 0];
}

const arenaBytes = (next: () => number): number => choose(next, [rig.burst.arenaBytes, rig.burst.arenaBytes, 16384, 3000, 40]);

describe('guest Tx ring', () => {
  it('gives the same frames and the same memory in kernels and twins', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1 }), (seed) => {
        const next = random(seed);
        rig.reset();
        mapRandomly(next);
        const length = choose(next, [64, 96, 512]);
        rig.enableTx(0, { length });
        rig.set(rig.device + DEV_LENDS, next() & 1);
        rig.setPeerCaps(choose(next, [0, 0, FLAT << 16, next()]));
        const head = next() % length;
        rig.set(rig.txBlock(0) + Q_HEAD, head);
        const packets = 1 + (next() % 20);
        const ends = [head];
        let used = 0;
        for (let n = 0; n < packets && used + 8 < length; n++) {
          used += postPacket(next, head + used, length);
          ends.push((head + used - (chance(next, 10) ? 1 : 0)) % length);
        }
        const bytes = arenaBytes(next);
        const tails = [ends[ends.length >> 1]!, ends.at(-1)!, ends.at(-1)!];
        const max = choose(next, [64, 64, 3]);
        bothWays(rig, both, (kernels) =>
          tails.flatMap((tail) => {
            rig.setTail(rig.txBlock(0), tail);
            return receive(kernels, max, bytes);
          }),
        );
      }),
      { numRuns: 80 },
    );
  });

  it('stays within bounds on random bytes and tails', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1 }), (seed) => {
        const next = random(seed);
        rig.reset();
        mapRandomly(next);
        const length = choose(next, [64, 512]);
        rig.enableTx(0, { length });
        rig.set(rig.device + DEV_LENDS, next() & 1);
        for (let n = 0; n < length; n++) {
          txDescriptor(n, anIova(next), (BigInt(next()) << 32n) | BigInt((next() & ~0xf) | choose(next, [0, 0, 0, 1, next() & 0xf])));
        }
        const tails = Array.from({ length: 4 }, () => (chance(next, 10) ? next() : next() % length));
        const { before, after } = bothWays(rig, both, (kernels) =>
          tails.flatMap((tail) => {
            rig.setTail(rig.txBlock(0), tail);
            return receive(kernels, 64, rig.burst.arenaBytes);
          }),
        );
        rig.setTail(rig.txBlock(0), before.readUInt32LE(0x4000));
        after.writeUInt32LE(before.readUInt32LE(0x4000), 0x4000);
        assertContained(before, after);
      }),
      { numRuns: 25 },
    );
  });
});

describe('guest Rx ring', () => {
  it('gives the same descriptors and buffers in kernels and twins, and writes nowhere else', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1 }), (seed) => {
        const next = random(seed);
        rig.reset();
        rxDevice(next);
        const count = rig.fillBurst(Array.from({ length: 1 + (next() % 24) }, () => ({ bytes: aFrame(next), flags: chance(next, 80) ? 0 : next() & 0x1f })));
        const { before, after } = bothWays(rig, both, (kernels) => [kernels.txBurst(rig.device, rig.burst.records, count), rig.get(rig.device + 44)]);
        assertContained(before, after);
      }),
      { numRuns: 80 },
    );
  });

  it('stays within bounds when the guest overwrites its rings with random bytes', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1 }), (seed) => {
        const next = random(seed);
        rig.reset();
        rxDevice(next);
        const ring = rig.get(rig.rxBlock(0) + Q_RING);
        for (let n = 0; ring !== 0 && n < 64; n++) rig.set64(rig.rxDescriptor(0, n), (BigInt(next()) << 32n) | BigInt(next()));
        rig.setTail(rig.rxBlock(0), next() % 3 === 0 ? next() : next() % 64);
        const count = rig.fillBurst(Array.from({ length: 24 }, () => ({ bytes: aFrame(next) })));
        const { before, after, results } = bothWays(rig, both, (kernels) => [1, 2, 3].map(() => kernels.txBurst(rig.device, rig.burst.records, count)));
        expect(results).toEqual([count, count, count]);
        assertContained(before, after);
      }),
      { numRuns: 25 },
    );
  });
});

