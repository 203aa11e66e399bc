/**
 * `node tools/run/src/run.ts FILTER PROGRAM ARGS…`: builds the packages that FILTER names (a no-op when nothing changed), then runs
 * PROGRAM with the terminal to itself. The build is silent unless it takes long or fails: what people see is the program.
 */
import { spawn } from 'node:child_process';

const [filter, program, ...rest] = process.argv.slice(2);
// npm's habit (`npm run start -- --seconds 5`): pnpm passes the dashes on, and they mean nothing to anybody here.
const args = rest[0] === '--' ? rest.slice(1) : rest;
if (filter === undefined || program === undefined) {
  console.error('usage: run FILTER PROGRAM ARGS…');
  process.exit(2);
}

const BUILD_IS_SLOW_MS = 2000;

function build(): Promise<{ code: number; output: string }> {
  const child = spawn('turbo', ['run', 'build', `--filter=${filter}`, '--output-logs=errors-only'], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, TURBO_TELEMETRY_DISABLED: '1' } });
  let output = '';
  const collect = (data: Buffer): void => { output += data.toString(); };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  return new Promise((resolve) => {
    child.once('error', (error) => { resolve({ code: 1, output: String(error) }); });
    child.once('close', (code) => { resolve({ code: code ?? 1, output }); });
  });
}

const notice = setTimeout(() => { process.stderr.write('building (about a minute the first time) …\n'); }, BUILD_IS_SLOW_MS);
const { code, output } = await build();
clearTimeout(notice);
if (code !== 0) {
  process.stderr.write(output);
  process.exit(code);
}
const child = spawn(process.execPath, [program, ...args], { stdio: 'inherit' });
// Ctrl-C reaches the program by itself (same process group); it decides when to end, and we end with it.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.once('close', (exitCode, signal) => { process.exit(exitCode ?? (signal === null ? 1 : 128)); });
