import { spawn } from 'node:child_process';
import { driverPackages } from './driver-packages.ts';

export interface BuildResult {
  /** What a program could not start without has been built. */
  readonly ok: boolean;
  /** Driver packages that could not be built: the program starts without them. */
  readonly broken: readonly string[];
  readonly output: string;
}

/**
 * Builds what `filter` (turbo's) names; with `drivers` every driver package of the workspace as well. These are loaded by name, so one
 * that does not build is missed only by those who name it.
 */
export async function build(root: string, filter: string, options: { readonly drivers: boolean }): Promise<BuildResult> {
  if (!options.drivers) {
    const { code, output } = await turbo(root, [filter]);
    return { ok: code === 0, broken: [], output };
  }
  const drivers = driverPackages(root);
  // Past failures, also of dependencies: a program that loads a driver by name is built as well without it.
  const { code, output } = await turbo(root, [filter, ...drivers.map((name) => `${name}...`)], '--continue=always');
  if (code === 0) return { ok: true, broken: [], output };
  const failed = [...new Set([...output.matchAll(/^\s*Failed:\s+(.+)$/gm)].flatMap(([, tasks]) => tasks!.split(',').map((task) => task.trim().replace(/#build$/, ''))))];
  return { ok: failed.length > 0 && failed.every((name) => drivers.includes(name)), broken: failed, output };
}

function turbo(root: string, filters: readonly string[], ...options: readonly string[]): Promise<{ code: number; output: string }> {
  const child = spawn('turbo', ['run', 'build', ...filters.map((filter) => `--filter=${filter}`), '--output-logs=errors-only', ...options], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, TURBO_TELEMETRY_DISABLED: '1', NO_COLOR: '1' } });
  let output = '';
  const collect = (data: Buffer): void => { output += data.toString(); };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  return new Promise((resolve) => {
    child.once('error', (error) => { resolve({ code: 1, output: String(error) }); });
    child.once('close', (code) => { resolve({ code: code ?? 1, output }); });
  });
}
