/** The guest's Tx ring by examples (iavf.md 9.3), on the kernels and on their twins. */
import { FRAME_L4_TCP, FRAME_L2_LENGTH, FRAME_L3_LENGTH, FRAME_L4_LENGTH, FRAME_TX_L4_CSUM, FRAME_TX_VLAN, FRAME_VLAN_TCI } from '@emudev/ethdev';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  DEV_PAUSED, Q_ENABLED, Q_HEAD, QFAULT_NEVER_EOP, QFAULT_TAIL, QS_BROADCAST, QS_BYTES, QS_ERRORS, QS_MULTICAST, QS_PACKETS, QS_UNICAST,
} from '../src/layout.ts';
import { TwinMemory, createTwins } from '../src/twins/index.ts';
import { implementations } from './both-ways.ts';
import { crc32cOf, frameOf, MAC, onesComplementSum, verifyFrame, type Layout } from './frames.ts';
import { CHUNK_IOVA, guestOffset, READ, Rig, WRITE } from './rig.ts';

const rig = new Rig();
const both = implementations(rig);
const EOP = 0x1;
const RS = 0x2;
const TAG1 = 0x8;
const DUMMY = 0x10;
const IPV6 = 0x20;
const IPV4_CSUM = 0x60;
const TCP = 0x100;
const SCTP = 0x200;
const UDP = 0x300;
const RAISE = 1 << 16;
const RING = 64;

