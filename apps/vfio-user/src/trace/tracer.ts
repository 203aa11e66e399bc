/**
 * From what the proxy saw to what is shown and stored. Nothing is decoded while messages are under way: they are put aside and
 * worked off in slices of a millisecond, or all at once when too many have gathered.
 */
import type { SpanSink } from './output.ts';
import { captureEnd, captureMessage } from '../pcapng/capture.ts';
import { DEFER_MS, MAX_DEFERRED_BYTES, MAX_DEFERRED_MESSAGES, SLICE_MS, UNFINISHED_MS } from '../limits.ts';
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
  #deferredBytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: TracerOptions) {
    this.#options = options;
    this.#ticker = setInterval(() => {
      this.flush();
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
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#deferred.length === 0) return;
    const until = performance.now() + (maxMs ?? Infinity);
    const { sinks, capture } = this.#options;
    let done = 0;
    for (const deferred of this.#deferred) {
      if (done++ % 16 === 0 && done > 1 && performance.now() > until) {
        done--;
        break;
      }
      if (deferred.what === 'message') this.#deferredBytes -= deferred.message.bytes.length;
      if (deferred.what === 'message') {
        capture?.write(captureMessage(deferred.message, ORIGIN_MS));
        if (sinks.length > 0) this.#exchanges(deferred.message.session).add(deferred.message);
        continue;
      }
      if (deferred.end) {
        capture?.write(captureEnd(deferred.session, deferred.atMs, ORIGIN_MS));
        this.#sessions.get(deferred.session)?.end();
        this.#sessions.delete(deferred.session);
      }
      for (const sink of sinks) sink.note(deferred.session, deferred.atMs, deferred.text);
    }
    this.#deferred.splice(0, done);
    capture?.flush();
    for (const sink of sinks) sink.flush();
    if (this.#deferred.length > 0) this.#timer = setTimeout(() => { this.flush(SLICE_MS); }, SLICE_MS);
  }

  /** Works off the rest; requests without a reply are shown as such. */
  [Symbol.dispose](): void {
    clearInterval(this.#ticker);
    this.flush();
    for (const exchanges of this.#sessions.values()) exchanges.end();
    this.#sessions.clear();
    for (const sink of this.#options.sinks) sink.flush();
  }

  #defer(deferred: Deferred): void {
    this.#deferred.push(deferred);
    if (this.#deferred.length >= MAX_DEFERRED_MESSAGES || this.#deferredBytes >= MAX_DEFERRED_BYTES) this.flush();
    else this.#timer ??= setTimeout(() => { this.flush(SLICE_MS); }, DEFER_MS);
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
