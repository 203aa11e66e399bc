/**
 * The integration cases on a real kernel: stock Debian, its sample mediated devices, QEMU's e1000e and NVMe controller behind an IOMMU. EMUDEV_RECORD=1 writes what that
 * kernel says of its devices to test/fixtures, for the tests that need no guest.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { KernelSource, Sysfs } from '@emudev/bus-pci';
import { bootMdevGuest, findKernel, type Guest } from '@emudev/guest';
import { kernelCases } from './in-guest/kernel-cases.ts';
import { survey } from './in-guest/survey.ts';
import { replayingSys, restoreTree, type Recording } from './recording.ts';

const SCRIPTS = '/workspace/packages/bus-pci/test/in-guest';
const FIXTURE = new URL('fixtures/linux-6.1.json', import.meta.url);
let guest: Guest;
let recorded = '';
let outcomes: Record<string, string> = {};

beforeAll(async () => {
  guest = await bootMdevGuest({
    kernel: '6.1', iommu: true,
    extraArgs: ['-device', 'e1000e,addr=0x1d', '-blockdev', 'null-co,node-name=nothing,size=1048576', '-device', 'nvme,addr=0x1e,drive=nothing,serial=1'],
  });
  recorded = (await guest.run(`node ${SCRIPTS}/record.ts`, { timeoutMs: 120_000, check: false })).output;
  const { output } = await guest.run(`node ${SCRIPTS}/run-cases.ts`, { timeoutMs: 180_000, check: false });
  outcomes = JSON.parse(/^@outcomes (.*)$/m.exec(output)?.[1] ?? `{"all":${JSON.stringify(output)}}`) as Record<string, string>;
});
afterAll(() => guest?.[Symbol.asyncDispose]());

for (const { id, title } of kernelCases) test(`case ${id}: ${title}`, () => { expect(outcomes[id] ?? outcomes['all']).toBe('ok'); });

test('this kernel says of its devices what the recording says that it does', async () => {
  const line = /^@recording (.*)$/m.exec(recorded)?.[1];
  expect(line, recorded).toBeDefined();
  const live = JSON.parse(line!) as Recording;
  if (process.env['EMUDEV_RECORD'] !== undefined) writeFileSync(FIXTURE, `${JSON.stringify(live, undefined, 1)}\n`);
  const golden = JSON.parse(readFileSync(FIXTURE, 'utf8')) as Recording;
  expect(await replayed(live)).toEqual(await replayed(golden));
});

async function replayed(recording: Recording): Promise<unknown> {
  const root = mkdtempSync(join(tmpdir(), 'recorded-'));
  try {
    const roots = restoreTree(recording, root);
    return await survey(new KernelSource({ sysfs: new Sysfs(roots), sys: replayingSys(recording, roots.devRoot) }));
  } finally {
    rmSync(root, { recursive: true });
  }
}

/** Where such a kernel makes them (drivers/vfio/device_cdev.c): the text is in its module, or there are none. */
const NODES_OF_DEVICES = 'vfio/devices/%s';

test.each(['6.1', '6.12'] as const)('case 15, devices with nodes of their own: Debian\'s kernel %s has none', async (name) => {
  // None is built with CONFIG_VFIO_DEVICE_CDEV. That way is covered by the fake (`cdev` in kernel-cases.test.ts, kernel-open.test.ts), so the code is there. When this
  // turns red a kernel has them: run the cases in a guest of it, with `new KernelSource({ mode: 'cdev' })`.
  const { vfioModules } = await findKernel(name, () => undefined);
  const vfio = readFileSync(vfioModules.find((path) => /(^|\/)\d*-?vfio\.ko$/.test(path))!);
  expect(vfio.includes('vfio/')).toBe(true);
  expect(vfio.includes(NODES_OF_DEVICES)).toBe(false);
});
