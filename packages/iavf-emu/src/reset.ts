/**
 * Resets, one at a time, and what VFGEN_RSTAT says meanwhile.
 *
 * | state             | RESET_VF ('family')   | FLR, device reset ('function') | consumer left         | finished              |
 * | ----------------- | --------------------- | ------------------------------ | --------------------- | --------------------- |
 * | active (2)        | in progress           | in progress                    | in progress           | - (none was begun)    |
 * | in progress (0)   | ignored: one will do  | in progress, after this one    | the same              | active, or the next   |
 * | quiesced          | kept until resume     | in progress; voids a kept one  | the same              | -                     |
 *
 * RSTAT never rests at 1 (completed): the reset path of Linux waits for 2.
 */
import type { ResetKind } from '@emudev/emudev';

export class ResetSequence {
  readonly #perform: (kind: ResetKind) => Promise<void>;
  #tail: Promise<void> = Promise.resolve();
  #pending = 0;
  #quiesced = false;
  #kept = false;

  /** `perform` does one reset from beginning to end; it must not reject. */
  constructor(perform: (kind: ResetKind) => Promise<void>) {
    this.#perform = perform;
  }

  get inProgress(): boolean {
    return this.#pending > 0;
  }

  /** Resolves when the reset is done (or, for RESET_VF, needs no doing). */
  request(kind: ResetKind): Promise<void> {
    if (kind === 'family') {
      if (this.inProgress) return Promise.resolve();
      if (this.#quiesced) {
        this.#kept = true;
        return Promise.resolve();
      }
    } else {
      this.#kept = false;
    }
    const first = this.#pending === 0;
    this.#pending++;
    // Begun at once where nothing is before it: the request behind RESET_VF in the ring must find the queue gone.
    const run = (first ? this.#perform(kind) : this.#tail.then(() => this.#perform(kind))).finally(() => { this.#pending--; });
    this.#tail = run;
    return run;
  }

  /** Resolves when none is in progress; RESET_VF waits from here on until `resume`. */
  async quiesce(): Promise<void> {
    while (this.inProgress) await this.#tail;
    this.#quiesced = true;
  }

  resume(): void {
    this.#quiesced = false;
    if (!this.#kept) return;
    this.#kept = false;
    void this.request('family');
  }
}
