import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lspciDump, lspciText, NO_NAMES, parsePciIds } from '../src/index.ts';
import { MAX_LSPCI_CHARS } from '../src/limits.ts';
import { configSpace } from './config-spaces.ts';
import { hasLspci, realLspci } from './real-lspci.ts';

const SPACES = 256;
const SEED = 20_251_121;

describe.runIf(hasLspci)('equal to the real lspci, line for line', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lspci-'));
  const dump = join(directory, 'dump');
  const spaces = fc.sample(configSpace, { numRuns: SPACES, seed: SEED });
  // Many functions in one dump. A third is not the first of its slot, which decides about link registers.
  const slots = spaces.map((_, i) => `${i.toString(16).padStart(2, '0')}:${i % 3 === 0 ? '05' : '00'}.${i % 2}`);

  beforeAll(() => {
    writeFileSync(dump, spaces.map((space, i) => `${lspciDump(space, { slot: slots[i]!, numbers: 'numbers' })}\n`).join(''));
  });
  afterAll(() => { rmSync(directory, { recursive: true }); });

  it.each(['-v', '-vv', '-vvv'])(`decodes ${SPACES} random configuration spaces (%s)`, async (verbose) => {
    const lspci = realLspci();
    const theirs = (await lspci.show(dump, verbose, '-n')).split('\n\n').filter((text) => text !== '');
    expect(theirs).toHaveLength(SPACES);
    spaces.forEach((space, i) => {
      const ours = lspciText(space, { slot: slots[i]!, numbers: 'numbers', verbosity: verbose.length - 1, pciutils: lspci.version });
      expect(ours.trimEnd().split('\n')).toEqual(theirs[i]!.trimEnd().split('\n'));
    });
  });

  it('reads back from the dump what was put into it', async () => {
    const lines = (await realLspci().show(dump, '-xxxx', '-n')).split('\n');
    expect(lines).toEqual(spaces.flatMap((space, i) => [...lspciDump(space, { slot: slots[i]!, numbers: 'numbers' }).trimEnd().split('\n'), '']).concat(''));
  });

  it.each([[], ['-nn'], ['-n']])('names what pci.ids names (%s)', async (...options) => {
    // No subsystem that only the real one could name: with systemd's database, until 3.12, it took the device's name for it.
    const named = [[0x8086, 0x1889, 0x020000, 0, 0], [0x8086, 0x100e, 0x020000, 0x1af4, 0x1100], [0x1af4, 0x1041, 0x020000, 0x1af4, 0x1041], [0x494f, 0x0dc8, 0xff0000, 0, 0], [0xfffe, 0x0001, 0x010802, 0xfffd, 0xf0f0], [0x1234, 0x11e8, 0x0c0330, 0, 0]]
      .map((ids) => header(...(ids as [number, number, number, number, number])));
    const file = join(directory, 'named');
    writeFileSync(file, named.map((space, i) => `${lspciDump(space, { slot: `00:0${i}.0` })}\n`).join(''));
    const lspci = realLspci();
    const theirs = (await lspci.show(file, '-v', ...options)).split('\n\n').filter((text) => text !== '');
    const numbers = options[0] === '-nn' ? 'both' : options[0] === '-n' ? 'numbers' : 'names';
    named.forEach((space, i) => {
      expect(lspciText(space, { slot: `00:0${i}.0`, verbosity: 1, numbers, pciutils: lspci.version }).trimEnd()).toBe(theirs[i]!.trimEnd());
    });
  });
});

function header(vendor: number, device: number, classCode: number, subVendor: number, subDevice: number): Uint8Array {
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, vendor, true);
  view.setUint16(2, device, true);
  view.setUint32(8, ((classCode << 8) | 1) >>> 0, true);
  view.setUint16(0x2c, subVendor, true);
  view.setUint16(0x2e, subDevice, true);
  return bytes;
}

