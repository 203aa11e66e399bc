/** Finds a QEMU with the vfio-user client (10.1 or later), or provisions one that needs neither root nor a chroot. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Progress } from './cache.ts';
import { candidate, unpacked } from './debian.ts';

const run = promisify(execFile);
const MINIMUM = [10, 1];

export interface Qemu {
  /** Program and leading arguments. */
  readonly command: readonly string[];
  readonly version: string;
}

async function probe(command: readonly string[]): Promise<Qemu | undefined> {
  const [program, ...args] = command;
  try {
    const { stdout } = await run(program!, [...args, '--version']);
    const version = /version (\d+)\.(\d+)\.(\d+)/.exec(stdout);
    if (version === null) return undefined;
    const [major, minor] = [Number(version[1]), Number(version[2])];
    if (major < MINIMUM[0]! || (major === MINIMUM[0]! && minor < MINIMUM[1]!)) return undefined;
    const devices = await run(program!, [...args, '-device', 'help'], { maxBuffer: 16 << 20 });
    if (!`${devices.stdout}${devices.stderr}`.includes('vfio-user-pci')) return undefined;
    return { command, version: version.slice(1, 4).join('.') };
  } catch {
    return undefined;
  }
}

/**
 * `EMUDEV_QEMU` or `qemu-system-x86_64` on the PATH when it is new enough; else Debian's, unpacked into the cache and started
 * through its own dynamic loader, so that it runs whatever the machine's C library is.
 */
export async function findQemu(progress: Progress): Promise<Qemu> {
  const installed = await probe([process.env['EMUDEV_QEMU'] ?? 'qemu-system-x86_64']);
  if (installed !== undefined) return installed;
  const suite = 'trixie-backports';
  const version = await candidate(suite, 'qemu-system-x86', progress);
  const root = await unpacked(`qemu/${version.replace(/[^\w.+-]/g, '_')}`, suite, ['qemu-system-x86'], { alone: false, progress });
  const library = join(root, 'usr/lib/x86_64-linux-gnu');
  const loader = ['usr/lib64/ld-linux-x86-64.so.2', 'lib64/ld-linux-x86-64.so.2'].map((p) => join(root, p)).find((p) => existsSync(p));
  const command = [
    loader ?? 'ld-linux-x86-64.so.2', '--library-path', library, join(root, 'usr/bin/qemu-system-x86_64'),
    '-L', join(root, 'usr/share/qemu'), '-L', join(root, 'usr/share/seabios'), '-L', join(root, 'usr/lib/ipxe/qemu'),
  ];
  const found = await probe(command);
  if (found === undefined) throw new Error(`the provisioned QEMU in ${root} does not start or lacks vfio-user-pci`);
  return found;
}
