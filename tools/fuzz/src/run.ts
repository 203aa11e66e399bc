/** One run of a fuzzer: how far it is, what it has seen, and what to tell about it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commandName } from '@emudev/vfio-user-protocol';
import { FuzzFailure } from './failure.ts';
import type { Recorder } from './recorder.ts';
import type { Counts, Target } from './target.ts';

export interface FuzzOptions {
  readonly seed: number;
  /** Ends after so many messages, or so many seconds, whatever comes first. */
  readonly messages?: number;
  readonly seconds?: number;
  /** The session to begin with: repeats a failure without what came before. */
  readonly session?: number;
  /** Where the report of a failure is written. */
  readonly directory: string;
  /** A line now and then. */
  readonly progress?: (line: string) => void;
}

export interface SessionOutcome {
  readonly messages: number;
  readonly replies: number;
  readonly errors: number;
  /** The target ended it, before its time. */
  readonly closedByPeer: boolean;
  /** No size field lied. */
  readonly wellFramed: boolean;
}

export interface FuzzReport {
  readonly sessions: number;
  readonly messages: number;
  readonly replies: number;
  readonly errors: number;
  readonly seconds: number;
  readonly before: Counts | undefined;
  readonly after: Counts | undefined;
  /** For people. */
  readonly text: string;
}

const PROGRESS_MS = 5000;

export class Run {
  session: number;
  /** Sessions done. */
  done = 0;
  readonly #what: 'server' | 'client';
  readonly #options: FuzzOptions;
  readonly #began = performance.now();
  #told = this.#began;
  #messages = 0;
  #replies = 0;
  #errors = 0;
  #brokenFraming = 0;
  #closedByPeer = 0;
  #before: Counts | undefined;
  #after: Counts | undefined;

  constructor(what: 'server' | 'client', options: FuzzOptions) {
    this.#what = what;
    this.#options = options;
    this.session = options.session ?? 0;
  }

  wantsMore(): boolean {
    const { messages = Infinity, seconds = Infinity } = this.#options;
    return this.#messages < messages && this.#seconds < seconds;
  }

  nextSession(): void {
    this.session++;
  }

  add(outcome: SessionOutcome): void {
    this.done++;
    this.#messages += outcome.messages;
    this.#replies += outcome.replies;
    this.#errors += outcome.errors;
    if (!outcome.wellFramed) this.#brokenFraming++;
    if (outcome.closedByPeer) this.#closedByPeer++;
    const now = performance.now();
    if (now - this.#told < PROGRESS_MS) return;
    this.#told = now;
    this.#options.progress?.(`${this.#messages} messages, ${Math.round(this.#messages / this.#seconds)}/s, ${this.done} sessions, ${this.#errors} errors of ${this.#replies} replies`);
  }

  /** @throws FuzzFailure */
  counted(counts: Counts, target: Target<never, unknown>): void {
    target.check(counts);
    this.#before = target.baseline;
    this.#after = counts;
  }

  failed(cause: unknown, recorder: Recorder): FuzzFailure {
    const { seed, directory } = this.#options;
    mkdirSync(directory, { recursive: true });
    const file = join(directory, `${this.#what}-${seed}-${this.session}.txt`);
    const again = `npx pnpm fuzz ${this.#what} --seed ${seed} --session ${this.session} --messages 1`;
    const text = cause instanceof Error ? (cause instanceof FuzzFailure ? cause.message : (cause.stack ?? cause.message)) : String(cause);
    writeFileSync(file, `${text}\n\nseed ${seed}, session ${this.session}, after ${this.#messages} messages\n${again}\n\n${recorder.lines().join('\n')}\n`);
    return new FuzzFailure(`seed ${seed}, session ${this.session}, after ${this.#messages} messages: ${text}\nthe last messages: ${file}\nonce more: ${again}`);
  }

  report(histogram: ReadonlyMap<number, number>): FuzzReport {
    const seconds = this.#seconds;
    const rows = [...histogram].sort(([a], [b]) => a - b).map(([command, n]) => `  ${(command === 0xffff ? 'unknown' : commandName(command)).padEnd(26)} ${n}`);
    const held = ({ descriptors, mappings, heapBytes, rssBytes }: Counts): string => `${descriptors} descriptors, ${mappings} mappings, heap ${Math.round(heapBytes / 1024)} KiB, resident ${Math.round(rssBytes / 1024)} KiB`;
    const lines = [
      `${this.#what}, seed ${this.#options.seed}: ${this.#messages} messages in ${seconds.toFixed(1)} s, ${Math.round(this.#messages / seconds)}/s`,
      `${this.done} sessions (${this.#brokenFraming} with broken framing, ${this.#closedByPeer} ended by the target), ${this.#replies} replies, ${this.#errors} of them errors`,
      ...(this.#before === undefined || this.#after === undefined ? [] : [`before  ${held(this.#before)}`, `after   ${held(this.#after)}`, ...tallyLines(this.#after.tally)]),
      'sent, by command', ...rows,
    ];
    return { sessions: this.done, messages: this.#messages, replies: this.#replies, errors: this.#errors, seconds, before: this.#before, after: this.#after, text: lines.join('\n') };
  }

  get #seconds(): number {
    return (performance.now() - this.#began) / 1000;
  }
}

function tallyLines(tally: Readonly<Record<string, number>>): string[] {
  return ['in the target', ...Object.entries(tally).sort(([, a], [, b]) => b - a).slice(0, 30).map(([name, n]) => `  ${name.padEnd(60)} ${n}`)];
}
