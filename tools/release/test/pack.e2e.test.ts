/**
 * Users install single packages from npm. Each one is packed as it would be published and installed, with nothing but the tarballs
 * it names as its own dependencies, into an empty project that imports every one of its entry points.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const root = new URL('../../../', import.meta.url).pathname;

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly private?: boolean;
  readonly license?: string;
  readonly exports?: Record<string, unknown>;
  readonly dependencies?: Record<string, string>;
}

const manifestOf = (folder: string): Manifest => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
const folders = ['packages', 'apps'].flatMap((group) => readdirSync(join(root, group)).map((name) => join(root, group, name)));
const byName = new Map(folders.map((folder) => [manifestOf(folder).name, folder]));
const published = [...byName.entries()].filter(([, folder]) => manifestOf(folder).private !== true);

let work: string;
const unpacked = new Map<string, string>();

beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'emudev-pack-'));
  for (const [name, folder] of published) {
    const target = join(work, 'packed', name.replace('/', '_'));
    mkdirSync(target, { recursive: true });
    execFileSync('pnpm', ['pack', '--pack-destination', target], { cwd: folder, stdio: 'pipe' });
    const tarball = readdirSync(target)[0]!;
    execFileSync('tar', ['-xzf', join(target, tarball), '-C', target]);
    unpacked.set(name, join(target, 'package'));
  }
});

afterAll(() => {
  rmSync(work, { recursive: true, force: true });
});

/** The package and what its published manifest names, nothing else: an undeclared dependency is not found. */
function install(name: string, modules: string, done = new Set<string>()): void {
  if (done.has(name)) return;
  done.add(name);
  const source = unpacked.get(name);
  if (source === undefined) {
    // Somebody else's package: as this workspace has it.
    return;
  }
  cpSync(source, join(modules, name), { recursive: true });
  for (const dependency of Object.keys(manifestOf(source).dependencies ?? {})) {
    if (unpacked.has(dependency)) install(dependency, modules, done);
    else {
      const from = join(byName.get(name)!, 'node_modules', dependency);
      mkdirSync(join(modules, dependency, '..'), { recursive: true });
      execFileSync('ln', ['-sfn', execFileSync('readlink', ['-f', from], { encoding: 'utf8' }).trim(), join(modules, dependency)]);
    }
  }
}

test.each(published)('%s packs, and its entry points import in an empty project', (name) => {
  const project = mkdtempSync(join(work, 'project-'));
  const modules = join(project, 'node_modules');
  mkdirSync(modules);
  install(name, modules);
  const packed = manifestOf(unpacked.get(name)!);
  expect(packed.license).toBe('Apache-2.0');
  expect(readdirSync(unpacked.get(name)!)).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'dist', 'package.json']));
  expect(Object.values(packed.dependencies ?? {}).filter((v) => v.startsWith('workspace:'))).toEqual([]);
  const entries = Object.keys(packed.exports ?? {}).filter((e) => e !== './package.json').map((e) => name + e.slice(1));
  writeFileSync(join(project, 'package.json'), '{"type":"module"}');
  writeFileSync(join(project, 'main.js'), entries.map((e, i) => `import * as m${i} from '${e}';\nconsole.log(Object.keys(m${i}).length);`).join('\n'));
  const output = execFileSync(process.execPath, ['main.js'], { cwd: project, encoding: 'utf8' });
  // The main entry exports something: an empty module would import as well.
  expect(Number(output.split('\n')[0])).toBeGreaterThan(0);
});
