/** `mdev types`, `mdev create`, `mdev remove`. */
import { MdevManager, parseUuid, type MdevType } from '@emudev/bus-pci';
import type { Command } from 'commander';
import { print, printJson, table } from './output.ts';
import { kernelFiles } from './roots.ts';

const READY_MS = 5000;
/** When the user is told why nothing happens. */
const BUSY_NOTICE_MS = 2000;
const FOREVER_MS = 2_000_000_000;

interface Json {
  readonly json?: true;
}

export function addMdev(program: Command): void {
  const mdev = program.command('mdev').description('mediated devices: parts of a device that its kernel driver hands out (mdev)');

  mdev.command('types').argument('[parent]', 'only of this one').description('what can be made, and how many')
    .option('--json', 'as data; the README names the keys')
    .addHelpText('after', '\nExample:\n  emudev-pci mdev types mtty')
    .action(async (parent: string | undefined, options: Json) => {
      const manager = new MdevManager(kernelFiles(program));
      const parents = parent === undefined ? await manager.parents() : [parent];
      const types: MdevType[] = [];
      for (const name of parents) types.push(...await manager.types(name));
      if (options.json === true) await printJson(types);
      else if (types.length === 0) await print('No device here makes mediated devices (/sys/class/mdev_bus is empty or missing).\n');
      else {
        await print(table([
          ['PARENT', 'TYPE', 'API', 'LEFT', 'MADE', 'NAME'],
          ...types.map(({ parent: of, id, api, available, devices, name, description, unusable }) => [
            of, id, api, String(available), String(devices.length), unusable === undefined ? [name, description].filter((text) => text !== undefined).join(': ') : `cannot be used: ${unusable}`,
          ]),
        ]));
      }
    });

  mdev.command('create').argument('<parent>').argument('<type>').argument('[uuid]', 'a new one unless given').description('makes a device, waits until it can be opened, prints its UUID')
    .option('--json', 'as data: uuid, parent, type')
    .addHelpText('after', '\nExample:\n  emudev-pci mdev create mtty mtty-2 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001')
    .action(async (parent: string, type: string, uuid: string | undefined, options: Json) => {
      const manager = new MdevManager(kernelFiles(program));
      const made = await manager.create(parent, type, uuid);
      await manager.waitReady(made, READY_MS);
      if (options.json === true) await printJson({ uuid: made, parent, type });
      else await print(`${made}\n`);
    });

  mdev.command('remove').argument('<uuid>').description('removes a device; the kernel waits for whoever has it open')
    .option('--json', 'as data: uuid')
    .addHelpText('after', '\nExample:\n  emudev-pci mdev remove 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001')
    .action(async (uuid: string, options: Json) => {
      const address = parseUuid(uuid);
      const notice = setTimeout(() => { process.stderr.write(`emudev-pci: ${address} is open somewhere; it goes when it is closed\n`); }, BUSY_NOTICE_MS);
      try {
        // Nothing can end the write to sysfs, so giving up would only leave a process behind that waits in the kernel.
        await new MdevManager(kernelFiles(program)).remove(address, { timeoutMs: FOREVER_MS });
      } finally {
        clearTimeout(notice);
      }
      if (options.json === true) await printJson({ uuid: address });
    });
}
