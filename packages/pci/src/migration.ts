/**
 * Migration as VFIO has it (linux/vfio.h, "migration v2"): a device is in one state, and its state travels as a stream of bytes
 * that only the device understands.
 *
 * Direct arcs; any other change is the shortest chain of them whose interior has no saving state (PRE_COPY, STOP_COPY):
 *
 * | from       | to                                                      |
 * | ---------- | ------------------------------------------------------- |
 * | stop       | running (running-p2p with P2P), stop-copy, resuming     |
 * | running    | stop (running-p2p with P2P), pre-copy                   |
 * | running-p2p| running, stop, pre-copy-p2p                             |
 * | pre-copy   | running, stop-copy (pre-copy-p2p with P2P)              |
 * | pre-copy-p2p | running-p2p, pre-copy, stop-copy                      |
 * | stop-copy  | stop                                                    |
 * | resuming   | stop                                                    |
 *
 * Forbidden: stop-copy → pre-copy (the final state cannot become provisional again), and every way into or out of `error`,
 * which nothing here enters: a hop that fails leaves the device at the last state it reached.
 */

/** Index is the number on the wire (enum vfio_device_mig_state). */
export const MIGRATION_STATES = ['error', 'stop', 'running', 'stop-copy', 'resuming', 'running-p2p', 'pre-copy', 'pre-copy-p2p'] as const;
export type MigrationState = (typeof MIGRATION_STATES)[number];

/** What a device offers that can be migrated. It is in `running` when attached. Calls come one at a time, like all others. */
export interface Migration {
  /** The state can be read in `pre-copy` too, while the device runs. */
  readonly preCopy: boolean;
  /** `running-p2p` and `pre-copy-p2p` exist: the device answers others, but starts nothing. */
  readonly peerToPeer: boolean;
  /** One hop along a direct arc. A throw (its `errno` is the answer) leaves the device in `from`. */
  enter(state: MigrationState, from: MigrationState): void | Promise<void>;
  /** The next bytes of the state, in `pre-copy` and `stop-copy`: how many were put into `into`. 0: nothing more for this state. */
  readState(into: Uint8Array): number | Promise<number>;
  /** The next bytes of the state, in `resuming`. Valid during the call only. */
  writeState(from: Uint8Array): void | Promise<void>;
}
