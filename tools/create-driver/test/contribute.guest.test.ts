/** docs/contribute-a-driver.md, followed literally in a copy of the repository: every command, every change, to the guest at the end. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const PAGE = readFileSync(join(ROOT, 'docs/contribute-a-driver.md'), 'utf8');
const PATIENCE_MS = 280_000;

let copy: string;

const listed = (folder: string): string[] => execFileSync('git', ['ls-files', '-co', '--exclude-standard', '-z'], { cwd: folder, encoding: 'utf8', maxBuffer: 1 << 26 }).split('\0').filter((file) => file !== '');

beforeAll(() => {
  copy = mkdtempSync(join(tmpdir(), 'contribute-'));
  for (const file of listed(ROOT)) {
    mkdirSync(dirname(join(copy, file)), { recursive: true });
    // A file that was deleted and not committed is still listed.
    try {
      cpSync(join(ROOT, file), join(copy, file));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  run('git init -q && git add -A && git -c user.name=test -c user.email=test@example.org commit -qm start');
});
afterAll(() => { rmSync(copy, { recursive: true, force: true }); });

/** A shell as a user has it: without what pnpm has told the scripts of this workspace. What has been built before need not be built again. */
const environment = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm|pnpm)_|^(INIT_CWD|NODE_PATH|NODE|VITEST.*)$/i.test(name))),
  PATH: process.env['PATH']!.split(':').filter((folder) => !folder.includes('node_modules')).join(':'),
  TURBO_CACHE_DIR: join(ROOT, '.turbo/cache'),
};

function run(script: string): string {
  const { status, stdout, stderr } = spawnSync('bash', ['-euo', 'pipefail', '-c', script], { stdio: ['ignore', 'pipe', 'pipe'], cwd: copy, encoding: 'utf8', timeout: PATIENCE_MS, env: environment });
  expect(status, `${script}\n${stdout}\n${stderr}`).toBe(0);
  return stdout;
}

/** A change as the page shows it: hunks without line numbers. Every one has exactly one place. */
function apply(diff: string): void {
  const [head, ...hunks] = diff.split(/^@@\n/m);
  const file = join(copy, /^\+\+\+ b\/(.*)$/m.exec(head!)![1]!);
  let text = readFileSync(file, 'utf8');
  for (const hunk of hunks) {
    const lines = hunk.replace(/\n$/, '').split('\n');
    const side = (without: string): string => lines.filter((line) => line[0] !== without).map((line) => `${line.slice(1)}\n`).join('');
    expect(text.split(side('+')), hunk).toHaveLength(2);
    text = text.replace(side('+'), () => side('-'));
  }
  writeFileSync(file, text);
}

const steps = [...PAGE.matchAll(/```(sh|diff)\n([\s\S]*?)```/g)].map(([, kind, text]) => ({ kind: kind!, text: text! }));

/** A step that has failed: those behind it would only wait for what never comes. */
let failed: string | undefined;

for (const [i, { kind, text }] of steps.entries()) {
  test(`step ${i + 1} of ${steps.length}: ${kind === 'sh' ? text.split('\n')[0] : 'a change'}`, () => {
    if (failed !== undefined) throw new Error(failed);
    failed = `step ${i + 1} has failed`;
    if (kind === 'diff') {
      apply(text);
      failed = undefined;
      return;
    }
    const output = run(text);
    if (text.includes('vfio-user read')) expect(output).toContain('0x656d7564');
    if (text.includes('--project guest')) expect(output).toMatch(/1 passed/);
    failed = undefined;
  });
}

test('nothing that was there has changed, but for the lock file', () => {
  expect(run('git status --porcelain').split('\n').filter((line) => line !== '' && !line.startsWith('??'))).toEqual([' M pnpm-lock.yaml']);
});

test('in the end the page has made a driver, a port, and what it says about resets is true', () => {
  const device = join(copy, 'packages/blinker-emu/src/device.ts');
  const text = readFileSync(device, 'utf8');
  expect(text).toContain('    this.#count = 0;\n');
  writeFileSync(device, text.replace('    this.#count = 0;\n', ''));
  const { status, stdout } = spawnSync('npx', ['pnpm', 'exec', 'vitest', 'run', '--project', 'unit', 'packages/blinker-emu/test/conformance.test.ts'], { cwd: copy, encoding: 'utf8', timeout: PATIENCE_MS, env: environment });
  expect(status).not.toBe(0);
  expect(stdout).toMatch(/reset/i);
});
