/** `pnpm guest`: a real guest with a shell, plugged into a running device process or into one it starts itself. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Command, Option } from 'commander';
import { chooseAccel, GuestError, KERNEL_ARGS, qemuCommand, type Accel } from './guest.ts';
import { KERNELS, type KernelName } from './kernel.ts';

interface Options {
  socket?: string[];
  kernel: KernelName;
  memory: string;
  cpus: string;
  accel: Accel;
}

const program = new Command('guest')
  .description('Boots a Linux guest (stock kernel, stock iavf driver) against vfio-user sockets and gives a shell. Leave with "exit", or Ctrl-A X.')
  .option('-s, --socket <path...>', 'sockets of running devices, one card each; without it a device process is started for this guest')
  .addOption(new Option('-k, --kernel <version>', 'guest kernel').choices(KERNELS).default('6.12'))
  .option('-m, --memory <MiB>', 'guest memory', '512')
  .option('-c, --cpus <n>', 'guest processors', '2')
  .addOption(new Option('--accel <how>', 'how the guest runs').choices(['auto', 'kvm', 'tcg']).default('auto'))
  .argument('[device arguments...]', 'after --: arguments for the device process that is started (e.g. -- --tap dtap0)')
  .parse();

const options = program.opts<Options>();
const progress = (line: string): void => console.error(`guest: ${line}`);

async function startDevice(socket: string, args: readonly string[]): Promise<ChildProcess> {
  const cli = new URL('../../../apps/iavf-device/dist/cli.js', import.meta.url).pathname;
  const child = spawn(process.execPath, [cli, '--socket', socket, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout! });
  await new Promise<void>((resolve, reject) => {
    child.once('exit', (code) => reject(new GuestError(`the device process ended with ${code} before it listened`)));
    lines.on('line', (line) => {
      console.error(line);
      if (existsSync(socket)) resolve();
    });
  });
  return child;
}

let device: ChildProcess | undefined;
const folder = mkdtempSync(join(tmpdir(), 'emudev-guest-'));
try {
  let sockets = options.socket;
  if (sockets === undefined) {
    sockets = [join(folder, 'iavf.sock')];
    device = await startDevice(sockets[0]!, program.args);
  }
  const guestOptions = { kernel: options.kernel, memoryMiB: Number(options.memory), cpus: Number(options.cpus), accel: options.accel, sockets, progress };
  const accel = await chooseAccel(guestOptions);
  const { command, release } = await qemuCommand({ ...guestOptions, accel });
  progress(`booting Linux ${release} (${accel}); the card is eth0: try "ip link set eth0 up; udhcpc -i eth0; ping -c3 10.0.2.2"`);
  const [qemu, ...args] = command;
  const child = spawn(qemu!, [
    ...args, '-append', `${KERNEL_ARGS} quiet emudev.shell`,
    '-chardev', 'stdio,id=console,mux=on,signal=off', '-mon', 'chardev=console', '-serial', 'chardev:console', '-serial', 'null',
  ], { stdio: 'inherit' });
  process.exitCode = await new Promise<number>((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
} catch (error) {
  console.error(`guest: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
} finally {
  device?.kill('SIGTERM');
  rmSync(folder, { recursive: true, force: true });
}
