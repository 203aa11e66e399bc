/** Runs inside the guest: every case, then a line of JSON with what came of each. The argument says how devices are opened: `group` or `cdev`. */
import { Window } from '@emudev/dma';
import { KernelSource, MdevManager, Sysfs } from '@emudev/bus-pci';
import { countOpenFds } from '@emudev/linux';
import { kernelCases, memoryOfProcess } from './kernel-cases.ts';

const mode = process.argv[2] === 'cdev' ? 'cdev' : 'group';
using window = Window.open();
const world = {
  real: true, window, source: new KernelSource({ mode }), otherSource: new KernelSource({ mode }), manager: new MdevManager(new Sysfs()),
  // Containers account for what they lock, iommufd for what it pins.
  lockedBytes: () => memoryOfProcess(mode === 'cdev' ? 'VmPin' : 'VmLck'),
};
const outcomes: Record<string, string> = {};
const before = countOpenFds();
for (const { id, run } of kernelCases) {
  try {
    await run(world);
    const left = countOpenFds() - before;
    outcomes[id] = left === 0 ? 'ok' : `${left} descriptors are left open`;
  } catch (error) {
    outcomes[id] = error instanceof Error ? `${error.stack ?? error.message}${error.cause === undefined ? '' : `\n${String(error.cause)}`}` : String(error);
  }
}
console.log(`@outcomes ${JSON.stringify(outcomes)}`);
