/** A network namespace of a table's own, with everything in it gone when the table, or the tool, ends. */
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';
import { present } from './processes.ts';

const execute = promisify(execFile);
const MAX_OUTPUT_BYTES = 64 << 20;

/** For a contender's `missing`: why there can be none; undefined if there can. */
export function missingNamespace(): string | undefined {
  if (!present('ip')) return 'ip is not on the PATH (Debian: apt-get install iproute2)';
  return spawnSync('unshare', ['-n', 'test', '-c', '/dev/net/tun']).status === 0 ? undefined : 'network namespaces and TAPs need root and /dev/net/tun';
}

const all = new Set<NetworkNamespace>();
process.on('exit', () => {
  for (const namespace of all) namespace[Symbol.dispose]();
});

export class NetworkNamespace implements Disposable {
  readonly name: string;
  /** What a command in it begins with. */
  readonly prefix: readonly string[];

  constructor(purpose: string) {
    this.name = `emudev-${purpose}-${String(process.pid)}`;
    this.prefix = ['ip', 'netns', 'exec', this.name];
    execFileSync('ip', ['netns', 'add', this.name]);
    all.add(this);
    this.sync('ip link set lo up');
  }

  /** Runs a shell command in it. */
  sync(command: string): string {
    return execFileSync('ip', ['netns', 'exec', this.name, 'sh', '-c', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  }

  async run(command: string): Promise<string> {
    return (await execute('ip', ['netns', 'exec', this.name, 'sh', '-c', command], { encoding: 'utf8', maxBuffer: MAX_OUTPUT_BYTES })).stdout;
  }

  [Symbol.dispose](): void {
    if (!all.delete(this)) return;
    // Whoever is still in there would keep its interfaces.
    for (const pid of spawnSync('ip', ['netns', 'pids', this.name], { encoding: 'utf8' }).stdout.split('\n')) {
      if (pid !== '') spawnSync('kill', ['-9', pid]);
    }
    spawnSync('ip', ['netns', 'delete', this.name]);
  }
}
