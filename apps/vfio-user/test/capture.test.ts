import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeMessage } from '@emudev/vfio-user-protocol';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { interfaceBlock, packetBlock, readPackets, sectionHeaderBlock } from '../src/pcapng/blocks.ts';
import { captureEnd, captureMessage, captureStart, readCapture } from '../src/pcapng/capture.ts';
import { CaptureError } from '../src/pcapng/errors.ts';
import { DESCRIPTOR_KINDS } from '../src/trace/descriptors.ts';
import type { ObservedMessage } from '../src/trace/observed.ts';
import { temporaryFolder } from './wire.ts';

const ORIGIN = 1_700_000_000_000.25;

const descriptor = fc.record({ kind: fc.constantFrom(...DESCRIPTOR_KINDS), sizeBytes: fc.maxSafeNat(), file: fc.nat(), name: fc.constant('') });
const observed: fc.Arbitrary<ObservedMessage> = fc.record({
  atMs: fc.double({ min: 0, max: 1e9, noNaN: true }), session: fc.nat(), channel: fc.constantFrom('main', 'twin'), from: fc.constantFrom('client', 'server'),
  framing: fc.constantFrom('whole', 'cut', 'raw'), bytes: fc.uint8Array({ maxLength: 100 }), missing: fc.nat(100), fds: fc.array(descriptor, { maxLength: 5 }),
}).map(({ missing, ...message }) => ({ ...message, size: message.bytes.length + missing }));

const everything = (file: Uint8Array): unknown[] => [...readCapture(file)];

