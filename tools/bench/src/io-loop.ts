/** The io-loop tables: two processes pass frames round and round, ours and DPDK's. */
import { iavfPair } from './iavf-pair.ts';
import type { PairKind } from './pair.ts';
import type { Against, Contender, Table } from './table.ts';
import { memifPair, vhostUserPair } from './testpmd-pair.ts';

export interface IoLoopGoals {
  readonly vhostUser: number;
  readonly memif: number;
}

/** What testpmd does unless it is told otherwise: one burst of 32 goes round (`start tx_first`). */
const TESTPMD_DEFAULTS = { burst: 32, inFlight: 32 };

/** `size`: of all frames, or the sizes that they have in turn. */
export function ioLoop(size: number | readonly number[], goals: IoLoopGoals): Table {
  const sizes = typeof size === 'number' ? { frameBytes: size } : { frameBytes: Math.max(...size), mix: size };
  const contender = ({ who, missing, run }: PairKind, against: readonly Against[] = []): Contender => ({
    who, missing, against, run: async (effort) => ({ mpps: (await run({ ...sizes, ...effort })) / 1e6 }),
  });
  const byDefault = typeof size === 'number' ? [vhostUserPair, memifPair].map((kind): PairKind => ({
    ...kind, who: `${kind.who}, defaults`, run: (settings) => kind.run({ ...settings, ...TESTPMD_DEFAULTS }),
  })) : [];
  return {
    what: `${typeof size === 'number' ? `${size}-byte frames` : `frames of ${[...new Set(size)].join(', ')} bytes`} round and round between two processes, one processor each; million frames per second and direction`,
    figures: [{ name: 'mpps', unit: 'Mpps', better: 'more' }],
    contenders: () => [
      contender(iavfPair, [{ who: vhostUserPair.who, goal: goals.vhostUser }, { who: memifPair.who, goal: goals.memif }, ...byDefault.map(({ who }) => ({ who }))]),
      contender(vhostUserPair),
      contender(memifPair),
      ...byDefault.map((kind) => contender(kind)),
    ],
  };
}
