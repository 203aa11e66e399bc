/** Peers that do what no peer should: each is told why it is refused, costs nothing, and harms nobody else. */
import { F_SEAL_SEAL, linux } from '@emudev/linux';
import { Window } from '@emudev/dma';
import { FrameBench, expectNoLeaks, testFrame } from '@emudev/testkit';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MESSAGE_BYTES, MemifPort, encodeMessage, type AddRingMessage, type MemifMessage } from '@emudev/net-memif';
import { INIT, RawPeer } from './support/raw-peer.ts';
import { Folder, link, started } from './support/ports.ts';

const RING: AddRingMessage = { type: 'addRing', direction: 'c2s', index: 0, region: 0, offset: 0, log2Size: 4, privateHeaderBytes: 0 };
const REGION_BYTES = 65536;
const COOKIE = 0x3e31f20;

function memory(bytes: number, seals: { allow: boolean; add?: number } = { allow: true }): number {
  const fd = linux.memfdCreate('hostile', { allowSealing: seals.allow });
  linux.ftruncate(fd, bytes);
  if (seals.add !== undefined) linux.addSeals(fd, seals.add);
  return fd;
}

/** One step: a message with descriptors that are made for it and closed when it has been sent. */
type Step = readonly [MemifMessage | Uint8Array, ...(() => number)[]];
const region: Step = [{ type: 'addRegion', index: 0, sizeBytes: REGION_BYTES }, () => memory(REGION_BYTES)];
const ring = (more: Partial<AddRingMessage> = {}): Step => [{ ...RING, ...more }, () => linux.eventfd()];
const connect: Step = [{ type: 'connect', interfaceName: 'raw0' }];

function say(peer: RawPeer, steps: readonly Step[]): void {
  for (const [message, ...make] of steps) {
    const fds = make.map((one) => one());
    peer.send(message, fds);
    for (const fd of fds) linux.close(fd);
  }
}

async function withServer(body: (socket: string, port: MemifPort) => Promise<void>): Promise<void> {
  using folder = new Folder();
  const port = await started(MemifPort.open('net_memif0', { role: 'server', socket: folder.socket, socketAbstract: false, secret: 's3cret' }));
  try {
    await body(folder.socket, port);
  } finally {
    await port.close();
  }
}
const secret = encodeMessage(INIT).slice(9, 33);
secret.set(Buffer.from('s3cret'));
const init: Step = [{ ...INIT, secret }];

