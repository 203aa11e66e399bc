import { Window } from '@emudev/dma';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEV_BYTES, DEV_RSS_TABLE, RSS_INPUT_BYTES, RSS_TABLE_BYTES } from '../src/layout.ts';
import { DEFAULT_RSS_KEY, Rss, toeplitzTable } from '../src/rss.ts';

const hash = (table: Uint32Array, input: Uint8Array): number => input.reduce((h, byte, i) => (h ^ table[i * 256 + byte]!) >>> 0, 0);

/** By definition: for every set bit of the input, the 32 key bits that begin there. */
function slowHash(key: Uint8Array, input: Uint8Array): number {
  const bits = [...key].map((byte) => byte.toString(2).padStart(8, '0')).join('').padEnd(512, '0');
  let h = 0;
  for (let bit = 0; bit < input.length * 8; bit++) {
    if (((input[bit >>> 3]! >>> (7 - (bit & 7))) & 1) !== 0) h = (h ^ Number.parseInt(bits.slice(bit, bit + 32), 2)) >>> 0;
  }
  return h;
}

describe('Toeplitz table', () => {
  const table = new Uint32Array(RSS_INPUT_BYTES * 256);
  toeplitzTable(DEFAULT_RSS_KEY, table);
  const ipv4 = (source: string, destination: string, ...ports: number[]): Uint8Array =>
    Uint8Array.from([...source.split('.').map(Number), ...destination.split('.').map(Number), ...ports.flatMap((p) => [p >> 8, p & 255])]);

  it.each([
    ['66.9.149.187', 2794, '161.142.100.80', 1766, 0x323e_8fc2, 0x51cc_c178],
    ['199.92.111.2', 14230, '65.69.140.83', 4739, 0xd718_262a, 0xc626_b0ea],
    ['24.19.198.95', 12898, '12.22.207.184', 38024, 0xd2d0_a5de, 0x5c2b_394a],
    ['38.27.205.30', 48228, '209.142.163.6', 2217, 0x8298_9176, 0xafc7_327f],
    ['153.39.163.191', 44251, '202.188.127.2', 1303, 0x5d18_09c5, 0x10e8_28a2],
  ])('hashes the published vector %s:%i', (source, sourcePort, destination, destinationPort, addresses, withPorts) => {
    expect(hash(table, ipv4(source, destination))).toBe(addresses);
    expect(hash(table, ipv4(source, destination, sourcePort, destinationPort))).toBe(withPorts);
  });

  it('is the definition, for any key and any input', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 52, maxLength: 52 }), fc.uint8Array({ maxLength: RSS_INPUT_BYTES }), (key, input) => {
        const any = new Uint32Array(RSS_INPUT_BYTES * 256);
        toeplitzTable(key, any);
        expect(hash(any, input)).toBe(slowHash(key, input));
      }),
      { numRuns: 60 },
    );
  });

  it('of the default key is one for all cards, until a guest has a key of its own', () => {
    using window = Window.open();
    const before = window.allocatedBytes;
    const devices = [0, 1].map(() => window.alloc(DEV_BYTES));
    const tableOf = (device: number): number => window.u32[(device + DEV_RSS_TABLE) >>> 2]!;
    const [first, second] = devices.map((device) => new Rss(window, device)) as [Rss, Rss];
    first.setDefaults(1);
    second.setDefaults(4);
    const shared = tableOf(devices[0]!);
    expect(tableOf(devices[1]!)).toBe(shared);
    const bytes = window.u8.slice(shared, shared + RSS_TABLE_BYTES);
    first.setKey(new Uint8Array(52).fill(1));
    expect(tableOf(devices[0]!)).not.toBe(shared);
    expect(tableOf(devices[1]!)).toBe(shared);
    first[Symbol.dispose]();
    expect(window.u8.slice(shared, shared + RSS_TABLE_BYTES)).toEqual(bytes);
    second[Symbol.dispose]();
    const third = new Rss(window, devices[0]!);
    third.setDefaults(1);
    expect(window.u8.slice(tableOf(devices[0]!), tableOf(devices[0]!) + RSS_TABLE_BYTES)).toEqual(bytes);
    third[Symbol.dispose]();
    for (const device of devices) window.free(device);
    expect(window.allocatedBytes).toBe(before);
  });

  it('is replaced, never rewritten under a burst', () => {
    const window = Window.open();
    const device = window.alloc(DEV_BYTES);
    const rss = new Rss(window, device);
    rss.setDefaults(4);
    const first = window.u32[(device + DEV_RSS_TABLE) >>> 2]!;
    const before = window.u8.slice(first, first + 4096);
    rss.setKey(new Uint8Array(52).fill(1));
    expect(window.u32[(device + DEV_RSS_TABLE) >>> 2]).not.toBe(first);
    expect(window.u8.slice(first, first + 4096)).toEqual(before);
    rss[Symbol.dispose]();
    window.free(device);
    window[Symbol.dispose]();
  });
});
