/** `vfio-user info SOCK`: what a server offers, for people or (`--json`) for programs. */
import type { Command } from 'commander';
import { withClient, withConnection } from './connect.ts';
import type { ConnectionOptions } from './connect.ts';
import { infoText } from './info-text.ts';
import { print, printJson } from './output.ts';
import { survey } from './survey.ts';

export function addInfo(program: Command): void {
  withConnection(program.command('info').argument('<socket>').description('device, regions, interrupts, capabilities, migration'))
    .option('--json', 'the same as data; the README names the keys')
    .addHelpText('after', `
Examples:
  vfio-user info /tmp/dev.sock
  vfio-user info /tmp/dev.sock --json | jq '.regions[].sizeBytes'`)
    .action(async (socket: string, options: ConnectionOptions & { readonly json?: true }) => {
      const report = await withClient(socket, options, survey);
      if (options.json === true) await printJson(report);
      else await print(infoText(report));
    });
}
