import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PciLayoutError, registers, storage, type RegionHandler } from '../src/index.ts';

function get(handler: RegionHandler, offset: number, length: number): number[] {
  const into = new Uint8Array(length).fill(0xee);
  void handler.read(offset, into);
  return [...into];
}

describe('registers', () => {
  function sample(): { handler: RegionHandler; log: string[] } {
    const log: string[] = [];
    const register = (name: string, value: number) => ({ read: () => { log.push(`read ${name}`); return value; }, write: (v: number) => { log.push(`${name} = 0x${v.toString(16)}`); } });
    const handler = registers({
      0x0: register('a', 0x44332211), 0x4: { bytes: 2, ...register('b', 0xfffeaabb) }, 0x7: { bytes: 1, ...register('c', -1) }, 0x10: { read: () => 7 }, 0x14: { write: (v) => { log.push(`e = ${v}`); } },
    });
    return { handler, log };
  }

  it('read at any offset and width, little-endian, with zeroes between them', () => {
    const { handler, log } = sample();
    expect(get(handler, 0, 9)).toEqual([0x11, 0x22, 0x33, 0x44, 0xbb, 0xaa, 0, 0xff, 0]);
    expect(log).toEqual(['read a', 'read b', 'read c']);
    expect(get(handler, 3, 2)).toEqual([0x44, 0xbb]);
    expect(get(handler, 0x10, 8)).toEqual([7, 0, 0, 0, 0, 0, 0, 0]);
    expect(get(handler, 0x100, 2)).toEqual([0, 0]);
  });

  it('are written when all of them is, unsigned, in ascending order', () => {
    const { handler, log } = sample();
    void handler.write(0, Uint8Array.of(1, 0, 0, 0xff, 2, 3, 9, 4));
    expect(log.splice(0)).toEqual(['a = 0xff000001', 'b = 0x302', 'c = 0x4']);
    for (const [offset, length] of [[0, 3], [1, 4], [5, 2], [0x10, 4], [0x16, 4], [0x80, 4]] as const) void handler.write(offset, new Uint8Array(length));
    expect(log).toEqual([]);
  });

  it('wait for each other where one is a promise, and pass its failure on', async () => {
    const log: string[] = [];
    const handler = registers({
      0: { write: async () => { await Promise.resolve(); log.push('first'); } },
      4: { write: () => { log.push('second'); } },
      8: { write: () => { throw new RangeError('third'); } },
    });
    expect(handler.write(4, new Uint8Array(4))).toBeUndefined();
    log.length = 0;
    await expect(handler.write(0, new Uint8Array(12))).rejects.toThrow('third');
    expect(log).toEqual(['first', 'second']);
  });

  it.each([[{ 2: {} }], [{ 0: {}, 3: { bytes: 1 as const } }], [{ 1: { bytes: 2 as const } }], [{ 1.5: { bytes: 1 as const } }], [{ [-4]: {} }]])('are refused where they overlap or lie crooked: %o', (map) => {
    expect(() => registers(map)).toThrow(PciLayoutError);
  });
});

describe('storage', () => {
  it('reads back what was written, whatever the pieces, and zeroes beyond its end', () => {
    const access = fc.record({ offset: fc.nat(40), data: fc.uint8Array({ maxLength: 16 }) });
    fc.assert(fc.property(fc.array(access, { maxLength: 20 }), (writes) => {
      const handler = storage(new Uint8Array(32));
      const model = new Uint8Array(64);
      for (const { offset, data } of writes) {
        void handler.write(offset, data);
        model.set(data, offset);
      }
      model.fill(0, 32);
      expect(get(handler, 0, 64)).toEqual([...model]);
    }), { numRuns: 100 });
  });
});
