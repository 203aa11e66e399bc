/**
 * The integration cases on a real kernel: stock Debian, its sample mediated devices, QEMU's e1000e and NVMe controller behind an IOMMU. EMUDEV_RECORD=1 writes what that
 * kernel says of its devices to test/fixtures, for the tests that need no guest.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { KernelSource, Sysfs } from '@emudev/bus-pci';
import { bootMdevGuest, findKernel, KERNELS, MDEV_KERNELS, type Guest, type KernelName } from '@emudev/guest';
import { kernelCases } from './in-guest/kernel-cases.ts';
import { survey } from './in-guest/survey.ts';
import { replayingSys, restoreTree, type Recording } from './recording.ts';

const SCRIPTS = '/workspace/packages/bus-pci/test/in-guest';
const FIXTURE = new URL('fixtures/linux-6.1.json', import.meta.url);

/** What Linux 6.1 says of its devices. */
let recorded = '';

async function booted(kernel: KernelName): Promise<Guest> {
  return bootMdevGuest({
    kernel, iommu: true,
    extraArgs: ['-device', 'e1000e,addr=0x1d', '-blockdev', 'null-co,node-name=nothing,size=1048576', '-device', 'nvme,addr=0x1e,drive=nothing,serial=1'],
  });
}

/** What came of each case, by its number. */
async function casesIn(guest: Guest): Promise<Record<string, string>> {
  const { output } = await guest.run(`node ${SCRIPTS}/run-cases.ts group`, { timeoutMs: 180_000, check: false });
  return JSON.parse(/^@outcomes (.*)$/m.exec(output)?.[1] ?? `{"all":${JSON.stringify(output)}}`) as Record<string, string>;
}

// With EMUDEV_KERNELS=all a later one, too. It has other sample devices: their INTx masks itself, as that of functions does.
describe.each(MDEV_KERNELS)('Linux %s', (kernel) => {
  let outcomes: Record<string, string> = {};
  beforeAll(async () => {
    await using guest = await booted(kernel);
    if (kernel === '6.1') recorded = (await guest.run(`node ${SCRIPTS}/record.ts`, { timeoutMs: 120_000, check: false })).output;
    outcomes = await casesIn(guest);
  });

  for (const { id, title } of kernelCases) test(`case ${id}: ${title}`, () => { expect(outcomes[id] ?? outcomes['all']).toBe('ok'); });
});

test('Linux 6.1 says of its devices what the recording says that it does', async () => {
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

/** What a kernel that has them answers the first request with (drivers/vfio/device_cdev.c): it is in the module, or there are none that can be used. */
const BIND = 'vfio_df_ioctl_bind_iommufd';

test.each(KERNELS)('case 15, devices with nodes of their own: Debian\'s kernel %s has none', async (name) => {
  // Debian builds none with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV. That way is covered by the fake (`cdev` in kernel-cases.test.ts, kernel-open.test.ts). When this
  // turns red a kernel has them: run the cases in a guest of it with `run-cases.ts cdev`, too.
  const { vfioModules } = await findKernel(name, () => undefined);
  const vfio = readFileSync(vfioModules.find((path) => path.endsWith('/vfio.ko'))!);
  expect(vfio.includes('vfio_device_fops_unl_ioctl')).toBe(true);
  expect(vfio.includes(BIND)).toBe(false);
});
