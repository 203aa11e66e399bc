/**
 * The device's state as a stream of bytes (VFIO migration v2). The device is told to change state; while it is in `pre-copy` or
 * `stop-copy` the stream is read, while it is in `resuming` it is written.
 */
import {
  MIGRATION_FEATURE_BYTES, MIG_DATA_BYTES, MIG_DEVICE_STATE_BYTES, VFIO_DEVICE_FEATURE_MIGRATION, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_MIGRATION_P2P, VFIO_MIGRATION_PRE_COPY, VFIO_MIGRATION_STOP_COPY, VFIO_USER_MIG_DATA_READ, VFIO_USER_MIG_DATA_WRITE,
  decodeMigDataReadReply, decodeMigDeviceStateReply, decodeMigrationFeatureReply, encodeMigDataRead, encodeMigDataWrite, encodeMigDeviceState,
} from '@emudev/vfio-user-protocol';
import { badArgument, badServer, ClientError } from './errors.ts';
import type { Features } from './features.ts';
import { MAX_MIGRATION_BYTES } from './limits.ts';
import { HEADER_ONLY, isIndex } from './link.ts';
import type { Link } from './link.ts';
import type { CallOptions } from './requests.ts';

/** Index is the number on the wire (enum vfio_device_mig_state). */
const STATES = ['error', 'stop', 'running', 'stop-copy', 'resuming', 'running-p2p', 'pre-copy', 'pre-copy-p2p'] as const;
/** A migration state (enum vfio_device_mig_state), without its prefix VFIO_DEVICE_STATE_. */
export type MigrationState = (typeof STATES)[number];

/** What the device answers to the MIGRATION feature (VFIO_MIGRATION_*). */
export interface MigrationCapabilities {
  /** The state can be saved and restored. */
  readonly stopCopy: boolean;
  /** `running-p2p` exists (and `pre-copy-p2p` with preCopy). */
  readonly peerToPeer: boolean;
  /** The state can be read while the device runs. */
  readonly preCopy: boolean;
}

export interface SaveOptions extends CallOptions {
  /** ERR_VFU_CLIENT_SHORT beyond it: a server can talk for ever. Per call, in bytes. */
  readonly maxBytes?: number;
}

/** `VfioUserClient.migration`: the device's migration state and the stream of its contents. `migrate` moves a device in one call. */
export class Migration {
  readonly #link: Link;
  readonly #features: Features;

  constructor(link: Link, features: Features) {
    this.#link = link;
    this.#features = features;
  }

  /** Bytes of state that travel in one message: what both sides can take. */
  get chunkBytes(): number {
    return Math.min(this.#link.own.maxDataXferSize, this.#link.server.maxDataXferSize);
  }

  /** ERR_VFU_CLIENT_REFUSED where the device cannot be migrated. */
  capabilities(call: CallOptions = {}): Promise<MigrationCapabilities> {
    return this.#features.ask(VFIO_DEVICE_FEATURE_MIGRATION, { ...call, maxBytes: MIGRATION_FEATURE_BYTES }, (data) => {
      const flags = decodeMigrationFeatureReply(data);
      return { stopCopy: (flags & VFIO_MIGRATION_STOP_COPY) !== 0, peerToPeer: (flags & VFIO_MIGRATION_P2P) !== 0, preCopy: (flags & VFIO_MIGRATION_PRE_COPY) !== 0 };
    });
  }

  /** The state the device is in. ERR_VFU_CLIENT_REFUSED where it cannot be migrated. */
  state(call: CallOptions = {}): Promise<MigrationState> {
    return this.#features.ask(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, { ...call, maxBytes: MIG_DEVICE_STATE_BYTES }, (data) => {
      const number = decodeMigDeviceStateReply(data);
      const state = STATES[number];
      if (state === undefined) throw badServer(`migration state ${number}`);
      return state;
    });
  }

  /**
   * Moves the device to `state`, through the states between. When it refuses on the way it stays at the last state it reached:
   * ask `state()`.
   */
  async setState(state: MigrationState, call: CallOptions = {}): Promise<void> {
    await this.#features.set(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, encodeMigDeviceState(STATES.indexOf(state)), call);
  }

  /** The next bytes of the state, at most `maxBytes`; none at the end of what the present state has. */
  read(maxBytes: number = this.chunkBytes, call: CallOptions = {}): Promise<Uint8Array> {
    if (!isIndex(maxBytes, this.chunkBytes + 1) || maxBytes === 0) return Promise.reject(badArgument(`${maxBytes} bytes of state: within 1..${this.chunkBytes}`));
    return this.#link.request(VFIO_USER_MIG_DATA_READ, encodeMigDataRead(maxBytes), {
      ...call,
      // Padded to what was asked for by libvfio-user, cut to the data by others.
      maxReplyBytes: MIG_DATA_BYTES + maxBytes,
      accept: (payload) => decodeMigDataReadReply(payload, maxBytes),
    });
  }

  /** Writes state into a device that is `resuming`, in pieces it takes. */
  async write(data: Uint8Array, call: CallOptions = {}): Promise<void> {
    const step = this.chunkBytes;
    for (let at = 0; at < data.length; at += step) {
      await this.#link.request(VFIO_USER_MIG_DATA_WRITE, encodeMigDataWrite(data.subarray(at, at + step)), { ...call, ...HEADER_ONLY });
    }
  }

  /** The state as far as the device has it in its present state (`pre-copy` or `stop-copy`). A chunk is asked for when the one before is used up. */
  async *save(options: SaveOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
    const { maxBytes = MAX_MIGRATION_BYTES } = options;
    let total = 0;
    for (;;) {
      const chunk = await this.read(this.chunkBytes, options);
      if (chunk.length === 0) return;
      total += chunk.length;
      if (total > maxBytes) throw new ClientError('ERR_VFU_CLIENT_SHORT', `the device has more than ${maxBytes} bytes of state`);
      yield chunk;
    }
  }

  /** Writes all of a stream into a device that is `resuming`; the next chunk is taken when the device has taken the one before. */
  async restore(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, call: CallOptions = {}): Promise<void> {
    for await (const chunk of chunks) await this.write(chunk, call);
  }
}
