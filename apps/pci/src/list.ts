/** `list`: every device, whatever kind it is, and why it cannot be used where it cannot. */
import { formatAddress, parseAddress, Selection, type FoundDevice, type VfioUserAddress } from '@emudev/bus-pci';
import type { Command } from 'commander';
import { CommandError, EXIT_ABSENT, usage } from './exit.ts';
import { formatIds, hex, identify, timeoutOption } from './identity.ts';
import { describeFound, type ListedDevice } from './listed.ts';
import { print, printJson, table } from './output.ts';
import { kernelFiles } from './roots.ts';
import { devices, type Devices } from './sources.ts';

interface ListOptions {
  readonly vfioUser: readonly string[];
  readonly allow: readonly string[];
  readonly block: readonly string[];
  readonly open: boolean;
  readonly timeout: number;
  readonly json?: true;
}

const collect = (value: string, before: readonly string[]): readonly string[] => [...before, value];

export function addList(program: Command): void {
  program.command('list').description('all PCI functions, mediated devices and the vfio-user sockets that are named')
    .option('--vfio-user <socket>', 'a socket to be listed, too; may be repeated', collect, [])
    .option('-a, --allow <address>', 'only this one; may be repeated', collect, [])
    .option('-b, --block <address>', 'not this one; may be repeated', collect, [])
    .option('--no-open', 'open no device: what mediated devices and sockets are stays unknown')
    .addOption(timeoutOption())
    .option('--json', 'as data; the README names the keys')
    .addHelpText('after', `
Mediated devices and sockets have no ids but those in the device: they are opened for a moment.

Examples:
  emudev-pci list
  emudev-pci list --vfio-user /run/vm0.sock --json | jq '.[] | select(.usable).address'`)
    .action(async (options: ListOptions) => {
      const { listed, absent } = await list(devices(kernelFiles(program, { timeoutMs: options.timeout }), options.timeout), options);
      if (options.json === true) await printJson(listed);
      else await print(listText(listed));
      if (absent.length > 0) throw new CommandError(EXIT_ABSENT, `there is no ${absent.join(', no ')}`);
    });
}

async function list(bus: Devices, options: ListOptions): Promise<{ readonly listed: readonly ListedDevice[]; readonly absent: readonly string[] }> {
  const selection = Selection.parse(options);
  const sockets = [...options.vfioUser.map(socketAt), ...selection.allowed.map(({ address }) => address).filter((address) => address.kind === 'vfio-user')];
  const found = await bus.scan(...sockets);
  // All at once: those that do not answer are waited for together.
  const listed = await Promise.all(found.filter(({ address }) => selection.of(address) !== undefined).map((device) => describe(bus, device, options)));
  const present = new Set(listed.map(({ address }) => address));
  return { listed, absent: selection.allowed.map(({ address }) => formatAddress(address)).filter((address) => !present.has(address)) };
}

function socketAt(path: string): VfioUserAddress {
  const address = parseAddress(path.startsWith('vfio-user:') ? path : `vfio-user:${path}`);
  if (address.kind !== 'vfio-user') throw usage(`--vfio-user takes the path of a socket, not ${path}`);
  return address;
}

async function describe(bus: Devices, device: FoundDevice, { open, timeout }: ListOptions): Promise<ListedDevice> {
  const mustAsk = open && device.ids === undefined && device.unusable === undefined;
  return describeFound(device, mustAsk ? await identify(bus, device.address, timeout) : undefined);
}

function listText(listed: readonly ListedDevice[]): string {
  if (listed.length === 0) return 'No devices. Mediated ones are made with "emudev-pci mdev create"; vfio-user sockets are named with --vfio-user.\n';
  const rows = listed.map(({ address, ids, kernelDriver, iommuGroup, why, mdev, detail }) => [
    address,
    ids === null ? '' : formatIds(ids),
    ids === null ? '' : hex(ids.classCode, 6),
    mdev === null ? kernelDriver ?? '' : mdev.type,
    iommuGroup === null ? '' : String(iommuGroup),
    why === null ? 'usable' : `${why}: ${detail ?? ''}`,
  ]);
  return table([['ADDRESS', 'IDS', 'CLASS', 'DRIVER', 'GROUP', 'STATE'], ...rows]);
}
