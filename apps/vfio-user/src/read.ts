/** `vfio-user read SOCK REGION OFFSET [LENGTH]`. */
import type { Command } from 'commander';
import { withClient, withConnection } from './connect.ts';
import type { ConnectionOptions } from './connect.ts';
import { usage } from './exit.ts';
import { hexdump } from './hexdump.ts';
import { MAX_READ_BYTES } from './limits.ts';
import { formatValue, parseSize } from './numbers.ts';
import { print, printJson } from './output.ts';
import { checkInside, findPlace, orHint, parseWidth, WIDTHS } from './place.ts';

interface Options extends ConnectionOptions {
  readonly width?: number;
  readonly json?: true;
}

const DEFAULT_WIDTH = 4;

export function addRead(program: Command): void {
  withConnection(program.command('read').description('read a register or a few bytes'))
    .argument('<socket>')
    .argument('<region>', 'bar0 to bar5, rom, config, vga, or a number')
    .argument('<offset>', 'a number (0x10, 16, 4K); in config also a register (COMMAND, BAR0, CAP_EXP+8.w)')
    .argument('[length]', 'bytes; one register without')
    .option('--width <bytes>', 'size of each access: 1, 2, 4 or 8', parseWidth)
    .option('--json', 'the same as data: region, offset, bytes (hex), value')
    .addHelpText('after', `
Examples:
  vfio-user read /tmp/dev.sock config VENDOR_ID
  vfio-user read /tmp/dev.sock bar0 0x10 --width 8
  vfio-user read /tmp/dev.sock bar2 0 256`)
    .action(async (socket: string, region: string, offset: string, length: string | undefined, options: Options) => {
      await withClient(socket, options, async (client) => {
        const place = await findPlace(client, region, offset);
        const width = options.width ?? place.widthBytes;
        const bytes = length === undefined ? (width ?? DEFAULT_WIDTH) : parseSize(length, 'length');
        if (bytes === 0 || bytes > MAX_READ_BYTES) throw usage(`read takes 1 to ${MAX_READ_BYTES} bytes; dump takes more`);
        if (width !== undefined && bytes % width !== 0) throw usage(`${bytes} bytes cannot be read ${width} at a time`);
        checkInside(place.region, place.offset, bytes);
        const data = new Uint8Array(bytes);
        const step = width ?? bytes;
        for (let at = 0; at < bytes; at += step) data.set(await orHint(client.read(place.region.index, place.offset + at, step), place.region), at);
        const value = WIDTHS.includes(bytes) ? formatValue(data) : undefined;
        if (options.json) await printJson({ region: place.region.index, offset: place.offset, bytes: Buffer.from(data).toString('hex'), ...(value === undefined ? {} : { value }) });
        else await print(value === undefined ? hexdump(data, place.offset) : `${value}\n`);
      });
    });
}
