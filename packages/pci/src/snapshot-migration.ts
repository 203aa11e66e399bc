/** Migration for a device whose whole state is a few bytes: written down at once, read back at once. */
import type { Migration, MigrationState } from './migration.ts';
import { PciAccessError, PciLayoutError } from './errors.ts';

/** How a device's whole state becomes bytes and comes back; for `snapshotMigration`. */
export interface Snapshot {
  /** Length of the state; more is not taken from a consumer. */
  readonly maxBytes: number;
  /** Least length, where the state has no fixed one; `maxBytes` by default: a state of another length is refused. */
  readonly minBytes?: number;
  /** The complete state; the device is stopped. */
  save(): Uint8Array;
  /** `save` of another instance, of a length in bounds; what is in it is the consumer's word. A throw refuses it; the consumer may then write another, or reset. */
  load(state: Uint8Array): void | Promise<void>;
  /**
   * What can be sent ahead while the device runs, at most `maxBytes`. The complete state follows all the same, so this only makes the two-phase
   * protocol possible, and it needs a state of fixed length: consumers may send both parts on, and the last `maxBytes` count. Absent: no pre-copy.
   */
  savePreCopy?(): Uint8Array;
  /** After each hop: stop what runs by itself in `stop`, let it go on in `running`. */
  entered?(state: MigrationState, from: MigrationState): void | Promise<void>;
}

const EIO = 5;
const EFBIG = 27;

/**
 * The stream starts anew in each of `pre-copy`, `stop-copy` and `resuming`. The incoming state is loaded on the way out of
 * `resuming`, as linux/vfio.h has it: that is where an incomplete or impossible one is refused. A consumer that leaves before has its bytes dropped.
 * @throws PciLayoutError for pre-copy without a fixed length
 */
export function snapshotMigration(snapshot: Snapshot): Migration {
  let outgoing: Uint8Array = new Uint8Array(0);
  let incoming: Uint8Array = new Uint8Array(0);
  let received = 0;
  const { maxBytes, minBytes = maxBytes } = snapshot;
  const ahead = snapshot.savePreCopy !== undefined;
  if (ahead && minBytes !== maxBytes) throw new PciLayoutError('pre-copy of a state without fixed length: nobody could tell where it begins');
  return {
    preCopy: ahead,
    peerToPeer: false,
    async enter(state, from) {
      if (from === 'resuming' && state === 'stop') {
        if (received < minBytes) throw new PciAccessError(`device state of ${received} bytes, at least ${minBytes} make one`);
        await snapshot.load(incoming.slice(Math.max(0, received - maxBytes), received));
      }
      incoming = new Uint8Array(state === 'resuming' ? (ahead ? 2 : 1) * maxBytes : 0);
      received = 0;
      const saved = state === 'stop-copy' ? snapshot.save() : state === 'pre-copy' ? snapshot.savePreCopy?.() : undefined;
      // Found here, not where the device is to go on and cannot.
      if (saved !== undefined && (saved.length > maxBytes || (state === 'stop-copy' && saved.length < minBytes))) throw new PciAccessError(`the device saved ${saved.length} bytes, it announced ${minBytes} to ${maxBytes}`, EIO);
      // A copy: the device may go on working in its own.
      outgoing = new Uint8Array(saved ?? []);
      await snapshot.entered?.(state, from);
    },
    readState(into) {
      const piece = outgoing.subarray(0, into.length);
      into.set(piece);
      outgoing = outgoing.subarray(piece.length);
      return piece.length;
    },
    writeState(from) {
      // CLIENT: the stream comes from whoever holds the socket.
      if (received + from.length > incoming.length) throw new PciAccessError(`device state of more than ${incoming.length} bytes`, EFBIG);
      incoming.set(from, received);
      received += from.length;
    },
  };
}
