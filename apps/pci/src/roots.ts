/** Where the kernel's files are: `--sysfs-root` and `--dev-root`, for tests and for containers that have the host's somewhere else. */
import { Sysfs, type SysfsOptions } from '@emudev/bus-pci';
import type { Command } from 'commander';

export function addRoots(program: Command): void {
  program.option('--sysfs-root <folder>', 'instead of /sys').option('--dev-root <folder>', 'instead of /dev');
}

/** `timeoutMs`: how long a file may take to be read; any time unless given. */
export function kernelFiles(program: Command, options: Pick<SysfsOptions, 'timeoutMs'> = {}): Sysfs {
  return new Sysfs({ ...program.opts<{ sysfsRoot?: string; devRoot?: string }>(), ...options });
}
