/** Two processes joined by memif, each of them ours or testpmd: frames go round and round. */
import { fileURLToPath } from 'node:url';
import { measuredRate } from './loop-rate.ts';
import type { LoopSettings, PairKind } from './pair.ts';
import { missingPeer } from './peers.ts';
import { Child, TemporaryFolder } from './processes.ts';
import { memifPair, memifVdev, TestpmdEnd } from './testpmd-pair.ts';

const PROGRAM = fileURLToPath(new URL('./memif-end.ts', import.meta.url));
const START_MS = 20_000;

type Role = 'server' | 'client';
const other = (role: Role): Role => (role === 'server' ? 'client' : 'server');

/** `primed`: it sends the frames, and counts. Resolves when it has started. */
async function ourEnd(role: Role, socket: string, { frameBytes, inFlight, burst }: LoopSettings, primed: boolean): Promise<Child> {
  const child = new Child(`our ${role}`, [process.execPath, PROGRAM, role, socket, String(frameBytes), String(primed ? inFlight : 0), String(burst)], primed ? 1 : 0);
  try {
    await child.line((line) => line === 'started', START_MS);
    return child;
  } catch (error) {
    await child[Symbol.asyncDispose]();
    throw error;
  }
}

async function going(end: Child): Promise<void> {
  await end.line((line) => line.includes('"ready":true'), START_MS);
}

const ours: PairKind = {
  who: 'ours and ours',
  missing: undefined,
  async run(settings) {
    using folder = new TemporaryFolder();
    const socket = folder.file('memif.sock');
    await using server = await ourEnd('server', socket, settings, false);
    await using client = await ourEnd('client', socket, settings, true);
    await going(server);
    await going(client);
    return await measuredRate(client, settings);
  },
};

function mixed(role: Role): PairKind {
  return {
    who: `our ${role}, testpmd's ${other(role)}`,
    missing: missingPeer('dpdk-testpmd'),
    async run(settings) {
      using folder = new TemporaryFolder();
      const socket = folder.file('memif.sock');
      await using undo = new AsyncDisposableStack();
      // The server first: testpmd does not look for one twice.
      const startOurs = async (): Promise<Child> => undo.use(await ourEnd(role, socket, settings, true));
      const startTheirs = async (): Promise<TestpmdEnd> => undo.use(await TestpmdEnd.start('a', memifVdev(other(role), socket), settings, true));
      const early = role === 'server' ? await startOurs() : undefined;
      const theirs = await startTheirs();
      const end = early ?? await startOurs();
      await theirs.linkUp();
      await theirs.forward();
      await going(end);
      return await measuredRate(end, settings);
    },
  };
}

/** The last one is what the others are compared with. */
export const memifLoops: readonly PairKind[] = [ours, mixed('server'), mixed('client'), { ...memifPair, who: 'testpmd and testpmd' }];