describe('hostile configuration spaces', () => {
  const anything = fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ minLength: 4096, maxLength: 4096 }), configSpace);

  it('become text that ends, whatever the bytes are, and never throw', () => {
    fc.assert(fc.property(anything, fc.nat(3), fc.constantFrom('3.9', '3.13', '3.14', '2.0', '4.0'), (bytes, verbosity, pciutils) => {
      const text = lspciText(bytes, { verbosity, pciutils, names: NO_NAMES, vpd: bytes, sizes: { bars: [2 ** 53, 0, 1, 0, 3, 0], rom: 2 ** 52 } });
      expect(text.length).toBeLessThan(MAX_LSPCI_CHARS + 100);
      expect(text).toMatch(/^[\t\n -~]*$/);
      expect(text.endsWith('\n')).toBe(true);
    }), { numRuns: 300 });
  });

  it('print a list that runs in a circle once', () => {
    const config = header(0x1234, 1, 0, 0, 0);
    const bytes = new Uint8Array(256);
    bytes.set(config);
    bytes[6] = 0x10;
    bytes[0x34] = 0x40;
    bytes.set([0x0c, 0x50], 0x40);
    bytes.set([0x0f, 0x40], 0x50);
    expect(lspciText(bytes, { verbosity: 1, names: NO_NAMES })).toMatch(/\[40\] Hot-plug capable\n.*\[50\] Secure device <\?>\n.*\[40\] <chain looped>\n$/);
  });

  it('cannot ask for more text than there is room for', () => {
    // 960 extended capabilities, each a virtual channel that lies inside the next ones.
    const bytes = new Uint8Array(4096).fill(0xff);
    bytes.fill(0, 0, 64);
    bytes[6] = 0x10;
    bytes[0x34] = 0x40;
    bytes.set([0x10, 0, 2, 0], 0x40);
    const view = new DataView(bytes.buffer);
    for (let at = 0x100; at < 4092; at += 4) view.setUint32(at, (0x0002 | (0xf << 16) | ((at + 4) << 20)) >>> 0, true);
    expect(lspciText(bytes, { verbosity: 3, names: NO_NAMES }).length).toBeLessThan(MAX_LSPCI_CHARS + 100);
  });

  it('are refused only for wrong options', () => {
    expect(() => lspciText(new Uint8Array(64), { slot: 'somewhere' })).toThrow(RangeError);
    expect(() => lspciText(new Uint8Array(64), { pciutils: 'newest' })).toThrow(RangeError);
  });
});

describe('sizes of regions', () => {
  it('appear with the BARs; BARs without an address appear because of them, registers without a region do not', () => {
    const bytes = header(0x1234, 1, 0, 0, 0);
    bytes[4] = 1; // I/O on, memory off
    const view = new DataView(bytes.buffer);
    view.setUint32(0x10, 0xfebc_000c, true);
    view.setUint32(0x14, 0x0000_0001, true);
    view.setUint32(0x1c, 0xc001, true);
    view.setUint32(0x24, 0x1, true); // as libvfio-user leaves BARs that do not exist
    const text = lspciText(bytes, { verbosity: 2, names: NO_NAMES, sizes: { bars: [65_536, 0, 12_288, 32, 3 * 2 ** 40, 0], rom: 1 << 20 } });
    expect(text.split('\n').slice(3)).toEqual([
      '\tRegion 0: Memory at 1febc0000 (64-bit, prefetchable) [disabled] [size=64K]',
      '\tRegion 2: Memory at <unassigned> (32-bit, non-prefetchable) [disabled] [size=12K]',
      '\tRegion 3: I/O ports at c000 [size=32]',
      '\tRegion 4: Memory at <unassigned> (32-bit, non-prefetchable) [disabled] [size=3T]',
      '\tExpansion ROM at <unassigned> [disabled] [size=1M]',
      '',
    ]);
  });
});

