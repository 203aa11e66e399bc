/** `pnpm guest`: a real guest with a shell, plugged into a running device process or into one it starts itself. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { constants as os, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { chooseAccel, GuestError, KERNEL_ARGS, qemuCommand, type Accel } from './guest.ts';
import { KERNELS, type KernelName } from './kernel.ts';

interface Options {
  socket?: string[];
  kernel: KernelName;
  memory: number;
  cpus: number;
  accel: Accel;
}

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
/** Some milliseconds are enough; a device process that hangs is not waited for. */
const DEVICE_END_MS = 5000;

/** A command line that cannot be carried out: exit code 2. */
class UsageError extends Error {
  override readonly name = 'UsageError';
}

const progress = (line: string): void => console.error(`guest: ${line}`);

function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const n = Number(text);
    if (!/^\d+$/.test(text) || n < min || n > max) throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    return n;
  };
}

function parse(argv: readonly string[]): { options: Options; deviceArgs: string[] } {
  const program = new Command('pnpm guest')
    .description('Boots a Linux guest (stock kernel, stock iavf driver) with our card in it and gives a shell. Leave with "exit", or Ctrl-A X.')
    .option('-s, --socket <path...>', 'sockets of running devices, one card each; without it a device process is started for this guest')
    .addOption(new Option('-k, --kernel <version>', 'guest kernel').choices(KERNELS).default('6.12'))
    .addOption(new Option('-m, --memory <MiB>', 'guest memory').argParser(integer(128, 1 << 20)).default(512))
    .addOption(new Option('-c, --cpus <n>', 'guest processors').argParser(integer(1, 64)).default(2))
    .addOption(new Option('--accel <how>', 'how the guest runs: KVM where it works, emulated otherwise').choices(['auto', 'kvm', 'tcg']).env('EMUDEV_ACCEL').default('auto'))
    .argument('[device arguments...]', 'after --: arguments for the device process that is started (e.g. -- --tap dtap0)')
    .addHelpText('after', '\nQEMU and the kernel are fetched once, into ~/.cache/emudev (EMUDEV_CACHE_DIR). Exit codes: that of QEMU, 1 a failure, 2 wrong arguments.')
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  program.parse([...argv], { from: 'user' });
  const options = program.opts<Options>();
  if (options.socket !== undefined && program.args.length > 0) throw new UsageError('arguments after -- are for a device process started here: with --socket there is none');
  for (const path of options.socket ?? []) {
    if (statSync(path, { throwIfNoEntry: false })?.isSocket() !== true) throw new UsageError(`${path} is not a socket: is the device process running?`);
  }
  return { options, deviceArgs: program.args };
}

/** Resolves when it listens. What it has to say, as far as it matters to somebody in a guest's shell, is on standard error. */
async function startDevice(socket: string, args: readonly string[]): Promise<ChildProcess> {
  const cli = new URL('../../../apps/iavf-device/dist/cli.js', import.meta.url).pathname;
  const child = spawn(process.execPath, [cli, '--socket', socket, '--log-level', 'warn', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout! });
  await new Promise<void>((resolve, reject) => {
    child.once('exit', (code) => reject(code === EXIT_USAGE ? new UsageError('the device process could not start') : new GuestError(`the device process ended with ${code} before it listened`)));
    lines.once('line', () => resolve());
  });
  progress(`device process ${child.pid} serves a card on ${socket}`);
  return child;
}

async function ended(child: ChildProcess, timeoutMs: number): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, timeoutMs);
    child.once('exit', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** The size of our terminal: a serial line does not tell the guest. */
function terminalSize(): string {
  const { columns, rows } = process.stdout;
  return process.stdout.isTTY && columns > 0 && rows > 0 ? ` emudev.columns=${columns} emudev.rows=${rows}` : '';
}

async function run({ options, deviceArgs }: { options: Options; deviceArgs: string[] }): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'emudev-guest-'));
  let device: ChildProcess | undefined;
  let qemu: ChildProcess | undefined;
  const interrupted = (signal: NodeJS.Signals): void => {
    if (qemu !== undefined) {
      // Its end is ours.
      qemu.kill('SIGTERM');
      return;
    }
    device?.kill('SIGTERM');
    rmSync(folder, { recursive: true, force: true });
    process.exit(128 + os.signals[signal]);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, interrupted);
  try {
    let sockets = options.socket;
    if (sockets === undefined) {
      sockets = [join(folder, 'iavf.sock')];
      device = await startDevice(sockets[0]!, deviceArgs);
    }
    const guestOptions = { kernel: options.kernel, memoryMiB: options.memory, cpus: options.cpus, accel: options.accel, sockets, progress };
    const accel = await chooseAccel(guestOptions);
    const { command, release } = await qemuCommand({ ...guestOptions, accel });
    const embeddedHost = device !== undefined && deviceArgs.length === 0;
    progress(`booting Linux ${release} (${accel}); ${sockets.length === 1 ? 'the card is eth0' : `the cards are eth0 to eth${sockets.length - 1}`}. "exit" or Ctrl-A X leaves${embeddedHost ? '. Try "ip link set eth0 up; udhcpc -i eth0; ping -c3 10.0.2.2"' : ''}`);
    const [program, ...args] = command;
    qemu = spawn(program!, [...args, '-append', `${KERNEL_ARGS} quiet emudev.shell${terminalSize()}`, '-serial', 'mon:stdio', '-serial', 'null'], { stdio: 'inherit' });
    const child = qemu;
    return await new Promise<number>((resolve, reject) => child.once('error', reject).once('exit', (code) => resolve(code ?? EXIT_FAILED)));
  } finally {
    device?.kill('SIGTERM');
    if (device !== undefined) await ended(device, DEVICE_END_MS);
    rmSync(folder, { recursive: true, force: true });
  }
}

try {
  process.exitCode = await run(parse(process.argv.slice(2)));
} catch (error) {
  if (error instanceof CommanderError && error.code === 'commander.helpDisplayed') {
    process.exitCode = 0;
  } else {
    console.error(`guest: ${error instanceof Error ? error.message.replace(/^error: /, '').replaceAll('\n(', ' (') : String(error)}`);
    process.exitCode = error instanceof CommanderError || error instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
  }
}
