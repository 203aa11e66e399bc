/** Where the kernel's files are: `--sysfs-root` and `--dev-root`, for tests and for containers that have the host's somewhere else. */
import { Sysfs } from '@emudev/bus-pci';
import type { Command } from 'commander';

export function addRoots(program: Command): void {
  program.option('--sysfs-root <folder>', 'instead of /sys').option('--dev-root <folder>', 'instead of /dev');
}

export function kernelFiles(program: Command): Sysfs {
  return new Sysfs(program.opts<{ sysfsRoot?: string; devRoot?: string }>());
}
