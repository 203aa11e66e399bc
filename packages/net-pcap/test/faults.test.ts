/** Failing disks and files of any content, with system calls of the test's own. */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Window } from '@emudev/dma';
import { PortCounters, allocateBurst, readCounter, type OwnedBurst } from '@emudev/ethdev';
import { LinuxError, errnoNumber, type FileStatus } from '@emudev/linux';
import { READ_BUFFER_BYTES, CaptureReader, initReaderCells } from '../src/datapath/reader.ts';
import { CaptureWriter, WRITE_MEMORY_BYTES, type WriterSys } from '../src/datapath/writer.ts';
import { buildFileHeader } from '../src/file-format.ts';
import { PCAP_COUNTERS, PCAP_COUNTERS_BYTES, READ_ENDED, WRITE_LOCK, pcapCounter, type PcapCounter } from '../src/port-memory.ts';
import { captureFile, fileHeader, frame, readEntries, readWritten } from './fixtures/captures.ts';
import { contextOf, putFrames, takeFrames } from './fixtures/rig.ts';

const GUARD = 0xee;
let window: Window;
let counters: PortCounters;
let burst: OwnedBurst;
let pcapCounters: number;
let cells: number;
let buffer: number;

beforeEach(() => {
  window = Window.open();
  counters = new PortCounters(window, 1, 1);
  burst = allocateBurst(window, 32, 32 * 10_240);
  pcapCounters = window.alloc(PCAP_COUNTERS_BYTES);
  cells = window.alloc(64);
  buffer = window.alloc(Math.max(READ_BUFFER_BYTES, WRITE_MEMORY_BYTES) + 64);
});
afterEach(() => {
  window[Symbol.dispose]();
});

const count = (name: PcapCounter): number => Number(readCounter(window.u32, pcapCounter(pcapCounters, name)));

/** A disk that takes `room` bytes. */
class Disk implements WriterSys {
  room: number;
  /** Most that one call takes. */
  piece: number = Number.MAX_SAFE_INTEGER;
  refusesToShrink = false;
  #bytes = new Uint8Array(1 << 20);
  #size = 24;

