/**
 * DPDK's testpmd against itself, over vhost-user or memif, as the peers to compare with.
 *
 * Without huge pages (few machines have them set up): `--no-huge` makes DPDK take its memory from one memfd, which vhost-user can
 * share. It implies legacy memory mode, so `--in-memory` cannot be given (hence a file prefix of its own for each process), and the
 * default of some 155 000 mbufs does not fit: `--total-num-mbufs`. Each process has both its lcores on one processor: the main one
 * waits for commands, the other one forwards.
 */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { missingPeer } from './peers.ts';
import { Child, canPin, TemporaryFolder } from './processes.ts';
import type { LoopSettings, PairKind } from './pair.ts';

const PROGRAM = 'dpdk-testpmd';
const START_MS = 20_000;
const LINK_POLL_MS = 100;

function testpmd(end: 'a' | 'b', vdev: string, settings: LoopSettings): Child {
  const cpu = canPin && end === 'b' ? 1 : 0;
  return new Child(`testpmd ${end}`, [
    // Into a pipe it would say everything at its end.
    'stdbuf', '-oL', PROGRAM, '--lcores', `0@${cpu},1@${cpu}`, '--file-prefix', `emudev-bench-${process.pid}-${end}`, '--no-pci', '--no-huge', '-m', '1024', '--no-telemetry', '--vdev', vdev,
    '--', '-i', '--no-mlockall', '--total-num-mbufs=8192', '--forward-mode=io', `--burst=${settings.burst}`, `--txpkts=${settings.frameBytes}`,
  ]);
}

/** `Rx-pps` of `show port stats`: frames per second since it was shown last. */
async function show(child: Child): Promise<number> {
  child.say('show port stats 0');
  const line = await child.line((text) => /Rx-pps:\s+\d+/.test(text), START_MS);
  return Number(/Rx-pps:\s+(\d+)/.exec(line)![1]);
}

async function started(child: Child): Promise<void> {
  // The prompt has no newline of its own; this answer has.
  child.say('show config fwd');
  await child.line((line) => line.includes('packet forwarding - ports='), START_MS);
}

/** What is sent before the two have found each other is lost, and there would be nothing to pass round. */
async function linkUp(child: Child): Promise<void> {
  const deadline = performance.now() + START_MS;
  for (;;) {
    child.say('show port info 0');
    if ((await child.line((line) => line.includes('Link status:'), START_MS)).includes('up')) return;
    if (performance.now() > deadline) throw new Error('no link');
    await sleep(LINK_POLL_MS);
  }
}

async function socketThere(path: string): Promise<void> {
  const deadline = performance.now() + START_MS;
  while (!existsSync(path)) {
    if (performance.now() > deadline) throw new Error('testpmd a made no socket');
    await sleep(20);
  }
}

function pair(who: string, server: (socket: string) => string, client: (socket: string) => string): PairKind {
  return {
    who,
    missing: missingPeer(PROGRAM),
    async run(settings) {
      using folder = new TemporaryFolder();
      const socket = folder.file('peer.sock');
      await using a = testpmd('a', server(socket), settings);
      await socketThere(socket);
      await started(a);
      await using b = testpmd('b', client(socket), settings);
      await started(b);
      await linkUp(b);
      await linkUp(a);
      a.say('start');
      await a.line((line) => line.includes('packet forwarding - ports='), START_MS);
      b.say(`start tx_first ${Math.ceil(settings.inFlight / settings.burst)}`);
      await sleep(settings.warmupMs);
      await show(b);
      await sleep(settings.windowMs);
      const pps = await show(b);
      if (pps === 0) throw new Error('no frame came back');
      b.say('quit');
      a.say('quit');
      return pps;
    },
  };
}

export const vhostUserPair: PairKind = pair(
  'vhost-user',
  (socket) => `net_vhost0,iface=${socket}`,
  (socket) => `net_virtio_user0,path=${socket},server=0`,
);
export const memifPair: PairKind = pair(
  'memif',
  (socket) => `net_memif0,role=server,socket=${socket},socket-abstract=no`,
  (socket) => `net_memif0,role=client,socket=${socket},socket-abstract=no`,
);
