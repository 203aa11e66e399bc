/** A guest for user-space drivers: VFIO, the kernel's sample mediated devices, and Node with this repository to run in it. */
import { readFileSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Progress } from './cache.ts';
import type { CpioEntry } from './cpio.ts';
import { candidate, unpacked } from './debian.ts';
import { Guest, qemuCommand, type GuestOptions } from './guest.ts';
import type { Equipment } from './initramfs.ts';
import type { Kernel, KernelName } from './kernel.ts';
import { sampleModules } from './mdev-samples.ts';

const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));
/** Node from the initial file system, and what it runs. */
const MEMORY_MIB = 1536;
/** What the Node binary loads besides the C library, from the same release of Debian as the guest's other programs. */
const LIBRARIES_SUITE = 'bookworm';
const LIBRARIES = ['libstdc++6', 'libgcc-s1'];

export interface MdevGuestOptions extends Omit<GuestOptions, 'equipment'> {
  /** Folders of this machine that the guest reads (and cannot write): where in the guest → which. Default: this repository as `/workspace`. */
  readonly folders?: Readonly<Record<string, string>>;
  /** An IOMMU, so that vfio-pci serves PCI devices; mediated devices need none. Default: no. */
  readonly iommu?: boolean;
}

async function nodeEntries(binary: string, progress: Progress): Promise<CpioEntry[]> {
  const version = await candidate(LIBRARIES_SUITE, LIBRARIES[0]!, progress);
  const root = await unpacked(`node-libraries/${version.replace(/[^\w.+-]/g, '_')}`, LIBRARIES_SUITE, LIBRARIES, { alone: true, progress });
  const entries: CpioEntry[] = [{ path: 'usr/bin/node', kind: 'file', mode: 0o755, content: readFileSync(binary) }];
  for (const folder of ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu'].map((f) => join(root, f))) {
    for (const name of readdirSync(folder, { withFileTypes: true }).map((f) => f.name).filter((f) => /\.so\.\d+$/.test(f))) {
      entries.push({ path: `usr/lib/x86_64-linux-gnu/${name}`, kind: 'file', mode: 0o644, content: readFileSync(join(folder, name)) });
    }
  }
  return entries;
}

async function equipment(kernel: Kernel, progress: Progress): Promise<Equipment> {
  const node = realpathSync(join(dirname(createRequire(join(REPOSITORY, 'package.json')).resolve('node/package.json')), 'bin/node'));
  return {
    stamp: `${node} ${statSync(node).size} ${readFileSync(fileURLToPath(import.meta.url), 'utf8')}`,
    modules: [...kernel.vfioModules, ...(await sampleModules(kernel, progress))],
    entries: await nodeEntries(node, progress),
  };
}

/**
 * Kernels that user-space drivers are tested on. The sample devices of a later one take some 300 MB and minutes to build the first time, so
 * EMUDEV_KERNELS=all asks for them.
 */
export const MDEV_KERNELS: readonly KernelName[] = process.env['EMUDEV_KERNELS'] === 'all' ? ['6.1', '7.x'] : ['6.1'];

/** Has everything fetched and built that `bootMdevGuest` of this kernel needs. */
export async function provisionMdevGuest(kernel: KernelName, progress: Progress): Promise<void> {
  await qemuCommand({ kernel, accel: 'tcg', equipment, progress });
}

/**
 * Boots a guest with `vfio-pci`, `mtty`, `mdpy` and `mbochs` loaded, `node` on its PATH and this repository under `/workspace`:
 * `guest.run('node /workspace/…/test.ts')` runs TypeScript in it.
 */
export async function bootMdevGuest(options: MdevGuestOptions = {}): Promise<Guest> {
  const { folders = { '/workspace': REPOSITORY }, iommu = false, extraArgs = [], kernelArgs = '', ...rest } = options;
  const shares = Object.entries(folders);
  const guest = await Guest.boot({
    kernel: '6.1',
    memoryMiB: MEMORY_MIB,
    ...rest,
    equipment,
    // The kernel's check of its timer counts ticks: behind interrupt remapping, emulated on a busy machine, they come too late for it, and it panics.
    kernelArgs: `${iommu ? 'intel_iommu=on no_timer_check ' : ''}${kernelArgs}`,
    extraArgs: [
      ...(iommu ? ['-device', 'intel-iommu,intremap=on,caching-mode=on'] : []),
      ...shares.flatMap(([, path], i) => [
        '-fsdev', `local,id=folder${i},path=${path.replaceAll(',', ',,')},security_model=none,readonly=on,multidevs=remap`,
        '-device', `virtio-9p-pci,fsdev=folder${i},mount_tag=folder${i}`,
      ]),
      ...extraArgs,
    ],
  });
  try {
    for (const [i, [where]] of shares.entries()) {
      await guest.run(`mkdir -p "${where}" && mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro folder${i} "${where}"`);
    }
    return guest;
  } catch (error) {
    await guest[Symbol.asyncDispose]();
    throw error;
  }
}
