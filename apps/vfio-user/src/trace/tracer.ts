/**
 * From what the proxy saw to what is shown and stored. Nothing is decoded while messages are under way: they are put aside and
 * worked off in small slices while traffic goes on, and in large ones when it pauses or too many have gathered.
 */
import type { SpanSink } from './output.ts';
import { captureEnd, captureMessage } from '../pcapng/capture.ts';
import { DECODE_BUSY_MS, DECODE_EVERY_MS, DECODE_IDLE_MS, MAX_DEFERRED_BYTES, MAX_DEFERRED_MESSAGES, UNFINISHED_MS } from '../limits.ts';
import { Exchanges, type Exchange } from './exchanges.ts';
import type { ChannelName, ObservedMessage, Side, TraceObserver } from './observed.ts';
import { SessionFacts } from './session-facts.ts';

export interface ExchangeSink {
  exchange(exchange: Exchange): void;
  unfinished(exchange: Exchange): void;
  note(session: number, atMs: number, text: string): void;
  /** A batch is complete. */
  flush(): void;
}

export interface TracerOptions {
  readonly sinks: readonly ExchangeSink[];
  /** Blocks of the capture go here. */
  readonly capture?: SpanSink;
}

/** What performance.now() 0 means since 1970, in milliseconds. */
export const ORIGIN_MS: number = performance.timeOrigin;

type Deferred = { readonly what: 'message'; readonly message: ObservedMessage } | { readonly what: 'note'; readonly session: number; readonly atMs: number; readonly text: string; readonly end: boolean };

export class Tracer implements TraceObserver, Disposable {
  readonly #options: TracerOptions;
  readonly #sessions = new Map<number, Exchanges>();
  readonly #ticker: NodeJS.Timeout;
  #deferred: Deferred[] = [];
  /** The first that is not worked off. */
  #next = 0;
  #busy = false;
  #deferredBytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: TracerOptions) {
    this.#options = options;
    this.#ticker = setInterval(() => {
      // With more to work off nobody knows what is still unanswered.
      if (this.#next < this.#deferred.length) return;
      const now = performance.now();
      for (const exchanges of this.#sessions.values()) exchanges.tick(now);
      for (const sink of options.sinks) sink.flush();
    }, UNFINISHED_MS / 2).unref();
  }

  opened(session: number, atMs: number): void {
    this.#defer({ what: 'note', session, atMs, text: 'connected', end: false });
  }

  message(message: ObservedMessage): void {
    this.#deferredBytes += message.bytes.length;
    this.#defer({ what: 'message', message });
  }

  anomaly(session: number, channel: ChannelName, from: Side, what: string, atMs: number): void {
    this.#defer({ what: 'note', session, atMs, text: `${channel === 'twin' ? 'twin socket, ' : ''}from the ${from}: ${what}`, end: false });
  }

  closed(session: number, why: string, atMs: number): void {
    this.#defer({ what: 'note', session, atMs, text: why, end: true });
  }

  /** Works off what was put aside, everything unless it takes longer than `maxMs`. */
  flush(maxMs?: number): void {
    const until = performance.now() + (maxMs ?? Infinity);
    const { sinks, capture } = this.#options;
    while (this.#next < this.#deferred.length) {
      const deferred = this.#deferred[this.#next++]!;
      if (deferred.what === 'message') {
        capture?.write(captureMessage(deferred.message, ORIGIN_MS));
        if (sinks.length > 0) this.#exchanges(deferred.message.session).add(deferred.message);
        this.#deferredBytes -= deferred.message.bytes.length;
        if (this.#next % 8 === 0 && performance.now() > until) break;
        continue;
      }
      if (deferred.end) {
        capture?.write(captureEnd(deferred.session, deferred.atMs, ORIGIN_MS));
        this.#sessions.get(deferred.session)?.end();
        this.#sessions.delete(deferred.session);
      }
      for (const sink of sinks) sink.note(deferred.session, deferred.atMs, deferred.text);
    }
    if (this.#next === this.#deferred.length || this.#next >= MAX_DEFERRED_MESSAGES / 2) {
      this.#deferred = this.#deferred.slice(this.#next);
      this.#next = 0;
    }
    capture?.flush();
    for (const sink of sinks) sink.flush();
  }

  /** Works off the rest; requests without a reply are shown as such. */
  [Symbol.dispose](): void {
    clearInterval(this.#ticker);
    clearTimeout(this.#timer);
    this.flush();
    for (const exchanges of this.#sessions.values()) exchanges.end();
    this.#sessions.clear();
    for (const sink of this.#options.sinks) sink.flush();
  }

  #defer(deferred: Deferred): void {
    this.#deferred.push(deferred);
    this.#busy = true;
    if (this.#deferred.length - this.#next >= MAX_DEFERRED_MESSAGES || this.#deferredBytes >= MAX_DEFERRED_BYTES) this.flush(DECODE_IDLE_MS);
    this.#timer ??= setTimeout(() => { this.#slice(); }, DECODE_EVERY_MS);
  }

  /** A little while traffic goes on, more when it pauses. */
  #slice(): void {
    this.flush(this.#busy ? DECODE_BUSY_MS : DECODE_IDLE_MS);
    this.#busy = false;
    this.#timer = this.#next < this.#deferred.length ? setTimeout(() => { this.#slice(); }, DECODE_EVERY_MS) : undefined;
  }

  #exchanges(session: number): Exchanges {
    let exchanges = this.#sessions.get(session);
    if (exchanges === undefined) {
      const { sinks } = this.#options;
      exchanges = new Exchanges(session, new SessionFacts(), {
        done: (exchange) => { for (const sink of sinks) sink.exchange(exchange); },
        unfinished: (exchange) => { for (const sink of sinks) sink.unfinished(exchange); },
      });
      this.#sessions.set(session, exchanges);
    }
    return exchanges;
  }
}
