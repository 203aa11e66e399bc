/** `vfio-user reset SOCK`. */
import type { Command } from 'commander';
import { withClient, withConnection } from './connect.ts';
import type { ConnectionOptions } from './connect.ts';
import { CommandError, EXIT_DEVICE } from './exit.ts';

export function addReset(program: Command): void {
  withConnection(program.command('reset').argument('<socket>').description('put the device back into its power-on state'))
    .addHelpText('after', '\nExample:\n  vfio-user reset /tmp/dev.sock')
    .action(async (socket: string, options: ConnectionOptions) => {
      await withClient(socket, options, async (client) => {
        if (!client.resettable) throw new CommandError(EXIT_DEVICE, 'the device cannot be reset: its server does not say VFIO_DEVICE_FLAGS_RESET');
        await client.reset();
      });
    });
}
