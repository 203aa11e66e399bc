/** Fetches QEMU, the kernels and the userland before the first guest test, so that a test's time-out is about the test. Shows what it does. */
import { KERNELS } from './kernel.ts';
import { qemuCommand } from './guest.ts';

export default async function provision(): Promise<void> {
  for (const kernel of KERNELS) await qemuCommand({ kernel, accel: 'tcg', progress: (line) => { process.stderr.write(`guest: ${line}\n`); } });
}
