/** Why real guests with network interfaces of their own cannot run here; undefined where they can. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

export function guestObstacle(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return `QEMU guests of these tests are for x86-64 Linux, this is ${process.platform} ${process.arch}`;
  if (process.getuid?.() !== 0) return 'TAP interfaces and network namespaces need root';
  if (spawnSync('ip', ['netns', 'list']).status !== 0) return 'the ip command (iproute2) is missing';
  if (!existsSync('/usr/bin/apt-get') || !existsSync('/usr/bin/dpkg')) return 'kernels (and QEMU 10.1, where there is none) come from Debian: apt-get and dpkg are missing';
  return undefined;
}
