/**
 * What the bus needs of sysfs and /dev, below roots that tests replace by a tree of their own. Every path is made of single names, so
 * that no text from outside leads out of the root; symbolic links are the kernel's and are followed.
 */
import { constants } from 'node:fs';
import { lstat, open, opendir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { BusError, quoted } from './errors.ts';
import { MAX_ATTRIBUTE_BYTES, MAX_DIRECTORY_ENTRIES } from './limits.ts';
import { within } from './time-limit.ts';

const ETIMEDOUT = 110;

/** Names of one path, from the root on. */
export type SysfsPath = readonly string[];

/** Where the kernel's files are; the real ones by default. */
export interface SysfsOptions {
  readonly sysfsRoot?: string;
  readonly devRoot?: string;
  /** How long an attribute may take to be read, ms: then ERR_BUS_SYSFS (ETIMEDOUT), though a thread of Node's pool goes on waiting. Any time by default. */
  readonly timeoutMs?: number;
}

/** Reads and writes attributes. Every failure is ERR_BUS_SYSFS with the system's errno, or ERR_BUS_SYSFS_CONTENT. */
export class Sysfs {
  readonly #sysfsRoot: string;
  readonly #devRoot: string;
  readonly #timeoutMs: number | undefined;

  constructor({ sysfsRoot = '/sys', devRoot = '/dev', timeoutMs }: SysfsOptions = {}) {
    this.#timeoutMs = timeoutMs;
    this.#sysfsRoot = sysfsRoot;
    this.#devRoot = devRoot;
  }

  /** The names in a directory, sorted; undefined where there is no such directory. At most `MAX_DIRECTORY_ENTRIES`. */
  async list(path: SysfsPath): Promise<readonly string[] | undefined> {
    const file = pathOf(this.#sysfsRoot, path);
    const names: string[] = [];
    try {
      for await (const entry of await opendir(file)) {
        if (names.length === MAX_DIRECTORY_ENTRIES) throw new BusError('ERR_BUS_SYSFS_CONTENT', `${file} has more than ${MAX_DIRECTORY_ENTRIES} entries`);
        names.push(entry.name);
      }
    } catch (error) {
      return unlessAbsent(error, `list ${file}`);
    }
    return names.sort();
  }

  /** An attribute's text without the newline at its end; undefined where there is none. At most `MAX_ATTRIBUTE_BYTES`. */
  async read(path: SysfsPath): Promise<string | undefined> {
    const file = pathOf(this.#sysfsRoot, path);
    const timeoutMs = this.#timeoutMs;
    if (timeoutMs === undefined) return this.#read(file);
    return within(this.#read(file), timeoutMs, () => new BusError('ERR_BUS_SYSFS', `${file} has not been read after ${timeoutMs} ms`, { errno: ETIMEDOUT }));
  }

  async #read(file: string): Promise<string | undefined> {
    try {
      // Non-blocking: whatever is there instead of an attribute, a FIFO say, does not hold a thread of the pool.
      await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
      if (!(await handle.stat()).isFile()) throw new BusError('ERR_BUS_SYSFS_CONTENT', `${file} is not a file`);
      const bytes = Buffer.alloc(MAX_ATTRIBUTE_BYTES + 1);
      let length = 0;
      for (let got = 1; got > 0 && length < bytes.length; length += got) {
        got = (await handle.read(bytes, length, bytes.length - length)).bytesRead;
      }
      if (length > MAX_ATTRIBUTE_BYTES) throw new BusError('ERR_BUS_SYSFS_CONTENT', `${file} has more than ${MAX_ATTRIBUTE_BYTES} bytes`);
      return bytes.toString('latin1', 0, length).replace(/\n$/, '');
    } catch (error) {
      return unlessAbsent(error, `read ${file}`);
    }
  }

  /** Writes an attribute in one write(2), which is how sysfs takes it. It may block for long: it happens on a thread of the pool. */
  async write(path: SysfsPath, text: string): Promise<void> {
    const file = pathOf(this.#sysfsRoot, path);
    try {
      await using handle = await open(file, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
      await handle.write(text);
    } catch (error) {
      throw sysfsError(error, `write ${quoted(text)} to ${file}`);
    }
  }

  /** The names in what a symbolic link points at, `..` included; undefined where there is no link. */
  async link(path: SysfsPath): Promise<readonly string[] | undefined> {
    const file = pathOf(this.#sysfsRoot, path);
    try {
      return (await readlink(file)).split('/');
    } catch (error) {
      return unlessAbsent(error, `read the link ${file}`);
    }
  }

  /** The last name of what a symbolic link points at: `vfio-pci` of a `driver`; undefined where there is no link. */
  async linkName(path: SysfsPath): Promise<string | undefined> {
    return (await this.link(path))?.at(-1);
  }

  /** Whether there is such a name; a link counts wherever it points. */
  exists(path: SysfsPath): Promise<boolean> {
    return present(pathOf(this.#sysfsRoot, path));
  }

  /** Whether /dev has such a node. */
  hasNode(path: SysfsPath): Promise<boolean> {
    return present(this.nodePath(path));
  }

  /** The full path of a node below /dev. */
  nodePath(path: SysfsPath): string {
    return pathOf(this.#devRoot, path);
  }
}

function pathOf(root: string, path: SysfsPath): string {
  for (const name of path) {
    if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name)) throw new BusError('ERR_BUS_ARGUMENT', `${quoted(name)} is not the name of a file`);
  }
  return join(root, ...path);
}

async function present(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return true;
  } catch (error) {
    return unlessAbsent(error, `look at ${file}`) ?? false;
  }
}

/** ENODEV and ENXIO: the device behind an open file went away, which is what ENOENT would have said a moment later. */
const ABSENT: ReadonlySet<unknown> = new Set(['ENOENT', 'ENOTDIR', 'ENODEV', 'ENXIO']);

function unlessAbsent(error: unknown, attempted: string): undefined {
  if (ABSENT.has((error as NodeJS.ErrnoException).code)) return undefined;
  throw sysfsError(error, attempted);
}

function sysfsError(error: unknown, attempted: string): BusError {
  if (error instanceof BusError) return error;
  const { code, errno } = error as NodeJS.ErrnoException;
  return new BusError('ERR_BUS_SYSFS', `cannot ${attempted}: ${code ?? String(error)}`, { errno: errno === undefined ? undefined : Math.abs(errno), cause: error });
}
