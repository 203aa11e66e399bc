/**
 * Where the one back end of a device sits, and the discipline its hooks are called with: one at a time, awaited, in order.
 *
 * The transport brackets its changes with lock … unlock; that bracket is one section. A reset or a departure that happens inside
 * it runs inside it; any other opens a section of its own, with its own lock and unlock, so a back end sees `reset` and
 * `destroyed` only while it is locked. Applications (start, stop) and joining or leaving back ends wait for the section to end.
 *
 * A provider that must keep the data path still for longer (bus mastering off) suspends it: locked, but no section is open, so
 * everything else goes on. Locks nest; the back end sees the outermost.
 */
import type { BackEndHooks } from './device.ts';
import { Sections } from './sections.ts';

export class BackEndSlot {
  readonly #report: (error: unknown) => void;
  readonly #sections = new Sections();
  /** Holds the seat; `#hooks` are called only from the moment the seat is taken in a section. */
  #owner: BackEndHooks | undefined;
  #hooks: BackEndHooks | undefined;
  /** Leaves the transport's section while it is open. */
  #leave: (() => void) | undefined;
  /** Who wants the back end locked: the transport's section, a suspension, a reset. */
  #locks = 0;
  #suspended = false;

  constructor(report: (error: unknown) => void) {
    this.#report = report;
  }

  get taken(): boolean {
    return this.#owner !== undefined;
  }

  /** Takes the seat; `catchUp` then tells the newcomer what it has missed. */
  take(hooks: BackEndHooks, catchUp: (hooks: BackEndHooks) => Promise<void>): void {
    this.#owner = hooks;
    if (this.#sections.idle) this.#hooks = hooks;
    void this.#sections.run(async () => {
      this.#hooks = hooks;
      if (this.#locks > 0) await hooks.lock('joined a suspended device');
      await catchUp(hooks);
    }).catch(this.#report);
  }

  /** Gives the seat up. A back end that may be using guest memory is locked first and stays locked: it has left. */
  async give(hooks: BackEndHooks, lockFirst: () => boolean): Promise<void> {
    if (this.#owner !== hooks) return;
    await this.#sections.run(async () => {
      try {
        if (lockFirst() && this.#locks === 0) await hooks.lock('back end leaves');
      } catch (error) {
        this.#report(error);
      }
      this.#hooks = undefined;
      this.#owner = undefined;
    });
  }

  /** Opens the transport's section. Rejects, with the section closed again, when the back end cannot lock. */
  async lock(reason: string): Promise<void> {
    const leave = await this.#sections.enter();
    try {
      await this.#lockHooks(reason);
    } catch (error) {
      leave();
      throw error;
    }
    this.#leave = leave;
  }

  /** Closes it; harmless when it is not open. */
  unlock(): void {
    const leave = this.#leave;
    if (leave === undefined) return;
    this.#leave = undefined;
    this.#unlockHooks();
    leave();
  }

  /** Locks without holding the section. Rejects, not suspended, when the back end cannot lock. */
  async suspend(reason: string): Promise<void> {
    await this.#inSection(async () => {
      if (this.#suspended) return;
      await this.#lockHooks(reason);
      this.#suspended = true;
    });
  }

  /** Ends a suspension; harmless when there is none. */
  async resume(): Promise<void> {
    await this.#inSection(() => {
      if (!this.#suspended) return;
      this.#suspended = false;
      this.#unlockHooks();
    });
  }

  /** Calls hooks for the application: waits for the transport's section, throws what they throw. */
  call(body: (hooks: BackEndHooks | undefined) => void | Promise<void>): Promise<void> {
    return this.#sections.run(() => body(this.#hooks));
  }

  /** Calls hooks for the provider: what they throw is reported, the consumer does not hear of it. */
  tell(body: (hooks: BackEndHooks | undefined) => void | Promise<void>): Promise<void> {
    return this.#inSection(() => this.#guarded(body));
  }

  /**
   * As `tell`, but locked: inside the transport's section where one is open and `join` is true, else in a section of its own.
   * A lock that fails is reported and the body runs all the same: what it announces has happened.
   */
  async tellLocked(reason: string, join: boolean, body: (hooks: BackEndHooks | undefined) => void | Promise<void>): Promise<void> {
    if (join && this.#leave !== undefined) {
      await this.#guarded(body);
      return;
    }
    await this.#sections.run(async () => {
      let locked = false;
      await this.#guarded(async () => {
        await this.#lockHooks(reason);
        locked = true;
      });
      await this.#guarded(body);
      if (locked) this.#unlockHooks();
    });
  }

  /** The one hook that is told synchronously, between lock and unlock. */
  tellNow(body: (hooks: BackEndHooks) => void): void {
    if (this.#hooks === undefined) return;
    try {
      body(this.#hooks);
    } catch (error) {
      this.#report(error);
    }
  }

  #inSection(body: () => void | Promise<void>): Promise<void> {
    return this.#leave === undefined ? this.#sections.run(body) : Promise.resolve(body());
  }

  async #lockHooks(reason: string): Promise<void> {
    if (this.#locks === 0) await this.#hooks?.lock(reason);
    this.#locks++;
  }

  #unlockHooks(): void {
    this.#locks--;
    if (this.#locks === 0) this.tellNow((hooks) => { hooks.unlock(); });
  }

  async #guarded(body: (hooks: BackEndHooks | undefined) => void | Promise<void>): Promise<void> {
    try {
      await body(this.#hooks);
    } catch (error) {
      this.#report(error);
    }
  }
}
