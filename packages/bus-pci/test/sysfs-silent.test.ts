/** A file of the kernel's that does not answer: another thread waits for it, nobody else. */
import type * as files from 'node:fs/promises';
import { expect, test, vi } from 'vitest';
import { scanKernelPci, Sysfs } from '../src/index.ts';
import { FakeKernel } from './fake-kernel.ts';

vi.mock('node:fs/promises', async (original) => {
  const fs = await original<typeof files>();
  return { ...fs, open: (file: string, ...rest: [number]) => (file.endsWith('0000:00:01.0/vendor') ? new Promise(() => {}) : fs.open(file, ...rest)) };
});

test('the device is listed as unreadable, with the reason; the others as ever', async () => {
  using kernel = new FakeKernel();
  for (const name of ['0000:00:01.0', '0000:00:02.0']) kernel.pci(name, { driver: 'e1000e', group: 5 });
  const sysfs = new Sysfs({ sysfsRoot: `${kernel.root}/sys`, devRoot: `${kernel.root}/dev`, timeoutMs: 20 });
  await expect(sysfs.read(['bus', 'pci', 'devices', '0000:00:01.0', 'vendor'])).rejects.toMatchObject({ code: 'ERR_BUS_SYSFS', errno: 110 });
  expect(await scanKernelPci(new Sysfs({ sysfsRoot: `${kernel.root}/sys`, devRoot: `${kernel.root}/dev`, timeoutMs: 1000 }))).toMatchObject([
    { unusable: { reason: 'unreadable', detail: expect.stringContaining('vendor has not been read after 1000 ms') as string } },
    { unusable: { reason: 'not-vfio' } },
  ]);
});
