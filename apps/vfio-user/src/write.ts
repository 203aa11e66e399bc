/** `vfio-user write SOCK REGION OFFSET VALUE`. */
import { readFileSync, statSync } from 'node:fs';
import type { Command } from 'commander';
import { withClient, withConnection } from './connect.ts';
import type { ConnectionOptions } from './connect.ts';
import { usage, withFile } from './exit.ts';
import { MAX_WRITE_BYTES } from './limits.ts';
import { parseValue } from './numbers.ts';
import { checkInside, findPlace, orHint, parseWidth } from './place.ts';

interface Options extends ConnectionOptions {
  readonly width?: number;
  readonly hex?: string;
  readonly file?: string;
  readonly posted?: true;
}

const DEFAULT_WIDTH = 4;

export function addWrite(program: Command): void {
  withConnection(program.command('write').description('write a register or a few bytes'))
    .argument('<socket>')
    .argument('<region>', 'bar0 to bar5, rom, config, vga, or a number')
    .argument('<offset>', 'a number (0x10, 16, 4K); in config also a register (COMMAND, BAR0, CAP_EXP+8.w)')
    .argument('[value]', 'a number, little endian in the device')
    .option('--width <bytes>', 'size of the value, and of each access: 1, 2, 4 or 8', parseWidth)
    .option('--hex <bytes>', 'bytes instead of a value: "de ad be ef"')
    .option('--file <path>', 'the bytes of a file instead of a value')
    .option('--posted', 'ask for no answer, as guests\' writes to memory do: a refusal stays unknown')
    .addHelpText('after', `
Examples:
  vfio-user write /tmp/dev.sock config COMMAND 0x6
  vfio-user write /tmp/dev.sock bar2 0 0xff --width 1
  vfio-user write /tmp/dev.sock bar1 0x100 --hex "de ad be ef"
  vfio-user write /tmp/dev.sock bar1 0 --file firmware.bin --width 4`)
    .action(async (socket: string, region: string, offset: string, value: string | undefined, options: Options) => {
      if ([value, options.hex, options.file].filter((given) => given !== undefined).length !== 1) throw usage('write takes exactly one of VALUE, --hex and --file');
      const given = options.hex !== undefined ? parseHex(options.hex) : options.file !== undefined ? readInput(options.file) : undefined;
      await withClient(socket, options, async (client) => {
        const place = await findPlace(client, region, offset);
        const data = given ?? parseValue(value!, options.width ?? place.widthBytes ?? DEFAULT_WIDTH);
        const step = options.width ?? data.length;
        if (data.length % step !== 0) throw usage(`${data.length} bytes cannot be written ${step} at a time`);
        checkInside(place.region, place.offset, data.length);
        for (let at = 0; at < data.length; at += step) {
          await orHint(client.write(place.region.index, place.offset + at, data.subarray(at, at + step), { posted: options.posted === true }), place.region);
        }
        // A posted write has no answer, but the next command's comes after it: the device has seen the write when we hang up.
        if (options.posted === true) await client.irqInfo(0).catch(() => {});
      });
    });
}

function parseHex(text: string): Uint8Array {
  const digits = text.replaceAll(/0x|[\s,:_-]/gi, '');
  if (digits.length === 0 || digits.length % 2 !== 0 || /[^0-9a-f]/i.test(digits)) throw usage(`--hex takes pairs of hexadecimal digits, not "${text}"`);
  return Uint8Array.from(Buffer.from(digits, 'hex'));
}

function readInput(path: string): Uint8Array {
  const { size } = withFile(path, () => statSync(path));
  if (size === 0 || size > MAX_WRITE_BYTES) throw usage(`${path} has ${size} bytes; write takes 1 to ${MAX_WRITE_BYTES}`);
  return withFile(path, () => readFileSync(path));
}