const REFUSED: readonly (readonly [string, readonly Step[], RegExp])[] = [
  ['a short message', [[new Uint8Array(3)]], /has 128 bytes, not 3/],
  ['a long message', [[new Uint8Array(4096)]], /has 128 bytes, not 129/],
  ['an unknown type', [[new Uint8Array(MESSAGE_BYTES).fill(0xee)]], /type 61166 is unknown/],
  ['253 descriptors', [[INIT, ...Array.from({ length: 253 }, () => () => linux.eventfd())]], /more than one descriptor/],
  ['a descriptor nobody asked for', [[INIT, () => linux.eventfd()]], /descriptor with init/],
  ['another version', [[{ ...INIT, secret, version: 0x0300 }]], /version 0x300: want 0x200/],
  ['an id that is not there', [[{ ...INIT, secret, id: 7 }]], /no interface with id 7/],
  ['IP mode', [[{ ...INIT, secret, mode: 1 }]], /interface mode 1/],
  ['no secret', [[INIT]], /secret is missing or wrong/],
  ['memory before an interface', [region], /unexpected message addRegion/],
  ['a server\'s message', [init, [{ type: 'connected', interfaceName: '' }]], /unexpected message connected/],
  ['a second INIT', [init, init], /unexpected message init/],
  ['a region without a descriptor', [init, [region[0]]], /region without a descriptor/],
  ['a region out of turn', [init, [{ type: 'addRegion', index: 3, sizeBytes: 4096 }, () => memory(4096)]], /region 3: want 0/],
  ['an empty region', [init, [{ type: 'addRegion', index: 0, sizeBytes: 0 }, () => memory(4096)]], /region of 0 bytes/],
  ['an enormous region', [init, [{ type: 'addRegion', index: 0, sizeBytes: 2 ** 40 }, () => memory(2 ** 40)]], /want 1 to/],
  ['a file shorter than its region', [init, [{ type: 'addRegion', index: 0, sizeBytes: 8193 }, () => memory(8192)]], /8193 bytes in a file of 8192/],
  ['memory that can be truncated', [init, [region[0], () => memory(REGION_BYTES, { allow: false })]], /could be truncated/],
  ['memory that takes no more seals', [init, [region[0], () => memory(REGION_BYTES, { allow: true, add: F_SEAL_SEAL })]], /could be truncated/],
  ['a socket as memory', [init, [region[0], () => { const [a, b] = linux.unixSocketPair(); linux.close(b); return a; }]], /could be truncated/],
  ['a ring without an eventfd', [init, [RING]], /C2S ring 0 without an eventfd/],
  ['a ring with another descriptor', [init, [RING, () => memory(8)]], /without an eventfd/],
  ['a ring for a queue that is not there', [init, ring({ index: 1, direction: 's2c' })], /S2C ring 1: there are 1/],
  ['a ring twice', [init, ring(), ring()], /is there already/],
  ['private headers', [init, ring({ privateHeaderBytes: 8 })], /private header/],
  ['no ring', [init, region, connect], /no ring/],
  ['a ring in no region', [init, ring(), connect], /there is no region 0/],
  ['a ring too large', [init, region, ring({ log2Size: 15 }), connect], /log2 of its size is 15/],
  ['a ring that hangs over', [init, region, ring({ offset: REGION_BYTES - 128 - 255 }), connect], /do not lie in|not aligned/],
  ['a ring that hangs over by a descriptor', [init, region, ring({ offset: REGION_BYTES - 128 - 16 * 15 }), connect], /do not lie in 65536/],
  ['a ring at an odd place', [init, region, ring({ offset: 2 }), connect], /not aligned/],
  ['a ring without its cookie', [init, region, ring(), connect], /no cookie/],
];

describe('a server', () => {
  test.each(REFUSED)('refuses %s, and serves the next one', async (_, steps, reason) => {
    await expectNoLeaks(() => withServer(async (socket, port) => {
      using peer = new RawPeer(socket);
      expect(await peer.next()).toMatchObject({ type: 'hello', minVersion: 0x0200, maxC2sRing: 0, maxS2cRing: 0 });
      say(peer, steps);
      expect(await peer.refusal()).toMatch(reason);
      using next = new RawPeer(socket);
      await next.next();
      // What the first one had is given back within a turn or two.
      say(next, [init]);
      expect(await next.next()).toEqual({ type: 'ack' });
      expect(port.link().up).toBe(false);
    }));
  });

  test('any sequence of messages ends in a reason or in nothing, and leaves nothing behind', async () => {
    const step: fc.Arbitrary<Step> = fc.oneof(
      fc.constantFrom(init, region, ring(), ring({ direction: 's2c' }), connect),
      fc.uint8Array({ minLength: MESSAGE_BYTES - 1, maxLength: MESSAGE_BYTES + 1 }).map((bytes): Step => [bytes]),
      fc.tuple(fc.nat(9), fc.uint8Array({ minLength: MESSAGE_BYTES, maxLength: MESSAGE_BYTES }), fc.boolean()).map(([type, bytes, withFd]): Step => {
        bytes.set([type, 0]);
        return withFd ? [bytes, () => linux.eventfd()] : [bytes];
      }),
    );
    await expectNoLeaks(() => withServer(async (socket, port) => {
      await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 8 }), async (steps) => {
        using peer = new RawPeer(socket);
        try {
          say(peer, [init, ...steps]);
        } catch (error) {
          // It has been refused already.
          expect(error).toMatchObject({ code: 'EPIPE' });
        }
        expect(port.link().up).toBe(false);
        await new Promise((resolve) => setImmediate(resolve));
      }), { numRuns: 100 });
      using peer = new RawPeer(socket);
      await peer.next();
      say(peer, [[{ ...INIT, secret }]]);
      expect(await peer.next()).toEqual({ type: 'ack' });
    }));
  });

  test('a crowd that says nothing keeps nobody out', async () => {
    await expectNoLeaks(() => withServer(async (socket) => {
      const silent: RawPeer[] = [];
      while (silent.length < 60) {
        silent.push(new RawPeer(socket));
        await silent.at(-1)!.next();
      }
      using peer = new RawPeer(socket);
      await peer.next();
      say(peer, [init]);
      expect(await peer.next()).toEqual({ type: 'ack' });
      expect(await silent[0]!.refusal()).toMatch(/too many peers/);
      for (const one of silent) one[Symbol.dispose]();
    }));
  });

  test('who is not connected in time is told so', async () => {
    await withServer(async (socket) => {
      using peer = new RawPeer(socket);
      expect(await peer.next()).toMatchObject({ type: 'hello' });
      expect(await peer.refusal()).toMatch(/not connected after 5000 ms/);
    });
  });
});

