/** Runs of Tx packets of several descriptors: what makes a packet one of a run, what ends the run, and that whatever ends it is dealt with all the same. */
import { FRAME_RECORD_BYTES } from '@emudev/ethdev';
import { beforeEach, describe, expect, it } from 'vitest';
import { DEV_LENDS, DEV_MAX_FRAME, Q_HEAD, QFAULT_NEVER_EOP, QS_BYTES, QS_ERRORS, QS_MULTICAST, QS_PACKETS, QS_UNICAST } from '../src/layout.ts';
import { implementations } from './both-ways.ts';
import { frameOf, MAC, verifyFrame, type Layout } from './frames.ts';
import { CHUNK_IOVA, GUEST, READ, Rig } from './rig.ts';

const rig = new Rig();
const both = implementations(rig);
const RING = 64;
const CHUNK_BYTES = 0x200000;
const NEXT_IOVA = CHUNK_IOVA + BigInt(CHUNK_BYTES);
const EOP = 0x1;
const RS = 0x2;
const TAG1 = 0x8;
const DUMMY = 0x10;
const IPV4_CSUM_TCP = 0x160;
const RAISE = 1 << 16;
const LENT = 1 << 18;

interface Part {
  readonly iova: bigint;
  readonly bytes: number;
  /** Besides what the packet has, and EOP and RS of the last. */
  readonly cmd?: number;
  readonly type?: number;
}

