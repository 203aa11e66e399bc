/** A network namespace of the test's own: traffic of guests stays in it, and it takes its interfaces along when it goes. */
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { promisify } from 'node:util';

const execute = promisify(execFile);

export class NetworkNamespace implements Disposable {
  readonly name: string;
  readonly #children: ChildProcess[] = [];

  constructor(name: string) {
    this.name = name;
    execFileSync('ip', ['netns', 'add', name]);
    this.sync('ip link set lo up');
  }

  /** Runs a shell command in the namespace. */
  sync(command: string): string {
    return execFileSync('ip', ['netns', 'exec', this.name, 'sh', '-c', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  }

  async run(command: string): Promise<string> {
    return (await execute('ip', ['netns', 'exec', this.name, 'sh', '-c', command], { encoding: 'utf8', maxBuffer: 64 << 20 })).stdout;
  }

  /** Starts a program and resolves when one of its output lines matches. It is killed with the namespace. */
  async background(args: readonly string[], ready: RegExp): Promise<ChildProcess> {
    const child = spawn('ip', ['netns', 'exec', this.name, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#children.push(child);
    let said = '';
    await new Promise<void>((resolve, reject) => {
      const look = (data: Buffer): void => {
        said += data.toString();
        if (ready.test(said)) resolve();
      };
      child.stdout.on('data', look);
      child.stderr.on('data', look);
      child.once('exit', (code) => { reject(new Error(`${args.join(' ')} ended with ${code}:\n${said}`)); });
    });
    return child;
  }

  [Symbol.dispose](): void {
    for (const child of this.#children) child.kill('SIGKILL');
    execFileSync('ip', ['netns', 'delete', this.name]);
  }
}
