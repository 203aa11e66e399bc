/**
 * Migration as VFIO has it (linux/vfio.h, "migration v2"): a device is in one state, and its state travels as a stream of bytes
 * that only the device understands.
 *
 * Direct arcs of a device with peer-to-peer states; any other change is the shortest chain of them, see `migrationPath`:
 *
 * | from         | to                                  |
 * | ------------ | ----------------------------------- |
 * | stop         | running-p2p, stop-copy, resuming    |
 * | running      | running-p2p, pre-copy               |
 * | running-p2p  | running, stop, pre-copy-p2p         |
 * | pre-copy     | running, pre-copy-p2p               |
 * | pre-copy-p2p | running-p2p, pre-copy, stop-copy    |
 * | stop-copy    | stop                                |
 * | resuming     | stop                                |
 *
 * A device without some of these states passes over them: without peer-to-peer stop → running is one hop, and so is
 * pre-copy → stop-copy.
 *
 * Forbidden: stop-copy → pre-copy and pre-copy-p2p (the final state cannot become provisional again), states that the device
 * does not have, and every way into or out of `error`, which nothing here enters: a hop that fails leaves the device at the
 * last state it reached.
 *
 * The one change that follows no arc: when a consumer has left in another state, `enter('running', from)` is called behind
 * `detach`. What was half sent or half received is dropped, so that the next consumer finds the device in `running`.
 */

/** Index is the number on the wire (enum vfio_device_mig_state). */
export const MIGRATION_STATES = ['error', 'stop', 'running', 'stop-copy', 'resuming', 'running-p2p', 'pre-copy', 'pre-copy-p2p'] as const;
/** A migration state (enum vfio_device_mig_state), without its prefix VFIO_DEVICE_STATE_. */
export type MigrationState = (typeof MIGRATION_STATES)[number];

/** What a device offers that can be migrated. It is in `running` when attached. Calls come one at a time, like all others. */
export interface Migration {
  /** The state can be read in `pre-copy` too, while the device runs. */
  readonly preCopy: boolean;
  /** `running-p2p` and `pre-copy-p2p` exist: the device answers others, but starts nothing. */
  readonly peerToPeer: boolean;
  /**
   * One hop along a direct arc, while the device is quiescent. A throw (its `errno` is the answer) leaves the device in `from`.
   * Also from any state to `running` once the device is detached; a throw is then only reported.
   */
  enter(state: MigrationState, from: MigrationState): void | Promise<void>;
  /** The next bytes of the state, in `pre-copy` and `stop-copy`: how many were put into `into`. 0: nothing more for this state. */
  readState(into: Uint8Array): number | Promise<number>;
  /** The next bytes of the state, in `resuming`. Valid during the call only. */
  writeState(from: Uint8Array): void | Promise<void>;
}

const ARCS: Readonly<Record<MigrationState, readonly MigrationState[]>> = {
  error: [],
  stop: ['running-p2p', 'stop-copy', 'resuming'],
  running: ['running-p2p', 'pre-copy'],
  'running-p2p': ['running', 'stop', 'pre-copy-p2p'],
  'pre-copy': ['running', 'pre-copy-p2p'],
  'pre-copy-p2p': ['running-p2p', 'pre-copy', 'stop-copy'],
  'stop-copy': ['stop'],
  resuming: ['stop'],
};

/** The states in which the device's state is read. */
const isSaving = (state: MigrationState): boolean => state === 'pre-copy' || state === 'pre-copy-p2p' || state === 'stop-copy';
const isPreCopy = (state: MigrationState): boolean => state === 'pre-copy' || state === 'pre-copy-p2p';
const isPeerToPeer = (state: MigrationState): boolean => state === 'running-p2p' || state === 'pre-copy-p2p';

/**
 * The states to enter one after the other, the last of them `to`; none where the device is there already; undefined where the
 * change is forbidden. The same as the kernel's `vfio_mig_get_next_state`, applied until it arrives.
 */
export function migrationPath(from: MigrationState, to: MigrationState, options: Pick<Migration, 'preCopy' | 'peerToPeer'>): MigrationState[] | undefined {
  const exists = (state: MigrationState): boolean => state !== 'error' && (options.preCopy || !isPreCopy(state)) && (options.peerToPeer || !isPeerToPeer(state));
  if (!exists(from) || !exists(to)) return undefined;
  if (from === 'stop-copy' && isPreCopy(to)) return undefined;
  return shortestChain(from, to)?.filter(exists);
}

/** Breadth first. A stream must neither begin nor end on the way, so a saving state is passed through only between two of them. */
function shortestChain(from: MigrationState, to: MigrationState): MigrationState[] | undefined {
  const streamGoesOn = isSaving(from) && isSaving(to);
  const before = new Map<MigrationState, MigrationState | undefined>([[from, undefined]]);
  // The map grows under the loop: it is the queue of the search, too.
  for (const state of before.keys()) {
    if (state === to) break;
    if (state !== from && isSaving(state) && !streamGoesOn) continue;
    for (const next of ARCS[state]) if (!before.has(next)) before.set(next, state);
  }
  if (!before.has(to)) return undefined;
  const chain: MigrationState[] = [];
  for (let state = to; state !== from; state = before.get(state)!) chain.unshift(state);
  return chain;
}
