/**
 * Debian packages without installing them: apt resolves and downloads a closure against an empty system, dpkg unpacks it into
 * a folder. Needs apt and dpkg on the machine, no root, and changes nothing outside the cache.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheDir, once, type Progress } from './cache.ts';

const run = promisify(execFile);

export type Suite = 'bookworm' | 'trixie' | 'trixie-backports';

/** A failure to provision, with what a person can do about it. */
export class ProvisionError extends Error {
  readonly code = 'ERR_GUEST_PROVISION';
  override readonly name = 'ProvisionError';
}

const LISTS_FRESH_MS = 24 * 3600 * 1000;
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

export function mirror(): string {
  return process.env['EMUDEV_DEBIAN_MIRROR'] ?? 'http://deb.debian.org/debian';
}

/** One private apt per suite, its lists fetched once per process and kept in the cache. */
class Apt {
  static readonly #open = new Map<Suite, Promise<Apt>>();

  static for(suite: Suite, progress: Progress): Promise<Apt> {
    let apt = Apt.#open.get(suite);
    if (apt === undefined) {
      apt = Apt.#create(suite, progress);
      Apt.#open.set(suite, apt);
    }
    return apt;
  }

  readonly #suite: Suite;
  readonly folder: string;

  private constructor(suite: Suite, folder: string) {
    this.#suite = suite;
    this.folder = folder;
  }

