import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createEngine, FRAME_RX_VLAN, type EngineSpec } from '@emudev/ethdev';
import { putFrames, scratchBurst, scratchContext, takeFrame } from './fixtures/scratch-context.ts';

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 0x77);
const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replace(/\s+/g, ''), 'hex'));
const context = scratchContext();
const burst = scratchBurst();

function run(spec: EngineSpec, frames: readonly Uint8Array[]): Uint8Array[] {
  putFrames(context, burst, frames);
  const kept = createEngine(context, spec).run(burst, frames.length);
  return Array.from({ length: kept }, (_, i) => takeFrame(context, burst, i));
}

/** RFC 1071 from the definition: the one's complement sum of all words, checksum included, is all ones. */
function sumsToOnes(bytes: Uint8Array): boolean {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum === 0xffff;
}

function withChecksum(bytes: Uint8Array, at: number): Uint8Array {
  let sum = 0;
  bytes[at] = bytes[at + 1] = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  bytes[at] = (~sum >>> 8) & 0xff;
  bytes[at + 1] = ~sum & 0xff;
  return bytes;
}

function echoRequest(payload: Uint8Array, options: { tags?: number; ipOptions?: number; fragment?: number } = {}): Uint8Array {
  const icmp = withChecksum(Uint8Array.from([8, 0, 0, 0, 0x12, 0x34, 0, 1, ...payload]), 2);
  const headerBytes = 20 + (options.ipOptions ?? 0) * 4;
  const ip = new Uint8Array(headerBytes);
  ip.set([0x40 | (headerBytes / 4), 0, (headerBytes + icmp.length) >> 8, (headerBytes + icmp.length) & 0xff, 0, 7, (options.fragment ?? 0) >> 8, (options.fragment ?? 0) & 0xff, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
  withChecksum(ip, 10);
  const tags = Array.from({ length: options.tags ?? 0 }, () => [0x81, 0x00, 0x00, 0x05]).flat();
  return Uint8Array.from([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, ...tags, 0x08, 0x00, ...ip, ...icmp]);
}

describe('mac engines', () => {
  test('io leaves frames alone', () => {
    const frames = [echoRequest(hex('01020304')), hex('ffffffffffff 020000000001 0806')];
    expect(run({ name: 'io' }, frames)).toEqual(frames);
  });

  test('macswap exchanges the addresses and nothing else', () => {
    expect(run({ name: 'macswap' }, [hex('0a0b0c0d0e0f 010203040506 0800 aabb')])).toEqual([hex('010203040506 0a0b0c0d0e0f 0800 aabb')]);
  });

  test('mac sets both addresses and nothing else', () => {
    const out = run({ name: 'mac', source: hex('020000000001'), destination: hex('020000000002') }, [hex('0a0b0c0d0e0f 010203040506 0800 aabb')]);
    expect(out).toEqual([hex('020000000002 020000000001 0800 aabb')]);
  });

  test('rxonly keeps nothing', () => {
    expect(run({ name: 'rxonly' }, [echoRequest(hex('00'))])).toEqual([]);
  });
});

describe('txonly', () => {
  test.each([60, 64, 1514, 9728])('makes whole bursts of valid UDP frames of %i bytes', (frameBytes) => {
    const engine = createEngine(context, { name: 'txonly', frameBytes });
    expect(engine.receives).toBe(false);
    const count = engine.run(burst, 0);
    expect(count).toBe(burst.capacity);
    const seen = new Set<number>();
    for (let i = 0; i < count; i++) {
      const frame = takeFrame(context, burst, i);
      expect(frame.length).toBe(frameBytes);
      expect(sumsToOnes(frame.slice(14, 34))).toBe(true);
      const view = new DataView(frame.buffer);
      expect(view.getUint16(16)).toBe(frameBytes - 14);
      expect(view.getUint16(38)).toBe(frameBytes - 34);
      seen.add(context.u32[(burst.records + i * 32) >>> 2]!);
    }
    expect(seen.size).toBe(count);
  });

  test.each([60, 101, 1514])('sends zeroes behind its headers, nothing that the burst held before (%i bytes)', (frameBytes) => {
    context.u8.fill(0xee, burst.arena, burst.arena + burst.arenaBytes);
    const count = createEngine(context, { name: 'txonly', frameBytes }).run(burst, 0);
    for (let i = 0; i < count; i++) expect(new Set(takeFrame(context, burst, i).slice(42))).toEqual(new Set([0]));
  });

  test('never writes past the arena', () => {
    const small = { ...burst, arenaBytes: 4096 };
    expect(createEngine(context, { name: 'txonly', frameBytes: 1500 }).run(small, 0)).toBe(2);
  });

  test('a header that the port has changed is whole in the next burst', () => {
    const engine = createEngine(context, { name: 'txonly' });
    engine.run(burst, 0);
    const before = takeFrame(context, burst, 3);
    context.u8.fill(0xff, burst.arena + 3 * 64, burst.arena + 3 * 64 + 40);
    engine.run(burst, 0);
    expect(takeFrame(context, burst, 3)).toEqual(before);
  });
});

describe('icmpecho', () => {
  const spec: EngineSpec = { name: 'icmpecho', mac: MAC };

  test('answers an ARP request for any address with its MAC', () => {
    const [reply] = run(spec, [hex('ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000063')]);
    expect(reply).toEqual(hex('020000000001 020000000077 0806 0001 0800 06 04 0002 020000000077 0a000063 020000000001 0a000001'));
  });

  test('leaves address probes and announcements alone: an answer would claim the address', () => {
    const probe = hex('ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 00000000 000000000000 0a000001');
    const announcement = hex('ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000001');
    expect(run(spec, [probe, announcement])).toEqual([]);
  });

  test('answers an echo request of any size, tags and IP options kept, checksums right', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1472 }), fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 10 }), (payload, tags, ipOptions) => {
        const request = echoRequest(payload, { tags, ipOptions });
        const [reply] = run(spec, [request]);
        const l3 = 14 + tags * 4;
        const headerBytes = 20 + ipOptions * 4;
        expect(reply!.slice(0, 12)).toEqual(hex('020000000001 020000000002'));
        expect(reply!.slice(12, l3)).toEqual(request.slice(12, l3));
        expect(reply!.slice(l3 + 12, l3 + 20)).toEqual(hex('0a000002 0a000001'));
        expect(reply![l3 + headerBytes]).toBe(0);
        expect(sumsToOnes(reply!.slice(l3, l3 + headerBytes))).toBe(true);
        expect(sumsToOnes(reply!.slice(l3 + headerBytes))).toBe(true);
        expect(reply!.slice(l3 + headerBytes + 4)).toEqual(request.slice(l3 + headerBytes + 4));
      }),
      { numRuns: 60 },
    );
  });

  test('a wrong ICMP checksum stays wrong', () => {
    const request = echoRequest(hex('01020304'));
    request[request.length - 1]! ^= 0x40;
    const [reply] = run(spec, [request]);
    expect(sumsToOnes(reply!.slice(34))).toBe(false);
  });

  test('drops fragments, group addresses, stripped tags, replies; keeps the order of the rest', () => {
    const first = echoRequest(hex('01'));
    const second = echoRequest(hex('02'));
    const toGroup = echoRequest(hex('03'));
    toGroup[30] = 224;
    const toGroupMac = echoRequest(hex('04'));
    toGroupMac[0] = 3;
    const reply = echoRequest(hex('05'));
    reply[34] = 0;
    const kept = run(spec, [echoRequest(hex('06'), { fragment: 0x2000 }), first, toGroup, toGroupMac, second, reply, echoRequest(hex('07'), { fragment: 1 })]);
    expect(kept.map((frame) => frame.at(-1))).toEqual([1, 2]);
    putFrames(context, burst, [first]);
    context.u32[(burst.records + 8) >>> 2] = FRAME_RX_VLAN;
    expect(createEngine(context, spec).run(burst, 1)).toBe(0);
  });

  test('whatever comes, nothing outside the frames is touched', () => {
    const almost = fc.tuple(fc.uint8Array({ maxLength: 60 }), fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 1 })).map(([noise, cut, tags]) => {
      const frame = echoRequest(hex('0011223344556677'), { tags });
      noise.forEach((byte, i) => (frame[12 + ((i * 7) % (frame.length - 12))]! ^= byte & 1 ? byte : 0));
      return frame.slice(0, cut);
    });
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.uint8Array({ maxLength: 80 }), almost), { maxLength: 8 }), (frames) => {
        const kept = run(spec, frames);
        expect(kept.length).toBeLessThanOrEqual(frames.length);
        frames.forEach((frame, i) => {
          const data = burst.arena + i * 2048 + 2;
          expect(context.u8.slice(data + frame.length, data + 2040).every((byte) => byte === 0xee)).toBe(true);
        });
      }),
      { numRuns: 200 },
    );
  });
});

test('an engine is refused with what a good one is', () => {
  expect(() => createEngine(context, { name: 'txonly', frameBytes: 59 })).toThrow(/59 bytes: want 60 to 9728/);
  expect(() => createEngine(context, { name: 'icmpecho', mac: hex('0011') })).toThrow(/6 bytes, got 2/);
  expect(() => createEngine(context, { name: 'flowgen' } as unknown as EngineSpec)).toThrow(/want one of io, mac/);
});
