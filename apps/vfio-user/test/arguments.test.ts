import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CommandError } from '../src/exit.ts';
import { hexdump, Hexdump } from '../src/hexdump.ts';
import { ConfigBytes } from '../src/lspci/config-bytes.ts';
import { formatSize, formatValue, parseSize, parseValue } from '../src/numbers.ts';
import { printable } from '../src/printable.ts';
import { locate, parseRegister } from '../src/registers.ts';
import { regionIndex, regionName } from '../src/regions.ts';

describe('numbers', () => {
  it.each([['0', 0], ['4096', 4096], ['0x10', 16], ['0XfF', 255], ['0b101', 5], ['64K', 65_536], ['0x2k', 2048], ['3M', 3 << 20], ['1G', 1 << 30], ['1_000', 1000]])('%s is %d', (text, value) => {
    expect(parseSize(text, 'offset')).toBe(value);
  });

  it.each(['', '-1', '0x', '12q', '1.5', 'K', ' 1', '9007199254740993', '99999999999G'])('"%s" is none', (text) => {
    expect(() => parseSize(text, 'offset')).toThrow(CommandError);
  });

  it('a value becomes the bytes of a register, and back', () => {
    expect([...parseValue('0x1234', 4)]).toEqual([0x34, 0x12, 0, 0]);
    expect([...parseValue('-2', 2)]).toEqual([0xfe, 0xff]);
    expect(formatValue(parseValue('0xdeadbeefcafebabe', 8))).toBe('0xdeadbeefcafebabe');
    expect(() => parseValue('256', 1)).toThrow('does not fit into 1 byte');
    expect(() => parseValue('-129', 1)).toThrow('does not fit');
  });

  it('sizes are shown in whole units', () => {
    expect([0, 8, 1023, 1024, 12_288, 1 << 30, 2 ** 53 - 1].map(formatSize)).toEqual(['0', '8', '1023', '1K', '12K', '1G', '9007199254740991']);
  });
});

describe('regions', () => {
  it('have names and numbers', () => {
    expect(['bar0', 'BAR5', 'rom', 'config', 'vga', '7', 'region9', '12'].map(regionIndex)).toEqual([0, 5, 6, 7, 8, 7, 9, 12]);
    expect(['bar6', '', 'x', '-1', '1e3'].map(regionIndex)).toEqual([undefined, undefined, undefined, undefined, undefined]);
    expect([0, 6, 9].map(regionName)).toEqual(['bar0', 'rom', 'region9']);
  });
});

describe('configuration registers by name', () => {
  const bytes = new Uint8Array(4096);
  bytes[6] = 0x10;
  bytes[0x34] = 0x40;
  bytes.set([0x01, 0x50], 0x40);
  bytes.set([0x10, 0x00], 0x50);
  new DataView(bytes.buffer).setUint32(0x100, 0x2000_0003 | (1 << 16), true);
  new DataView(bytes.buffer).setUint32(0x200, 0x0001_0023, true);
  const find = (text: string, config = bytes): unknown => {
    const name = parseRegister(text);
    return name === undefined ? 'no name' : locate(name, new ConfigBytes(config));
  };

  it.each([
    ['COMMAND', 0x04, 2], ['bar3', 0x1c, 4], ['STATUS.b', 0x06, 1], ['CAP_EXP', 0x50, 4], ['CAP_EXP+8.w', 0x58, 2], ['CAP10+0x0a.w', 0x5a, 2], ['ECAP_DSN+4.l', 0x104, 4], ['ECAP0023', 0x200, 4],
  ])('%s', (text, offset, widthBytes) => {
    expect(find(text)).toEqual({ offset, widthBytes });
  });

  it('a capability that is not there, and no name at all', () => {
    expect(find('CAP_MSI')).toBeUndefined();
    expect(find('ECAP_AER')).toBeUndefined();
    expect(['0x10', 'CAP_NOTHING', 'NOTHING', 'COMMAND+', 'toString'].map((text) => find(text))).toEqual(Array.from({ length: 5 }, () => 'no name'));
  });

  it('ends on any lists', () => {
    fc.assert(fc.property(fc.uint8Array({ minLength: 0, maxLength: 4096, size: 'max' }), (config) => { find('CAP_MSI', config); find('ECAP_AER', config); }), { numRuns: 200 });
    const circle = Uint8Array.from(bytes);
    circle[0x51] = 0x40;
    expect(find('CAP_MSI', circle)).toBeUndefined();
  });
});

describe('dumps', () => {
  it('look like those of hexdump -C', () => {
    expect(hexdump(new TextEncoder().encode('0123456789abcdefXYZ\n\x7f'), 0x10)).toBe(
      '00000010  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n' +
      '00000020  58 59 5a 0a 7f                                    |XYZ..|\n00000025\n');
    expect(hexdump(new Uint8Array(48))).toBe(`00000000  ${'00 '.repeat(8)} ${'00 '.repeat(8)} |................|\n*\n00000030\n`);
  });

  it('do not depend on how the bytes come', () => {
    fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (pieces) => {
      const dump = new Hexdump();
      const text = pieces.map((piece) => dump.push(piece)).join('') + dump.end();
      expect(text).toBe(hexdump(Buffer.concat(pieces)));
    }), { numRuns: 100 });
  });
});

it('text of a device gives no orders to a terminal', () => {
  expect(printable('a\x1b[31m\n\u202e\u009b2J\x7f\u2066')).toBe('a\\u001b[31m\\u000a\\u202e\\u009b2J\\u007f\\u2066');
  expect(printable('x'.repeat(5000))).toHaveLength(4097);
});