describe.each(['wasm', 'twins'] as const)('%s', (which) => {
  const kernels = both[which];
  let next: number;
  let memory: bigint;

  beforeEach(() => {
    rig.reset();
    rig.mapGuest();
    rig.enableTx(0, { length: RING });
    next = 0;
    memory = CHUNK_IOVA;
  });

  function post(address: bigint, size: number, cmd: number, options: { type?: number; headers?: Partial<Layout>; tag?: number } = {}): number {
    const { l2 = 0, l3 = 0, l4 = 0 } = options.headers ?? {};
    const offset = BigInt((l2 / 2) | ((l3 / 4) << 7) | ((l4 / 4) << 14));
    const index = next % RING;
    rig.set64(rig.txDescriptor(0, index), address);
    rig.set64(
      rig.txDescriptor(0, index) + 8,
      BigInt(options.type ?? 0) | (BigInt(cmd) << 4n) | (offset << 16n) | (BigInt(size) << 34n) | (BigInt(options.tag ?? 0) << 48n),
    );
    next++;
    return index;
  }
  /** Puts bytes where nothing else is and returns their IOVA. */
  function put(bytes: Uint8Array): bigint {
    const at = memory;
    rig.write(guestOffset(at), bytes);
    memory += BigInt(bytes.length + 4096);
    return at;
  }
  const send = (bytes: Uint8Array, cmd = EOP | RS, options: Parameters<typeof post>[3] = {}): number => post(put(bytes), bytes.length, cmd, options);
  const pattern = (length: number, destination: Uint8Array = MAC): Buffer => {
    const bytes = Buffer.from(Array.from({ length }, (_, n) => (n * 5 + 3) & 0xff));
    bytes.set(destination);
    return bytes;
  };
  function burst(max = 64, arenaBytes = rig.burst.arenaBytes): number {
    rig.setTail(rig.txBlock(0), next % RING);
    return kernels.rxBurst(rig.device, 0, rig.burst.records, max, rig.burst.arena, arenaBytes);
  }
  const nibble = (index: number): number => rig.u8[rig.txDescriptor(0, index) + 8]! & 0xf;
  const stat = (counter: number): number => rig.stat(rig.txBlock(0), counter);

  it('hands over a frame of one buffer, completes its descriptor and asks for an interrupt', () => {
    const bytes = pattern(200);
    const index = send(bytes);
    expect(burst()).toBe(1 | RAISE);
    expect(rig.frame(0)).toEqual(bytes);
    expect(nibble(index)).toBe(0xf);
    expect([stat(QS_PACKETS), stat(QS_BYTES), stat(QS_UNICAST), stat(QS_ERRORS)]).toEqual([1, 200, 1, 0]);
    expect(burst()).toBe(0);
  });

  it('writes back exactly the descriptors with RS, changing nothing but the type', () => {
    for (let n = 0; n < 32; n++) send(pattern(100 + n), n % 8 === 7 ? EOP | RS : EOP);
    const before = Array.from({ length: 32 }, (_, n) => rig.get64(rig.txDescriptor(0, n) + 8));
    expect(burst()).toBe(32 | RAISE);
    before.forEach((qw1, n) => expect(rig.get64(rig.txDescriptor(0, n) + 8)).toBe(n % 8 === 7 ? qw1 | 0xfn : qw1));
    send(pattern(100), EOP);
    expect(burst()).toBe(1); // nothing was completed: no interrupt
  });

  it('joins eight buffers, also across page and chunk borders and with an empty one', () => {
    rig.mapPages(CHUNK_IOVA + 0x200000n, [guestOffset(CHUNK_IOVA) + 0x100000 + (READ | WRITE), guestOffset(CHUNK_IOVA) + 0x180000 + READ]);
    const bytes = pattern(9000);
    const border = CHUNK_IOVA + 0x200000n - 100n;
    rig.write(guestOffset(border), bytes.subarray(0, 100)); // end of the chunk
    rig.write(guestOffset(CHUNK_IOVA) + 0x100000, bytes.subarray(100, 4196)); // first page
    rig.write(guestOffset(CHUNK_IOVA) + 0x180000, bytes.subarray(4196, 5000)); // second page, elsewhere
    post(border, 5000, 0);
    post(0n, 0, 0); // empty: no address is looked at
    for (let n = 0; n < 5; n++) post(put(bytes.subarray(5000 + n * 700, 5700 + n * 700)), 700, 0);
    post(put(bytes.subarray(8500)), 500, EOP | RS);
    expect(burst()).toBe(1 | RAISE);
    expect(rig.frame(0).equals(bytes)).toBe(true);
  });

  it('wraps around the ring', () => {
    rig.set(rig.txBlock(0) + Q_HEAD, RING - 1);
    next = RING - 1;
    const bytes = pattern(300);
    post(put(bytes.subarray(0, 150)), 150, 0);
    const last = post(put(bytes.subarray(150)), 150, EOP | RS);
    expect(last).toBe(0);
    expect(burst() & 0xffff).toBe(1);
    expect(rig.frame(0)).toEqual(bytes);
    expect(rig.head(rig.txBlock(0))).toBe(1);
  });

  it('waits, without consuming, for a packet that the next doorbell completes', () => {
    const bytes = pattern(100);
    post(put(bytes.subarray(0, 40)), 40, 0);
    expect(burst()).toBe(0);
    expect(rig.head(rig.txBlock(0))).toBe(0);
    post(put(bytes.subarray(40)), 60, EOP | RS);
    expect(burst()).toBe(1 | RAISE);
    expect(rig.frame(0)).toEqual(bytes);
  });

  it('pads 17 to 59 bytes with zeroes, and drops what is shorter or longer than a frame', () => {
    rig.u8.fill(0xee, rig.burst.arena, rig.burst.arena + 256);
    const short = pattern(17);
    send(short);
    send(pattern(16));
    send(pattern(9728));
    send(pattern(9729));
    expect(burst() & 0xffff).toBe(2);
    expect(rig.frame(0)).toEqual(Buffer.concat([short, Buffer.alloc(43)]));
    expect(rig.frame(1)).toEqual(pattern(9728));
    expect(stat(QS_ERRORS)).toBe(2);
    expect([0, 1, 2, 3].map(nibble)).toEqual([0xf, 0xf, 0xf, 0xf]);
  });

  it('drops an unmapped or unreadable buffer and goes on', () => {
    rig.mapChunk(0x4000_0000n, guestOffset(CHUNK_IOVA), WRITE);
    const dropped = [post(0xdead_0000_0000n, 100, EOP | RS), post(0x4000_0000n, 100, EOP | RS), post(2n ** 64n - 50n, 100, EOP | RS)];
    const bytes = pattern(80);
    send(bytes);
    expect(burst()).toBe(1 | RAISE);
    expect(rig.frame(0)).toEqual(bytes);
    expect(stat(QS_ERRORS)).toBe(3);
    expect(dropped.map(nibble)).toEqual([0xf, 0xf, 0xf]);
  });

  it('completes a DUMMY frame without sending or counting it', () => {
    const index = send(pattern(100), EOP | RS | DUMMY);
    expect(burst()).toBe(RAISE);
    expect(nibble(index)).toBe(0xf);
    expect([stat(QS_PACKETS), stat(QS_ERRORS)]).toEqual([0, 0]);
  });

  it('counts an unknown descriptor type, skips a "done" one, and sends what follows', () => {
    const unknown = post(0n, 0, RS, { type: 8 });
    const done = post(0n, 0, RS, { type: 0xf });
    send(pattern(64), EOP);
    expect(burst()).toBe(1 | RAISE);
    expect(stat(QS_ERRORS)).toBe(1);
    expect([nibble(unknown), nibble(done)]).toEqual([0xf, 0xf]);
  });

  it('drops a packet with a context descriptor in its middle', () => {
    post(put(pattern(64)), 64, 0);
    post(0n, 0, 0, { type: 1 });
    post(put(pattern(64)), 64, EOP | RS);
    expect(burst()).toBe(RAISE);
    expect(stat(QS_ERRORS)).toBe(1);
    expect(rig.head(rig.txBlock(0))).toBe(3);
  });

  it('ignores everything in a context descriptor that it does not ask for, and never completes one', () => {
    // Garbage in L2TAG2 and the tunnel fields (FreeBSD), TSYN set (the bit that is RS in a data descriptor), at the ring's end
    rig.set(rig.txBlock(0) + Q_HEAD, RING - 1);
    next = RING - 1;
    const context = post(0xdead_beef_1234_5678n, 0x3fff, 0x2, { type: 1 });
    const bytes = pattern(100);
    send(bytes, EOP | RS);
    expect(burst()).toBe(1 | RAISE);
    expect(rig.frame(0)).toEqual(bytes);
    expect(nibble(context)).toBe(1);
  });

  it('does not send a frame whose second tag it cannot insert', () => {
    post(5n << 32n, 0, 0x4, { type: 1 });
    send(pattern(100));
    expect(burst()).toBe(RAISE);
    expect(stat(QS_ERRORS)).toBe(1);
  });

  it.each([
    ['TCP over IPv4', { ip: 4, protocol: 'tcp' }, IPV4_CSUM | TCP],
    ['UDP over IPv4', { ip: 4, protocol: 'udp', payload: 1472 }, IPV4_CSUM | UDP],
    ['TCP over IPv6, odd length', { ip: 6, protocol: 'tcp', payload: 1001 }, IPV6 | TCP],
    ['UDP over IPv6 with hop-by-hop options', { ip: 6, protocol: 'udp', hopByHop: 8 }, IPV6 | UDP],
  ] as const)('inserts the checksums of %s', (_name, options, cmd) => {
    const frame = frameOf({ ...options, undone: 'checksum' });
    expect(verifyFrame(frame.bytes, frame).l4).toBe(false);
    send(frame.bytes, EOP | RS | cmd, { headers: frame });
    expect(burst() & 0xffff).toBe(1);
    expect(verifyFrame(rig.frame(0), frame)).toMatchObject({ ip: true, l4: true });
  });

  it.each([
    ['TCP over IPv4', { ip: 4, protocol: 'tcp' }, IPV4_CSUM | TCP],
    ['TCP with options over IPv4', { ip: 4, protocol: 'tcp', tcpOptions: 12 }, IPV4_CSUM | TCP],
    ['UDP over IPv6', { ip: 6, protocol: 'udp' }, IPV6 | UDP],
  ] as const)('inserts the checksums of %s of every length', (_name, options, cmd) => {
    const payloads = [...Array.from({ length: 260 }, (_, n) => n), 1399, 1400, 1446, 1460];
    for (let first = 0; first < payloads.length; first += 32) {
      memory = CHUNK_IOVA;
      const frames = payloads.slice(first, first + 32).map((payload) => frameOf({ ...options, payload, undone: 'checksum' }));
      for (const frame of frames) send(frame.bytes, EOP | RS | cmd, { headers: frame });
      expect(burst() & 0xffff).toBe(frames.length);
      for (const [n, frame] of frames.entries()) expect(verifyFrame(rig.frame(n), frame)).toMatchObject({ ip: true, l4: true });
    }
  });

  it('tells packets apart whose checksums lie elsewhere', () => {
    const kinds = [
      [{ protocol: 'tcp' }, IPV4_CSUM | TCP], [{ protocol: 'udp' }, IPV4_CSUM | UDP], [{ ip: 6, protocol: 'tcp' }, IPV6 | TCP],
      [{ ip: 6, protocol: 'udp' }, IPV6 | UDP], [{ ip: 6, protocol: 'udp', hopByHop: 8 }, IPV6 | UDP],
    ] as const;
    const frames = Array.from({ length: 24 }, (_, n) => ({ n, kind: kinds[(n >> 1) % kinds.length]! })).map(({ n, kind: [options, cmd] }) => ({ frame: frameOf({ ...options, payload: 50 * n, undone: 'checksum' }), cmd }));
    for (const { frame, cmd } of frames) send(frame.bytes, EOP | RS | cmd, { headers: frame });
    send(pattern(100));
    expect(burst() & 0xffff).toBe(frames.length + 1);
    for (const [n, { frame }] of frames.entries()) expect(verifyFrame(rig.frame(n), frame)).toMatchObject({ ip: true, l4: true });
    expect(rig.frame(frames.length)).toEqual(pattern(100));
  });

  it('sends a UDP checksum of zero as 0xFFFF', () => {
    const frame = frameOf({ protocol: 'udp', payload: 2, undone: 'checksum' });
    // Choose the payload so that the sum comes out as 0xFFFF, its inverse as 0
    frame.bytes.writeUInt16BE(0, 42);
    frame.bytes.writeUInt16BE(onesComplementSum(frame.bytes.subarray(34)) ^ 0xffff, 42);
    send(frame.bytes, EOP | RS | IPV4_CSUM | UDP, { headers: frame });
    burst();
    expect(rig.frame(0).readUInt16BE(40)).toBe(0xffff);
  });

  it('inserts the CRC32c of SCTP', () => {
    expect(crc32cOf(Buffer.from('123456789'))).toBe(0xe3069283); // the check value of the polynomial
    const frame = frameOf({ protocol: 'sctp', payload: 333 });
    frame.bytes.writeUInt32LE(0x12345678, 34 + 8);
    send(frame.bytes, EOP | RS | SCTP, { headers: frame });
    burst();
    const sctp = rig.frame(0).subarray(34);
    const expected = Buffer.from(sctp);
    expected.writeUInt32LE(0, 8);
    expect(sctp.readUInt32LE(8)).toBe(crc32cOf(expected));
  });

  it('drops checksum work whose headers do not fit the frame', () => {
    const frame = frameOf({ payload: 4 });
    const bad: Partial<Layout>[] = [{ l2: 14, l3: 20, l4: 28 }, { l2: 14, l3: 44 }, { l2: 12, l3: 20, l4: 20 }, { l2: 14, l3: 16, l4: 20 }, { l2: 254, l3: 508, l4: 60 }];
    for (const headers of bad) send(frame.bytes, EOP | RS | IPV4_CSUM | TCP, { headers });
    expect(burst()).toBe(RAISE);
    expect(stat(QS_ERRORS)).toBe(bad.length);
  });

  it('inserts the tag behind the addresses, with the checksums of the untagged frame', () => {
    const frame = frameOf({ undone: 'checksum' });
    send(frame.bytes, EOP | RS | IPV4_CSUM | TCP | TAG1, { headers: frame, tag: 0x6123 });
    expect(burst() & 0xffff).toBe(1);
    const sent = rig.frame(0);
    expect(sent.length).toBe(frame.bytes.length + 4);
    expect(sent.subarray(12, 16).toString('hex')).toBe('81006123');
    expect(verifyFrame(sent, { l2: 18, l3: 20 })).toMatchObject({ ip: true, l4: true });
  });

  it('leaves L4 checksum and tag to a peer that can do them', () => {
    rig.setPeerCaps(FRAME_TX_L4_CSUM | FRAME_TX_VLAN);
    const frame = frameOf({ undone: 'checksum' });
    send(frame.bytes, EOP | RS | IPV4_CSUM | TCP | TAG1, { headers: frame, tag: 7 });
    burst();
    expect(rig.frameFlags(0)).toBe(FRAME_TX_L4_CSUM | FRAME_TX_VLAN | FRAME_L4_TCP);
    const u16 = (field: number): number => rig.view.getUint16(rig.record(0) + field, true);
    expect([u16(FRAME_VLAN_TCI), u16(FRAME_L2_LENGTH), u16(FRAME_L3_LENGTH), u16(FRAME_L4_LENGTH)]).toEqual([7, 14, 20, 20]);
    const sent = rig.frame(0);
    expect(verifyFrame(sent, frame)).toMatchObject({ ip: true, l4: false }); // IPv4's own checksum is always done
    expect(sent.subarray(50, 52)).toEqual(frame.bytes.subarray(50, 52)); // the seed is untouched
  });

  it('tells unicast, multicast and broadcast apart', () => {
    send(pattern(64));
    send(pattern(64, Buffer.from('01005e000001', 'hex')));
    send(pattern(64, Buffer.alloc(6, 0xff)));
    burst();
    expect([stat(QS_UNICAST), stat(QS_MULTICAST), stat(QS_BROADCAST)]).toEqual([1, 1, 1]);
  });

  it('stops at max and where the arena ends, and goes on with the next burst', () => {
    for (let n = 0; n < 10; n++) send(pattern(1000));
    expect(burst(3) & 0xffff).toBe(3);
    expect(burst(64, 4096) & 0xffff).toBe(4);
    expect(burst() & 0xffff).toBe(3);
  });

  it('ends at max refused packets: a ring of expensive mistakes is not one burst', () => {
    const first = send(pattern(100));
    for (let n = 0; n < 4; n++) post(0xdead_0000n, 100, EOP | RS);
    for (let n = 0; n < 4; n++) {
      post(0xdead_0000n, 100, 0);
      post(0xdead_0000n, 100, EOP | RS);
    }
    const last = send(pattern(100));
    expect([burst(3) & 0xffff, stat(QS_ERRORS), nibble(first + 3), nibble(first + 4)]).toEqual([1, 3, 0xf, 0]);
    expect([burst(3) & 0xffff, stat(QS_ERRORS)]).toEqual([0, 6]);
    expect([burst(3) & 0xffff, stat(QS_ERRORS), nibble(last)]).toEqual([1, 8, 0xf]);
  });

  it('latches a tail outside of the ring and leaves the queue alone', () => {
    send(pattern(64));
    rig.setTail(rig.txBlock(0), RING);
    expect(kernels.rxBurst(rig.device, 0, rig.burst.records, 64, rig.burst.arena, rig.burst.arenaBytes)).toBe(0);
    expect(rig.fault(rig.txBlock(0))).toBe(QFAULT_TAIL);
    expect(burst()).toBe(0);
    expect(rig.head(rig.txBlock(0))).toBe(0);
  });

  it('faults a ring full of descriptors that never end a packet', () => {
    for (let n = 0; n < RING - 2; n++) post(CHUNK_IOVA, 100, 0);
    expect(burst()).toBe(0);
    expect(rig.fault(rig.txBlock(0))).toBe(0);
    post(CHUNK_IOVA, 100, 0);
    expect(burst()).toBe(0);
    expect(rig.fault(rig.txBlock(0))).toBe(QFAULT_NEVER_EOP);
  });

  it('touches nothing while paused, disabled, or asked for a queue that does not exist', () => {
    const index = send(pattern(64));
    rig.set(rig.device + DEV_PAUSED, 1);
    expect(burst()).toBe(0);
    rig.set(rig.device + DEV_PAUSED, 0);
    rig.set(rig.txBlock(0) + Q_ENABLED, 0);
    expect(burst()).toBe(0);
    expect(kernels.rxBurst(rig.device, 7, rig.burst.records, 64, rig.burst.arena, rig.burst.arenaBytes)).toBe(0);
    expect(nibble(index)).toBe(0);
  });
});

/** A double fetch of guest memory would let the guest change what has been validated. */
it('fetches every word of a descriptor once', () => {
  class Counting extends TwinMemory {
    readonly fetched = new Map<number, number>();
    override u32(offset: number): number {
      this.fetched.set(offset, (this.fetched.get(offset) ?? 0) + 1);
      return super.u32(offset);
    }
  }
  rig.reset();
  rig.mapGuest();
  rig.enableTx(0, { length: RING });
  const memory = new Counting(rig.view, rig.i32);
  for (let n = 0; n < 12; n++) {
    rig.set64(rig.txDescriptor(0, n), CHUNK_IOVA);
    rig.set64(rig.txDescriptor(0, n) + 8, (n % 4 === 3 ? 0x30n : 0n) | (100n << 34n));
  }
  rig.setTail(rig.txBlock(0), 12);
  expect(createTwins(memory).rxBurst(rig.device, 0, rig.burst.records, 64, rig.burst.arena, rig.burst.arenaBytes) & 0xffff).toBe(3);
  for (let n = 0; n < 12; n++) {
    for (let word = 0; word < 16; word += 4) expect(memory.fetched.get(rig.txDescriptor(0, n) + word)).toBe(1);
  }
});
