/** `bind` and `unbind`: which kernel driver has a PCI function. */
import { bindPciFunction, formatAddress, parseAddress, unbindPciFunction, VFIO_PCI_DRIVER, type PciFunctionAddress } from '@emudev/bus-pci';
import type { Command } from 'commander';
import { usage } from './exit.ts';
import { print, printJson } from './output.ts';
import { kernelFiles } from './roots.ts';

interface Json {
  readonly json?: true;
}

export function addBinding(program: Command): void {
  program.command('bind').argument('<address>', 'of a PCI function, as in 0000:06:0d.0').description(`gives a PCI function to ${VFIO_PCI_DRIVER}, so that programs can drive it`)
    .option('--driver <name>', `the kernel driver: only ${VFIO_PCI_DRIVER} has an interface for programs`, VFIO_PCI_DRIVER)
    .option('--json', 'as data: address, driver, formerDriver')
    .addHelpText('after', `
The function is taken from the driver that has it: a network interface or a disk goes away.

Example:
  emudev-pci bind 0000:06:0d.0`)
    .action(async (text: string, options: Json & { readonly driver: string }) => {
      if (options.driver !== VFIO_PCI_DRIVER) throw usage(`--driver ${options.driver}: only ${VFIO_PCI_DRIVER} can be bound; "unbind" gives the function back to the driver that the kernel chooses`);
      const address = functionAt(text);
      const former = await bindPciFunction(kernelFiles(program), address);
      if (options.json === true) await printJson({ address: formatAddress(address), driver: VFIO_PCI_DRIVER, formerDriver: former ?? null });
      else await print(`${formatAddress(address)} is bound to ${VFIO_PCI_DRIVER}${former === VFIO_PCI_DRIVER ? ' already' : former === undefined ? '' : `; ${former} had it`}\n`);
    });

  program.command('unbind').argument('<address>', 'of a PCI function').description(`takes a PCI function from ${VFIO_PCI_DRIVER}; the kernel chooses a driver for it, as at boot`)
    .option('--json', 'as data: address, driver')
    .addHelpText('after', '\nExample:\n  emudev-pci unbind 0000:06:0d.0')
    .action(async (text: string, options: Json) => {
      const address = functionAt(text);
      const driver = await unbindPciFunction(kernelFiles(program), address);
      if (options.json === true) await printJson({ address: formatAddress(address), driver: driver ?? null });
      else await print(`${formatAddress(address)} ${driver === undefined ? 'has no driver now' : `is bound to ${driver}`}\n`);
    });
}

function functionAt(text: string): PciFunctionAddress {
  const address = parseAddress(text);
  if (address.kind !== 'pci') throw usage(`${formatAddress(address)} is no PCI function of the kernel: only those are bound to drivers by hand`);
  return address;
}
