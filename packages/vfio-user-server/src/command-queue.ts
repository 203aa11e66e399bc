/**
 * What waits to be executed: commands in order of arrival, and before the next of them whatever is to be done between two. One at
 * a time, each awaited; a client with much to say gets no more than its turn of the thread, and is not read while too much waits.
 */
import type { Frame } from '@emudev/vfio-user-protocol';
import { INPUT_HARD_LIMIT_FACTOR, TURN_MS, type ServerLimits } from './limits.ts';

export interface CommandQueueOwner {
  /** Executes one command and answers it. Neither throws nor rejects; undefined where it is done already. */
  dispatch(frame: Frame): Promise<void> | undefined;
  /** Replies that the client has not taken. */
  readonly pendingOutputBytes: number;
  readonly pendingOutputFds: number;
  /** A reply the device waits for may be behind the commands: the queue has to grow further. */
  readonly waitsForReply: boolean;
  pauseInput(paused: boolean): void;
  /** Nothing is being executed any more. */
  onIdle(): void;
  /** The client sends commands instead of the reply that is waited for. */
  onFlood(): void;
}

interface Job {
  run(): Promise<void>;
  done(): void;
}

export class CommandQueue {
  readonly #limits: ServerLimits;
  readonly #owner: CommandQueueOwner;
  #frames: Frame[] = [];
  #bytes = 0;
  #fds = 0;
  #jobs: Job[] = [];
  #busy = false;
  #closed = false;
  #turnBegan = 0;
  #scheduled = false;

  constructor(limits: ServerLimits, owner: CommandQueueOwner) {
    this.#limits = limits;
    this.#owner = owner;
  }

  /** Something is being executed. */
  get busy(): boolean {
    return this.#busy;
  }

  /** The event loop has come to this client. */
  beginTurn(): void {
    this.#turnBegan = performance.now();
  }

  push(frame: Frame): void {
    this.#frames.push(frame);
    this.#bytes += frame.size;
    this.#fds += frame.fds.length;
    this.pump();
    this.regulate();
  }

  /** The client has taken replies: commands that waited for that go on, and with fewer of them waiting it may be read again. */
  drained(): void {
    this.pump();
    this.regulate();
  }

  /** Runs `work` (which neither throws nor rejects) when no command is being executed; not at all if the queue is closed before. Resolves in either case. */
  between(work: () => Promise<void>): Promise<void> {
    if (this.#closed) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#jobs.push({ run: work, done: () => { resolve(undefined); } });
    this.pump();
    return promise;
  }

  /** Executes until something has to be awaited, the client does not take its replies, or others have to have their turn. */
  pump(): void {
    const { maxPendingOutputBytes, maxPendingOutputFds } = this.#limits;
    while (!this.#busy && !this.#scheduled) {
      const job = this.#jobs.shift();
      if (job !== undefined) return this.#await(job.run(), job.done);
      if (this.#frames.length === 0 || this.#owner.pendingOutputBytes > maxPendingOutputBytes || this.#owner.pendingOutputFds > maxPendingOutputFds) return;
      if (performance.now() - this.#turnBegan > TURN_MS) return this.#pumpLater();
      const frame = this.#frames.shift()!;
      this.#bytes -= frame.size;
      this.#fds -= frame.fds.length;
      // Also while a handler runs synchronously: the connection may end under it, and the device is not entered twice.
      this.#busy = true;
      const pending = this.#owner.dispatch(frame);
      if (pending !== undefined) return this.#await(pending, () => undefined);
      this.#idle();
    }
  }

  /** Pauses or resumes the client's input by what waits here. */
  regulate(): void {
    const { maxPendingInputBytes, maxPendingMessages, maxPendingFds } = this.#limits;
    const over = (factor: number): boolean => this.#bytes > factor * maxPendingInputBytes || this.#frames.length > factor * maxPendingMessages || this.#fds > factor * maxPendingFds;
    const waits = this.#owner.waitsForReply;
    if (waits && over(INPUT_HARD_LIMIT_FACTOR)) return this.#owner.onFlood();
    this.#owner.pauseInput(!waits && over(1));
  }

  /** Returns the descriptors of the commands that are not executed any more. */
  close(): number[] {
    this.#closed = true;
    const fds = this.#frames.flatMap((frame) => frame.fds);
    this.#frames = [];
    for (const job of this.#jobs.splice(0)) job.done();
    return fds;
  }

  #await(pending: Promise<void>, done: () => void): void {
    this.#busy = true;
    void pending.then(() => {
      this.#idle();
      done();
      this.pump();
      this.regulate();
    });
  }

  #pumpLater(): void {
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.beginTurn();
      this.pump();
      this.regulate();
    });
  }

  #idle(): void {
    this.#busy = false;
    this.#owner.onIdle();
  }
}
