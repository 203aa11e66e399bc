import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Names of the workspace's packages that have a driver: `"emudev": { "driver": … }` in their package.json. */
export function driverPackages(root: string): string[] {
  return ['packages', 'apps'].flatMap((group) => {
    let folders: string[];
    try {
      folders = readdirSync(join(root, group)).sort();
    } catch {
      return [];
    }
    return folders.flatMap((folder) => {
      try {
        const { name, emudev } = JSON.parse(readFileSync(join(root, group, folder, 'package.json'), 'utf8')) as { name?: unknown; emudev?: { driver?: unknown } };
        return typeof name === 'string' && typeof emudev?.driver === 'string' ? [name] : [];
      } catch {
        // A folder without a package, or one that is just being written: whoever builds it hears of it.
        return [];
      }
    });
  });
}
