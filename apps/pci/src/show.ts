/** `show`: one device, all that is known of it. */
import { formatAddress, parseAddress, type BusDevice, type FoundDevice, type PciIds, type PciTransport } from '@emudev/bus-pci';
import type { Command } from 'commander';
import { CommandError, EXIT_ABSENT } from './exit.ts';
import { asked, formatIds, hex, timeoutOption } from './identity.ts';
import { describeFound, type ListedDevice } from './listed.ts';
import { colors, print, printJson } from './output.ts';
import { printable } from './printable.ts';
import { kernelFiles } from './roots.ts';
import { devices, type Devices } from './sources.ts';
import { survey, type Survey } from './survey.ts';

/** As `--json` prints it: what `list` says, what sysfs says, and what the open device says (null where it cannot be opened). */
export interface ShownDevice extends ListedDevice {
  readonly virtualFunctions: number | null;
  readonly resources: NonNullable<FoundDevice['resources']> | null;
  readonly device: Survey | null;
}

const NAME_WIDTH = 12;

export function addShow(program: Command): void {
  program.command('show').argument('<address>').description('one device: identity, regions, interrupts, capabilities, IOMMU group, addresses for DMA')
    .addOption(timeoutOption())
    .option('--vf-token <uuid>', 'the VF token of the function whose virtual function it is')
    .option('--json', 'as data; the README names the keys')
    .addHelpText('after', `
The device is opened for a moment, where that is possible; nothing is written to it.

Examples:
  emudev-pci show 0000:06:0d.0
  emudev-pci show vfio-user:/run/vm0.sock --json | jq '.device.regions[].sizeBytes'`)
    .action(async (address: string, options: { readonly json?: true; readonly timeout: number; readonly vfToken?: string }) => {
      const shown = await show(devices(kernelFiles(program, { timeoutMs: options.timeout }), options.timeout, options.vfToken), address, options.timeout);
      if (options.json === true) await printJson(shown);
      else await print(showText(shown));
    });
}

async function show(bus: Devices, text: string, timeoutMs: number): Promise<ShownDevice> {
  const address = parseAddress(text);
  const name = formatAddress(address);
  const found = (await bus.scan(address)).find((device) => formatAddress(device.address) === name);
  if (found === undefined) throw new CommandError(EXIT_ABSENT, `there is no ${name}`);
  if (found.unusable?.reason === 'no-socket') throw new CommandError(EXIT_ABSENT, found.unusable.detail);
  const opened = found.unusable === undefined ? await asked(bus, found.address, timeoutMs, look) : undefined;
  return {
    ...describeFound(found, opened),
    virtualFunctions: found.virtualFunctions ?? null,
    resources: found.resources ?? null,
    device: opened !== undefined && 'survey' in opened ? opened.survey : null,
  };
}

async function look(device: BusDevice, transport: PciTransport): Promise<{ readonly ids: PciIds; readonly survey: Survey }> {
  return { ids: device.ids, survey: await survey(device, transport) };
}

function showText(shown: ShownDevice): string {
  const { address, ids, device, kernelDriver, iommuGroup, numaNode, mdev, why, detail, virtualFunctions } = shown;
  const lines = [
    row('address', address),
    row('state', why === null ? 'usable' : `${why}: ${detail ?? ''}`),
    row('device', ids === null ? 'unknown' : `${formatIds(ids)}${device === null ? '' : ` rev ${hex(device.revision, 2)}`}, subsystem ${hex(ids.subsystemVendor, 4)}:${hex(ids.subsystemDevice, 4)}, class ${hex(ids.classCode, 6)}`),
    ...mdev === null ? [] : [row('mediated', `type ${mdev.type} of ${mdev.parent}`)],
    ...kernelDriver === null ? [] : [row('driver', kernelDriver)],
    ...iommuGroup === null ? [] : [row('IOMMU group', String(iommuGroup))],
    ...numaNode === null ? [] : [row('NUMA node', String(numaNode))],
    ...virtualFunctions === null ? [] : [row('SR-IOV', `${virtualFunctions} virtual functions`)],
    ...device === null ? list('resources', shown.resources === null ? ['unknown'] : shown.resources.map(({ index, kind, sizeBytes }) => `${(index < 6 ? `bar${index}` : index === 6 ? 'rom' : `${index}`).padEnd(10)}${sizeOf(Number(sizeBytes)).padStart(6)}  ${kind}`)) : surveyLines(device),
  ];
  return `${lines.join('\n')}\n`;
}

function surveyLines(device: Survey): string[] {
  return [
    row('reset', device.resettable ? 'yes' : 'no'),
    ...list('regions', device.regions.flatMap(({ name, sizeBytes, readable, writable, areas, type }) => [
      `${name.padEnd(10)}${sizeOf(sizeBytes).padStart(6)}  ${readable ? 'r' : '-'}${writable ? 'w' : '-'}${areas.length > 0 ? 'm' : '-'}${type === undefined ? '' : `  type 0x${type.type.toString(16)}, subtype 0x${type.subtype.toString(16)}`}`,
      ...areas.length === 1 && areas[0]!.sizeBytes === sizeBytes ? [] : areas.map((area) => `            mappable 0x${area.offset.toString(16)} + ${sizeOf(area.sizeBytes)}`),
    ])),
    ...list('interrupts', device.interrupts.map(({ name, count, flags }) => `${name.padEnd(10)}${String(count).padStart(6)}  ${flagsOf(flags)}`)),
    ...list('capabilities', device.capabilities.map(({ offset, extended, name }) => `[${hex(offset, extended ? 3 : 2)}] ${name}`)),
    ...list('DMA', [
      `pages of ${sizeOf(device.dmaPageBytes)}, at most ${device.maxDmaMaps} maps`,
      ...device.iovaRanges === null ? ['any address'] : device.iovaRanges.map(({ first, last }) => `0x${first.toString(16)} to 0x${last.toString(16)}`),
    ]),
  ];
}

function row(name: string, text: string): string {
  return `${colors.bold(name.padEnd(NAME_WIDTH))}  ${printable(text)}`;
}

function list(name: string, entries: readonly string[]): string[] {
  return entries.length === 0 ? [row(name, 'none')] : entries.map((entry, index) => row(index === 0 ? name : '', entry));
}

/** Exact: `64K`, `255`. */
function sizeOf(bytes: number): string {
  const unit = (['G', 'M', 'K'] as const).find((_, i) => bytes >= 2 ** (30 - 10 * i) && bytes % 2 ** (30 - 10 * i) === 0);
  return unit === undefined ? String(bytes) : `${bytes / { G: 2 ** 30, M: 2 ** 20, K: 2 ** 10 }[unit]}${unit}`;
}

/** VFIO_IRQ_INFO_*. */
function flagsOf(flags: number): string {
  return ['EVENTFD', 'MASKABLE', 'AUTOMASKED', 'NORESIZE'].filter((_, bit) => (flags & (1 << bit)) !== 0).join(' ');
}
