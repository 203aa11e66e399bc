/** What a program starts with, and what it does not wait for. In a small workspace of its own, with the real turbo. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { build } from '../src/build.ts';
import { driverPackages } from '../src/driver-packages.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'emudev-run-'));
  vi.stubEnv('PATH', `${fileURLToPath(new URL('../../../node_modules/.bin', import.meta.url))}:${process.env['PATH']}`);
  write('package.json', { name: 'w', private: true, devEngines: { packageManager: { name: 'pnpm', version: '^12.0.0', onFail: 'ignore' } } });
  write('pnpm-workspace.yaml', 'packages:\n  - packages/*\n  - apps/*\n');
  write('pnpm-lock.yaml', "lockfileVersion: '9.0'\n");
  write('turbo.json', { tasks: { build: { dependsOn: ['^build'], cache: false } } });
  pack('packages/base', 'base');
  pack('packages/net-one', 'net-one', { driver: 'net_one', needs: ['base'] });
  pack('apps/app', 'app', { needs: ['base', 'net-one'] });
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true });
});

function write(path: string, content: object | string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), typeof content === 'string' ? content : JSON.stringify(content));
}

function pack(folder: string, name: string, { driver, needs = [], build: script = 'true' }: { driver?: string; needs?: readonly string[]; build?: string } = {}): void {
  write(`${folder}/package.json`, {
    name,
    version: '0.0.0',
    scripts: { build: script },
    dependencies: Object.fromEntries(needs.map((need) => [need, 'workspace:*'])),
    ...(driver === undefined ? {} : { emudev: { driver, class: 'port' } }),
  });
}

test('driver packages are those that say so, whoever depends on them', () => {
  pack('packages/new-emu', 'new-emu', { driver: 'emu_new' });
  write('packages/half-written/package.json', '{"name":');
  mkdirSync(join(root, 'packages/empty'));
  expect(driverPackages(root)).toEqual(['net-one', 'new-emu']);
});

test('a driver nobody depends on is built with the program', async () => {
  pack('packages/new-emu', 'new-emu', { driver: 'emu_new', build: 'echo built > out' });
  expect(await build(root, 'app...', { drivers: true })).toMatchObject({ ok: true, broken: [] });
  expect(existsSync(join(root, 'packages/new-emu/out'))).toBe(true);
});

test('drivers that do not build are named, and the program goes on, also where it depends on one', async () => {
  pack('packages/new-emu', 'new-emu', { driver: 'emu_new', build: 'echo oh dear; exit 1' });
  pack('packages/net-one', 'net-one', { driver: 'net_one', needs: ['base'], build: 'exit 1' });
  const { ok, broken, output } = await build(root, 'app...', { drivers: true });
  expect({ ok, broken: broken.toSorted() }).toEqual({ ok: true, broken: ['net-one', 'new-emu'] });
  expect(output).toContain('oh dear');
});

test.each([['base'], ['app']])('without %s there is no program', async (name) => {
  pack(name === 'app' ? 'apps/app' : 'packages/base', name, { build: 'exit 1' });
  expect(await build(root, 'app...', { drivers: true })).toMatchObject({ ok: false });
});

test('a program without --drivers does not wait for drivers it does not name', async () => {
  pack('packages/new-emu', 'new-emu', { driver: 'emu_new', build: 'exit 1' });
  expect(await build(root, 'app...', { drivers: false })).toMatchObject({ ok: true, broken: [] });
  expect(await build(root, 'new-emu...', { drivers: false })).toMatchObject({ ok: false });
});
