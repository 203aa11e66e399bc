/**
 * Records what a kernel says of its devices, in sysfs and through VFIO, and plays it back. A recording is JSON: the tree by path, and one answer per question, the question
 * being the file, the call and its argument. Nothing of the package is imported: it is also used where only the built one is.
 */
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync, symlinkSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { linux, LinuxError, type Sys } from '@emudev/linux';

/** What is at a path: an attribute's text, a link's target, or (neither) a directory. */
interface Entry {
  readonly path: string;
  readonly content?: string;
  readonly target?: string;
}

/** What a question was answered with: a structure as it came back, and what the call returned, or an errno. */
interface Answer {
  readonly result?: number;
  readonly bytes?: string;
  readonly errno?: number;
}

/** Of one kernel. */
export interface Recording {
  readonly kernel: string;
  readonly tree: readonly Entry[];
  readonly answers: Readonly<Record<string, Answer>>;
}

const LISTS = ['bus/pci/devices', 'bus/mdev/devices', 'class/mdev_bus'];
/** Directories that are looked into; everything else below a device is of no matter here. */
const LOOKED_INTO = /^(mdev_supported_types|devices|vfio-dev|vfio\d+|vendor|[a-z]+-[a-z0-9]+|[0-9a-f-]{36})$/;
/** Not text, or not without consequence. */
const NOT_READ = /^(config|rom|vpd|resource\d.*|reset|remove|rescan|create|uevent)$/;
const LONGEST = 4096;

/** The lists of devices in a sysfs, and the directories that they point at; no link is followed any further. */
export function recordTree(sysfsRoot: string): readonly Entry[] {
  const entries = new Map<string, Entry>();
  const walk = (folder: string): void => {
    entries.set(folder, { path: folder });
    for (const name of readdirSync(join(sysfsRoot, folder)).sort()) record(join(folder, name), name);
  };
  const record = (path: string, name: string): void => {
    const full = join(sysfsRoot, path);
    const status = lstatSync(full);
    if (status.isSymbolicLink()) entries.set(path, { path, target: readlinkSync(full) });
    else if (status.isDirectory()) {
      if (LOOKED_INTO.test(name)) walk(path);
    } else if ((status.mode & 0o444) !== 0 && !NOT_READ.test(name)) {
      try {
        entries.set(path, { path, content: readFileSync(full, 'latin1').slice(0, LONGEST) });
      } catch {
        // Some attributes say nothing unless something is so; then they are as good as absent.
      }
    }
  };
  for (const list of LISTS) {
    walk(list);
    for (const name of readdirSync(join(sysfsRoot, list))) walk(realpathSync(join(sysfsRoot, list, name)).slice(sysfsRoot.length + 1));
  }
  return [...entries.values()];
}

/** Puts the tree of a recording below `root`, and a file for every node that was opened. */
export function restoreTree({ tree, answers }: Recording, root: string): { readonly sysfsRoot: string; readonly devRoot: string } {
  const sysfsRoot = join(root, 'sys');
  for (const { path, content, target } of tree) {
    const full = join(sysfsRoot, path);
    mkdirSync(content === undefined && target === undefined ? full : dirname(full), { recursive: true });
    if (content !== undefined) writeFileSync(full, content, 'latin1');
    else if (target !== undefined) symlinkSync(target, full);
  }
  const devRoot = join(root, 'dev');
  for (const question of Object.keys(answers)) {
    const node = /^open (.*)$/.exec(question)?.[1];
    if (node === undefined) continue;
    mkdirSync(dirname(join(devRoot, node)), { recursive: true });
    writeFileSync(join(devRoot, node), '');
  }
  return { sysfsRoot, devRoot };
}

const GROUP_SET_CONTAINER = 0x3b68;
const GROUP_GET_DEVICE_FD = 0x3b6a;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Descriptors are other numbers each time. */
function questionOf(file: string, request: number, argument: number | bigint | Uint8Array): string {
  const said = request === GROUP_SET_CONTAINER ? '' : typeof argument === 'object' ? hex(argument) : String(argument);
  return `${file} 0x${request.toString(16)} ${said}`;
}

/** The name of a device's file: that of the device. */
const deviceFile = (argument: number | bigint | Uint8Array): string => Buffer.from(argument as Uint8Array).toString('latin1').replaceAll('\0', '');

/** The real system calls, with what VFIO answers noted down. */
export function recordingSys(devRoot: string, answers: Record<string, Answer>): Sys {
  const files = new Map<number, string>();
  const noted = <T>(question: string, call: () => T, answer: (value: T) => Answer): T => {
    try {
      const value = call();
      answers[question] ??= answer(value);
      return value;
    } catch (error) {
      if (error instanceof LinuxError) answers[question] ??= { errno: error.errno };
      throw error;
    }
  };
  return {
    ...linux,
    open: (path, access) => {
      const file = path.slice(devRoot.length + 1);
      const fd = noted(`open ${file}`, () => linux.open(path, access), () => ({}));
      files.set(fd, file);
      return fd;
    },
    ioctl: (fd, request, argument) => {
      const question = questionOf(files.get(fd)!, request, argument);
      const result = noted(question, () => linux.ioctl(fd, request, argument), (value) => (request === GROUP_GET_DEVICE_FD ? {} : { result: value, ...(typeof argument === 'object' ? { bytes: hex(argument) } : {}) }));
      if (request === GROUP_GET_DEVICE_FD) files.set(result, deviceFile(argument));
      return result;
    },
    pread: (fd, into, offset) => noted(`${files.get(fd)!} read ${into.length} at ${offset}`, () => linux.pread(fd, into, offset), (count) => ({ result: count, bytes: hex(into) })),
  };
}

/** System calls that give a recording's answers below `devRoot`; a question that was not asked then is ENOTTY. */
export function replayingSys({ answers }: Recording, devRoot: string): Sys {
  const files = new Map<number, string>();
  const opened = (file: string): number => {
    const fd = linux.memfdCreate('recorded', { allowSealing: false });
    files.set(fd, file);
    return fd;
  };
  const answerTo = (question: string): Answer => {
    const answer = answers[question] ?? { errno: 25 };
    if (answer.errno !== undefined) throw new LinuxError(answer.errno, 'recorded', question);
    return answer;
  };
  return {
    ...linux,
    open: (path) => {
      const file = path.slice(devRoot.length + 1);
      answerTo(`open ${file}`);
      return opened(file);
    },
    close: (fd) => {
      files.delete(fd);
      linux.close(fd);
    },
    ioctl: (fd, request, argument) => {
      const { result = 0, bytes } = answerTo(questionOf(files.get(fd)!, request, argument));
      if (bytes !== undefined) (argument as Uint8Array).set(Buffer.from(bytes, 'hex'));
      return request === GROUP_GET_DEVICE_FD ? opened(deviceFile(argument)) : result;
    },
    pread: (fd, into, offset) => {
      const { result = 0, bytes = '' } = answerTo(`${files.get(fd)!} read ${into.length} at ${offset}`);
      into.set(Buffer.from(bytes, 'hex'));
      return result;
    },
  };
}