describe('vital product data', () => {
  const vpdText = (vpd: readonly number[] | undefined): string[] => {
    const bytes = new Uint8Array(256);
    bytes[6] = 0x10;
    bytes[0x34] = 0x40;
    bytes[0x40] = 0x03;
    return lspciText(bytes, { verbosity: 2, names: NO_NAMES, ...(vpd === undefined ? {} : { vpd: Uint8Array.from(vpd) }) }).split('\n').slice(4, -1);
  };
  const ascii = (text: string): number[] => [...Buffer.from(text, 'latin1')];
  const field = (id: string, data: readonly number[]): number[] => [...ascii(id), data.length, ...data];
  const resource = (tag: number, data: readonly number[]): number[] => [tag, data.length & 0xff, data.length >> 8, ...data];

  it('is shown by its keywords, and what is not text is escaped', () => {
    const before = [...resource(0x82, ascii('Card \\ 1\x1b\0')), 0x90, 0, 0, ...field('SN', ascii('42')), ...field('XX', [1, 0xab])];
    const readOnlyLength = before.length - 1 - (resource(0x82, ascii('Card \\ 1\x1b\0')).length + 2) + 3 + 2;
    before[resource(0x82, ascii('Card \\ 1\x1b\0')).length + 1] = readOnlyLength;
    before.push(...ascii('RV'), 2);
    const checksum = (256 - (before.reduce((sum, byte) => sum + byte, 0) & 0xff)) & 0xff;
    const vpd = [...before, checksum, 0, ...resource(0x91, field('RW', [0, 0, 0])), 0x78];
    expect(vpdText(vpd)).toEqual([
      '\t\tProduct Name: Card \\\\ 1\\x1b', '\t\tRead-only fields:', '\t\t\t[SN] Serial number: 42', '\t\t\t[XX] Unknown: 01 ab', '\t\t\t[RV] Reserved: checksum good, 1 byte(s) reserved',
      '\t\tRead/write fields:', '\t\t\t[RW] Read-write area: 3 byte(s) free', '\t\tEnd',
    ]);
    vpd[4] = vpd[4]! ^ 1;
    expect(vpdText(vpd)).toContain('\t\t\t[RV] Reserved: checksum bad, 1 byte(s) reserved');
  });

  it('has no character that a terminal acts on', () => {
    const all = Array.from({ length: 256 }, (_, i) => i);
    const text = vpdText(resource(0x82, all)).join('\n');
    expect(text).toMatch(/^[\t\n -~]*$/);
    expect(text).toContain('~\\x7f\\x80\\x81');
  });

  it.each([
    ['is not there', undefined, 'Not readable'],
    ['does not end', resource(0x82, ascii('x')), 'No end tag found'],
    ['lies about its length', [0x82, 0xff, 0x7f, 0], 'Not readable'],
    ['has a resource nobody knows', resource(0x83, []), 'Unknown large resource type 03, will not decode more.'],
  ])('%s', (_what, vpd, last) => {
    expect(vpdText(vpd).at(-1)).toBe(`\t\t${last}`);
  });
});

describe('pci.ids', () => {
  const names = parsePciIds('# comment\n8086  Intel Corporation\n\t1889  Ethernet Adaptive Virtual Function\n\t\t1af4 1100  QEMU Virtual Machine\n# in between\n\t1890  Other\n1af4  Red Hat, Inc.\n\nC 01  Mass storage controller\n\t08  Non-Volatile memory controller\n\t\t02  NVM Express\nC 02  Network controller\n');

  it('has names of its own vendors, devices and classes only', () => {
    expect(names.vendor(0x8086)).toBe('Intel Corporation');
    expect(names.device(0x8086, 0x1890)).toBe('Other');
    expect(names.device(0x1af4, 0x1889)).toBeUndefined();
    expect(names.subsystem(0x8086, 0x1889, 0x1af4, 0x1100)).toBe('QEMU Virtual Machine');
    expect(names.subsystem(0x8086, 0x1890, 0x1af4, 0x1100)).toBeUndefined();
    expect(names.progIf(1, 8, 2)).toBe('NVM Express');
    expect(names.subclass(2, 8)).toBeUndefined();
    expect(names.baseClass(2)).toBe('Network controller');
    expect(names.vendor(0xffff)).toBeUndefined();
  });
});

describe('forms', () => {
  it('differ between versions of pciutils where the real one does', () => {
    const bytes = new Uint8Array(4096);
    bytes[6] = 0x10;
    bytes[0x34] = 0x40;
    bytes.set([0x10, 0, 0x02, 0x02], 0x40); // version 2, endpoint, interrupt message 1
    new DataView(bytes.buffer).setUint32(0x100, 0x0001_0001, true);
    const show = (pciutils: string): string => lspciText(bytes, { verbosity: 2, names: NO_NAMES, pciutils });
    expect(show('3.9')).toContain('Express (v2) Endpoint, MSI 01\n');
    expect(show('3.13')).toContain('Express (v2) Endpoint, IntMsgNum 1\n');
    expect(show('3.9')).not.toContain('UncorrIntErr');
    expect(show('3.13')).toContain('ECRC- UnsupReq- ACSViol- UncorrIntErr-');
    expect(show('3.14.1')).toContain('AutBWInt- FltModeDis-\n');
  });
});
