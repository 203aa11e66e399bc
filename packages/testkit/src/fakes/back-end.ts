import type { BackEndHooks, ResetKind, Update } from '@emudev/emudev';
import { turn } from '../suite.ts';

/** A hook of a back end. */
export type HookName = 'start' | 'stop' | 'ready' | 'destroyed' | 'updated' | 'reset' | 'lock' | 'unlock';

/**
 * A back end that does nothing but note what it is told, as text: 'ready', 'lock dma-map', 'updated dma', 'reset function', …
 * Awaited hooks take a turn of the event loop, so that a provider which does not wait is caught calling the next one meanwhile.
 */
export class RecordingBackEnd implements BackEndHooks {
  /** What was told, oldest first; entries are made when a hook ends. */
  readonly log: string[] = [];
  /** Hooks that were called while another one was under way. */
  readonly overlaps: string[] = [];
  /** Between lock and unlock. */
  locked = false;
  readonly #held = new Map<HookName, PromiseWithResolvers<undefined>>();
  readonly #failing = new Map<HookName, Error>();
  #running: string | undefined;

  /** Runs inside a hook, before it is noted: what it throws the hook throws. Replace it to do more. */
  inside: (hook: HookName, detail: string) => void | Promise<void> = () => {};

  /** Notes 'start'. */
  start(): Promise<void> { return this.#run('start'); }
  /** Notes 'stop'. */
  stop(): Promise<void> { return this.#run('stop'); }
  ready(): Promise<void> { return this.#run('ready'); }
  destroyed(reason: string): Promise<void> { return this.#run('destroyed', reason); }
  reset(kind: ResetKind): Promise<void> { return this.#run('reset', kind); }
  async lock(reason: string): Promise<void> {
    await this.#run('lock', reason);
    this.locked = true;
  }
  updated(what: Update): void {
    this.#note('updated', what.dma ? 'dma' : 'irqs');
  }
  /** Notes 'unlock'; not `locked` any more. */
  unlock(): void {
    this.locked = false;
    this.#note('unlock', '');
  }

  /** The first words of the log: hooks without what they were told. */
  get hooks(): readonly string[] {
    return this.log.map((line) => line.split(' ', 1)[0]!);
  }

  /** The log since the last call. */
  take(): string[] {
    return this.log.splice(0);
  }

  /** The next calls of a hook do not return until the function returned is called. */
  hold(hook: HookName): () => void {
    const gate = Promise.withResolvers<undefined>();
    this.#held.set(hook, gate);
    return () => {
      this.#held.delete(hook);
      gate.resolve(undefined);
    };
  }

  /** A hook throws from now on (after it was noted), until `heal`. */
  fail(hook: HookName, error: Error = new Error(`the back end's ${hook} fails`)): void {
    this.#failing.set(hook, error);
  }
  /** Hooks do what they should again: nothing is held, nothing fails. */
  heal(): void {
    this.#failing.clear();
    for (const gate of this.#held.values()) gate.resolve(undefined);
    this.#held.clear();
  }

  async #run(hook: HookName, detail = ''): Promise<void> {
    const line = detail === '' ? hook : `${hook} ${detail}`;
    this.#enter(line);
    this.#running = line;
    try {
      await turn();
      await this.#held.get(hook)?.promise;
      await this.inside(hook, detail);
      this.log.push(line);
      this.#throw(hook);
    } finally {
      this.#running = undefined;
    }
  }

  #note(hook: HookName, detail: string): void {
    this.#enter(detail === '' ? hook : `${hook} ${detail}`);
    void this.inside(hook, detail);
    this.log.push(detail === '' ? hook : `${hook} ${detail}`);
    this.#throw(hook);
  }

  #enter(line: string): void {
    if (this.#running !== undefined) this.overlaps.push(`${line} during ${this.#running}`);
  }

  #throw(hook: HookName): void {
    const error = this.#failing.get(hook);
    if (error !== undefined) throw error;
  }
}