  constructor(room: number) {
    this.room = room;
    this.#bytes.set(buildFileHeader(65_535));
  }
  get bytes(): Uint8Array {
    return this.#bytes.slice(0, this.#size);
  }
  writeAt(_fd: number, address: bigint, lengthBytes: number): number {
    const left = this.room - this.#size;
    if (left <= 0) throw new LinuxError(errnoNumber('ENOSPC'), 'write');
    const n = Math.min(lengthBytes, left, this.piece);
    const from = Number(address - window.base);
    this.#bytes.set(window.u8.subarray(from, from + n), this.#size);
    this.#size += n;
    return n;
  }
  fstat(): FileStatus {
    return { dev: 0n, ino: 0n, sizeBytes: this.#size, blockBytes: 4096, mode: 0 };
  }
  ftruncate(_fd: number, lengthBytes: number): void {
    if (this.refusesToShrink) throw new LinuxError(errnoNumber('EIO'), 'ftruncate');
    this.#size = lengthBytes;
  }
}

describe('a full disk', () => {
  const writerOn = (disk: Disk): CaptureWriter => new CaptureWriter(contextOf(window), { fd: 9, snaplen: 65_535, cells, buffer, counters: counters.txBlock(0), pcapCounters }, disk);
  const send = (writer: CaptureWriter, frames: readonly Uint8Array[]): number => {
    putFrames(window, burst, frames);
    return writer.txBurst(burst, frames.length);
  };

  test('costs the frames that do not fit, counted; the file ends with a whole record and goes on when there is room', () => {
    const disk = new Disk(24 + 2 * 76 + 30);
    const writer = writerOn(disk);
    expect(send(writer, [1, 2, 3, 4].map((i) => frame(i)))).toBe(4);
    writer.flush(true);
    expect(readWritten(disk.bytes).records.map((r) => r.data)).toEqual([frame(1), frame(2)]);
    expect([count('tx_lost'), counters.stats().oerrors, counters.stats().opackets]).toEqual([2, 2n, 4n]);
    disk.room = 10_000;
    send(writer, [frame(5)]);
    writer.flush(true);
    expect(readWritten(disk.bytes).records.map((r) => r.data)).toEqual([frame(1), frame(2), frame(5)]);
  });

  test('that stays full loses everything, accepts everything, and counts it', () => {
    const writer = writerOn(new Disk(24));
    const frames = Array.from({ length: 32 }, (_, i) => frame(i, 9000));
    for (let i = 0; i < 10; i++) expect(send(writer, frames)).toBe(32);
    writer.flush(true);
    expect([count('tx_lost'), counters.stats().oerrors]).toEqual([320, 320n]);
  });

  test('that cannot even be shortened does no more harm', () => {
    const disk = new Disk(24 + 100);
    disk.refusesToShrink = true;
    const writer = writerOn(disk);
    send(writer, [frame(1), frame(2)]);
    writer.flush(true);
    expect([count('tx_lost'), counters.stats().oerrors, disk.bytes.length]).toEqual([1, 1n, 124]);
  });

  test('no disk: writes in small pieces are put together', () => {
    const disk = new Disk(1 << 20);
    disk.piece = 7;
    const writer = writerOn(disk);
    send(writer, [frame(1), frame(2, 1514)]);
    writer.flush(true);
    expect(readWritten(disk.bytes).records.map((r) => r.data)).toEqual([frame(1), frame(2, 1514)]);
  });

  test('any frames, any room: what is in the file is whole, and what is not is counted', () => {
    fc.assert(
      fc.property(fc.array(fc.array(fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 0, max: 200 }) }, fc.integer({ min: 0, max: 9800 })), { maxLength: 32 }), { maxLength: 8 }), fc.oneof(fc.integer({ min: 24, max: 20_000 }), fc.integer({ min: 24, max: 600_000 })), fc.integer({ min: 100, max: 300_000 }), (bursts, room, piece) => {
        counters.reset();
        const lostBefore = count('tx_lost');
        const disk = new Disk(room);
        disk.piece = piece;
        const writer = writerOn(disk);
        const sent: Uint8Array[] = [];
        for (const lengths of bursts) {
          const frames = lengths.map((length, i) => frame(sent.length + i, length));
          expect(send(writer, frames)).toBe(frames.length);
          sent.push(...frames.filter((f) => f.length <= 9728));
        }
        writer.flush(true);
        const records = readWritten(disk.bytes).records.map((r) => r.data);
        const total = bursts.flat().length;
        const { opackets, oerrors } = counters.stats();
        expect([Number(opackets), Number(oerrors)]).toEqual([sent.length, total - records.length]);
        expect(records.length).toBe(sent.length - (count('tx_lost') - lostBefore));
        // In order, with nothing in it that was not sent.
        let at = 0;
        for (const f of sent) if (at < records.length && Buffer.compare(records[at]!, f) === 0) at++;
        expect(at).toBe(records.length);
      }),
      { numRuns: 40 },
    );
  });

  test('not the disk but a frame is gone: its burst throws, those before it are kept, and the next burst is taken', () => {
    const disk = new Disk(10_000);
    const writer = writerOn(disk);
    putFrames(window, burst, [frame(1), frame(2)]);
    window.view.setUint32(burst.records + 32, 0xffff_ffff, true);
    expect(() => writer.txBurst(burst, 2)).toThrow();
    expect(send(writer, [frame(3)])).toBe(1);
    writer.flush(false);
    expect(readWritten(disk.bytes).records.map((r) => r.data)).toEqual([frame(1), frame(3)]);
    expect(counters.stats().opackets).toBe(2n);
  });

  test('whoever holds the buffer for ever does not hang a burst for ever, nor the last flush', () => {
    const disk = new Disk(10_000);
    const writer = writerOn(disk);
    send(writer, [frame(1)]);
    window.i32[(cells + WRITE_LOCK) >>> 2] = 1;
    expect(send(writer, [frame(2)])).toBe(0);
    writer.flush(false);
    expect(disk.bytes).toHaveLength(24);
    writer.flushLast();
    expect(readWritten(disk.bytes).records.map((r) => r.data)).toEqual([frame(1)]);
  });
});