describe('a client', () => {
  test.each([
    ['a version it does not speak', [{ type: 'hello', name: 'x', minVersion: 0x0300, maxVersion: 0x0400, maxRegion: 0, maxS2cRing: 0, maxC2sRing: 0, maxLog2RingSize: 10 }], /versions 0x300 to 0x400/],
    ['CONNECTED before its time', [{ type: 'connected', interfaceName: 'x' }], /unexpected message connected/],
    ['acknowledgements for nothing', [{ type: 'ack' }], /unexpected message ack/],
    ['a client\'s message', [{ ...INIT }], /unexpected message init/],
  ] as const)('refuses %s', async (_, messages, reason) => {
    using folder = new Folder();
    await expectNoLeaks(async () => {
      const listener = linux.unixListen(folder.socket, 1, { type: 'seqpacket' });
      const port = await started(MemifPort.open('net_memif0', { role: 'client', socket: folder.socket, socketAbstract: false }));
      using peer = new RawPeer(linux.unixAccept(listener)!);
      for (const message of messages) peer.send(message);
      expect(await peer.refusal()).toMatch(reason);
      linux.close(listener);
      await port.close();
    });
  });
});

/** A connected client whose memory the test writes as it likes. */
async function hostileClient(body: (peer: { u16: (at: number, value: number) => void; descriptor: (ring: 0 | 1, slot: number, flags: number, region: number, length: number, offset: number) => void; head: (ring: 0 | 1, value: number) => void }, port: MemifPort) => Promise<void>): Promise<void> {
  await withServer(async (socket, port) => {
    using window = Window.open();
    const fd = memory(REGION_BYTES);
    using mapping = window.map({ fd, fdOffset: 0, lengthBytes: REGION_BYTES, write: true });
    const rings = [mapping.offset, mapping.offset + 1024] as const;
    for (const at of rings) window.view.setUint32(at, COOKIE, true);
    using peer = new RawPeer(socket);
    say(peer, [init, [region[0], () => linux.dup(fd)], ring(), ring({ direction: 's2c', offset: 1024 }), connect]);
    linux.close(fd);
    await link(port, true);
    await body({
      u16: (at, value) => { window.view.setUint16(at, value, true); },
      head: (which, value) => { window.view.setUint16(rings[which] + 6, value, true); },
      descriptor: (which, slot, flags, regionIndex, length, offset) => {
        const at = rings[which] + 128 + 16 * slot;
        window.view.setUint16(at, flags, true);
        window.view.setUint16(at + 2, regionIndex, true);
        window.view.setUint32(at + 4, length, true);
        window.view.setUint32(at + 8, offset, true);
      },
    }, port);
  });
}

