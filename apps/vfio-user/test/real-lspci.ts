/** The lspci of this machine: what our text has to be equal to. */
import { execFile, execFileSync } from 'node:child_process';
import { promisify } from 'node:util';

export interface RealLspci {
  /** "3.9.0": decides the form that is compared. */
  readonly version: string;
  /** What it prints for a dump; warnings aside. */
  show(dumpFile: string, ...options: readonly string[]): Promise<string>;
}

const MAX_OUTPUT = 1 << 26;

function find(): string | undefined {
  for (const path of ['/usr/bin/lspci', '/sbin/lspci']) {
    try {
      return execFileSync(path, ['--version'], { encoding: 'utf8' }).replace(/^\D*/, '').trim() && path;
    } catch {
      // The next place.
    }
  }
  return undefined;
}

const path = find();

/** In CI, which installs pciutils, the comparison is made whatever was found, and fails where it is not there. */
export const hasLspci: boolean = path !== undefined || process.env['CI'] !== undefined;
if (!hasLspci) console.warn('pciutils is not installed: comparisons with the real lspci are not made');

export function realLspci(): RealLspci {
  if (path === undefined) throw new Error('no lspci: install pciutils');
  const version = execFileSync(path, ['--version'], { encoding: 'utf8' }).replace(/^\D*/, '').trim();
  return {
    version,
    show: async (dumpFile, ...options) => (await promisify(execFile)(path, ['-F', dumpFile, ...options], { encoding: 'latin1', maxBuffer: MAX_OUTPUT })).stdout,
  };
}
