import { Window } from '@emudev/dma';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MacFilter, macNumber, VlanFilter } from '../src/filters.ts';
import { DEV_BYTES, DEV_FLAGS, DEV_MAC_TABLE, DEV_VLAN_BITMAP, DEVF_VLAN_PRUNING, MAC_MAX, MAC_SLOTS } from '../src/layout.ts';

let window: Window;
let device: number;
beforeEach(() => {
  window = Window.open();
  device = window.alloc(DEV_BYTES);
});
afterEach(() => {
  window.free(device);
  window[Symbol.dispose]();
});

/** The look-up as layout.ts specifies it, with 64-bit arithmetic. */
function listed(address: bigint): boolean {
  const key = address | (1n << 63n);
  const table = window.u32[(device + DEV_MAC_TABLE) >>> 2]!;
  let slot = Number((((key & 0xffff_ffffn) ^ (key >> 32n)) * 0x9e37_79b1n & 0xffff_ffffn) >> 20n) & (MAC_SLOTS - 1);
  for (;;) {
    const found = window.view.getBigUint64(table + slot * 8, true);
    if (found === 0n) return false;
    if (found === key) return true;
    slot = (slot + 1) & (MAC_SLOTS - 1);
  }
}

const addresses = fc.uniqueArray(fc.bigInt({ min: 0n, max: (1n << 48n) - 1n }), { maxLength: MAC_MAX, size: 'max' });

describe('MAC set', () => {
  it('is found by the specified look-up, all of it and nothing else, after every change', () => {
    using filter = new MacFilter(window, device);
    fc.assert(
      fc.property(addresses, addresses, (wanted, others) => {
        filter.set(new Set(wanted));
        expect(wanted.filter((address) => !listed(address))).toEqual([]);
        const set = new Set(wanted);
        expect(others.filter((address) => listed(address) !== set.has(address))).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });

  it('a change leaves the table that a burst may be reading as it was', () => {
    using filter = new MacFilter(window, device);
    filter.set(new Set([1n]));
    const table = window.u32[(device + DEV_MAC_TABLE) >>> 2]!;
    const before = window.u8.slice(table, table + MAC_SLOTS * 8);
    filter.set(new Set([2n]));
    expect(window.u32[(device + DEV_MAC_TABLE) >>> 2]).not.toBe(table);
    expect(window.u8.slice(table, table + MAC_SLOTS * 8)).toEqual(before);
  });

  it('numbers the first byte lowest, as a little-endian load of a frame does', () => {
    expect(macNumber(Uint8Array.of(1, 2, 3, 4, 5, 6))).toBe(0x0605_0403_0201n);
  });
});

describe('VLAN set', () => {
  it('sets and clears one bit each; pruning is on while there is any', () => {
    using filter = new VlanFilter(window, device);
    const bitmap = window.u32[(device + DEV_VLAN_BITMAP) >>> 2]!;
    const bits = (): number[] => Array.from({ length: 4096 }, (_, v) => v).filter((v) => ((window.u8[bitmap + (v >>> 3)]! >>> (v & 7)) & 1) !== 0);
    const pruning = (): boolean => (window.u32[(device + DEV_FLAGS) >>> 2]! & DEVF_VLAN_PRUNING) !== 0;
    expect([bits(), pruning()]).toEqual([[], false]);
    filter.add([0, 1, 8, 100, 4095]);
    expect([bits(), pruning()]).toEqual([[1, 8, 100, 4095], true]);
    filter.delete([1, 8, 9]);
    expect([bits(), pruning()]).toEqual([[100, 4095], true]);
    filter.clear();
    expect([bits(), pruning()]).toEqual([[], false]);
  });

  it('knows how many there would be', () => {
    using filter = new VlanFilter(window, device);
    filter.add([1, 2]);
    expect(filter.sizeWith([2, 3, 3, 0])).toBe(3);
  });
});
