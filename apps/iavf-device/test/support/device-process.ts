/** The iavf-device program as a child process, with what tests want to know about it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class DeviceProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly ended: Promise<Ended>;
  stdout = '';
  stderr = '';

  /** Resolves when the program has said where it listens, rejects with its output when it ends before. */
  static async start(args: readonly string[], options: { readonly netns?: string; readonly stdio?: number[] } = {}): Promise<DeviceProcess> {
    const device = new DeviceProcess(args, options);
    await device.says(/listens on|served on the descriptor/);
    return device;
  }

  /** Runs it to its end: for command lines that cannot be carried out. */
  static async run(args: readonly string[]): Promise<Ended & { readonly stdout: string; readonly stderr: string }> {
    const device = new DeviceProcess(args, {});
    const ended = await device.ended;
    return { ...ended, stdout: device.stdout, stderr: device.stderr };
  }

  private constructor(args: readonly string[], options: { readonly netns?: string; readonly stdio?: number[] }) {
    const command = [process.execPath, CLI, ...args];
    const full = options.netns === undefined ? command : ['ip', 'netns', 'exec', options.netns, ...command];
    this.#child = spawn(full[0]!, full.slice(1), { stdio: ['ignore', 'pipe', 'pipe', ...(options.stdio ?? [])] });
    this.#child.stdout!.on('data', (data: Buffer) => { this.stdout += data.toString(); });
    this.#child.stderr!.on('data', (data: Buffer) => { this.stderr += data.toString(); });
    this.ended = new Promise((resolve) => this.#child.once('close', (code, signal) => { resolve({ code, signal }); }));
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Waits until standard output (with logs: standard error) contains a match. */
  async says(pattern: RegExp): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const look = (): void => {
        if (pattern.test(this.stdout) || pattern.test(this.stderr)) resolve();
      };
      this.#child.stdout!.on('data', look);
      this.#child.stderr!.on('data', look);
      void this.ended.then(({ code }) => { reject(new Error(`iavf-device ended with ${code} before it said ${String(pattern)}:\n${this.stdout}${this.stderr}`)); });
      look();
    });
  }

  descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** What it is doing and what it said last: for the message of a test that waits for it in vain. */
  state(): string {
    const tasks = `/proc/${this.pid}/task`;
    const threads = readdirSync(tasks).map((id) => {
      const word = (file: string): string => readFileSync(`${tasks}/${id}/${file}`, 'utf8').trim();
      const [, state, ...rest] = /^\d+ \(.*\) (\S) (.*)$/.exec(word('stat'))!;
      const times = rest[0]!.split(' ');
      return `${word('comm')} ${state} ${word('wchan')} ${times[10]}+${times[11]}`;
    });
    return `${this.descriptors()} descriptors; threads (state, waits in, user + system ticks): ${threads.join(', ')}; it said: ${(this.stdout + this.stderr).slice(-1500)}`;
  }

  mappings(): number {
    return readFileSync(`/proc/${this.pid}/maps`, 'utf8').split('\n').length;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    this.#child.kill(signal);
    return this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.stop('SIGKILL');
  }
}