describe('shared memory', () => {
  test('what makes no frame is dropped and counted; the next one is received', async () => {
    await expectNoLeaks(() => hostileClient(async ({ descriptor, head }, port) => {
      using bench = new FrameBench();
      const datapath = await bench.load(port);
      descriptor(0, 0, 0, 1, 100, 8192); // no such region
      descriptor(0, 1, 0, 65535, 100, 8192);
      descriptor(0, 2, 0, 0, 100, REGION_BYTES - 99); // one byte too far
      descriptor(0, 3, 0, 0, 0xffffffff, 8192);
      descriptor(0, 4, 0, 0, 8192, 0xffffffff);
      descriptor(0, 5, 0, 0, 13, 8192); // no Ethernet header
      descriptor(0, 6, 1, 0, 9000, 8192); // 9729 bytes in two
      descriptor(0, 7, 0, 0, 729, 8192);
      descriptor(0, 8, 0, 0, 100, REGION_BYTES - 100); // just fits
      descriptor(0, 9, 1, 0, 100, 8192); // goes on behind the head
      head(0, 10);
      expect(bench.receive(datapath, 0).map(({ bytes }) => bytes.length)).toEqual([100]);
      expect(port.stats()).toMatchObject({ ipackets: 1n, ierrors: 8n });
      expect(port.link().up).toBe(true);
    }));
  });

  test.each([[17], [0x8000], [0xffff]])('a head at %i of 16 ends the connection, with a reason', async (at) => {
    await hostileClient(async ({ head }, port) => {
      using bench = new FrameBench();
      const datapath = await bench.load(port);
      head(0, at);
      expect(bench.receive(datapath, 0)).toEqual([]);
      await link(port, false);
    });
  });

  test.each([
    ['of no region', 1, 100, 0],
    ['outside its region', 0, 100, REGION_BYTES - 99],
    ['of no bytes', 0, 0, 8192],
    ['that wraps', 0, 0xffffffff, 0xffffffff],
  ])('a buffer %s ends the connection; nothing is written', async (_, regionIndex, length, offset) => {
    await hostileClient(async ({ descriptor, head }, port) => {
      using bench = new FrameBench();
      const datapath = await bench.load(port);
      descriptor(1, 0, 0, 0, 2048, 8192);
      descriptor(1, 1, 0, regionIndex, length, offset);
      head(1, 2);
      expect(bench.send(datapath, 0, [testFrame(1), testFrame(2), testFrame(3)])).toBe(1);
      expect(port.stats()).toMatchObject({ opackets: 1n });
      await link(port, false);
    });
  });

  test('whatever the rings hold, bursts end, and frames are as long as they may be', async () => {
    await hostileClient(async ({ descriptor, head }, port) => {
      using bench = new FrameBench();
      const datapath = await bench.load(port);
      let at = 0;
      const word = fc.oneof(fc.nat(0xffffffff), fc.nat(3000));
      fc.assert(fc.property(fc.array(fc.tuple(fc.nat(3), fc.nat(2), word, word), { minLength: 1, maxLength: 16 }), (descriptors) => {
        for (const [i, [flags, regionIndex, length, offset]] of descriptors.entries()) descriptor(0, (at + i) % 16, flags, regionIndex, length, offset);
        at = (at + descriptors.length) & 0xffff;
        head(0, at);
        const before = port.stats();
        const frames = bench.receive(datapath, 0);
        const after = port.stats();
        for (const { bytes } of frames) expect(bytes.length >= 14 && bytes.length <= 9728).toBe(true);
        const chains = descriptors.filter(([flags], i) => (flags & 1) === 0 || i === descriptors.length - 1).length;
        expect(Number(after.ipackets - before.ipackets + after.ierrors - before.ierrors)).toBe(chains);
      }), { numRuns: 300 });
    });
  });
});
