/**
 * Finds drivers nobody listed: packages whose package.json says `"emudev": { "driver": …, "class": … }`. Looked at are, from each
 * given folder upwards, `node_modules/*` and `node_modules/@scope/*`, and the `packages/*` and `apps/*` of a pnpm workspace root, so
 * that a driver just written is found although nothing depends on it yet. Only manifests are read; a driver's module is imported when
 * it is first asked for.
 */
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { EmudevError } from './errors.ts';
import { suggestion } from './nearest.ts';
import { VDEV_CLASSES, type VdevClass } from './vdev.ts';
import type { AnyVdevDriver } from './driver-table.ts';

/** A driver package as its package.json describes it. */
export interface DiscoveredDriver {
  readonly driver: string;
  /** `"aliases": [...]` beside `"driver"`. */
  readonly aliases?: readonly string[];
  readonly class: VdevClass;
  readonly packageName: string;
  readonly folder: string;
  /** URL of the main module. */
  readonly module: string;
}

/** The drivers there are, none of them imported yet. */
export interface DriverCatalog {
  /** By driver name. */
  list(): readonly DiscoveredDriver[];
  /** Imports a driver. EMUDEV_NODRIVER: none of that name, its module cannot be imported, or has no fitting `driver` export. */
  load(driver: string): Promise<AnyVdevDriver>;
  /** Looks again: a package may have been installed since. */
  refresh?(): void;
}

/** Nearest folder first, as Node resolves packages: of two packages with one driver name the nearer is taken. */
export function discoverDrivers(fromDirs: readonly string[]): DriverCatalog {
  let drivers = look(fromDirs);
  return {
    list: () => drivers,
    load: (name) => load(name, drivers),
    refresh: () => { drivers = look(fromDirs); },
  };
}

function look(fromDirs: readonly string[]): readonly DiscoveredDriver[] {
  const found = new Map<string, DiscoveredDriver>();
  const seen = new Set<string>();
  for (const from of fromDirs) {
    for (const root of ancestors(resolve(from))) {
      if (seen.has(root)) continue;
      seen.add(root);
      for (const folder of candidateFolders(root)) {
        const entry = readManifest(folder);
        if (entry !== undefined && !found.has(entry.driver)) found.set(entry.driver, entry);
      }
    }
  }
  return [...found.values()].sort((a, b) => (a.driver < b.driver ? -1 : 1));
}

/** What to install for a driver or device name: `net_foo0` → `@emudev/net-foo`, `emu_foo` → `@emudev/foo-emu`. */
export function packageToInstall(name: string): string {
  const stem = name.replace(/\d+$/, '').replaceAll('_', '-');
  if (!/^[a-z][a-z\d-]*$/.test(stem)) return 'the package that has the driver (npm install)';
  return `the package @emudev/${stem.startsWith('emu-') ? `${stem.slice(4)}-emu` : stem} (npm install), or whichever has the driver`;
}

async function load(name: string, all: readonly DiscoveredDriver[]): Promise<AnyVdevDriver> {
  const entry = all.find((one) => one.driver === name);
  if (entry === undefined) {
    const names = all.map((other) => other.driver);
    throw new EmudevError('EMUDEV_NODRIVER', `no driver ${name}: install ${packageToInstall(name)}${suggestion(name, names)}`);
  }
  let module: { driver?: unknown };
  try {
    module = (await import(entry.module)) as { driver?: unknown };
  } catch (cause) {
    throw new EmudevError('EMUDEV_NODRIVER', `driver ${name}: ${entry.packageName} cannot be imported from ${entry.module} (is it built?): ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  const driver = module.driver;
  if (!isDriver(driver) || driver.name !== entry.driver || driver.class !== entry.class) {
    throw new EmudevError('EMUDEV_NODRIVER', `driver ${name}: ${entry.packageName} has no \`driver\` export with name '${entry.driver}' and class '${entry.class}' as its package.json promises`);
  }
  return driver;
}

function isDriver(value: unknown): value is AnyVdevDriver {
  if (typeof value !== 'object' || value === null) return false;
  const driver = value as Partial<Record<keyof AnyVdevDriver, unknown>>;
  return typeof driver.name === 'string' && typeof driver.summary === 'string' && typeof driver.args === 'object' && driver.args !== null && typeof driver.probe === 'function';
}

function* ancestors(folder: string): Generator<string> {
  for (let here = folder; ; here = dirname(here)) {
    yield here;
    if (dirname(here) === here) return;
  }
}

function candidateFolders(root: string): string[] {
  const modules = join(root, 'node_modules');
  const top = subfolders(modules);
  const scoped = top.filter((name) => name.startsWith('@')).flatMap((scope) => subfolders(join(modules, scope)).map((name) => join(modules, scope, name)));
  const plain = top.filter((name) => !name.startsWith('@')).map((name) => join(modules, name));
  const workspace = existsSync(join(root, 'pnpm-workspace.yaml'))
    ? ['packages', 'apps'].flatMap((group) => subfolders(join(root, group)).map((name) => join(root, group, name)))
    : [];
  return [...scoped, ...plain, ...workspace];
}

/** Names in a folder, hidden ones left out; none where it is absent or unreadable. */
function subfolders(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => !name.startsWith('.')).sort();
  } catch {
    return [];
  }
}

interface Manifest {
  readonly name?: unknown;
  readonly main?: unknown;
  readonly exports?: unknown;
  readonly emudev?: { readonly driver?: unknown; readonly class?: unknown; readonly aliases?: unknown } | null;
}

/** undefined for whatever is no driver package: other people's manifests are not ours to complain about. */
function readManifest(folder: string): DiscoveredDriver | undefined {
  let manifest: Manifest | null;
  try {
    manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest | null;
  } catch {
    return undefined;
  }
  const driver = manifest?.emudev?.driver;
  const driverClass = manifest?.emudev?.class;
  if (typeof driver !== 'string' || driver === '' || !isClass(driverClass)) return undefined;
  const aliases = manifest?.emudev?.aliases;
  const real = realpathSync(folder);
  const main = mainEntry(manifest?.exports) ?? (typeof manifest?.main === 'string' ? manifest.main : './index.js');
  return {
    driver,
    ...(Array.isArray(aliases) ? { aliases: aliases.filter((alias) => typeof alias === 'string' && alias !== '') as string[] } : {}),
    class: driverClass,
    packageName: typeof manifest?.name === 'string' ? manifest.name : real,
    folder: real,
    module: pathToFileURL(join(real, main)).href,
  };
}

function isClass(value: unknown): value is VdevClass {
  return (VDEV_CLASSES as readonly unknown[]).includes(value);
}

/** The '.' entry of `exports` under the conditions node, import and default. */
function mainEntry(exports: unknown): string | undefined {
  if (typeof exports === 'string') return exports;
  if (typeof exports !== 'object' || exports === null) return undefined;
  const map = exports as Record<string, unknown>;
  for (const key of ['.', 'node', 'import', 'default']) {
    const entry = Object.hasOwn(map, key) ? mainEntry(map[key]) : undefined;
    if (entry !== undefined) return entry;
  }
  return undefined;
}
