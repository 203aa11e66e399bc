import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { linux } from '@emudev/linux';
import type { MigrationState } from '@emudev/pci';
import { ConformanceDevice } from '../src/index.ts';
import { MemoryHost, read } from './host.ts';

const i64 = (value: bigint): Uint8Array => new Uint8Array(BigInt64Array.of(value).buffer);
const now = (): bigint => BigInt(Math.floor(Date.now() / 1000));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

let device: ConformanceDevice;
let host: MemoryHost;

beforeEach(async () => {
  vi.useFakeTimers({ now: 1_700_000_000_000 });
  device = new ConformanceDevice();
  host = new MemoryHost(device, [0n, 0x1000n, 0x2000n]);
  await device.attach(host);
});
afterEach(async () => {
  vi.useRealTimers();
  await device.detach('closed');
  device[Symbol.dispose]();
});

async function enter(...states: MigrationState[]): Promise<void> {
  for (const [i, state] of states.entries()) if (i > 0) await device.migration!.enter(state, states[i - 1]!);
}
async function drain(pieceBytes: number): Promise<Uint8Array[]> {
  const pieces: Uint8Array[] = [];
  for (;;) {
    const into = new Uint8Array(pieceBytes);
    const got = await device.migration!.readState(into);
    if (got === 0) return pieces;
    pieces.push(into.subarray(0, got));
  }
}

describe('what it says of itself', () => {
  it('is the 64 bytes that the sample client reads', async () => {
    expect(hex(await read(device, 7, 0, 64))).toBe(
      `addeefbe0000000000000000${'00'.repeat(4)}${'01000000'.repeat(6)}${'00'.repeat(4)}fecabeba${'00'.repeat(12)}0001${'0000'}`,
    );
    expect(device.config.sizeBytes).toBe(256);
  });

  it('are two regions and the interrupts INTx, ERR, REQ', () => {
    expect(device.regions.map(({ index, sizeBytes, mmap }) => [index, sizeBytes, mmap?.areas])).toEqual([
      [0, 8, undefined], [1, 0x3000, [{ offset: 0, sizeBytes: 0x1000 }, { offset: 0x2000, sizeBytes: 0x1000 }]], [7, 256, undefined],
    ]);
    expect(device.irqs.map(({ index, count }) => [index, count])).toEqual([[0, 1], [3, 1], [4, 1]]);
  });
});

describe('BAR0', () => {
  it('takes 8 bytes at 0 and nothing else', async () => {
    for (const [offset, length] of [[0, 4], [4, 4], [1, 7]] as const) {
      await expect(read(device, 0, offset, length)).rejects.toMatchObject({ errno: 22 });
      expect(() => device.write(0, offset, new Uint8Array(length))).toThrow(expect.objectContaining({ errno: 22 }));
    }
  });

  it('reads the seconds since the time written, and refuses a time that has passed', async () => {
    void device.write(0, 0, i64(now() + 1n));
    expect(hex(await read(device, 0, 0, 8))).toBe('ff'.repeat(8));
    expect(() => device.write(0, 0, i64(now() - 1n))).toThrow(expect.objectContaining({ errno: 22 }));
    expect(hex(await read(device, 0, 0, 8))).toBe('ff'.repeat(8));
  });

  it('raises INTx when the time has come, writes and reads the second page directly, then the first by message', async () => {
    void device.write(0, 0, i64(now() + 2n));
    await vi.advanceTimersByTimeAsync(1999);
    expect(host.intx).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(host.intx).toBe(true);
    await device.quiesce('dma-unmap');
    expect(device.dma).toMatchObject({ good: 2, bad: 0 });
    const letters = ['A', 'B', 'C', 'D'].map((letter) => letter.repeat(1024)).join('');
    expect(Buffer.from(host.pages.get(0n)!).toString()).toBe(letters);
    expect(Buffer.from(host.pages.get(0x1000n)!).toString()).toBe(letters);
    expect(host.pages.get(0x2000n)!.every((b) => b === 0)).toBe(true);
    expect(host.messages).toEqual(['write 0x0 1024', 'write 0x400 1024', 'write 0x800 1024', 'write 0xc00 1024', 'read 0x0 2048', 'read 0x800 2048']);
    // The pin stays up until somebody looks.
    await read(device, 0, 0, 8);
    expect(host.intx).toBe(false);
  });

  it('disarms with the present second, and waits until it may touch memory', async () => {
    void device.write(0, 0, i64(now() + 2n));
    void device.write(0, 0, i64(now()));
    await vi.advanceTimersByTimeAsync(5000);
    expect(host.interrupts).toEqual([]);
    void device.write(0, 0, i64(now() + 1n));
    await device.quiesce('dma-map');
    await vi.advanceTimersByTimeAsync(5000);
    expect(host.interrupts).toEqual([]);
    device.resume();
    expect(host.interrupts).toEqual(['assert']);
  });

  it('survives times that no clock reaches, and memory that is not there', async () => {
    void device.write(0, 0, i64(2n ** 63n - 1n));
    await vi.advanceTimersByTimeAsync(2 ** 31);
    expect(host.interrupts).toEqual([]);
    host.pages.clear();
    void device.write(0, 0, i64(now() + 1n));
    await vi.advanceTimersByTimeAsync(1000);
    await device.quiesce('detach');
    expect(device.dma).toMatchObject({ good: 0, bad: 0 });
    expect(host.intx).toBe(true);
  });

  it('is forgotten by a reset', async () => {
    void device.write(0, 0, i64(now() + 1n));
    await device.reset();
    await vi.advanceTimersByTimeAsync(5000);
    expect(host.interrupts).toEqual([]);
    expect(hex(await read(device, 0, 0, 8))).toBe(hex(i64(now())));
  });
});

