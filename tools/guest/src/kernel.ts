/** Debian's stock kernels: the image and the few modules a guest needs, unpacked into the cache. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { once, type Progress } from './cache.ts';
import { ProvisionError, candidate, dependencies, unpacked, type Suite } from './debian.ts';
import { busybox } from './userland.ts';

const run = promisify(execFile);

export const KERNELS = ['6.1', '6.12', '7.x'] as const;
export type KernelName = (typeof KERNELS)[number];
const SUITE: Record<KernelName, Suite> = { '6.1': 'bookworm', '6.12': 'trixie', '7.x': 'trixie-backports' };

export interface Kernel {
  readonly name: KernelName;
  /** uname -r */
  readonly release: string;
  readonly image: string;
  /** Paths of the modules, each after those it depends on. */
  readonly modules: readonly string[];
  /** The same for user-space drivers inside the guest: VFIO, and shared folders. */
  readonly vfioModules: readonly string[];
}

/** The driver under test, what tests of it use, the NICs it is compared with, and drivers of the example devices. */
const MODULES = ['iavf', '8021q', 'bridge', 'e1000e', 'igb', 'virtio_net', 'virtio_pci', 'af_packet', 'gpio-pci-idio-16', 'uio_pci_generic'];
/** VFIO with an IOMMU, mediated devices, and the host's folders over 9p. */
const VFIO_MODULES = ['vfio_iommu_type1', 'vfio-pci', 'mdev', 'virtio_pci', '9pnet_virtio', '9p'];

/** `depends=` of a module's .modinfo section. */
function dependsOn(module: Buffer): string[] {
  const at = module.indexOf('\0depends=', 0, 'latin1');
  if (at === -1) return [];
  const end = module.indexOf(0, at + 1);
  return module.toString('latin1', at + '\0depends='.length, end).split(',').filter((d) => d !== '');
}

function* files(folder: string): Generator<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* files(path);
    else yield path;
  }
}

/** The suite of Debian that a kernel is from. */
export function suiteOf(name: KernelName): Suite {
  return SUITE[name];
}

export async function findKernel(name: KernelName, progress: Progress): Promise<Kernel> {
  const suite = SUITE[name];
  const [pkg] = await dependencies(suite, 'linux-image-amd64', /^linux-image-/, progress);
  if (pkg === undefined) throw new ProvisionError(`${suite} has no current linux-image`);
  const version = await candidate(suite, pkg, progress);
  const selection = createHash('sha256').update([...MODULES, ...VFIO_MODULES].join()).digest('hex').slice(0, 8);
  const folder = await once(`kernel/${pkg}_${version.replace(/[^\w.+-]/g, '_')}_${selection}`, async (target) => {
    // Newer packages are split in image and modules.
    const parts = [pkg, ...(await dependencies(suite, pkg, /^linux-(binary|modules)-/, progress))];
    const tree = await unpacked(`unpacked/${pkg}`, suite, parts, { alone: true, progress });
    progress(`kernel ${name}: collecting image and modules of ${pkg}`);
    const modules = ['lib/modules', 'usr/lib/modules'].map((m) => join(tree, m)).filter((m) => existsSync(m));
    const release = modules.flatMap((m) => readdirSync(m))[0];
    // Newer packages keep the image beside the modules.
    const image = [join(tree, 'boot', `vmlinuz-${release}`), ...modules.map((m) => join(m, `${release}`, 'vmlinuz'))].find((f) => existsSync(f));
    if (release === undefined || image === undefined) throw new ProvisionError(`${parts.join(', ')} of ${suite}: no kernel image in there`);
    cpSync(image, join(target, `vmlinuz-${release}`));
    const bySlug = new Map<string, string>();
    for (const path of modules.flatMap((m) => [...files(m)])) {
      const slug = /^(.+)\.ko(\.xz)?$/.exec(basename(path))?.[1];
      if (slug !== undefined) bySlug.set(slug.replaceAll('-', '_'), path);
    }
    const box = await busybox(progress);
    mkdirSync(join(target, 'modules'));
    const order: string[] = [];
    const add = async (slug: string): Promise<void> => {
      const path = bySlug.get(slug.replaceAll('-', '_'));
      // Built into this kernel.
      if (path === undefined || order.includes(slug)) return;
      const bytes = path.endsWith('.xz') ? (await run(box, ['unxz', '-c', path], { encoding: 'buffer', maxBuffer: 64 << 20 })).stdout : readFileSync(path);
      for (const needed of dependsOn(bytes)) await add(needed);
      if (order.includes(slug)) return;
      order.push(slug);
      writeFileSync(join(target, 'modules', `${slug}.ko`), bytes);
    };
    for (const slug of MODULES) await add(slug);
    if (!order.includes('iavf')) throw new Error(`${pkg} has no iavf module`);
    writeFileSync(join(target, 'modules', 'order'), order.join('\n'));
    const usual = order.length;
    for (const slug of VFIO_MODULES) await add(slug);
    writeFileSync(join(target, 'modules', 'order-vfio'), order.slice(usual).join('\n'));
    // Only image and modules are of use; the tree is ten times as large.
    rmSync(tree, { recursive: true, force: true });
  });
  const image = readdirSync(folder).find((f) => f.startsWith('vmlinuz-'))!;
  const listed = (list: string): string[] => readFileSync(join(folder, 'modules', list), 'utf8').split('\n').map((slug) => join(folder, 'modules', `${slug}.ko`));
  return { name, release: image.slice('vmlinuz-'.length), image: join(folder, image), modules: listed('order'), vfioModules: listed('order-vfio') };
}
