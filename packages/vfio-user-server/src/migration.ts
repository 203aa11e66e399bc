/**
 * A device's migration state as a consumer sees it (vfio-user specification, DEVICE_FEATURE 2 and MIG_DATA_*): every change goes
 * hop by hop, and the stream of the device's state flows only where a state has one.
 *
 * | state                          | commands served                                                        | stream      |
 * | ------------------------------ | ---------------------------------------------------------------------- | ----------- |
 * | running, running-p2p           | all                                                                    | –           |
 * | pre-copy, pre-copy-p2p         | all                                                                    | read        |
 * | stop                           | REGION_READ, REGION_WRITE, DEVICE_FEATURE                              | –           |
 * | stop-copy                      | DEVICE_FEATURE, MIG_DATA_READ                                          | read        |
 * | resuming                       | all                                                                    | written     |
 * | error                          | forbidden: nothing leads here, a failing hop leaves the state before it | –           |
 *
 * The state belongs to the device: one object serves all sessions of a server, and the end of a session in another state takes
 * the device back to `running`, where the next consumer expects it.
 */
import { MIGRATION_STATES, migrationPath, type Migration, type MigrationState } from '@emudev/pci';
import {
  badPeer, badRequest, commandName, VFIO_MIGRATION_P2P, VFIO_MIGRATION_PRE_COPY, VFIO_MIGRATION_STOP_COPY, VFIO_USER_DEVICE_FEATURE, VFIO_USER_MIG_DATA_READ, VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE,
} from '@emudev/vfio-user-protocol';

/** Anything else is refused in these states, as libvfio-user does: a stopped device must not change by messages. */
const SERVED: Readonly<Partial<Record<MigrationState, readonly number[]>>> = {
  stop: [VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE, VFIO_USER_DEVICE_FEATURE],
  'stop-copy': [VFIO_USER_DEVICE_FEATURE, VFIO_USER_MIG_DATA_READ],
};
const READABLE: readonly MigrationState[] = ['pre-copy', 'pre-copy-p2p', 'stop-copy'];

/** Of VERSION's `migration`, which matters only where a device has it. @throws ProtocolError EINVAL, which closes */
export function checkPageSize(pageSize: number | undefined): void {
  // CLIENT: dirty bitmaps have a bit per page, and pages are powers of two.
  if (pageSize !== undefined && !Number.isInteger(Math.log2(pageSize))) throw badPeer('ERR_VFU_VERSION', `VERSION: migration.pgsize ${pageSize} is no power of two`);
}

export class DeviceMigration {
  readonly #migration: Migration;
  #state: MigrationState = 'running';
  /** Grows with the end of a session: what one of an earlier epoch still does stops at its next step. */
  #epoch = 0;
  #underWay = 0;
  #last: Promise<unknown> = Promise.resolve();

  constructor(migration: Migration) {
    this.#migration = migration;
  }

  get state(): MigrationState {
    return this.#state;
  }

  /** The state's number on the wire. */
  get number(): number {
    return MIGRATION_STATES.indexOf(this.#state);
  }

  /** VFIO_MIGRATION_*. */
  get flags(): number {
    return VFIO_MIGRATION_STOP_COPY | (this.#migration.peerToPeer ? VFIO_MIGRATION_P2P : 0) | (this.#migration.preCopy ? VFIO_MIGRATION_PRE_COPY : 0);
  }

  /** A call into the device has not returned: if its consumer has gone, nobody knows when it will. */
  get busy(): boolean {
    return this.#underWay > 0;
  }

  /** @throws ProtocolError EINVAL for a command that the present state does not allow */
  check(command: number): void {
    const served = SERVED[this.#state];
    if (served?.includes(command) === false) throw badRequest('ERR_VFU_COMMAND', `${commandName(command)} while the device is in ${this.#state}`);
  }

  /** The hops to the state with this number. @throws ProtocolError EINVAL where there is no such state or no way to it */
  pathTo(number: number): readonly MigrationState[] {
    // CLIENT: any number may come.
    const to = MIGRATION_STATES[number];
    const path = to === undefined ? undefined : migrationPath(this.#state, to, this.#migration);
    if (path === undefined) throw badRequest('ERR_VFU_RANGE', `no way from migration state ${this.#state} to ${to ?? number}`);
    return path;
  }

  /** Only while the device is quiescent. Rejects with what a hop threw; the device is then in the last state it reached. */
  goTo(number: number): Promise<void> {
    const epoch = this.#epoch;
    return this.#exclusively(async () => {
      for (const next of this.pathTo(number)) {
        if (epoch !== this.#epoch) throw badRequest('ERR_VFU_COMMAND', 'the session has ended');
        await this.#migration.enter(next, this.#state);
        this.#state = next;
      }
    });
  }

  /** At most `sizeBytes` of the device's state; none at the end of the stream. */
  read(sizeBytes: number): Promise<Uint8Array> {
    if (!READABLE.includes(this.#state)) throw badRequest('ERR_VFU_COMMAND', `there is no state to read in ${this.#state}`);
    return this.#exclusively(async () => {
      const into = new Uint8Array(sizeBytes);
      const got = await this.#migration.readState(into);
      // Without an errno: a defect of the device, answered EIO and counted as one.
      if (!Number.isInteger(got) || got < 0 || got > sizeBytes) throw new Error(`readState of ${sizeBytes} bytes returned ${got}`);
      return into.subarray(0, got);
    });
  }

  write(data: Uint8Array): Promise<void> {
    if (this.#state !== 'resuming') throw badRequest('ERR_VFU_COMMAND', `there is no state to write in ${this.#state}`);
    return this.#exclusively(() => this.#migration.writeState(data));
  }

  /** The consumer has gone, the device is detached: back to `running`. Resolves, or rejects with what the device threw, when it is done. */
  abandon(): Promise<void> {
    this.#epoch++;
    return this.#exclusively(async () => {
      const from = this.#state;
      this.#state = 'running';
      if (from !== 'running') await this.#migration.enter('running', from);
    });
  }

  /** The device is promised one call at a time, whichever session it comes from. */
  #exclusively<T>(call: () => T | Promise<T>): Promise<T> {
    this.#underWay++;
    const turn = this.#last.then(call).finally(() => { this.#underWay--; });
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}