describe('BAR1', () => {
  it('is one memory, trapped or mapped, over its whole range', async () => {
    const { fd } = device.regions[1]!.mmap!.backing;
    await device.write(1, 0x1ffe, Uint8Array.of(1, 2, 3, 4));
    const seen = new Uint8Array(4);
    linux.pread(fd, seen, 0x1ffe);
    expect([...seen]).toEqual([1, 2, 3, 4]);
    linux.pwrite(fd, Uint8Array.of(9), 0x2fff);
    expect([...await read(device, 1, 0x2ffe, 2)]).toEqual([0, 9]);
    // CLIENT: whoever has the descriptor cannot shrink the file.
    expect(() => { linux.ftruncate(fd, 0x1000); }).toThrow();
  });
});

describe('migration', () => {
  it('sends BAR1 ahead, then BAR1 and BAR0, in any pieces', async () => {
    await device.write(1, 0x100, Uint8Array.of(0xaa));
    await enter('running', 'pre-copy');
    expect((await drain(1024)).map((p) => p.length)).toEqual(Array<number>(12).fill(1024));
    await device.write(1, 0x200, Uint8Array.of(0xbb));
    await enter('pre-copy', 'stop-copy');
    const pieces = await drain(1024);
    expect(pieces.map((p) => p.length)).toEqual([...Array<number>(12).fill(1024), 8]);
    const state = Buffer.concat(pieces);
    expect([state[0x100], state[0x200]]).toEqual([0xaa, 0xbb]);
  });

  it('goes on elsewhere: memory is there, and the alarm goes off when it was to', async () => {
    await device.write(1, 0x2fff, Uint8Array.of(0x77));
    void device.write(0, 0, i64(now() + 10n));
    await enter('running', 'stop', 'stop-copy');
    const state = Buffer.concat(await drain(4096));
    // Stopped is stopped.
    await vi.advanceTimersByTimeAsync(4000);

    using elsewhere = new ConformanceDevice();
    const itsHost = new MemoryHost(elsewhere, [0x8000n, 0x9000n]);
    await elsewhere.attach(itsHost);
    const { migration } = elsewhere;
    await migration!.enter('stop', 'running');
    await migration!.enter('resuming', 'stop');
    for (let at = 0; at < state.length; at += 1000) await migration!.writeState(state.subarray(at, at + 1000));
    await migration!.enter('stop', 'resuming');
    expect([...await read(elsewhere, 1, 0x2fff, 1)]).toEqual([0x77]);
    await migration!.enter('running', 'stop');
    await vi.advanceTimersByTimeAsync(5999);
    expect(itsHost.interrupts).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(itsHost.interrupts).toEqual(['assert']);
    await elsewhere.quiesce('detach');
    expect(elsewhere.dma.good).toBe(2);
    expect(itsHost.messages[0]).toBe('write 0x8000 1024');
    expect(host.interrupts).toEqual([]);
  });

  it('refuses a state that is too short, and more than both phases have', async () => {
    const { migration } = device;
    await enter('running', 'stop', 'resuming');
    await migration!.writeState(new Uint8Array(12295));
    await expect(migration!.enter('stop', 'resuming')).rejects.toMatchObject({ errno: 22 });
    await migration!.writeState(new Uint8Array(1 + 12296));
    expect(() => migration!.writeState(new Uint8Array(1))).toThrow(expect.objectContaining({ errno: 27 }));
    await migration!.enter('stop', 'resuming');
  });

  it('an aborted one goes on as if nothing had been', async () => {
    void device.write(0, 0, i64(now() + 3n));
    await enter('running', 'pre-copy', 'stop-copy', 'stop', 'running');
    await vi.advanceTimersByTimeAsync(3000);
    expect(host.interrupts).toEqual(['assert']);
  });
});
