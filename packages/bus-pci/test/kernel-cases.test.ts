/** The integration cases of a real kernel, on the fake one. */
import { afterAll, expect, test } from 'vitest';
import { Window } from '@emudev/dma';
import { countOpenFds } from '@emudev/linux';
import { KernelSource, MdevManager } from '../src/index.ts';
import { FakeMdevKernel } from './fake-mdev-kernel.ts';
import { kernelCases, type KernelWorld } from './in-guest/kernel-cases.ts';

for (const mode of ['group', 'cdev'] as const) {
  const kernel = new FakeMdevKernel({ nodes: mode === 'cdev' });
  const { sys } = kernel.vfio;
  const window = Window.open();
  const world: KernelWorld = {
    real: false, window, manager: new MdevManager(kernel), lockedBytes: () => kernel.vfio.lockedBytes,
    source: new KernelSource({ sysfs: kernel, sys, mode }), otherSource: new KernelSource({ sysfs: kernel, sys, mode }),
  };
  afterAll(() => { kernel[Symbol.dispose](); window[Symbol.dispose](); });

  for (const { id, title, run, real } of kernelCases) {
    if (real === true) continue;
    test(`${mode}, case ${id}: ${title}`, async () => {
      const before = countOpenFds();
      await run(world);
      expect([countOpenFds(), kernel.vfio.openFiles, kernel.vfio.lockedBytes]).toEqual([before, 0, 0]);
    });
  }
}
