import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FrameRingReader, FrameRingWriter, copyInWindow, type FrameRingCells } from '@emudev/ethdev';
import { scratchBurst, scratchContext, takeFrame } from './fixtures/scratch-context.ts';

const context = scratchContext();
const burst = scratchBurst(4);
const cells: FrameRingCells = { offset: 65536, sizeBytes: 4096 };

function emptyRing(startAt: number): { writer: FrameRingWriter; reader: FrameRingReader } {
  context.u8.fill(0, cells.offset, cells.offset + 128 + cells.sizeBytes);
  // Anywhere in the 32-bit count, to cross its end too.
  for (const cell of [0, 64, 68]) context.u32[(cells.offset + cell) >>> 2] = startAt;
  return { writer: new FrameRingWriter(context, cells), reader: new FrameRingReader(context, cells) };
}

function push(writer: FrameRingWriter, frame: Uint8Array): boolean {
  writer.begin();
  const place = writer.reserve(frame.length);
  if (place !== 0) {
    context.u8.set(frame, place);
    writer.commit(frame.length);
  }
  writer.publish();
  return place !== 0;
}

test('what goes in comes out, in order, or was refused because the ring was full', () => {
  const step = fc.oneof(fc.uint8Array({ maxLength: 2040 }), fc.integer({ min: 1, max: 4 }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.constantFrom(0, 8, 4088, 0xfffff000, 0xfffffff8), (steps, startAt) => {
      const { writer, reader } = emptyRing(startAt);
      const expected: Uint8Array[] = [];
      let held = 0;
      let handedOut = 0;
      for (const what of steps) {
        if (typeof what === 'number') {
          const count = reader.releaseAndPop(burst.records, what);
          expect(count).toBe(Math.min(what, expected.length));
          for (let i = 0; i < count; i++) expect(takeFrame(context, burst, i)).toEqual(expected[i]);
          handedOut = expected.splice(0, count).reduce((sum, frame) => sum + 16 + frame.length, 0);
          held = expected.reduce((sum, frame) => sum + 16 + frame.length, handedOut);
        } else if (push(writer, what)) {
          expected.push(what);
          held += 16 + what.length;
        } else {
          // Full: what is inside, what is still handed out, the refused frame and a skipped end are more than the ring.
          expect(held + 2 * (16 + what.length)).toBeGreaterThan(cells.sizeBytes);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('a frame handed out stays as it is until the next pop, however much is sent', () => {
  const { writer, reader } = emptyRing(0);
  push(writer, new Uint8Array(1500).fill(1));
  reader.releaseAndPop(burst.records, 4);
  let sent = 0;
  while (push(writer, new Uint8Array(700).fill(2))) sent++;
  expect(sent).toBeGreaterThan(0);
  expect(takeFrame(context, burst, 0)).toEqual(new Uint8Array(1500).fill(1));
});

test('a queue that moves to other lcores loses and repeats nothing', () => {
  const { writer, reader } = emptyRing(0);
  for (let i = 1; i <= 3; i++) push(writer, Uint8Array.of(i));
  expect(reader.releaseAndPop(burst.records, 2)).toBe(2);
  push(new FrameRingWriter(context, cells), Uint8Array.of(4));
  const next = new FrameRingReader(context, cells);
  expect(next.releaseAndPop(burst.records, 4)).toBe(2);
  expect([takeFrame(context, burst, 0)[0], takeFrame(context, burst, 1)[0]]).toEqual([3, 4]);
});

test('a frame of more than half the ring is refused, also by an empty ring', () => {
  const { writer } = emptyRing(0);
  expect(push(writer, new Uint8Array(2048))).toBe(false);
  expect(push(writer, new Uint8Array(2040))).toBe(true);
});

test('copies of any length and alignment', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(7), fc.nat(7), (bytes, from, to) => {
      context.u8.set(bytes, 200_000 + from);
      copyInWindow(context, 210_000 + to, 200_000 + from, bytes.length);
      expect(context.u8.slice(210_000 + to, 210_000 + to + bytes.length)).toEqual(bytes);
    }),
  );
});
