/** A recording of a real guest (Linux 6.1, kernel.guest.test.ts), restored and gone through: sysfs and VFIO as they are, without a guest. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { countOpenFds } from '@emudev/linux';
import { KernelSource, MdevManager, Sysfs } from '../src/index.ts';
import { survey } from './in-guest/survey.ts';
import { replayingSys, restoreTree, type Recording } from './recording.ts';

const recording = JSON.parse(readFileSync(new URL('fixtures/linux-6.1.json', import.meta.url), 'utf8')) as Recording;
const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa100';
let root = '';
let surveyed: Record<string, readonly string[]> = {};
let sysfs: Sysfs;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'golden-'));
  const roots = restoreTree(recording, root);
  sysfs = new Sysfs(roots);
  const before = countOpenFds();
  surveyed = await survey(new KernelSource({ sysfs, sys: replayingSys(recording, roots.devRoot) }));
  expect(countOpenFds()).toBe(before);
});
afterAll(() => { rmSync(root, { recursive: true }); });

test('the serial card', () => {
  expect(surveyed[`${UUID}1`]).toEqual([
    'by mtty', 'DMA pages of 4096, not resettable', 'region 0: 8 rw', 'region 1: 8 rw', 'region 7: 255 rw',
    'interrupt 0: 1, flags 7', 'interrupt 1: 1, flags 9', 'interrupt 4: 1, flags 9', '48435332 10020007 48435332',
  ]);
});

test('the display that is mapped', () => {
  expect(surveyed[`${UUID}2`]).toEqual(['by mdpy', 'DMA pages of 4096, not resettable', 'region 0: 2097152 rw, mapped 0+2097152', 'region 7: 255 rw', '361b0f00 01008003 f41a0011']);
});

test('the display with registers that are not, and a region of its own', () => {
  expect(surveyed[`${UUID}3`]).toEqual([
    'by mbochs', 'DMA pages of 4096, not resettable', 'region 0: 16777216 rw, mapped 0+16777216', 'region 2: 4096 rw', 'region 7: 255 rw', 'region 9: 4096 rw, type 1.1', '34121111 01008003 f41a0011',
  ]);
});

test('the network card', () => {
  expect(surveyed['0000:00:1d.0']).toEqual([
    'by vfio-pci', '8086:10d3 class 20000', 'DMA pages of 4096, resettable', 'region 0: 131072 rw, mapped 0+131072', 'region 1: 131072 rw, mapped 0+131072', 'region 2: 32 rw',
    'region 3: 16384 rw, mapped 0+16384', 'region 6: 262144 r-', 'region 7: 4096 rw',
    'interrupt 0: 1, flags 7', 'interrupt 1: 1, flags 9', 'interrupt 2: 5, flags 9', 'interrupt 3: 1, flags 9', 'interrupt 4: 1, flags 9', '8680d310 00000002 86800000',
  ]);
});

test('the NVMe controller', () => {
  expect(surveyed['0000:00:1e.0']).toEqual(['by vfio-pci', expect.stringMatching(/ class 10802$/), 'DMA pages of 4096, resettable', 'region 0: 16384 rw, mapped 0+16384', 'region 7: 4096 rw',
    'interrupt 0: 1, flags 7', 'interrupt 2: 65, flags 9', 'interrupt 3: 1, flags 9', 'interrupt 4: 1, flags 9', expect.stringMatching(/^[0-9a-f]{8} 02020801 /)]);
});

test('every other function says why it cannot be used', () => {
  const others = Object.entries(surveyed).filter(([name]) => name.startsWith('0000:') && !/:1[de]\.0$/.test(name));
  expect(others.length).toBeGreaterThan(3);
  for (const [, [reason]] of others) expect(['no-driver', 'not-vfio']).toContain(reason);
});

test('parents and types', async () => {
  const manager = new MdevManager(sysfs);
  expect(await manager.parents()).toEqual(['mbochs', 'mdpy', 'mtty']);
  expect(await manager.types('mtty')).toEqual([
    { parent: 'mtty', id: 'mtty-1', api: 'vfio-pci', available: 22, name: 'Single port serial', devices: [] },
    { parent: 'mtty', id: 'mtty-2', api: 'vfio-pci', available: 11, name: 'Dual port serial', devices: [`${UUID}1`] },
  ]);
});
