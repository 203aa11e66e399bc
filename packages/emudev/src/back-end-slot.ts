/**
 * Where the one back end of a device sits, and the discipline its hooks are called with: one at a time, awaited, in order.
 *
 * The transport brackets its changes with lock … unlock; that bracket is one section. What is told inside it runs inside it, one after
 * the other; a reset or departure at any other time opens a section of its own, with its own lock and unlock, so a back end sees
 * `reset` and `destroyed` only while it is locked. Applications (start, stop) and joining or leaving back ends wait for the section to end.
 *
 * A provider that must keep the data path still for longer (bus mastering off) suspends it: locked, but no section is open, so
 * everything else goes on. Locks nest; the back end sees the outermost. `#locks` counts who wants it locked; whether it is, and what
 * becomes of a lock that comes late, is the seat's: see the table in back-end-seat.ts.
 *
 * A hook that has not ended at its deadline has failed with EMUDEV_TIMEOUT, and its section goes on without it: neither `close` nor the
 * transport waits for ever for a back end. It is the one way in which a back end can see a hook called while another still runs.
 */
import { BackEndSeat, type Ask } from './back-end-seat.ts';
import type { Deadlines } from './clock.ts';
import type { BackEndHooks } from './device.ts';
import { Sections } from './sections.ts';

const NOBODY: Ask = () => Promise.resolve();

export class BackEndSlot {
  readonly #device: string;
  readonly #deadlines: Deadlines;
  readonly #report: (error: unknown) => void;
  readonly #sections = new Sections();
  /** Has the seat, or waits for it; `#seat` hears of things only from the moment it is taken in a section. */
  #owner: BackEndSeat | undefined;
  #seat: BackEndSeat | undefined;
  /** The transport's section while it is open: what is told inside it, and the way out. */
  #bracket: { readonly told: Sections; leave(): void } | undefined;
  /** Who wants the back end locked: the transport's section, a suspension, a reset. */
  #locks = 0;
  #suspended = false;

  constructor(device: string, deadlines: Deadlines, report: (error: unknown) => void) {
    this.#device = device;
    this.#deadlines = deadlines;
    this.#report = report;
  }

  get taken(): boolean {
    return this.#owner !== undefined;
  }

  /** Takes the seat; `catchUp` then tells the newcomer what it has missed. Returned: gives it up, locked first where it may use guest memory. */
  take(hooks: BackEndHooks, catchUp: (ask: Ask) => Promise<void>): (lockFirst: () => boolean) => Promise<void> {
    const seat = new BackEndSeat(hooks, { device: this.#device, deadlines: this.#deadlines, wanted: () => this.#locks > 0, report: this.#report });
    this.#owner = seat;
    if (this.#sections.idle) this.#seat = seat;
    void this.#sections.run(async () => {
      this.#seat = seat;
      // One that cannot lock hears of the rest all the same: it has no queue yet that could move.
      if (this.#locks > 0) await seat.acquire('joined a suspended device').catch(this.#report);
      await catchUp(seat.ask);
    }).catch(this.#report);
    return (lockFirst) => this.#give(seat, lockFirst);
  }

  /** A back end that is locked when it leaves stays locked. */
  async #give(seat: BackEndSeat, lockFirst: () => boolean): Promise<void> {
    if (this.#owner !== seat) return;
    await this.#sections.run(async () => {
      if (this.#owner !== seat) return;
      this.#locks++;
      try {
        if (lockFirst()) await seat.acquire('back end leaves');
      } catch (error) {
        this.#report(error);
      }
      seat.leave();
      this.#locks--;
      this.#seat = undefined;
      this.#owner = undefined;
    });
  }

  /** Opens the transport's section. Rejects, with the section closed again, when the back end does not lock. */
  async lock(reason: string): Promise<void> {
    const leave = await this.#sections.enter();
    try {
      await this.#want(reason);
    } catch (error) {
      leave();
      throw error;
    }
    this.#bracket = { told: new Sections(), leave };
  }

  /** Closes it, when what is being told inside it has ended; harmless when it is not open. */
  unlock(): void {
    const bracket = this.#bracket;
    if (bracket === undefined) return;
    this.#bracket = undefined;
    const end = (): void => {
      this.#unwant();
      bracket.leave();
    };
    if (bracket.told.idle) end();
    else void bracket.told.run(end);
  }

  /** Locks without holding the section. Rejects, not suspended, when the back end does not lock. */
  async suspend(reason: string): Promise<void> {
    await this.#inSection(async () => {
      if (this.#suspended) return;
      await this.#want(reason);
      this.#suspended = true;
    });
  }

  /** Ends a suspension; harmless when there is none. */
  async resume(): Promise<void> {
    await this.#inSection(() => {
      if (!this.#suspended) return;
      this.#suspended = false;
      this.#unwant();
    });
  }

  /** Calls hooks for the application: waits for the transport's section, throws what they throw. */
  call(body: (ask: Ask) => void | Promise<void>): Promise<void> {
    return this.#sections.run(() => body(this.#ask));
  }

  /** Calls hooks for the provider: what they throw is reported, the consumer does not hear of it. */
  tell(body: (ask: Ask) => void | Promise<void>): Promise<void> {
    return this.#inSection(() => this.#guarded(body));
  }

  /**
   * As `tell`, but locked: inside the transport's section where one is open and `join` is true, else in a section of its own.
   * A lock that fails is reported and the body runs all the same: what it announces has happened.
   */
  async tellLocked(reason: string, join: boolean, body: (ask: Ask) => void | Promise<void>): Promise<void> {
    if (join && this.#bracket !== undefined) {
      await this.#bracket.told.run(() => this.#guarded(body));
      return;
    }
    await this.#sections.run(async () => {
      let locked = false;
      await this.#guarded(async () => {
        await this.#want(reason);
        locked = true;
      });
      await this.#guarded(body);
      if (locked) this.#unwant();
    });
  }

  /** The one hook that is told synchronously, between lock and unlock. */
  tellNow(body: (hooks: BackEndHooks) => void): void {
    if (this.#seat === undefined) return;
    try {
      body(this.#seat.hooks);
    } catch (error) {
      this.#report(error);
    }
  }

  get #ask(): Ask {
    return this.#seat?.ask ?? NOBODY;
  }

  #inSection(body: () => void | Promise<void>): Promise<void> {
    return (this.#bracket?.told ?? this.#sections).run(body);
  }

  async #want(reason: string): Promise<void> {
    this.#locks++;
    try {
      await this.#seat?.acquire(reason);
    } catch (error) {
      this.#locks--;
      throw error;
    }
  }

  #unwant(): void {
    this.#locks--;
    if (this.#locks === 0) this.#seat?.release();
  }

  async #guarded(body: (ask: Ask) => void | Promise<void>): Promise<void> {
    try {
      await body(this.#ask);
    } catch (error) {
      this.#report(error);
    }
  }
}
