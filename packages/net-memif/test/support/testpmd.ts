/**
 * DPDK's testpmd with one memif port that sends back what it receives. Without huge pages (few machines have them set up), hence
 * `--no-huge` and a file prefix of its own; the default number of mbufs does not fit then.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const PROGRAM = 'dpdk-testpmd';
const START_MS = 30_000;
let count = 0;

/** Whether the tests against it can run; says so loudly if not. In CI they run whatever: there it has to be installed. */
export function testpmdIsThere(): boolean {
  if (process.env['CI'] !== undefined || spawnSync('which', [PROGRAM]).status === 0) return true;
  console.warn(`\n${'!'.repeat(100)}\n  The tests against DPDK are NOT run: ${PROGRAM} is not on the PATH (Debian: apt-get install dpdk-dev).\n${'!'.repeat(100)}\n`);
  return false;
}

export class Testpmd implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  #looked = 0;
  #woken: (() => void) | undefined;

  private constructor(vdev: string) {
    const prefix = `emudev-memif-${process.pid}-${++count}`;
    // stdbuf: into a pipe it would say everything at its end.
    this.#child = spawn('stdbuf', [
      '-oL', PROGRAM, '--lcores', '0@0,1@0', '--file-prefix', prefix, '--no-pci', '--no-huge', '-m', '256', '--no-telemetry', '--log-level', 'pmd.net.memif:info', '--vdev', vdev,
      '--', '-i', '--no-mlockall', '--total-num-mbufs=8192', '--forward-mode=io', '--no-flush-rx',
    ], { stdio: ['pipe', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      let rest = '';
      stream.setEncoding('utf8').on('data', (text: string) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop()!;
        this.#lines.push(...lines);
        this.#woken?.();
      });
    }
    this.#child.once('exit', () => { this.#woken?.(); });
  }

  /** Resolves when it forwards. */
  static async start(vdev: string): Promise<Testpmd> {
    const testpmd = new Testpmd(vdev);
    // The prompt has no newline of its own; this answer has.
    testpmd.say('show config fwd');
    await testpmd.line(/packet forwarding - ports=/);
    await testpmd.forward();
    return testpmd;
  }

  async forward(): Promise<void> {
    this.say('start');
    await this.line(/packet forwarding - ports=/);
  }

  async stop(): Promise<void> {
    this.say('stop');
    await this.line(/^Done\./);
  }

  say(command: string): void {
    this.#child.stdin!.write(`${command}\n`);
  }

  /** The next line that matches, of those not looked at yet. */
  line(pattern: RegExp): Promise<string> {
    return this.#find(pattern, this.#looked);
  }

  /** Whether it has ever said so, or does. */
  ever(pattern: RegExp): Promise<string> {
    return this.#find(pattern, 0);
  }

  async #find(pattern: RegExp, from: number): Promise<string> {
    const deadline = performance.now() + START_MS;
    for (let at = from; ;) {
      for (; at < this.#lines.length; at++) {
        if (!pattern.test(this.#lines[at]!)) continue;
        this.#looked = Math.max(this.#looked, at + 1);
        return this.#lines[at]!;
      }
      if (this.#child.exitCode !== null || this.#child.signalCode !== null || performance.now() > deadline) throw new Error(`testpmd did not say ${String(pattern)}:\n${this.#lines.slice(-30).join('\n')}`);
      const { promise, resolve } = Promise.withResolvers<undefined>();
      this.#woken = () => { resolve(undefined); };
      await Promise.race([promise, sleep(1000)]);
    }
  }

  /** SIGKILL, as kill -9. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

export async function fileThere(path: string): Promise<void> {
  const deadline = performance.now() + START_MS;
  while (!existsSync(path)) {
    if (performance.now() > deadline) throw new Error(`${path} did not appear`);
    await sleep(20);
  }
}
