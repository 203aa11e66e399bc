/** Child processes of a benchmark: pinned to a processor where that is possible, and surely gone at the end. */
import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** Whether `program` is on the PATH. */
export function present(program: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
}

export const canPin: boolean = present('taskset') && cpus().length >= 2;

/** User and system time so far, in milliseconds (fields 14 and 15 of /proc/PID/stat, in ticks of 10 ms). */
export function cpuMs(pid: number): number {
  const afterName = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ');
  return (Number(afterName[11]) + Number(afterName[12])) * 10;
}

/** What its threads that live have run so far, in milliseconds, to the nanosecond where they have just slept (/proc/PID/task/TID/schedstat). */
export function runMs(pid: number): number {
  const folder = `/proc/${pid}/task`;
  return readdirSync(folder).reduce((ms, task) => ms + Number(readFileSync(`${folder}/${task}/schedstat`, 'utf8').split(' ')[0]) / 1e6, 0);
}

const EXIT_PATIENCE_MS = 5000;

/** Everything that has to go when the tool ends, however it ends. */
const children = new Set<Child>();
const folders = new Set<string>();
let ending = false;

/** Whether the tool has been told to end: nothing new begins. */
export function isEnding(): boolean {
  return ending;
}

/** Asks all children to go; their runs fail, and whoever awaits them cleans up. Nothing can be started any more. */
export function endAll(): void {
  ending = true;
  for (const { process: child } of children) child.kill('SIGTERM');
}

process.on('exit', () => {
  for (const { process: child } of children) child.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A folder for sockets and the like, gone when it is disposed of or the tool ends. */
export class TemporaryFolder implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), 'emudev-bench-'));

  constructor() {
    folders.add(this.path);
  }

  file(name: string): string {
    return join(this.path, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
    folders.delete(this.path);
  }
}

export class Child implements AsyncDisposable {
  readonly process: ChildProcessWithoutNullStreams;
  readonly #what: string;
  readonly #waiting: { readonly isIt: (line: string) => boolean; resolve(line: string): void; reject(error: Error): void }[] = [];
  readonly #unclaimed: string[] = [];
  readonly #exited: Promise<unknown>;
  #last = '';
  #hasEnded = false;

  /** `cpu`: where to run it, if processes can be pinned here. */
  constructor(what: string, command: readonly string[], cpu?: number) {
    this.#what = what;
    if (ending) throw new Error('the benchmarks are ending');
    const argv = cpu === undefined || !canPin ? command : ['taskset', '-c', String(cpu), ...command];
    this.process = spawn(argv[0]!, argv.slice(1), { stdio: 'pipe' });
    this.process.on('error', ({ message }) => {
      this.#last = message;
    });
    children.add(this);
    // Not `once` of node:events, which rejects where the program cannot be started.
    this.#exited = new Promise((resolve) => this.process.once('close', resolve));
    this.process.stdin.on('error', () => undefined);
    for (const stream of [this.process.stdout, this.process.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        this.#line(line);
      });
    }
    void this.#exited.then(() => {
      children.delete(this);
      this.#hasEnded = true;
      for (const { reject } of this.#waiting.splice(0)) reject(this.#end());
    });
  }

  #end(): Error {
    return new Error(`${this.#what} has ended: ${this.#last || 'without a word'}`);
  }

  #line(line: string): void {
    if (line.trim() !== '') this.#last = line;
    const at = this.#waiting.findIndex(({ isIt }) => isIt(line));
    if (at >= 0) this.#waiting.splice(at, 1)[0]!.resolve(line);
    else this.#unclaimed.push(line);
  }

  /** The next line of its output (or one nobody has asked for yet) that is as wanted. */
  async line(isIt: (line: string) => boolean, timeoutMs: number): Promise<string> {
    const at = this.#unclaimed.findIndex(isIt);
    if (at >= 0) return this.#unclaimed.splice(0, at + 1)[at]!;
    this.#unclaimed.length = 0;
    if (this.#hasEnded) throw this.#end();
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<string>((resolve, reject) => {
        const waiting = { isIt, resolve, reject };
        timer = setTimeout(() => {
          this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
          reject(new Error(`${this.#what} said nothing of the kind for ${timeoutMs} ms; last: ${this.#last}`));
        }, timeoutMs);
        this.#waiting.push(waiting);
      });
    } finally {
      clearTimeout(timer);
    }
  }

  say(text: string): void {
    this.process.stdin.write(`${text}\n`);
  }

  /** Asks by SIGTERM, insists by SIGKILL. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill('SIGTERM');
    const timer = setTimeout(() => this.process.kill('SIGKILL'), EXIT_PATIENCE_MS);
    await this.#exited;
    clearTimeout(timer);
  }
}
