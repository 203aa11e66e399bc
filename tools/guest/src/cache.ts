/** Where provisioned things live, and how a step is done once: into a temporary folder, renamed when complete. */
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

export type Progress = (line: string) => void;

export function cacheDir(): string {
  const base = process.env['EMUDEV_CACHE_DIR'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'emudev');
  mkdirSync(base, { recursive: true });
  return base;
}

/** Returns the folder `cacheDir()/name`, made by `fill` when it is not there yet. An interrupted `fill` leaves nothing behind. */
export async function once(name: string, fill: (folder: string) => Promise<void>): Promise<string> {
  const target = join(cacheDir(), name);
  if (existsSync(target)) return target;
  mkdirSync(dirname(target), { recursive: true });
  const work = mkdtempSync(`${target}.`);
  try {
    await fill(work);
    try {
      renameSync(work, target);
    } catch (error) {
      // Somebody else finished the same step first: theirs is as good.
      if (!existsSync(target)) throw error;
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return target;
}
