/**
 * The kernel's sample mediated devices (samples/vfio-mdev), which Debian does not ship: built from its source package against its
 * header packages, with its compiler, in a scratch root that nothing is installed in.
 */
import { execFile } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { once, type Progress } from './cache.ts';
import { ProvisionError, dependencies, unpacked } from './debian.ts';
import { suiteOf, type Kernel } from './kernel.ts';

const run = promisify(execFile);

/** A serial card without and two displays with something to map (Linux: samples/vfio-mdev). */
export const SAMPLES = ['mtty', 'mdpy', 'mbochs'] as const;

/** What building a module takes besides the compiler, which the headers depend on. */
const TOOLS = ['make', 'dash', 'bash', 'coreutils', 'findutils', 'grep', 'sed', 'mawk', 'tar', 'xz-utils', 'libelf1'];

/** A command with `root` as its root folder; a user who is not root is root of a user namespace there. */
function inside(root: string, ...command: string[]): [string, string[]] {
  const chroot = ['chroot', root, 'env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', ...command];
  const [program, ...args] = process.getuid?.() === 0 ? chroot : ['unshare', '--map-root-user', ...chroot];
  return [program!, args];
}

/** Takes samples/vfio-mdev out of the source package, whose archive is far too large to be unpacked whole. */
async function takeSource(root: string, archive: string): Promise<void> {
  const name = basename(archive, '.tar.xz');
  const [program, args] = inside(root, 'tar', '-xJf', `/usr/src/${basename(archive)}`, '-C', '/tmp', '--strip-components=2', `${name}/samples/vfio-mdev`);
  await run(program, args);
}

/** Paths of the sample modules for `kernel`, built when they are not in the cache yet (half a minute, 300 MB of downloads). */
export async function sampleModules(kernel: Kernel, progress: Progress): Promise<string[]> {
  const suite = suiteOf(kernel.name);
  const folder = await once(`mdev-samples/${basename(dirname(kernel.image))}`, async (target) => {
    const [source] = await dependencies(suite, 'linux-source', /^linux-source-/, progress);
    if (source === undefined) throw new ProvisionError(`${suite} has no current linux-source`);
    const scratch = `unpacked/build-${kernel.release}`;
    const root = await unpacked(scratch, suite, [`linux-headers-${kernel.release}`, source, ...TOOLS], { alone: false, progress });
    try {
      progress(`kernel ${kernel.name}: building ${SAMPLES.join(', ')}`);
      const archive = readdirSync(join(root, 'usr/src')).find((f) => /^linux-source-.*\.tar\.xz$/.test(f));
      if (archive === undefined) throw new ProvisionError(`${source} has no source archive in it`);
      mkdirSync(join(root, 'tmp'), { recursive: true });
      // What the installation of the package would do.
      if (!existsSync(join(root, 'usr/bin/awk'))) symlinkSync('mawk', join(root, 'usr/bin/awk'));
      // objtool of later kernels looks where its stack is, to tell how it crashed if it does; nothing is mounted in there, and any stack will do.
      mkdirSync(join(root, 'proc/self'), { recursive: true });
      writeFileSync(join(root, 'proc/self/maps'), readFileSync('/proc/self/maps'));
      await takeSource(root, archive);
      const wanted = SAMPLES.map((s) => `CONFIG_SAMPLE_VFIO_MDEV_${s.toUpperCase()}=m`);
      const [program, args] = inside(root, 'make', '-C', `/usr/src/linux-headers-${kernel.release}`, 'M=/tmp/vfio-mdev', ...wanted, 'modules');
      await run(program, args, { maxBuffer: 16 << 20 });
      for (const sample of SAMPLES) copyFileSync(join(root, 'tmp/vfio-mdev', `${sample}.ko`), join(target, `${sample}.ko`));
    } catch (error) {
      const detail = (error as { stderr?: string }).stderr ?? String(error);
      throw new ProvisionError(`the sample mediated devices of ${kernel.release} could not be built:\n${detail.trim().split('\n').slice(-12).join('\n')}`);
    } finally {
      // The modules are a few kB, the tree a gigabyte.
      rmSync(root, { recursive: true, force: true });
    }
  });
  return SAMPLES.map((sample) => join(folder, `${sample}.ko`));
}
