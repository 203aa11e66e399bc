/**
 * `pnpm start`: the whole product on one screen. A device process (an iavf card with the embedded host behind it) and this one,
 * which drives the card with our own driver over a real socket: link, pings, traffic both ways, until Ctrl-C or `--seconds`.
 * Given arguments that name a socket it is `iavf-device` and serves only.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Command, CommanderError } from 'commander';
import { integer, UsageError } from './arguments.ts';
import { Demo, type DemoResult } from './demo.ts';
import { qemuLine } from './wiring.ts';

const CLI = fileURLToPath(new URL('./cli.js', import.meta.url));
const NAMES_A_SOCKET = /^(-s|--socket|--socket-path|--fd|--vdev)(=|$)/;
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

interface Flags {
  seconds: number | undefined;
  json: boolean;
  size: number;
}

function parse(argv: readonly string[]): Flags {
  const program = new Command('pnpm start')
    .description('Shows an iavf card at work: a device process, and our own driver in a second one. With --socket PATH it only serves (see pnpm iavf-device --help).')
    .option('--seconds <n>', 'end by itself after so many seconds of traffic', integer(1, 86_400))
    .option('--json', 'print the result as one JSON object, the last line of the output', false)
    .option('--size <bytes>', 'length of a traffic frame', integer(60, 1514), 60)
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  program.parse([...argv], { from: 'user' });
  return program.opts<Flags>();
}

/** Starts the device process and resolves when its socket is there. */
async function startDevice(socket: string): Promise<ChildProcess> {
  // In a process group of its own: Ctrl-C is for this process, which still wants the answers that are under way.
  const child = spawn(process.execPath, [CLI, '--socket', socket, '--log-level', 'warn'], { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  const lines = createInterface({ input: child.stdout! });
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => { reject(new Error(`the device process ended with ${code}`)); });
    // It prints where it listens once it does.
    lines.once('line', () => { resolve(); });
  });
  return child;
}

const gigabits = (bytes: number, seconds: number): string => ((bytes * 8) / seconds / 1e9).toFixed(2);
const packets = (n: number, seconds: number): string => (n / seconds / 1e6).toFixed(3);

async function show(flags: Flags): Promise<DemoResult> {
  const say = (text: string): void => {
    // Standard output stays a program's: with --json people's lines go to standard error.
    (flags.json ? process.stderr : process.stdout).write(`${text}\n`);
  };
  const folder = mkdtempSync(join(tmpdir(), 'emudev-'));
  const socket = join(folder, 'iavf.sock');
  let device: ChildProcess | undefined;
  try {
    device = await startDevice(socket);
    say(`device process ${device.pid}: an iavf card on ${socket}, an embedded host (10.0.2.2) behind it`);
    const demo = await Demo.start(socket, flags.size);
    await using _demo = demo;
    const stop = new AbortController();
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => { stop.abort(); });
    device.once('exit', () => { stop.abort(new Error('the device process ended')); });
    const link = await demo.linkUp();
    say(`driver process ${process.pid}: link ${link.up ? 'up' : 'down'}, ${link.speedMbps} Mbit/s, MAC ${demo.mac}`);
    await demo.ping(5, (number, microseconds) => { say(microseconds === undefined ? `ping ${number}: no answer` : `ping ${number}: answer from 10.0.2.2 in ${microseconds.toFixed(0)} us`); });
    say('a virtual machine instead: "npx pnpm iavf-device --socket /tmp/iavf.sock", and QEMU (10.1 or later) with');
    say(`  qemu-system-x86_64 ${qemuLine('/tmp/iavf.sock')} …`);
    say(`traffic: UDP frames of ${flags.size} bytes to the echo service, every answer compared${flags.seconds === undefined ? '; Ctrl-C ends it' : ''}`);
    await demo.traffic(flags.seconds, stop.signal, ({ seconds, tx, rx, txBytes, rxBytes, errors }) => {
      say(`  tx ${packets(tx, seconds)} Mpps ${gigabits(txBytes, seconds)} Gbit/s   rx ${packets(rx, seconds)} Mpps ${gigabits(rxBytes, seconds)} Gbit/s   errors ${errors}`);
    });
    const result = await demo.finish();
    return result;
  } finally {
    if (device !== undefined && device.exitCode === null && device.signalCode === null) {
      const gone = new Promise((resolve) => device!.once('exit', resolve));
      device.kill('SIGTERM');
      await gone;
    }
    rmSync(folder, { recursive: true, force: true });
  }
}

async function main(argv: string[]): Promise<number> {
  const flags = parse(argv);
  const result = await show(flags);
  if (flags.json) console.log(JSON.stringify(result));
  // Nothing sent is nothing shown: a demo that never got going must not look like one without errors.
  const good = result.link && result.pings.sent > 0 && result.pings.answered === result.pings.sent && result.rx.packets > 0 && result.errors === 0;
  return good ? 0 : EXIT_FAILED;
}

const argv = process.argv.slice(2);
if (argv.some((argument) => NAMES_A_SOCKET.test(argument))) {
  await import('./cli.js');
} else {
  try {
    process.exitCode = await main(argv);
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.code === 'commander.helpDisplayed') process.exitCode = 0;
      else {
        console.error(`start: ${error.message.replace(/^error: /, '')}`);
        process.exitCode = EXIT_USAGE;
      }
    } else {
      console.error(`start: ${error instanceof Error ? error.message : String(error)}`);
      process.exitCode = error instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
    }
  }
}