describe('captures', () => {
  it('are read as they were written', () => {
    fc.assert(fc.property(fc.array(observed, { maxLength: 8 }), (messages) => {
      const file = Buffer.concat([...captureStart('a', 'b'), ...messages.map((m) => captureMessage(m, ORIGIN)), captureEnd(7, 1, ORIGIN)]);
      const read = [...readCapture(file)];
      expect(read.pop()).toEqual({ session: 7, atNs: 1_700_000_000_001_250_000n });
      const origin = BigInt(ORIGIN * 4) * 250_000n;
      for (const [i, got] of read.entries()) {
        if (!('bytes' in got)) throw new Error('a message was expected');
        const { atMs, ...sent } = messages[i]!;
        const { atNs, offset: _offset, ...rest } = got;
        expect({ ...rest, bytes: Uint8Array.from(rest.bytes) }).toEqual(sent);
        // A double of milliseconds has about 100 ns left after ten days.
        expect(Math.abs(Number(atNs - origin - BigInt(Math.round(atMs * 1e6))))).toBeLessThan(300);
      }
      expect(read).toHaveLength(messages.length);
    }));
  });

  it('are what tshark and capinfos take for a pcapng file, to the nanosecond', () => {
    using folder = temporaryFolder();
    const path = join(folder.path, 'x.pcapng');
    const message: ObservedMessage = { atMs: 1234.567891, session: 3, channel: 'main', from: 'server', framing: 'whole', bytes: encodeMessage(5, 13, 1, new Uint8Array(0)), size: 16, fds: [] };
    writeFileSync(path, Buffer.concat([...captureStart('listen.sock', 'connect.sock'), captureMessage(message, 1_700_000_000_000)]));
    const infos = execFileSync('capinfos', ['-M', path], { encoding: 'utf8' });
    expect(infos).toMatch(/File type:\s+pcapng/);
    expect(infos).toMatch(/Capture application:\s+vfio-user trace/);
    expect(infos).toMatch(/Number of packets:\s+1\b/);
    expect(infos).toMatch(/Capture comment:\s+vfio-user messages/);
    const line = execFileSync('tshark', ['-r', path, '-T', 'fields', '-e', 'frame.time_epoch', '-e', 'frame.len', '-e', 'frame.interface_description', '-e', 'frame.encap_type'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    expect(line.trim().split('\t').slice(0, 3)).toEqual(['1700000001.234567891', '32', 'listen.sock -> connect.sock']);
  });

  it('that end too early say where, after the messages before', () => {
    const message: ObservedMessage = { atMs: 0, session: 1, channel: 'main', from: 'client', framing: 'whole', bytes: new Uint8Array(20), size: 20, fds: [] };
    const one = Buffer.concat([...captureStart('a', 'b'), captureMessage(message, ORIGIN)]);
    const file = Buffer.concat([one, captureMessage(message, ORIGIN)]);
    for (let length = one.length + 1; length < file.length; length++) {
      const read = readCapture(file.subarray(0, length));
      expect(read.next().value).toMatchObject({ session: 1 });
      expect(() => read.next()).toThrow(CaptureError);
    }
    expect(() => everything(Buffer.from('not a capture at all, but long enough'))).toThrow('at byte 0: this is no pcapng file');
    const ethernet = Buffer.concat([sectionHeaderBlock('x', ''), interfaceBlock(1, '', '', ''), packetBlock({ interface: 0, timestampNs: 0n, data: [new Uint8Array(20)], originalBytes: 20, direction: 'inbound' })]);
    expect(() => everything(ethernet)).toThrow(/link type 1, a trace has 147/);
  });

  it('of anybody else\'s making never do more than throw', () => {
    const message: ObservedMessage = { atMs: 0, session: 1, channel: 'main', from: 'client', framing: 'whole', bytes: new Uint8Array(20), size: 20, fds: [{ kind: 'memfd', sizeBytes: 4096, file: 1, name: '' }] };
    const good = Buffer.concat([...captureStart('a', 'b'), captureMessage(message, ORIGIN), captureEnd(1, 1, ORIGIN)]);
    fc.assert(fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }), (changes) => {
      const file = Buffer.from(good);
      for (const [at, value] of changes) file[at] = value;
      try {
        everything(file);
      } catch (error) {
        expect(error).toBeInstanceOf(CaptureError);
      }
    }), { numRuns: 2000 });
  });

  it('with sections, lengths and descriptors that are wrong are refused', () => {
    const message: ObservedMessage = { atMs: 0, session: 1, channel: 'main', from: 'client', framing: 'whole', bytes: new Uint8Array(20), size: 20, fds: [{ kind: 'memfd', sizeBytes: 4096, file: 1, name: '' }] };
    const [section, description] = captureStart('a', 'b') as [Uint8Array, Uint8Array];
    const packet = captureMessage(message, ORIGIN);
    // Each section counts its own interfaces.
    expect(() => everything(Buffer.concat([section, description, packet, section, packet]))).toThrow('a packet of interface 0, of which there are 0');
    const twoLengths = Uint8Array.from(packet);
    new DataView(twoLengths.buffer).setUint32(twoLengths.length - 4, 4096, true);
    expect(() => everything(Buffer.concat([section, description, twoLengths]))).toThrow('two lengths differ');
    const hugeFile = Uint8Array.from(packet);
    new DataView(hugeFile.buffer).setBigUint64(28 + 16 + 8, 1n << 63n, true);
    expect(() => everything(Buffer.concat([section, description, hugeFile]))).toThrow('a descriptor of a file of 9223372036854775808 bytes');
    // Shorter on the wire than what was captured of it: more likely somebody's zero.
    const noOriginal = Uint8Array.from(packet);
    new DataView(noOriginal.buffer).setUint32(24, 0, true);
    expect(everything(Buffer.concat([section, description, noOriginal]))).toMatchObject([{ size: 20 }]);
  });

  it('are read with a resolution in powers of two', () => {
    const bytes = Buffer.concat([sectionHeaderBlock('x', ''), interfaceBlock(147, '', '', ''), packetBlock({ interface: 0, timestampNs: 3n << 10n, data: [], originalBytes: 0, direction: 'inbound' })]);
    const at = bytes.indexOf(Buffer.from([9, 0, 1, 0, 9]));
    bytes[at + 4] = 0x80 | 10;
    expect([...readPackets(bytes)][0]!.timestampNs).toBe(3_000_000_000n);
  });

  it('are read in the other byte order and with the default resolution', () => {
    const swap = (words: number[]): Buffer => { const b = Buffer.alloc(4 * words.length); words.forEach((w, i) => b.writeUInt32BE(w, 4 * i)); return b; };
    const file = Buffer.concat([swap([0x0a0d0d0a, 28, 0x1a2b3c4d, 0x00010000, 0xffffffff, 0xffffffff, 28]), swap([1, 20, 147 << 16, 0, 20]), swap([6, 36, 0, 0, 5, 4, 4, 0x01020304, 36])]);
    expect([...readPackets(file)]).toEqual([{ offset: 48, linkType: 147, timestampNs: 5000n, data: Buffer.from([1, 2, 3, 4]), originalBytes: 4 }]);
  });
});