  static async #create(suite: Suite, progress: Progress): Promise<Apt> {
    for (const tool of ['apt-get', 'dpkg']) {
      if (!existsSync(`/usr/bin/${tool}`)) throw new ProvisionError(`${tool} is needed to fetch QEMU and kernels: use a Debian or Ubuntu machine, or put qemu-system-x86_64 >= 10.1 on the PATH`);
    }
    if (!existsSync(KEYRING)) throw new ProvisionError(`${KEYRING} is missing: apt-get install debian-archive-keyring`);
    const folder = join(cacheDir(), 'apt', suite);
    for (const sub of ['lists/partial', 'etc']) mkdirSync(join(folder, sub), { recursive: true });
    writeFileSync(join(folder, 'status'), '');
    const base = suite.replace('-backports', '');
    const line = (name: string): string => `deb [signed-by=${KEYRING}] ${mirror()} ${name} main\n`;
    const sources = line(base) + (base === suite ? '' : line(suite));
    writeFileSync(join(folder, 'etc', 'sources.list'), sources);
    mkdirSync(join(folder, 'empty'), { recursive: true });
    writeFileSync(
      join(folder, 'apt.conf'),
      [
        `Dir::State "${folder}"; Dir::State::status "${folder}/status"; Dir::State::lists "${folder}/lists";`,
        `Dir::Cache "${folder}";`,
        `Dir::Etc::sourcelist "${folder}/etc/sources.list"; Dir::Etc::sourceparts "${folder}/empty"; Dir::Etc::preferencesparts "${folder}/empty";`,
        // The download runs as whoever calls us; the unprivileged _apt user cannot reach a private cache.
        'APT::Sandbox::User ""; APT::Architecture "amd64"; APT::Architectures "amd64"; Acquire::Languages "none"; Acquire::Retries "3";',
        '',
      ].join('\n'),
    );
    const apt = new Apt(suite, folder);
    await apt.#update(sources, progress);
    return apt;
  }

  /** Reads the lists unless that was done today; those of an earlier day serve where the mirror cannot be reached. */
  async #update(sources: string, progress: Progress): Promise<void> {
    const stamp = join(this.folder, 'updated');
    const read = existsSync(stamp) && readFileSync(stamp, 'utf8') === sources ? statSync(stamp).mtimeMs : undefined;
    if (read !== undefined && Date.now() - read < LISTS_FRESH_MS) return;
    progress(`apt: reading the package lists of ${this.#suite}`);
    try {
      await this.#apt('apt-get', ['update', '-q', '-o', 'APT::Update::Error-Mode=any']);
      writeFileSync(stamp, sources);
    } catch (error) {
      if (read === undefined) throw error;
      progress(`apt: the mirror cannot be reached, going on with the lists of ${new Date(read).toISOString().slice(0, 10)}`);
    }
  }

  async #apt(tool: string, args: string[], cwd?: string): Promise<string> {
    try {
      const { stdout } = await run(tool, args, { env: { ...process.env, APT_CONFIG: join(this.folder, 'apt.conf'), LC_ALL: 'C' }, ...(cwd === undefined ? {} : { cwd }), maxBuffer: 64 << 20 });
      return stdout;
    } catch (error) {
      const detail = (error as { stderr?: string }).stderr ?? String(error);
      throw new ProvisionError(`${tool} ${args.join(' ')} failed:\n${detail.trim().split('\n').slice(-8).join('\n')}`);
    }
  }

  /** The version apt would install. */
  async candidate(name: string): Promise<string> {
    const policy = await this.#apt('apt-cache', ['-t', this.#suite, 'policy', name]);
    const version = /Candidate: (\S+)/.exec(policy)?.[1];
    if (version === undefined || version === '(none)') throw new ProvisionError(`${this.#suite} has no package ${name}`);
    return version;
  }

  /** The packages that `name` depends on and whose names match. */
  async dependencies(name: string, pattern: RegExp): Promise<string[]> {
    const show = await this.#apt('apt-cache', ['-t', this.#suite, '--no-all-versions', 'show', `${name}=${await this.candidate(name)}`]);
    const names = (/^Depends: (.*)$/m.exec(show)?.[1] ?? '').split(/[,|]/).map((d) => d.trim().split(' ')[0]!);
    return names.filter((d) => pattern.test(d));
  }

  /** Downloads `names` (with everything they need, unless `alone`) into `folder`. */
  async download(names: readonly string[], alone: boolean, folder: string): Promise<string[]> {
    mkdirSync(join(folder, 'partial'), { recursive: true });
    try {
      await this.#fetch(names, alone, folder);
    } catch {
      // The mirror may have a newer version by now, and the one in our lists no more.
      await this.#apt('apt-get', ['update', '-q', '-o', 'APT::Update::Error-Mode=any']);
      await this.#fetch(names, alone, folder);
    }
    return readdirSync(folder).filter((f) => f.endsWith('.deb')).map((f) => join(folder, f));
  }

  async #fetch(names: readonly string[], alone: boolean, folder: string): Promise<void> {
    if (alone) await this.#apt('apt-get', ['-t', this.#suite, '-q', 'download', ...names], folder);
    else await this.#apt('apt-get', ['-t', this.#suite, '-o', `Dir::Cache::archives=${folder}`, '--no-install-recommends', '-y', '-q', '--download-only', 'install', ...names]);
  }
}

/** The version of `name` in a suite; part of cache names, so that a newer package is a new entry. */
export async function candidate(suite: Suite, name: string, progress: Progress): Promise<string> {
  return (await Apt.for(suite, progress)).candidate(name);
}

export async function dependencies(suite: Suite, name: string, pattern: RegExp, progress: Progress): Promise<string[]> {
  return (await Apt.for(suite, progress)).dependencies(name, pattern);
}

/** Unpacks packages into a cached folder and returns it. */
export async function unpacked(entry: string, suite: Suite, names: readonly string[], options: { alone: boolean; progress: Progress }): Promise<string> {
  return once(entry, async (folder) => {
    const apt = await Apt.for(suite, options.progress);
    options.progress(`apt: downloading ${names.join(' ')}${options.alone ? '' : ' with dependencies'} from ${suite}`);
    const archives = mkdtempSync(join(apt.folder, 'archives.'));
    try {
      for (const file of await apt.download(names, options.alone, archives)) await run('dpkg', ['-x', file, folder]);
    } finally {
      rmSync(archives, { recursive: true, force: true });
    }
  });
}
