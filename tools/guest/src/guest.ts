/** A running guest: boot it, run commands in it, end it. Every time-out tells what the guest was doing. */
import { spawn, type ChildProcess } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Progress } from './cache.ts';
import { initramfs, type Equipment } from './initramfs.ts';
import { findKernel, type Kernel, type KernelName } from './kernel.ts';
import { findQemu } from './qemu.ts';

export interface GuestOptions {
  readonly kernel?: KernelName;
  /** vfio-user sockets to plug in, one card each. */
  readonly sockets?: readonly string[];
  readonly memoryMiB?: number;
  /** false: memory of QEMU's own, which devices reach by DMA messages only. */
  readonly sharedMemory?: boolean;
  readonly cpus?: number;
  /** 'auto' (default): KVM where it really runs a guest, else emulation. `EMUDEV_ACCEL` overrides the default. */
  readonly accel?: Accel;
  /** Further QEMU arguments. */
  readonly extraArgs?: readonly string[];
  /** A program, with its arguments, that starts QEMU: `ip netns exec NAME`, say. */
  readonly startedBy?: readonly string[];
  /** Further arguments of the guest's kernel. */
  readonly kernelArgs?: string;
  /** What its disk holds besides the usual, for the kernel that is booted. */
  readonly equipment?: (kernel: Kernel, progress: Progress) => Promise<Equipment>;
  readonly bootTimeoutMs?: number;
  readonly progress?: Progress;
}

export type Accel = 'auto' | 'kvm' | 'tcg';

export interface CommandResult {
  readonly code: number;
  readonly output: string;
}

/** The guest did not do what it was told in time, or a command failed; carries the tail of its console. */
export class GuestError extends Error {
  readonly code = 'ERR_GUEST';
  override readonly name = 'GuestError';
}

/** Everything QEMU needs besides its consoles. */
export async function qemuCommand(options: GuestOptions & { readonly accel: 'kvm' | 'tcg' }): Promise<{ command: string[]; release: string }> {
  const progress = options.progress ?? ((): void => {});
  const qemu = await findQemu(progress);
  const kernel = await findKernel(options.kernel ?? '6.12', progress);
  const disk = await initramfs(kernel, progress, await options.equipment?.(kernel, progress));
  return {
    release: kernel.release,
    command: [
      ...qemu.command,
      '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot',
      '-accel', options.accel === 'kvm' ? 'kvm' : 'tcg,thread=multi', '-cpu', 'max', '-smp', String(options.cpus ?? 2),
      '-object', `${options.sharedMemory === false ? 'memory-backend-ram' : 'memory-backend-memfd,share=on'},id=mem,size=${options.memoryMiB ?? 512}M`, '-machine', 'q35,memory-backend=mem', '-m', `${options.memoryMiB ?? 512}M`,
      '-kernel', kernel.image, '-initrd', disk,
      ...(options.sockets ?? []).flatMap((path, i) => ['-device', JSON.stringify({ driver: 'vfio-user-pci', id: `card${i}`, socket: { type: 'unix', path } })]),
      ...(options.extraArgs ?? []),
    ],
  };
}

export const KERNEL_ARGS = 'console=ttyS0 panic=-1 random.trust_cpu=on net.ifnames=0';

let kvmWorks: Promise<boolean> | undefined;

/** /dev/kvm may exist, open, and still not run a guest (nested virtualisation): only booting one tells. */
export async function chooseAccel(options: GuestOptions): Promise<'kvm' | 'tcg'> {
  const wanted = options.accel ?? (process.env['EMUDEV_ACCEL'] as Accel | undefined) ?? 'auto';
  if (wanted !== 'auto') return wanted;
  kvmWorks ??= (async (): Promise<boolean> => {
    try {
      accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
      await using _guest = await Guest.boot({ accel: 'kvm', bootTimeoutMs: 15_000, ...(options.kernel === undefined ? {} : { kernel: options.kernel }), ...(options.progress === undefined ? {} : { progress: options.progress }) });
      return true;
    } catch {
      options.progress?.('KVM does not run a guest on this machine: emulating the processor (slower)');
      return false;
    }
  })();
  return (await kvmWorks) ? 'kvm' : 'tcg';
}

export class Guest implements AsyncDisposable {
  readonly release: string;
  readonly #process: ChildProcess;
  readonly #folder: string;
  readonly #exited: Promise<void>;
  #channel: Socket | undefined;
  #console = '';
  #errors = '';
  #received = '';
  #waiting: { match: (line: string) => string | undefined; done: (line: string) => void; fail: (error: Error) => void } | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  #nextId = 1;

  static async boot(options: GuestOptions = {}): Promise<Guest> {
    const accel = await chooseAccel(options);
    return Guest.#boot({ ...options, accel });
  }

