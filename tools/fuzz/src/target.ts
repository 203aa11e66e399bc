/** The process that is fuzzed, seen from the one that fuzzes it. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { FuzzFailure } from './failure.ts';
import { ANSWER_DEADLINE_MS, EXIT_NOTICE_MS, MAX_HEAP_GROWTH_BYTES, MAX_RSS_GROWTH_BYTES } from './limits.ts';

/** What a target holds when it serves nobody. */
export interface Counts {
  readonly descriptors: number;
  /** Mappings of memory that came from outside. */
  readonly mappings: number;
  readonly heapBytes: number;
  readonly rssBytes: number;
  /** Since the last count: what must never happen, each as text. */
  readonly defects: readonly string[];
  /** Since the start, by name: how sessions ended, errors by code and the like. */
  readonly tally: Readonly<Record<string, number>>;
}

export class Target<Request, Answer> implements AsyncDisposable {
  readonly #child: ChildProcess;
  #output = '';
  #ended: string | undefined;
  #baseline: Counts | undefined;

  private constructor(module: URL, args: readonly string[]) {
    this.#child = fork(module, args, { execArgv: ['--expose-gc', '--max-old-space-size=512'], stdio: ['ignore', 'pipe', 'pipe', 'ipc'], serialization: 'advanced' });
    const collect = (data: Buffer): void => { this.#output = (this.#output + data.toString()).slice(-20_000); };
    this.#child.stdout!.on('data', collect);
    this.#child.stderr!.on('data', collect);
    this.#child.once('exit', (code, signal) => { this.#ended = `code ${code}, signal ${signal}`; });
  }

  /** Resolves when the process says that it is ready. */
  static async start<Request, Answer>(module: URL, args: readonly string[]): Promise<Target<Request, Answer>> {
    const target = new Target<Request, Answer>(module, args);
    await target.#message();
    return target;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** @throws FuzzFailure where the process has ended, or does not answer */
  async ask(request: Request): Promise<Answer> {
    this.checkAlive();
    this.#child.send(request as object);
    return (await this.#message()) as Answer;
  }

  checkAlive(): void {
    if (this.#ended !== undefined) throw new FuzzFailure(`the target has ended (${this.#ended}):\n${this.#output}`);
  }

  /** The first counts are the baseline of all later ones. @throws FuzzFailure for growth, and for defects */
  check(counts: Counts): void {
    const [defect] = counts.defects;
    if (defect !== undefined) throw new FuzzFailure(`${counts.defects.length} defects in the target, the first:\n${defect}`);
    this.#baseline ??= counts;
    const { descriptors, mappings, heapBytes, rssBytes } = this.#baseline;
    const mib = (bytes: number): string => `${Math.round(bytes / (1 << 20))} MiB`;
    if (counts.descriptors !== descriptors) throw new FuzzFailure(`${counts.descriptors} descriptors, it began with ${descriptors}`);
    if (counts.mappings !== mappings) throw new FuzzFailure(`${counts.mappings} mappings of foreign memory, it began with ${mappings}`);
    if (counts.heapBytes > heapBytes + MAX_HEAP_GROWTH_BYTES) throw new FuzzFailure(`the heap has grown from ${mib(heapBytes)} to ${mib(counts.heapBytes)}`);
    if (counts.rssBytes > rssBytes + MAX_RSS_GROWTH_BYTES) throw new FuzzFailure(`resident memory has grown from ${mib(rssBytes)} to ${mib(counts.rssBytes)}`);
  }

  /** Why something went wrong, where the target knows more about it: that it has ended, or what it noted down. */
  async explain(error: unknown, takeCounts: () => Promise<Counts>): Promise<unknown> {
    // Its end is an event, and may be on its way.
    await new Promise((resolve) => { setTimeout(resolve, EXIT_NOTICE_MS); });
    try {
      const { defects } = await takeCounts();
      return defects.length === 0 ? error : new FuzzFailure(`${error instanceof Error ? error.message : String(error)}\ndefects in the target:\n${defects.join('\n')}`);
    } catch (dead) {
      return this.#ended === undefined ? error : dead;
    }
  }

  get baseline(): Counts | undefined {
    return this.#baseline;
  }

  async #message(): Promise<unknown> {
    const timeout = AbortSignal.timeout(ANSWER_DEADLINE_MS);
    const over = new AbortController();
    try {
      return await Promise.race([
        once(this.#child, 'message', { signal: AbortSignal.any([timeout, over.signal]) }).then(([message]) => message as unknown),
        once(this.#child, 'exit', { signal: over.signal }).then(() => { this.checkAlive(); }),
      ]);
    } catch (error) {
      if (timeout.aborted) throw new FuzzFailure(`the target does not answer within ${ANSWER_DEADLINE_MS} ms:\n${this.#output}`);
      throw error;
    } finally {
      over.abort();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended !== undefined) return;
    const exit = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exit;
  }
}