describe('large messages', () => {
  const large: ObservedMessage = {
    atMs: 0, session: 2, channel: 'twin', from: 'server', framing: 'whole', size: 1_000_016, bytes: encodeMessage(5, 17, 1, Uint8Array.from({ length: 1_000_000 }, (_, i) => i % 251)),
    fds: [{ kind: 'memfd', sizeBytes: 4096, file: 1, name: '' }],
  };
  const small: ObservedMessage = { ...large, bytes: encodeMessage(6, 13, 1, new Uint8Array(0)), size: 16, fds: [] };
  const start = captureStart('a', 'b');

  it('take several packets, each of a size that Wireshark reads, and are one when they are read', () => {
    const file = Buffer.concat([...start, captureMessage(large, ORIGIN), captureMessage(small, ORIGIN), captureEnd(2, 1, ORIGIN)]);
    const sizes = [...readPackets(file)].map(({ data }) => data.length);
    expect(sizes).toEqual([262_144, 262_144, 262_144, expect.any(Number) as number, 32, 16]);
    const read = everything(file) as ObservedMessage[];
    expect(read).toMatchObject([{ size: 1_000_016, fds: large.fds, framing: 'whole', channel: 'twin' }, { size: 16 }, { session: 2 }]);
    expect(Buffer.compare(read[0]!.bytes, large.bytes)).toBe(0);
    // The last in the file, too.
    expect(everything(Buffer.concat([...start, captureMessage(large, ORIGIN)]))).toHaveLength(1);

    using folder = temporaryFolder();
    const path = join(folder.path, 'x.pcapng');
    writeFileSync(path, file);
    expect(execFileSync('capinfos', ['-M', '-c', path], { encoding: 'utf8' })).toMatch(/Number of packets:\s+6\b/);
  });

  it('whose parts belong to nothing, to something else, or are more than there can be, are refused', () => {
    const whole = captureMessage(large, ORIGIN);
    const rest = whole.subarray(new DataView(whole.buffer, whole.byteOffset).getUint32(4, true));
    const first = whole.subarray(0, whole.length - rest.length);
    for (const [blocks, what] of [
      [[rest], 'goes on with no message'],
      [[captureMessage({ ...small, channel: 'main' }, ORIGIN), rest], 'goes on with no message'],
      [[captureMessage({ ...small, session: 3 }, ORIGIN), rest], 'goes on with no message'],
      [[captureMessage({ ...small, from: 'client' }, ORIGIN), rest], 'goes on with no message'],
      [[first, captureEnd(2, 1, ORIGIN), rest], 'goes on with no message'],
      [[whole, rest], 'goes on with no message'],
      [[captureMessage(small, ORIGIN), rest], 'goes on with no message'],
      [[captureMessage({ ...large, size: 300_000 }, ORIGIN)], 'a message of 300000 bytes has more of them'],
    ] as const) expect(() => everything(Buffer.concat([...start, ...blocks]))).toThrow(what);
  });
});
