/** Programs of others that tables run or compare with: whether they are here, and what to install where they are not. */
import { spawnSync } from 'node:child_process';

interface Peer {
  /** What to say to `apt-get install` on Debian. */
  readonly debianPackage: string;
  readonly versionArguments: readonly string[];
}

export type PeerName = 'dpdk-testpmd' | 'qemu-system-x86_64' | 'iperf3' | 'gcc';

const PEERS: Readonly<Record<PeerName, Peer>> = {
  'dpdk-testpmd': { debianPackage: 'dpdk-dev', versionArguments: ['--no-huge', '--no-pci', '-m', '64', '--in-memory', '--no-telemetry', '-v', '--', '--help'] },
  'qemu-system-x86_64': { debianPackage: 'qemu-system-x86', versionArguments: ['--version'] },
  iperf3: { debianPackage: 'iperf3', versionArguments: ['--version'] },
  gcc: { debianPackage: 'gcc', versionArguments: ['--version'] },
};

const found = new Map<string, string | undefined>();

/** For a program that a table has found elsewhere than on the PATH (the QEMU that guests bring along): it belongs into the result. */
export function notePeer(name: string, version: string): void {
  found.set(name, version);
}

/** What it says about its version; undefined where it is not installed. */
export function peerVersion(name: PeerName): string | undefined {
  if (!found.has(name)) {
    const { error, stdout, stderr } = spawnSync(name, PEERS[name].versionArguments, { encoding: 'utf8', timeout: 10_000 });
    const said = `${stdout}\n${stderr}`;
    found.set(name, error === undefined ? (/\d+\.\d+(?:\.\d+)?(?:-\w+)?/.exec(said)?.[0] ?? 'unknown version') : undefined);
  }
  return found.get(name);
}

/** For a contender's `missing`: undefined if it can be run. */
export function missingPeer(name: PeerName): string | undefined {
  return peerVersion(name) === undefined ? `${name} is not on the PATH (Debian: apt-get install ${PEERS[name].debianPackage})` : undefined;
}

/** Versions by name; null: not installed. */
export function allPeers(): Record<string, string | null> {
  for (const name of Object.keys(PEERS) as PeerName[]) peerVersion(name);
  return Object.fromEntries([...found].map(([name, version]) => [name, version ?? null]));
}
