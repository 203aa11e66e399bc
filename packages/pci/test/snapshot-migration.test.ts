import { describe, expect, it } from 'vitest';
import { PciLayoutError, snapshotMigration, type Migration, type Snapshot } from '../src/index.ts';

function sample(more: Partial<Snapshot> = {}): { migration: Migration; state: number[]; log: string[] } {
  const state = [1, 2, 3];
  const log: string[] = [];
  const migration = snapshotMigration({
    maxBytes: 3, save: () => Uint8Array.from(state), load: (bytes) => { state.splice(0, state.length, ...bytes); }, entered: (to, from) => { log.push(`${from} ${to}`); }, ...more,
  });
  return { migration, state, log };
}
async function take(migration: Migration, length: number): Promise<number[]> {
  const into = new Uint8Array(length);
  return [...into.subarray(0, await migration.readState(into))];
}

describe('a snapshot', () => {
  it('is what the device was when it stopped, in pieces, then nothing', async () => {
    const { migration, state, log } = sample();
    await migration.enter('stop-copy', 'stop');
    state[0] = 9;
    expect([await take(migration, 2), await take(migration, 2), await take(migration, 2)]).toEqual([[1, 2], [3], []]);
    await migration.enter('stop', 'stop-copy');
    await migration.enter('stop-copy', 'stop');
    expect(await take(migration, 8)).toEqual([9, 2, 3]);
    expect(log).toEqual(['stop stop-copy', 'stop-copy stop', 'stop stop-copy']);
  });

  it('of a Buffer is a copy too', async () => {
    const buffer = Buffer.from([5]);
    const { migration } = sample({ save: () => buffer, maxBytes: 1 });
    await migration.enter('stop-copy', 'stop');
    buffer[0] = 6;
    expect(await take(migration, 1)).toEqual([5]);
  });

  it('of another length than announced is not sent', async () => {
    for (const length of [2, 4]) await expect(sample({ save: () => new Uint8Array(length) }).migration.enter('stop-copy', 'stop')).rejects.toMatchObject({ errno: 5 });
  });

  it('has a part ahead where the device says so', async () => {
    expect(sample().migration.preCopy).toBe(false);
    const { migration } = sample({ savePreCopy: () => Uint8Array.of(7) });
    expect(migration.preCopy).toBe(true);
    await migration.enter('pre-copy', 'running');
    expect(await take(migration, 8)).toEqual([7]);
    await migration.enter('stop-copy', 'pre-copy');
    expect(await take(migration, 8)).toEqual([1, 2, 3]);
  });

  it('is the end of the stream, whatever part of what was sent ahead comes before it', async () => {
    for (const stream of [[4, 5, 6], [9, 4, 5, 6], [9, 9, 9, 4, 5, 6]]) {
      const { migration, state } = sample({ savePreCopy: () => Uint8Array.of(9, 9, 9) });
      await migration.enter('resuming', 'stop');
      for (const byte of stream) await migration.writeState(Uint8Array.of(byte));
      if (stream.length === 6) expect(() => migration.writeState(Uint8Array.of(7))).toThrow(expect.objectContaining({ errno: 27 }));
      await migration.enter('stop', 'resuming');
      expect(state).toEqual([4, 5, 6]);
    }
    expect(() => sample({ minBytes: 1, savePreCopy: () => new Uint8Array(0) })).toThrow(PciLayoutError);
  });

  it('is loaded when resuming ends, once complete', async () => {
    const { migration, state } = sample();
    await migration.enter('resuming', 'stop');
    await migration.writeState(Uint8Array.of(4, 5));
    await expect(migration.enter('stop', 'resuming')).rejects.toMatchObject({ errno: 22 });
    await migration.writeState(Uint8Array.of(6));
    expect(() => migration.writeState(Uint8Array.of(7))).toThrow(expect.objectContaining({ errno: 27 }));
    expect(state).toEqual([1, 2, 3]);
    await migration.enter('stop', 'resuming');
    expect(state).toEqual([4, 5, 6]);
  });

  it('may have no fixed length, and the device may refuse it', async () => {
    const { migration, state } = sample({ minBytes: 0 });
    await migration.enter('resuming', 'stop');
    await migration.enter('stop', 'resuming');
    expect(state).toEqual([]);
    const { migration: picky, log } = sample({ load: () => Promise.reject(new RangeError('no')) });
    await picky.enter('resuming', 'stop');
    await picky.writeState(new Uint8Array(3));
    await expect(picky.enter('stop', 'resuming')).rejects.toThrow('no');
    expect(log).toEqual(['stop resuming']);
  });

  it('that a consumer left half written is dropped', async () => {
    const { migration, state, log } = sample();
    await migration.enter('resuming', 'stop');
    await migration.writeState(Uint8Array.of(4));
    await migration.enter('running', 'resuming');
    expect([state, log.at(-1)]).toEqual([[1, 2, 3], 'resuming running']);
    expect(() => migration.writeState(Uint8Array.of(4))).toThrow(expect.objectContaining({ errno: 27 }));
  });
});
