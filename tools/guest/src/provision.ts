/** Fetches QEMU, the kernels, the userland and the sample mediated devices before the first guest test, so that a test's time-out is about the test. Shows what it does. */
import { KERNELS } from './kernel.ts';
import { qemuCommand } from './guest.ts';
import { MDEV_KERNELS, provisionMdevGuest } from './mdev-guest.ts';

export default async function provision(): Promise<void> {
  const progress = (line: string): void => { process.stderr.write(`guest: ${line}\n`); };
  for (const kernel of KERNELS) await qemuCommand({ kernel, accel: 'tcg', progress });
  for (const kernel of MDEV_KERNELS) await provisionMdevGuest(kernel, progress);
}
