/** The switch's kernels against a C twin of the same checks, on the same bursts: one thread each, nothing else around them. */
import { execFile, execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { missingPeer } from '../peers.ts';
import { TemporaryFolder, canPin } from '../processes.ts';
import type { Table } from '../table.ts';

const KERNELS = fileURLToPath(new URL('../switch-bursts.ts', import.meta.url));
const TWIN_SOURCE = fileURLToPath(new URL('../../c/switch.c', import.meta.url));
const PATIENCE_MS = 60_000;

interface Answer {
  readonly framesPerSecond: number;
  /** Of what went where: the same for both, or they do not do the same. */
  readonly sum: number;
}

async function measured(command: readonly string[], windowMs: number): Promise<Answer> {
  const [program = '', ...args] = [...(canPin ? ['taskset', '-c', '0'] : []), ...command, String(windowMs)];
  const { stdout } = await promisify(execFile)(program, args, { timeout: windowMs + PATIENCE_MS });
  return JSON.parse(stdout) as Answer;
}

const table: Table = {
  what: 'the learning switch without its ports: frames classified, learned from and gathered by port, 64 stations on each of 4 ports, every frame to another one; million frames per second of processor time',
  figures: [{ name: 'mpps', unit: 'Mpps', better: 'more' }],
  contenders(_effort, undo) {
    const folder = undo.use(new TemporaryFolder());
    const twin = folder.file('switch-c');
    const missing = missingPeer('gcc');
    if (missing === undefined) execFileSync('gcc', ['-O3', '-march=native', '-o', twin, TWIN_SOURCE]);
    let expected: number | undefined;
    const run = async (command: readonly string[], windowMs: number): Promise<{ mpps: number }> => {
      const { framesPerSecond, sum } = await measured(command, windowMs);
      expected ??= sum;
      if (sum !== expected) throw new Error(`its frames go elsewhere: sum ${sum}, the other's ${expected}`);
      return { mpps: framesPerSecond / 1e6 };
    };
    return [
      { who: 'kernels', against: [{ who: 'C twin', goal: 0.9 }], run: ({ windowMs }) => run([process.execPath, KERNELS], windowMs) },
      { who: 'C twin', missing, run: ({ windowMs }) => run([twin], windowMs) },
    ];
  },
};
export default table;
