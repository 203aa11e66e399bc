/**
 * `node tools/run/src/run.ts [--drivers] FILTER PROGRAM ARGS…`: builds the packages that FILTER names, with --drivers every driver
 * package of the workspace, too (a no-op when nothing changed), then runs PROGRAM with the terminal to itself. The build is silent
 * unless it takes long or fails: what people see is the program.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { build } from './build.ts';

const given = process.argv.slice(2);
const drivers = given[0] === '--drivers';
const [filter, program, ...rest] = drivers ? given.slice(1) : given;
// npm's habit (`npm run start -- --seconds 5`): pnpm passes the dashes on, and they mean nothing to anybody here.
const args = rest[0] === '--' ? rest.slice(1) : rest;
if (filter === undefined || program === undefined) {
  console.error('usage: run [--drivers] FILTER PROGRAM ARGS…');
  process.exit(2);
}

const BUILD_IS_SLOW_MS = 2000;

const notice = setTimeout(() => { process.stderr.write('building (about a minute the first time) …\n'); }, BUILD_IS_SLOW_MS);
const { ok, broken, output } = await build(fileURLToPath(new URL('../../..', import.meta.url)), filter, { drivers });
clearTimeout(notice);
if (!ok) {
  process.stderr.write(output);
  process.exit(1);
}
if (broken.length > 0) process.stderr.write(`${output}\nwarning: without ${broken.join(', ')}, which cannot be built (see above)\n`);
const child = spawn(process.execPath, [program, ...args], { stdio: 'inherit' });
// Ctrl-C reaches the program by itself (same process group); it decides when to end, and we end with it.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.once('close', (exitCode, signal) => { process.exit(exitCode ?? (signal === null ? 1 : 128)); });
