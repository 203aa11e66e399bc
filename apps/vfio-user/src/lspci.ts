/** `vfio-user lspci SOCK`: the device as the real lspci would show it, or as a dump that `lspci -F` reads. */
import type { Region, VfioUserClient } from '@emudev/vfio-user-client';
import type { Command } from 'commander';
import { readConfig } from './config.ts';
import { withClient, withConnection } from './connect.ts';
import type { ConnectionOptions } from './connect.ts';
import { usage } from './exit.ts';
import { lspciDump, lspciText } from './lspci/text.ts';
import type { LspciOptions } from './lspci/text.ts';
import type { RegionSizes } from './lspci/header.ts';
import { print } from './output.ts';
import { readVpd } from './vpd-registers.ts';

interface Options extends ConnectionOptions {
  readonly verbose: number;
  readonly numeric: number;
  readonly hex: number;
  readonly slot: string;
  readonly asFile?: true;
  readonly vpd?: true;
  readonly like?: string;
}

const BARS = 6;
const ROM = 6;
const MAX_VERBOSITY = 3;

const count = (_value: string | undefined, before: number): number => before + 1;

export function addLspci(program: Command): void {
  withConnection(program.command('lspci').argument('<socket>').description('the configuration space, decoded like lspci'))
    .option('-v, --verbose', 'more: -vv shows every register, -vvv a little more', count, 0)
    .option('-n, --numeric', 'numbers instead of names; -nn both', count, 0)
    .option('-x, --hex', 'bytes of the header as a dump; -xxx 256 bytes, -xxxx all 4096: what lspci -F reads', count, 0)
    .option('--slot <place>', 'the place that is printed', '00:00.0')
    .option('--as-file', 'what lspci -F would make of the dump: no sizes of regions, no BARs without an address')
    .option('--vpd', 'read the vital product data, too (writes the address register of its capability)')
    .option('--like <version>', 'in the form of this pciutils version, 3.9 to 3.14', '3.13')
    .addHelpText('after', `
Examples:
  vfio-user lspci /tmp/dev.sock -vv
  vfio-user lspci /tmp/dev.sock -xxxx > card.dump && lspci -F card.dump -vv`)
    .action(async (socket: string, options: Options) => {
      const form = formOf(options);
      const { config, sizes, vpd } = await withClient(socket, options, async (client) => ({
        config: await readConfig(client),
        sizes: options.asFile === true ? undefined : await regionSizes(client),
        vpd: options.vpd === true ? await readVpd(client) : undefined,
      }));
      const how: LspciOptions = { ...form, ...(sizes === undefined ? {} : { sizes }), ...(vpd === undefined ? {} : { vpd }) };
      if (options.hex === 0) await print(`${lspciText(config, how)}${options.verbose > 0 ? '\n' : ''}`);
      else await print(`${lspciDump(config, how, options.hex >= 4 ? 4096 : options.hex === 3 ? 256 : 64)}\n`);
    });
}

function formOf(options: Options): LspciOptions {
  const numbers = options.numeric >= 2 ? 'both' : options.numeric === 1 ? 'numbers' : 'names';
  const form: LspciOptions = { verbosity: Math.min(options.verbose, MAX_VERBOSITY), numbers, slot: options.slot, ...(options.like === undefined ? {} : { pciutils: options.like }) };
  try {
    lspciText(new Uint8Array(64), form);
  } catch (error) {
    if (error instanceof RangeError) throw usage(error.message);
    throw error;
  }
  return form;
}

async function regionSizes(client: VfioUserClient): Promise<RegionSizes> {
  const sizeOf = async (index: number): Promise<number> => {
    if (index >= client.info.numRegions) return 0;
    const region: Region = await client.regionInfo(index);
    return region.sizeBytes;
  };
  const bars: number[] = [];
  for (let index = 0; index < BARS; index++) bars.push(await sizeOf(index));
  return { bars, rom: await sizeOf(ROM) };
}
