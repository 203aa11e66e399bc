import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createDriver, driverNames, experimentalDeviceId, KINDS } from '../src/create.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'create-'));
  mkdirSync(join(root, 'packages', 'tap'), { recursive: true });
  mkdirSync(join(root, '.changeset'));
  writeFileSync(join(root, 'packages', 'tap', 'package.json'), JSON.stringify({ name: '@emudev/net-tap', emudev: { driver: 'net_tap', class: 'port' } }));
});
afterEach(() => { rmSync(root, { recursive: true }); });

const everything = (): string[] => readdirSync(root, { recursive: true, encoding: 'utf8' }).sort();

test.each(KINDS)('a %s driver is a whole package with every name filled in', (kind) => {
  const { files, folder, packageName, driver } = createDriver(root, 'crypto-card', kind);
  expect(files).toEqual([
    `.changeset/${folder}.md`,
    ...['README.md', 'package.json', ...(kind === 'emudev' ? ['src/contract.ts', 'src/device.ts', 'src/driver.ts', 'src/index.ts'] : ['src/datapath.ts', 'src/driver.ts', 'src/index.ts', 'src/port.ts']),
      'test/conformance.test.ts', ...(kind === 'emudev' ? ['test/crypto-card.guest.test.ts'] : []), 'test/crypto-card.test.ts', 'test/readme.test.ts', 'tsup.config.ts'].map((file) => `packages/${folder}/${file}`),
  ].sort());
  const text = files.map((file) => readFileSync(join(root, file), 'utf8')).join('\n');
  expect(text).not.toMatch(/\{\{|\}\}(?!\))\w|undefined/);
  const manifest = JSON.parse(readFileSync(join(root, 'packages', folder, 'package.json'), 'utf8')) as Record<string, unknown>;
  expect(manifest).toMatchObject({ name: packageName, emudev: { driver, class: kind } });
});

test('two devices made here are told apart, and a name always gives the same id', () => {
  expect(experimentalDeviceId('blinker')).not.toBe(experimentalDeviceId('other'));
  expect(experimentalDeviceId('blinker')).toBe(experimentalDeviceId('blinker'));
});

test.each([
  ['', 'lower-case'], ['Blinker', 'lower-case'], ['a_b', 'lower-case'], ['../x', 'lower-case'], ['-x', 'lower-case'], ['x-', 'lower-case'], ['x'.repeat(41), 'at most 40'],
  ['card1', 'ends with a digit'], ['emu-card', 'try "card"'], ['net-card', 'try "card"'], ['card-emu', 'try "card"'],
])('%j is no name: %s', (name, why) => {
  const before = everything();
  expect(() => createDriver(root, name, 'emudev')).toThrow(why);
  expect(everything()).toEqual(before);
});

test.each([
  ['port', 'port', 'PortDatapath'], ['software', 'port', 'SoftwarePort'], ['emulated-pci', 'emudev', 'EmulatedPciDevice'],
] as const)('%s would make a %s driver that does not compile, and is refused', (name, kind, taken) => {
  const before = everything();
  expect(() => createDriver(root, name, kind)).toThrow(taken);
  expect(everything()).toEqual(before);
  // Everywhere else it is as good as any.
  createDriver(root, name, kind === 'port' ? 'emudev' : 'port');
});

test('a link that leads nowhere is there, too, and stays', () => {
  symlinkSync('/nowhere/at/all', join(root, 'packages', 'card-emu'));
  const before = everything();
  expect(() => createDriver(root, 'card', 'emudev')).toThrow('packages/card-emu is there already');
  expect(everything()).toEqual(before);
});

test('what is there already stays as it is', () => {
  expect(() => createDriver(root, 'tap', 'port')).toThrow('there is a driver net_tap already, in packages/tap');
  createDriver(root, 'card', 'emudev');
  const before = everything();
  expect(() => createDriver(root, 'card', 'emudev')).toThrow('already');
  rmSync(join(root, 'packages', 'card-emu'), { recursive: true });
  expect(() => createDriver(root, 'card', 'emudev')).toThrow('.changeset/card-emu.md is there already');
  createDriver(root, 'card', 'port');
  expect(before.every((file) => file.startsWith('packages/card-emu') || everything().includes(file))).toBe(true);
});

test('an emudev and a port may have one name; their drivers have two', () => {
  expect([driverNames('card', 'emudev').driver, driverNames('card', 'port').driver]).toEqual(['emu_card', 'net_card']);
});
