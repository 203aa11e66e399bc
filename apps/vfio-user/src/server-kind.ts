/** Which implementation answers: a guess from what it announces, for people who debug; nothing depends on it. */
import type { EffectiveCapabilities } from '@emudev/vfio-user-protocol';

export function guessServer(minor: number, server: EffectiveCapabilities): string {
  const { maxMsgFds, maxDmaMaps, twinSocket } = server;
  // What servers announce to a client that proposes 0.2.
  if (minor === 2 && maxMsgFds === 16 && maxDmaMaps === 65_535) return 'emudev';
  if (minor === 2 && maxMsgFds === 8) return 'libvfio-user (as in SPDK and in QEMU\'s x-remote)';
  if (minor === 1 && !twinSocket) return 'a libvfio-user before 2023-09';
  if (minor === 0 && !twinSocket) return 'the Rust crate vfio-user';
  return 'unknown';
}
