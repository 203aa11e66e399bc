/** `vfio-user info SOCK`: what a server offers, for people or (`--json`) for programs. */
import type { Region, VfioUserClient } from '@emudev/vfio-user-client';
import type { Command } from 'commander';
import { withClient, withConnection } from './connect.ts';
import type { ConnectionOptions } from './connect.ts';


export interface DeviceReport {
  readonly device: { readonly vendor: number; readonly device: number } | null;
  readonly regions: readonly Region[];
}

export function addInfo(program: Command): void {
  withConnection(program.command('info').argument('<socket>').description('device, regions, interrupts, capabilities'))
    .option('--json', 'the same as data')
    .action(async (socket: string, options: ConnectionOptions & { readonly json?: true }) => {
      const report = await withClient(socket, options, describe);
      process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
    });
}

async function describe(client: VfioUserClient): Promise<DeviceReport> {
  const regions: Region[] = [];
  for (let index = 0; index < client.info.numRegions; index++) {
    const region = await client.regionInfo(index);
    if (region.sizeBytes > 0) regions.push(region);
  }
  return { device: null, regions };
}
