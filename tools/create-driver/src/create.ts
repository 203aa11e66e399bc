/** A new driver as files: templates with names filled in. Writes only new files. */
import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crc32 } from 'node:zlib';

export const KINDS = ['emudev', 'port'] as const;
export type Kind = (typeof KINDS)[number];

/** What is asked for cannot be made: one line that says why, and what can. */
export class CreateError extends Error {
  readonly code = 'ERR_CREATE_DRIVER';
  override readonly name = 'CreateError';
}

export interface DriverNames {
  /** 'blinker' */
  readonly name: string;
  readonly kind: Kind;
  /** Below packages/: 'blinker-emu', 'net-blinker'. */
  readonly folder: string;
  readonly packageName: string;
  /** 'emu_blinker', 'net_blinker': what device names on command lines begin with. */
  readonly driver: string;
}

const MAX_NAME = 40;

/** @throws CreateError for a name that no driver can have. */
export function driverNames(name: string, kind: Kind): DriverNames {
  if (!/^[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*$/.test(name) || name.length > MAX_NAME) {
    throw new CreateError(`a name is lower-case words joined by '-', at most ${MAX_NAME} characters, as in "blinker" or "crypto-card"; not '${name}'`);
  }
  if (/\d$/.test(name)) throw new CreateError(`'${name}' ends with a digit: devices of a driver are numbered (emu_card0, emu_card1), so a driver cannot be`);
  const inner = name.replace(/^(emu|net)-|-emu$/g, '');
  if (inner !== name) throw new CreateError(`leave '${name}' without its prefix or suffix: --kind says which kind of driver it is (try "${inner}")`);
  const folder = kind === 'emudev' ? `${name}-emu` : `net-${name}`;
  return { name, kind, folder, packageName: `@emudev/${folder}`, driver: `${kind === 'emudev' ? 'emu' : 'net'}_${name.replaceAll('-', '_')}` };
}

/** Under QEMU's vendor id for experiments, and another for each name, so that two new devices in one guest are told apart. */
export function experimentalDeviceId(name: string): number {
  return 0x2000 + (crc32(name) % 0xd000);
}

/** Drivers of the workspace: driver name to package folder. */
function existingDrivers(root: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const folder of readdirSync(join(root, 'packages'))) {
    try {
      const manifest = JSON.parse(readFileSync(join(root, 'packages', folder, 'package.json'), 'utf8')) as { emudev?: { driver?: unknown } };
      if (typeof manifest.emudev?.driver === 'string') found.set(manifest.emudev.driver, folder);
    } catch {
      // A folder without a manifest is no package.
    }
  }
  return found;
}

const TEMPLATES = fileURLToPath(new URL('../templates/', import.meta.url));

/** A name or text with every {{word}} filled in. */
function fill(text: string, words: Readonly<Record<string, string>>): string {
  return text.replaceAll(/\{\{(\w+)\}\}/g, (_, word: string) => {
    const value = words[word];
    if (value === undefined) throw new Error(`a template asks for {{${word}}}`);
    return value;
  });
}

/** A name that a file both imports and declares: what `name` makes is a name of the framework's. */
function clash(text: string): string | undefined {
  const imported = new Set([...text.matchAll(/^import \{([^}]*)\}/gm)].flatMap(([, names]) => names!.match(/\w+/g) ?? []));
  return [...text.matchAll(/^(?:export )?(?:class|interface|const|function) (\w+)/gm)].map(([, declared]) => declared!).find((declared) => imported.has(declared));
}

export interface Created extends DriverNames {
  /** Relative to the workspace. */
  readonly files: readonly string[];
}

/** Writes the package `packages/…` and its changeset. @throws CreateError before anything is written. */
export function createDriver(root: string, name: string, kind: Kind): Created {
  const names = driverNames(name, kind);
  for (const [driver, folder] of existingDrivers(root)) {
    if (driver === names.driver) throw new CreateError(`there is a driver ${driver} already, in packages/${folder}`);
  }
  const target = join(root, 'packages', names.folder);
  const changeset = join(root, '.changeset', `${names.folder}.md`);
  for (const path of [target, changeset]) if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) throw new CreateError(`${relative(root, path)} is there already: choose another name, or remove it`);

  const pascal = name.split('-').map((word) => word[0]!.toUpperCase() + word.slice(1)).join('');
  const id = experimentalDeviceId(name).toString(16);
  const words = {
    name, package: names.packageName, driver: names.driver,
    // "Device" because a device may be called "map" or "error".
    Class: kind === 'emudev' ? `${pascal}Device` : pascal,
    CONST: name.replaceAll('-', '_').toUpperCase(),
    deviceId: `0x${id}`, pciId: `1234:${id}`,
  };
  const templates = join(TEMPLATES, kind);
  const files = new Map([[changeset, fill(readFileSync(join(TEMPLATES, 'changeset.md.tmpl'), 'utf8'), words)]]);
  for (const entry of readdirSync(templates, { recursive: true, encoding: 'utf8' })) {
    if (entry.endsWith('.tmpl')) files.set(join(target, fill(entry.slice(0, -'.tmpl'.length), words)), fill(readFileSync(join(templates, entry), 'utf8'), words));
  }
  for (const text of files.values()) {
    const taken = clash(text);
    if (taken !== undefined) throw new CreateError(`'${name}' would be ${taken} in the code, which the framework has already: choose another name`);
  }
  try {
    for (const [path, text] of files) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text, { flag: 'wx' });
    }
  } catch (error) {
    rmSync(target, { recursive: true, force: true });
    rmSync(changeset, { force: true });
    throw error;
  }
  return { ...names, files: [...files.keys()].map((path) => relative(root, path)).sort() };
}