describe.each(['wasm', 'twins'] as const)('%s', (which) => {
  let next: number;
  let memory: number;

  beforeEach(() => {
    rig.reset();
    rig.mapGuest();
    rig.enableTx(0, { length: RING });
    next = 0;
    memory = 0;
  });

  const pattern = (length: number, seed: number): Buffer => {
    const bytes = Buffer.from(Array.from({ length }, (_, n) => (n * 5 + seed * 31 + 3) & 0xff));
    bytes.set(MAC);
    return bytes;
  };
  /** The frame in parts of these sizes, each somewhere else; the last gets the rest. */
  function inParts(bytes: Uint8Array, sizes: readonly number[]): Part[] {
    let from = 0;
    return [...sizes, bytes.length - sizes.reduce((sum, size) => sum + size, 0)].map((size) => {
      const at = memory;
      memory += size + 333;
      rig.write(GUEST + at, bytes.subarray(from, from + size));
      from += size;
      return { iova: CHUNK_IOVA + BigInt(at), bytes: size };
    });
  }
  function describeAt(index: number, { iova, bytes, cmd = 0, type = 0 }: Part, headers?: Layout): void {
    const offset = headers === undefined ? 0n : BigInt((headers.l2 / 2) | ((headers.l3 / 4) << 7) | ((headers.l4 / 4) << 14));
    rig.set64(rig.txDescriptor(0, index), iova);
    rig.set64(rig.txDescriptor(0, index) + 8, BigInt(type) | (BigInt(cmd) << 4n) | (offset << 16n) | (BigInt(bytes) << 34n));
  }
  /** Index of the last descriptor. */
  function post(parts: readonly Part[], cmd = 0, headers?: Layout): number {
    parts.forEach((part, n) => {
      describeAt(next, { ...part, cmd: (part.cmd ?? 0) | cmd | (n + 1 === parts.length ? EOP | RS : 0) }, headers);
      next = (next + 1) % RING;
    });
    return (next + RING - 1) % RING;
  }
  function burst(max = 64, arenaBytes = rig.burst.arenaBytes): number {
    rig.setTail(rig.txBlock(0), next);
    return both[which].rxBurst(rig.device, 0, rig.burst.records, max, rig.burst.arena, arenaBytes);
  }
  const frames = (count: number): Buffer[] => Array.from({ length: count }, (_, n) => rig.frame(n));
  const isDone = (index: number): boolean => (rig.u8[rig.txDescriptor(0, index) + 8]! & 0xf) === 0xf;
  const stat = (counter: number): number => rig.stat(rig.txBlock(0), counter);
  const consumed = (): number => rig.head(rig.txBlock(0));

  it('are joined whatever the sizes of the buffers, and given back at their ends', () => {
    const sizes = [[500, 500], [54], [1, 2, 3], [15, 16, 17], [31, 32, 33], [47, 48, 49], [63, 64, 65], [127, 128, 129], [66, 700]];
    const sent = sizes.map((_, n) => pattern(1500 - n, n));
    const last = sent.map((bytes, n) => post(inParts(bytes, sizes[n]!)));
    expect(burst()).toBe(sent.length | RAISE);
    expect(frames(sent.length)).toEqual(sent);
    expect(last.every(isDone)).toBe(true);
    expect(Array.from({ length: next }, (_, n) => isDone(n)).filter(Boolean).length).toBe(sent.length);
    expect([stat(QS_PACKETS), stat(QS_UNICAST), stat(QS_BYTES), stat(QS_ERRORS)]).toEqual([sent.length, sent.length, sent.reduce((sum, f) => sum + f.length, 0), 0]);
  });

  it('begin frames at 64-byte borders and describe each by a record with nothing left of the one before', () => {
    rig.u8.fill(0xff, rig.burst.records, rig.burst.records + 2 * FRAME_RECORD_BYTES);
    for (const n of [0, 1]) post(inParts(pattern(200, n), [100]));
    burst();
    expect(rig.get(rig.record(0))).toBe(rig.burst.arena);
    expect(rig.get(rig.record(1))).toBe(rig.burst.arena + 256);
    for (const n of [0, 1]) expect(rig.bytes(rig.record(n) + 8, 20).equals(Buffer.alloc(20))).toBe(true);
  });

  it('that go round the end of the ring are as good as others, and so are those behind', () => {
    rig.set(rig.txBlock(0) + Q_HEAD, RING - 4);
    next = RING - 4;
    const sent = [0, 1, 2].map((n) => pattern(300, n));
    for (const bytes of sent) post(inParts(bytes, [100, 100]));
    describeAt(RING, { iova: CHUNK_IOVA, bytes: 100, cmd: EOP | RS }); // behind the ring: nobody may look at it
    expect(burst()).toBe(3 | RAISE);
    expect(frames(3)).toEqual(sent);
    expect(consumed()).toBe(5);
    expect(isDone(RING)).toBe(false);
  });

  it('up to the end of the ring leave its head at the beginning', () => {
    rig.set(rig.txBlock(0) + Q_HEAD, RING - 4);
    next = RING - 4;
    for (const n of [0, 1]) post(inParts(pattern(300, n), [100]));
    expect(burst()).toBe(2 | RAISE);
    expect(consumed()).toBe(0);
  });

  it('that are not finished wait, and are sent whole when the rest comes', () => {
    const sent = [0, 1].map((n) => pattern(300, n));
    post(inParts(sent[0]!, [100]));
    const parts = inParts(sent[1]!, [100, 100]);
    for (const part of parts.slice(0, 2)) {
      describeAt(next, part);
      next++;
    }
    expect(burst()).toBe(1 | RAISE);
    expect(consumed()).toBe(2);
    expect(burst()).toBe(0);
    describeAt(next, { ...parts[2]!, cmd: EOP | RS });
    next++;
    expect(burst()).toBe(1 | RAISE);
    expect(frames(1)).toEqual([sent[1]!]);
    expect(stat(QS_ERRORS)).toBe(0);
  });

  it('of a ring that never ends a packet stop the queue', () => {
    for (; next < RING - 1; next++) describeAt(next, { iova: CHUNK_IOVA, bytes: 100 });
    expect(burst()).toBe(0);
    expect(rig.fault(rig.txBlock(0))).toBe(QFAULT_NEVER_EOP);
  });

  it.each([
    { what: 'an unmapped buffer in the middle', spoil: (parts: Part[]): void => { parts[1] = { ...parts[1]!, iova: NEXT_IOVA + 4096n }; } },
    { what: 'a buffer beyond the end of all memory', spoil: (parts: Part[]): void => { parts[2] = { ...parts[2]!, iova: NEXT_IOVA - 99n }; } },
    { what: 'an address that wraps', spoil: (parts: Part[]): void => { parts[0] = { ...parts[0]!, iova: 0xffffffffffffffc0n }; } },
    { what: 'another descriptor type inside', spoil: (parts: Part[]): void => { parts[1] = { ...parts[1]!, type: 1 }; } },
    { what: 'more bytes than a frame has', spoil: (parts: Part[]): void => { parts[1] = { ...parts[1]!, bytes: 9728 - 199 }; } },
    { what: 'fewer bytes than a frame has', spoil: (parts: Part[]): void => { parts.forEach((part, n) => { parts[n] = { ...part, bytes: 5 }; }); } },
  ])('with $what are refused, those before and behind are sent', ({ spoil }) => {
    const sent = [0, 1].map((n) => pattern(300, n));
    post(inParts(sent[0]!, [100, 100]));
    const parts = inParts(pattern(300, 7), [100, 100]);
    spoil(parts);
    const last = post(parts);
    post(inParts(sent[1]!, [100, 100]));
    expect(burst()).toBe(2 | RAISE);
    expect(frames(2)).toEqual(sent);
    expect(isDone(last)).toBe(true);
    expect([consumed(), stat(QS_PACKETS), stat(QS_ERRORS)]).toEqual([next, 2, 1]);
  });

  it('of the longest and the shortest frames are sent, padded with zeroes if need be', () => {
    const longest = rig.get(rig.device + DEV_MAX_FRAME);
    const sent = [pattern(longest, 0), pattern(60, 1), pattern(59, 2), pattern(17, 3), pattern(60, 4)];
    for (const bytes of sent) post(inParts(bytes, [16]));
    rig.u8.fill(0xee, rig.burst.arena, rig.burst.arena + 0x4000);
    expect(burst()).toBe(5 | RAISE);
    expect(frames(5)).toEqual(sent.map((bytes) => Buffer.concat([bytes, Buffer.alloc(Math.max(0, 60 - bytes.length))])));
  });

  it('with empty buffers do not need them to be anywhere', () => {
    const sent = [0, 1, 2].map((n) => pattern(300, n));
    post(inParts(sent[0]!, [100]));
    const [a, b] = inParts(sent[1]!, [100]) as [Part, Part];
    post([a, { iova: 0xdeadn, bytes: 0 }, b]);
    post(inParts(sent[2]!, [100]));
    expect(burst()).toBe(3 | RAISE);
    expect(frames(3)).toEqual(sent);
  });

  it('give back every descriptor with RS, also those in the middle', () => {
    const sent = [0, 1].map((n) => pattern(300, n));
    post(inParts(sent[0]!, [100]));
    const parts = inParts(sent[1]!, [100, 100]);
    parts[1] = { ...parts[1]!, cmd: RS };
    post(parts);
    expect(burst()).toBe(2 | RAISE);
    expect(Array.from({ length: 5 }, (_, n) => isDone(n))).toEqual([false, true, false, true, true]);
  });

  it('without RS ask for no interrupt', () => {
    const parts = inParts(pattern(300, 0), [100]);
    describeAt(0, parts[0]!);
    describeAt(1, { ...parts[1]!, cmd: EOP });
    next = 2;
    expect(burst()).toBe(1);
    expect(isDone(1)).toBe(false);
  });

  it('alternate with packets of one buffer, with tags and with dummies', () => {
    const sent = [0, 1, 2, 3].map((n) => pattern(300, n));
    post(inParts(sent[0]!, [100]));
    post(inParts(sent[1]!, []));
    post(inParts(pattern(300, 9), [100]), DUMMY);
    post(inParts(sent[2]!, [100]));
    post(inParts(pattern(300, 9), [100]), TAG1);
    post(inParts(sent[3]!, [100]));
    expect(burst()).toBe(5 | RAISE);
    const arrived = frames(5);
    expect([arrived[0], arrived[1], arrived[2], arrived[4]]).toEqual(sent);
    expect(arrived[3]!.subarray(12, 14).toString('hex')).toBe('8100');
  });

  it('lie in any chunk and on any page, also across their borders', () => {
    const page = GUEST + 0x100000;
    rig.mapPages(NEXT_IOVA, [page | READ, 0, (page + 0x3000) | READ]);
    const sent = [0, 1, 2].map((n) => pattern(300, n));
    rig.write(GUEST + CHUNK_BYTES - 100, sent[0]!.subarray(0, 100));
    rig.write(page, sent[0]!.subarray(100));
    post([{ iova: NEXT_IOVA - 100n, bytes: 200 }, { iova: NEXT_IOVA + 100n, bytes: 100 }]);
    post(inParts(sent[1]!, [100]));
    rig.write(page + 0x3000, sent[2]!.subarray(0, 100));
    const rest = inParts(sent[2]!.subarray(100), []);
    post([{ iova: NEXT_IOVA + 0x2000n, bytes: 100 }, ...rest]);
    expect(burst()).toBe(3 | RAISE);
    expect(frames(3)).toEqual(sent);
  });

  it('to groups are counted as such', () => {
    const multicast = pattern(300, 0);
    multicast[0] = 1;
    post(inParts(multicast, [100]));
    post(inParts(pattern(300, 1), [100]));
    expect(burst()).toBe(2 | RAISE);
    expect([stat(QS_PACKETS), stat(QS_UNICAST), stat(QS_MULTICAST)]).toEqual([2, 1, 1]);
  });

  it('end at max and where the arena ends, and go on with the next burst', () => {
    const sent = [0, 1, 2, 3].map((n) => pattern(300, n));
    for (const bytes of sent) post(inParts(bytes, [100, 100]));
    expect(burst(1)).toBe(1 | RAISE);
    expect(frames(1)).toEqual([sent[0]!]);
    expect(burst(64, 320 + 300)).toBe(2 | RAISE);
    expect(frames(2)).toEqual(sent.slice(1, 3));
    expect(burst(64, 320 + 299)).toBe(1 | RAISE);
    expect(frames(1)).toEqual([sent[3]!]);
  });

  it('leave packets of one buffer to be lent, and go back with them', () => {
    rig.set(rig.device + DEV_LENDS, 1);
    const before = post(inParts(pattern(300, 0), [100]));
    const lent = post(inParts(pattern(1000, 1), []));
    const behind = post(inParts(pattern(300, 2), [100]));
    expect(burst()).toBe(3 | RAISE | LENT);
    expect([before, lent, behind].map(isDone)).toEqual([true, false, false]);
    both[which].takeBack(rig.device, 0, rig.burst.records, 3);
    expect([before, lent, behind].map(isDone)).toEqual([true, true, true]);
    expect(frames(3)).toEqual([pattern(300, 0), pattern(1000, 1), pattern(300, 2)]);
  });

  it('get the checksums that the first descriptor of each asks for', () => {
    const first = frameOf({ protocol: 'tcp', payload: 300, undone: 'checksum' });
    const second = frameOf({ protocol: 'tcp', payload: 301, tcpOptions: 12, vlan: 5, undone: 'checksum' });
    post(inParts(first.bytes, [54, 100]), IPV4_CSUM_TCP, first);
    post(inParts(second.bytes, [70, 31]), IPV4_CSUM_TCP, second);
    const plain = pattern(300, 0);
    post(inParts(plain, [100]));
    post(inParts(first.bytes, [14, 20, 20]), IPV4_CSUM_TCP, first);
    // Header lengths that do not fit the packet
    post(inParts(first.bytes.subarray(0, 60), [30]), IPV4_CSUM_TCP, { ...second, l3: 60 });
    expect(burst()).toBe(4 | RAISE);
    const arrived = frames(4);
    expect(verifyFrame(arrived[0]!, first)).toMatchObject({ ip: true, l4: true });
    expect(verifyFrame(arrived[1]!, second)).toMatchObject({ ip: true, l4: true });
    expect(arrived[2]).toEqual(plain);
    expect(verifyFrame(arrived[3]!, first)).toMatchObject({ ip: true, l4: true });
    expect(stat(QS_ERRORS)).toBe(1);
  });
});
