/** `vfio-user dump SOCK REGION`: a region's contents, as text or into a file. */
import { open } from 'node:fs/promises';
import { REGION_CONFIG } from '@emudev/pci';
import { ClientError } from '@emudev/vfio-user-client';
import type { VfioUserClient } from '@emudev/vfio-user-client';
import type { Command } from 'commander';
import { withClient, withConnection } from './connect.ts';
import type { ConnectionOptions } from './connect.ts';
import { CommandError, EXIT_DEVICE, usage } from './exit.ts';
import { Hexdump } from './hexdump.ts';
import { DUMP_CHUNK_BYTES, MAX_DUMP_TEXT_BYTES } from './limits.ts';
import { formatSize, parseSize } from './numbers.ts';
import { print } from './output.ts';
import { checkInside, findRegion, parseWidth } from './place.ts';
import { regionName } from './regions.ts';

interface Options extends ConnectionOptions {
  readonly offset: string;
  readonly length?: string;
  readonly output?: string;
  readonly width?: number;
}

export function addDump(program: Command): void {
  withConnection(program.command('dump').description('show or save what is in a region'))
    .argument('<socket>')
    .argument('<region>', 'bar0 to bar5, rom, config, vga, or a number')
    .option('--offset <bytes>', 'where to begin', '0')
    .option('--length <bytes>', 'how much; all the rest without')
    .option('--width <bytes>', 'size of each access, for regions that are registers: 1, 2, 4 or 8', parseWidth)
    .option('-o, --output <file>', 'write the bytes into a file; without, print them like hexdump -C')
    .addHelpText('after', `
Examples:
  vfio-user dump /tmp/dev.sock config
  vfio-user dump /tmp/dev.sock bar0 --width 4 --length 256
  vfio-user dump /tmp/dev.sock rom -o rom.bin`)
    .action(async (socket: string, regionText: string, options: Options) => {
      const offset = parseSize(options.offset, 'offset');
      const asked = options.length === undefined ? undefined : parseSize(options.length, 'length');
      await withClient(socket, options, async (client) => {
        const region = await findRegion(client, regionText);
        checkInside(region, offset, asked ?? 0);
        const length = asked ?? region.sizeBytes - offset;
        if (options.width !== undefined && length % options.width !== 0) throw usage(`${length} bytes cannot be read ${options.width} at a time`);
        if (options.output === undefined) {
          // The size is what the server says: it must not fill anybody's terminal.
          if (asked === undefined && length > MAX_DUMP_TEXT_BYTES) throw usage(`${regionName(region.index)} has ${formatSize(region.sizeBytes)} bytes: say how much with --length, or where to with -o FILE`);
          const dump = new Hexdump(offset);
          for await (const bytes of contents(client, region.index, offset, length, options.width)) await print(dump.push(bytes));
          await print(dump.end());
        } else {
          await using file = await open(options.output, 'w');
          for await (const bytes of contents(client, region.index, offset, length, options.width)) await file.writeFile(bytes);
        }
      });
    });
}

async function* contents(client: VfioUserClient, region: number, offset: number, length: number, width: number | undefined): AsyncGenerator<Uint8Array> {
  const step = width ?? Math.min(DUMP_CHUNK_BYTES, client.server.maxDataXferSize);
  for (let at = 0; at < length; at += step) {
    const count = Math.min(step, length - at);
    try {
      yield await client.read(region, offset + at, count);
    } catch (error) {
      if (!(error instanceof ClientError) || error.code !== 'ERR_VFU_CLIENT_REFUSED') throw error;
      const hint = width === undefined && region !== REGION_CONFIG ? '; a region of registers may need --width 4' : '';
      throw new CommandError(EXIT_DEVICE, `${regionName(region)} at 0x${(offset + at).toString(16)}: ${error.message}${hint}`, { cause: error });
    }
  }
}
