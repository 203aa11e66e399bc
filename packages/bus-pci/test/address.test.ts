import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BusError, compareAddresses, formatAddress, parseAddress, type PciAddress } from '../src/index.ts';

const functions = fc.oneof(
  fc.record({ kind: fc.constant('pci' as const), domain: fc.nat(0xffff_ffff), bus: fc.nat(0xff), device: fc.nat(0x1f), function: fc.nat(7) }),
  fc.record({ kind: fc.constant('pci' as const), domain: fc.nat(0xffff_ffff), bus: fc.nat(0xff), device: fc.constant(0), function: fc.nat(0xff) }),
);
const sockets = fc.string({ minLength: 1, maxLength: 30, unit: 'grapheme-ascii' }).map((name) => ({ kind: 'vfio-user' as const, path: `/run/${name}` }));
const addresses: fc.Arbitrary<PciAddress> = fc.oneof(functions, fc.uuid().map((uuid) => ({ kind: 'mdev' as const, uuid })), sockets);

test('every address is read back from its text, whatever the case', () => {
  fc.assert(fc.property(addresses, (address) => {
    const text = formatAddress(address);
    expect(parseAddress(text)).toEqual(address);
    if (address.kind !== 'vfio-user') expect(parseAddress(text.toUpperCase())).toEqual(address);
  }));
});

test('the order of addresses is total, and 0 means the same text', () => {
  fc.assert(fc.property(addresses, addresses, addresses, (a, b, c) => {
    expect(Math.sign(compareAddresses(a, b)) + Math.sign(compareAddresses(b, a))).toBe(0);
    expect(compareAddresses(a, b) === 0).toBe(formatAddress(a) === formatAddress(b));
    const sorted = [a, b, c].sort(compareAddresses);
    expect(compareAddresses(sorted[0]!, sorted[2]!)).toBeLessThanOrEqual(0);
  }));
});

test('arbitrary text is an address or ERR_BUS_ADDRESS, and an accepted one has a stable text', () => {
  const nearly = fc.string({ unit: fc.constantFrom(...'0123456789abcdefABCDEFg:.-/ \0mpcidevuser'.split('')), maxLength: 44 });
  fc.assert(fc.property(fc.oneof(fc.string(), nearly), (text) => {
    let address;
    try {
      address = parseAddress(text);
    } catch (error) {
      expect(error).toBeInstanceOf(BusError);
      expect((error as BusError).code).toBe('ERR_BUS_ADDRESS');
      return;
    }
    expect(parseAddress(formatAddress(address))).toEqual(address);
  }), { numRuns: 2000 });
});

test.each([
  ['06:0d.0', { kind: 'pci', domain: 0, bus: 6, device: 13, function: 0 }],
  ['pci:10000:ff:1f.7', { kind: 'pci', domain: 0x10000, bus: 0xff, device: 0x1f, function: 7 }],
  ['0000:01:00.ff', { kind: 'pci', domain: 0, bus: 1, device: 0, function: 0xff }],
  ['mdev:83B8F4F2-509F-382F-3C1E-E6BFE0FA1001', { kind: 'mdev', uuid: '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001' }],
  ['./vm0.sock', { kind: 'vfio-user', path: './vm0.sock' }],
  ['vfio-user:vm0.sock', { kind: 'vfio-user', path: 'vm0.sock' }],
])('%s', (text, address) => { expect(parseAddress(text)).toEqual(address); });

test.each([
  '', ' 06:0d.0', '-6:0d.0', '06:0d.0 ', '100:06:0d', '06:20.0', '06:0d.8', '0000:100:00.0', '100000000:00:00.0', '06:0d', '06:0d.0x1',
  'pci:', 'mdev:06:0d.0', 'usb:1-1', 'vfio-user:', `/${'x'.repeat(107)}`, '/a\0b', '83b8f4f2509f382f3c1ee6bfe0fa1001', '83b8f4f2-509f-382f-3c1e-e6bfe0fa100', 'g6:0d.0',
])('%j is refused', (text) => {
  expect(() => parseAddress(text)).toThrow(expect.objectContaining({ code: 'ERR_BUS_ADDRESS', errno: 22 }));
});