describe('any bytes as a file', () => {
  const ended = (): boolean => window.u32[(cells + READ_ENDED) >>> 2] !== 0;

  /** Reads `file` in pieces as the disk gives them; every burst is bounded. */
  function readAll(file: Uint8Array, pieces: readonly number[], littleEndian: boolean, failAt = -1): Uint8Array[] {
    let calls = 0;
    const sys = {
      pread: (_fd: number, into: Uint8Array, offset: number): number => {
        if (calls === failAt) throw new LinuxError(errnoNumber('EIO'), 'pread');
        const n = Math.min(into.length, Math.max(0, file.length - offset), pieces[calls++ % pieces.length]!);
        into.set(file.subarray(offset, offset + n));
        return n;
      },
    };
    window.u8.fill(GUARD, buffer + READ_BUFFER_BYTES, buffer + READ_BUFFER_BYTES + 64);
    window.u8.fill(0, pcapCounters, pcapCounters + PCAP_COUNTERS.length * 16);
    counters.reset();
    initReaderCells(window.view, window.u32, cells);
    const reader = new CaptureReader(contextOf(window), { fd: 9, littleEndian, infinite: false, cells, buffer, counters: counters.rxBlock(0), pcapCounters }, sys);
    const frames: Uint8Array[] = [];
    const most = file.length / 16 + file.length / Math.min(...pieces) + 10;
    for (let burstNumber = 0; !ended(); burstNumber++) {
      if (burstNumber > most) throw new Error('does not end');
      const callsBefore = calls;
      const received = reader.rxBurst(burst, 1 + (burstNumber % 32));
      expect(calls - callsBefore).toBeLessThanOrEqual(1);
      expect(received).toBeLessThanOrEqual(1 + (burstNumber % 32));
      frames.push(...takeFrames(window, burst, received));
    }
    expect(reader.rxBurst(burst, 32)).toBe(0);
    expect(window.u8.subarray(buffer + READ_BUFFER_BYTES, buffer + READ_BUFFER_BYTES + 64).every((b) => b === GUARD)).toBe(true);
    return frames;
  }

  const lengths = fc.oneof(fc.integer({ min: 0, max: 200 }), fc.constantFrom(13, 14, 1514, 9728, 9729, 20_000), fc.integer({ min: 0, max: 30_000 }));
  const entry = fc.record({ length: lengths, lie: fc.option(fc.oneof(fc.nat(0xffffffff), fc.nat(400), fc.constantFrom(262_144, 262_145, 9728, 9729)), { freq: 8 }), orig: fc.nat(70_000) });
  const soundish = fc.tuple(fc.array(entry, { maxLength: 12 }), fc.boolean(), fc.nat(100)).map(([entries, bigEndian, cut]) => {
    const file = captureFile(entries.map(({ length, lie, orig }, i) => ({ data: frame(i, length), origLength: orig, ...(lie === null ? {} : { inclLength: lie }) })), { bigEndian });
    return { file: cut < 30 ? file.subarray(0, Math.max(24, file.length - cut)) : file, littleEndian: !bigEndian };
  });
  const noise = fc.tuple(fc.uint8Array({ maxLength: 400 }), fc.boolean()).map(([bytes, littleEndian]) => ({ file: new Uint8Array(Buffer.concat([fileHeader(), bytes])), littleEndian }));
  const pieces = fc.array(fc.oneof(fc.constant(1 << 18), fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 20_000 })), { minLength: 1, maxLength: 5 });

  test('is read as a plain reader reads it, in bounded steps, without a byte out of place', () => {
    fc.assert(
      fc.property(fc.oneof(soundish, noise), pieces, ({ file, littleEndian }, sizes) => {
        const expected = readEntries(file.subarray(24), littleEndian);
        const frames = readAll(file, sizes, littleEndian);
        expect(frames.length).toBe(expected.frames.length);
        expect(Buffer.compare(Buffer.concat(frames), Buffer.concat(expected.frames))).toBe(0);
        expect({ oversized: count('rx_oversized'), tooShort: count('rx_too_short'), truncated: count('rx_truncated'), broken: count('rx_broken') }).toEqual({
          oversized: expected.oversized,
          tooShort: expected.tooShort,
          truncated: expected.truncated,
          broken: expected.broken,
        });
        const { ipackets, ierrors } = counters.stats();
        expect([ipackets, ierrors]).toEqual([BigInt(frames.length), BigInt(expected.oversized + expected.tooShort + expected.broken)]);
      }),
      { numRuns: 400 },
    );
  });

  test('a disk that fails ends reading, counted', () => {
    const frames = Array.from({ length: 5 }, (_, i) => frame(i));
    expect(readAll(captureFile(frames), [76 * 2], true, 1)).toEqual(frames.slice(0, 2));
    expect([count('rx_broken'), counters.stats().ierrors]).toEqual([1, 1n]);
  });

  test('a burst whose arena is too small for a frame misses it, counted, and goes on', () => {
    burst[Symbol.dispose]();
    burst = allocateBurst(window, 32, 4096);
    expect(readAll(captureFile([frame(1), frame(2, 5000), frame(3)]), [1 << 18], true)).toEqual([frame(1), frame(3)]);
    expect(counters.stats().imissed).toBe(1n);
  });
});
