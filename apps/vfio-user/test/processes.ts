/** Real processes for tests: servers of this repository, and the tool. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const APPS = new URL('../../', import.meta.url);
const TOOL = fileURLToPath(new URL('vfio-user/dist/cli.js', APPS));

export interface Result {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts one of the apps and resolves when it has said `ready` on stdout. */
export async function startServer(app: 'example-devices' | 'iavf-device', args: readonly string[], cwd: string, ready: RegExp): Promise<AsyncDisposable> {
  const child = spawn(process.execPath, [fileURLToPath(new URL(`${app}/dist/cli.js`, APPS)), ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let [said, complained] = ['', ''];
  child.stderr.on('data', (data: Buffer) => { complained += data.toString(); });
  const ended = once(child, 'close');
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (data: Buffer) => {
      said += data.toString();
      if (ready.test(said)) resolve();
    });
    child.once('close', () => { reject(new Error(`${app} ended: ${complained}`)); });
  });
  return {
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** Runs the tool to its end. `onStderr` sees each piece, and may end it. */
export async function tool(args: readonly string[], cwd: string, onStderr: (text: string, kill: (signal: NodeJS.Signals) => void) => void = () => {}): Promise<Result> {
  const child = spawn(process.execPath, [TOOL, ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (data: Buffer) => { stdout += data.toString(); });
  child.stderr.on('data', (data: Buffer) => {
    stderr += data.toString();
    onStderr(stderr, (signal) => { child.kill(signal); });
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code, signal, stdout, stderr };
}

/** Runs a line of shell in which `vfio-user` is the tool. */
export async function shell(line: string, cwd: string): Promise<Result> {
  const child = spawn('bash', ['-c', `set -o pipefail; vfio-user() { '${process.execPath}' '${TOOL}' "$@"; }; ${line}`], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (data: Buffer) => { stdout += data.toString(); });
  child.stderr.on('data', (data: Buffer) => { stderr += data.toString(); });
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code, signal, stdout, stderr };
}
