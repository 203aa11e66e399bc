#!/usr/bin/env node
/** The `emudev-example` program: serves example devices until a signal, or until its client has gone. */
import { subscribe } from 'node:diagnostics_channel';
import { resolve } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { Window } from '@emudev/dma';
import type { PciDevice } from '@emudev/pci';
import { inheritedSocketKind, VfioUserServer } from '@emudev/vfio-user-server';
import { EXAMPLES, type Example } from './catalog.ts';
import { sayAccesses, sayEvents } from './verbose.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

interface Options {
  readonly fd?: number;
  readonly list?: true;
  readonly once?: true;
  readonly verbose?: true;
}

interface Served {
  readonly server: VfioUserServer;
  readonly device: PciDevice & Partial<Disposable>;
}

const descriptor = (text: string): number => {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('expected a descriptor number');
  return Number(text);
};

const list = (): string => Object.entries(EXAMPLES).map(([name, { what }]) => `  ${name.padEnd(18)}${what}`).join('\n');

const program = new Command('emudev-example')
  .description('Serves small PCI devices over vfio-user, to learn from and to test against.')
  .argument('[device socket...]', 'a device of the list, and the UNIX socket to serve it on; more pairs serve more devices')
  .addOption(new Option('--fd <number>', 'serve one device on this inherited socket instead, connected or listening').argParser(descriptor))
  .option('--once', 'end when the first client has gone')
  .option('-v, --verbose', 'say who comes and goes, and what is read and written')
  .option('-l, --list', 'name the devices')
  .addHelpText('after', `\nDevices:\n${list()}\n\nExamples:\n  emudev-example gpio /tmp/gpio.sock\n  emudev-example irq-intx a.sock irq-msi b.sock irq-msix c.sock`)
  .configureOutput({ outputError: (text, write) => { write(text.replace(/^error: /, 'emudev-example: ')); } })
  .showHelpAfterError('(--help shows what there is)')
  .exitOverride();

function find(name: string): Example {
  if (!Object.hasOwn(EXAMPLES, name)) program.error(`error: there is no device '${name}'; known are ${Object.keys(EXAMPLES).join(', ')}`);
  return EXAMPLES[name]!;
}

/** Devices and their places: `fd` is the place of the only one, otherwise names and sockets alternate. */
function plan(words: readonly string[], { fd }: Options): { readonly name: string; readonly place: string | number }[] {
  if (fd !== undefined) {
    if (words.length !== 1) program.error('error: --fd goes with one device and no socket');
    return [{ name: words[0]!, place: fd }];
  }
  if (words.length === 0 || words.length % 2 !== 0) program.error('error: expected DEVICE SOCKET, once or more often');
  const pairs = [];
  for (let i = 0; i < words.length; i += 2) pairs.push({ name: words[i]!, place: words[i + 1]! });
  return pairs;
}

async function serve(name: string, place: string | number, window: Window, verbose: boolean): Promise<Served> {
  const device = find(name).create();
  if (verbose) sayAccesses(device);
  const server = new VfioUserServer(device, { window });
  if (typeof place === 'number') server.adopt(place);
  else await server.listen(place);
  if (typeof place === 'string') {
    const argument = JSON.stringify({ driver: 'vfio-user-pci', socket: { type: 'unix', path: resolve(place) } });
    console.log(`${name} listens on ${place}. Plug it in (QEMU 10.1 or later, guest memory with share=on):\n  -device '${argument}'`);
  }
  return { server, device };
}

function ended(served: readonly Served[], once: boolean): Promise<void> {
  return new Promise((end) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => { end(); });
    if (once) for (const { server } of served) server.onSession({ detached: () => { end(); } });
  });
}

async function run(words: readonly string[], options: Options): Promise<void> {
  if (options.list === true) return void console.log(list());
  const devices = plan(words, options);
  for (const { name } of devices) find(name);
  if (options.verbose === true) sayEvents(subscribe);
  const window = Window.open();
  // A connection that was handed over is the only one there will be.
  const once = options.once === true || (options.fd !== undefined && inheritedSocketKind(options.fd) === 'connected');
  const served: Served[] = [];
  try {
    for (const { name, place } of devices) served.push(await serve(name, place, window, options.verbose === true));
    await ended(served, once);
  } finally {
    for (const { server, device } of served) {
      await server.close();
      device[Symbol.dispose]?.();
    }
  }
}

try {
  program.parse();
  await run(program.args, program.opts<Options>());
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
  } else {
    console.error(`emudev-example: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = EXIT_FAILED;
  }
}