  static async #boot(options: GuestOptions & { readonly accel: 'kvm' | 'tcg' }): Promise<Guest> {
    const { command, release } = await qemuCommand(options);
    const folder = mkdtempSync(join(tmpdir(), 'emudev-guest-'));
    const agent = join(folder, 'agent');
    const [program, ...args] = [...(options.startedBy ?? []), ...command];
    const child = spawn(program!, [
      ...args, '-append', `${KERNEL_ARGS} ${options.kernelArgs ?? ''}`,
      '-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console',
      '-chardev', `socket,id=agent,path=${agent},server=on,wait=off`, '-serial', 'chardev:agent',
    ], { stdio: ['ignore', 'pipe', 'pipe'] });
    const guest = new Guest(child, folder, release);
    try {
      await guest.#start(agent, options.bootTimeoutMs ?? 120_000);
      return guest;
    } catch (error) {
      await guest[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(child: ChildProcess, folder: string, release: string) {
    this.#process = child;
    this.#folder = folder;
    this.release = release;
    child.stdout!.on('data', (data: Buffer) => (this.#console += data.toString('latin1')));
    child.stderr!.on('data', (data: Buffer) => {
      this.#errors += data.toString('latin1');
      // QEMU stops the guest and stays: without this a broken KVM looks like a guest that is slow.
      if (this.#errors.includes('KVM internal error')) child.kill('SIGKILL');
    });
    this.#exited = new Promise((resolve) => {
      child.once('error', (error) => {
        this.#errors += String(error);
        resolve();
      });
      child.once('exit', (code, signal) => {
        this.#errors += `\nQEMU ended (${signal ?? `exit code ${code}`})`;
        this.#waiting?.fail(new GuestError(this.#explain('QEMU ended')));
        resolve();
      });
    });
  }

  /** What the kernel and init printed. */
  get console(): string {
    return this.#console;
  }

  get pid(): number {
    return this.#process.pid!;
  }

  async #start(agent: string, timeoutMs: number): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      if (this.#process.exitCode !== null || this.#process.signalCode !== null || this.#process.pid === undefined) throw new GuestError(this.#explain('QEMU did not start'));
      const socket = connect(agent);
      const connected = await new Promise<boolean>((resolve) => socket.once('connect', () => resolve(true)).once('error', () => resolve(false)));
      if (connected) {
        this.#channel = socket;
        break;
      }
      if (Date.now() > deadline) throw new GuestError(this.#explain('QEMU never opened its serial port'));
      await delay(20);
    }
    this.#channel.on('data', (data: Buffer) => this.#receive(data.toString('latin1')));
    this.#channel.on('error', () => {});
    await this.#wait((line) => (line.startsWith('@@ready') ? line : undefined), deadline - Date.now(), 'the guest did not boot');
  }

  #receive(text: string): void {
    this.#received += text;
    for (;;) {
      const end = this.#received.indexOf('\n');
      if (end === -1) return;
      const line = this.#received.slice(0, end).replace(/\r$/, '');
      this.#received = this.#received.slice(end + 1);
      const found = this.#waiting?.match(line);
      if (found !== undefined) this.#waiting!.done(found);
    }
  }

  #wait(match: (line: string) => string | undefined, timeoutMs: number, what: string): Promise<string> {
    return new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => this.#waiting?.fail(new GuestError(this.#explain(`${what} within ${Math.round(timeoutMs / 1000)} s`))), timeoutMs);
      const settle = (): void => {
        clearTimeout(timer);
        this.#waiting = undefined;
      };
      this.#waiting = {
        match,
        done: (line) => (settle(), resolve(line)),
        fail: (error) => (settle(), reject(error)),
      };
      if (this.#process.exitCode !== null || this.#process.signalCode !== null) this.#waiting.fail(new GuestError(this.#explain('QEMU has ended')));
    });
  }

  #explain(what: string): string {
    const tail = (text: string, lines: number): string => text.trim().split('\n').slice(-lines).join('\n');
    return `${what}\n--- guest console, last lines ---\n${tail(this.#console, 25)}\n--- QEMU ---\n${tail(this.#errors, 8)}`;
  }

  /** Runs a shell script in the guest and returns its output (stdout and stderr). Commands run one after the other. */
  run(script: string, options: { timeoutMs?: number; check?: boolean } = {}): Promise<CommandResult> {
    const job = this.#queue.then(async () => {
      const id = this.#nextId++;
      const timeoutMs = options.timeoutMs ?? 60_000;
      this.#channel!.write(`${id} ${Buffer.from(script).toString('base64')}\n`);
      const line = await this.#wait((l) => (l.startsWith(`@@done ${id} `) ? l : undefined), timeoutMs, `"${script}" did not end`);
      const [, , code, output] = line.split(' ');
      return { code: Number(code), output: Buffer.from(output ?? '', 'base64').toString('utf8') };
    });
    this.#queue = job.catch(() => {});
    return job.then((result) => {
      if ((options.check ?? true) && result.code !== 0) throw new GuestError(this.#explain(`"${script}" ended with ${result.code}:\n${result.output}`));
      return result;
    });
  }

  /** Runs `script` again until its output satisfies `good`; the guest's own pace, not ours, decides how long that takes. */
  async until(script: string, good: (output: string) => boolean, options: { timeoutMs?: number; what?: string } = {}): Promise<string> {
    const deadline = Date.now() + (options.timeoutMs ?? 30_000);
    for (;;) {
      const { output } = await this.run(script, { check: false });
      if (good(output)) return output;
      if (Date.now() > deadline) throw new GuestError(this.#explain(`${options.what ?? `"${script}"`} never came true; last output:\n${output}`));
      await delay(50);
    }
  }

  /** Pulls the plug: SIGKILL, as a crashed VMM would end. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#channel?.destroy();
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
