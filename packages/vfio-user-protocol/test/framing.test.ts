import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeHeader, encodeMessage, FrameReader } from '../src/index.ts';
import type { Frame } from '../src/index.ts';

const LIMITS = { maxFrameBytes: 4096, maxFds: 8 };
const message = (id: number, payload: number[] = []): Uint8Array => encodeMessage(id, 9, 0, Uint8Array.from(payload));
const concat = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));
const view = (frame: Frame): unknown => ({ id: frame.id, payload: [...frame.payload], fds: [...frame.fds] });

interface Sent {
  readonly bytes: Uint8Array;
  readonly fds: readonly number[];
}

/** recvmsg as unix(7) has it: bytes of several sends at once, but not beyond a send that carried descriptors, and those whole. */
function* receives(sends: readonly Sent[], sizes: readonly number[]): Generator<Sent> {
  let send = 0;
  let at = 0;
  for (let n = 0; send < sends.length; n++) {
    const room = sizes[n % sizes.length]!;
    const chunk: number[] = [];
    let fds: readonly number[] = [];
    while (send < sends.length && chunk.length < room) {
      const { bytes, fds: carried } = sends[send]!;
      if (at === 0) fds = carried;
      const take = Math.min(room - chunk.length, bytes.length - at);
      chunk.push(...bytes.subarray(at, at + take));
      at += take;
      if (at === bytes.length) {
        at = 0;
        send++;
      }
      if (fds.length > 0) break;
    }
    yield { bytes: Uint8Array.from(chunk), fds };
  }
}

test('however the kernel cuts and joins, every message arrives once, whole, with its own descriptors', () => {
  const messages = fc.array(fc.record({ payload: fc.array(fc.nat(255), { maxLength: 60 }), fds: fc.nat(3) }), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(messages, fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 6 }), (list, sizes) => {
      let nextFd = 100;
      const sends = list.map(({ payload, fds }, id) => ({ bytes: message(id, payload), fds: Array.from({ length: fds }, () => nextFd++) }));
      const reader = new FrameReader(LIMITS);
      const buffer = new Uint8Array(256);
      const got: Frame[] = [];
      for (const { bytes, fds } of receives(sends, sizes)) {
        // One buffer for all receives, overwritten each time, as a real receiver's.
        buffer.fill(0xee);
        buffer.set(bytes);
        const pushed = reader.push(buffer.subarray(0, bytes.length), fds);
        expect(pushed.error).toBeUndefined();
        got.push(...pushed.frames);
      }
      expect(got.map(view)).toEqual(sends.map(({ fds }, id) => ({ id, payload: list[id]!.payload, fds })));
      expect(reader.idle).toBe(true);
      expect(reader.dispose()).toEqual([]);
    }),
    { numRuns: 500 },
  );
});

test('no input makes it throw or lose a descriptor', () => {
  const chunk = fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.record({ size: fc.integer({ min: 0, max: 80 }) }).map(({ size }) => encodeHeader({ id: 0, command: 1, size, flags: 0, error: 0 })));
  fc.assert(
    fc.property(fc.array(fc.record({ chunk, fds: fc.nat(4) }), { maxLength: 20 }), (chunks) => {
      const reader = new FrameReader({ maxFrameBytes: 64, maxFds: 5 });
      const out: number[] = [];
      let next = 0;
      for (const { chunk: bytes, fds } of chunks) {
        for (const frame of reader.push(bytes, Array.from({ length: fds }, () => next++)).frames) out.push(...frame.fds);
      }
      out.push(...reader.dispose());
      expect(out.sort((a, b) => a - b)).toEqual(Array.from({ length: next }, (_, i) => i));
    }),
    { numRuns: 300 },
  );
});

describe('descriptors', () => {
  test('bytes of an earlier message before them: they belong to the later one', () => {
    const reader = new FrameReader(LIMITS);
    const first = message(1, [1, 2, 3]);
    reader.push(first.subarray(0, 5));
    const { frames } = reader.push(concat(first.subarray(5), message(2)), [7]);
    expect(frames.map(view)).toEqual([{ id: 1, payload: [1, 2, 3], fds: [] }, { id: 2, payload: [], fds: [7] }]);
  });
  test('with the payload instead of the header: they belong to the message under way', () => {
    const reader = new FrameReader(LIMITS);
    const bytes = message(1, [1, 2, 3]);
    reader.push(bytes.subarray(0, 16));
    expect(reader.push(bytes.subarray(16), [7]).frames.map(view)).toEqual([{ id: 1, payload: [1, 2, 3], fds: [7] }]);
  });
  test('too many, also in instalments, end the stream; all come back', () => {
    const reader = new FrameReader({ maxFrameBytes: 64, maxFds: 2 });
    const bytes = message(1, [1]);
    expect(reader.push(bytes.subarray(0, 4), [3, 4]).error).toBeUndefined();
    expect(reader.push(bytes.subarray(4, 8), [5]).error).toMatchObject({ code: 'ERR_VFU_FDS', consequence: 'close' });
    expect(reader.push(bytes, [6])).toMatchObject({ frames: [], error: { code: 'ERR_VFU_FDS' } });
    expect(reader.dispose()).toEqual([3, 4, 5, 6]);
  });
});

describe('the size field', () => {
  const header = (size: number): Uint8Array => encodeHeader({ id: 1, command: 9, size, flags: 0, error: 0 });
  test.each([0, 15, 65, 0xffff_ffff])('%i bytes end the stream', (size) => {
    const reader = new FrameReader({ maxFrameBytes: 64, maxFds: 1 });
    const { frames, error } = reader.push(concat(message(5), header(size), message(6)), [9]);
    expect(frames.map((frame) => frame.id), 'what came before is delivered').toEqual([5]);
    expect(error).toMatchObject({ code: 'ERR_VFU_FRAME_SIZE', consequence: 'close' });
    expect(reader.rejected, 'a server may answer it').toMatchObject({ id: 1, command: 9, size });
    expect(reader.dispose()).toEqual([9]);
    expect(reader.rejected).toBeUndefined();
  });
  test('the limit itself is accepted, and can be raised between messages', () => {
    const reader = new FrameReader({ maxFrameBytes: 20, maxFds: 1 });
    expect(reader.push(message(1, [1, 2, 3, 4])).frames).toHaveLength(1);
    reader.limits = { maxFrameBytes: 21, maxFds: 1 };
    expect(reader.push(message(1, [1, 2, 3, 4, 5])).frames).toHaveLength(1);
  });
});

test('disposing in the middle of a message returns its descriptors once; later ones come back too', () => {
  const reader = new FrameReader(LIMITS);
  reader.push(message(1, [1, 2]).subarray(0, 17), [3]);
  expect(reader.idle).toBe(false);
  expect(reader.dispose()).toEqual([3]);
  reader.push(message(2), [4]);
  expect(reader.dispose()).toEqual([4]);
});
