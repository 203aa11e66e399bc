/** Runs inside the guest: every case, then a line of JSON with what came of each. */
import { Window } from '@emudev/dma';
import { KernelSource, MdevManager, Sysfs } from '@emudev/bus-pci';
import { countOpenFds } from '@emudev/linux';
import { kernelCases, lockedBytesOfProcess } from './kernel-cases.ts';

using window = Window.open();
const world = {
  real: true, window, source: new KernelSource(), otherSource: new KernelSource(), manager: new MdevManager(new Sysfs()), lockedBytes: lockedBytesOfProcess,
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
