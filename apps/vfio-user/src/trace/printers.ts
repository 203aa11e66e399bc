/** Exchanges as lines of text, as lines of JSON, and counted. */
import { errnoName, isPosted } from '@emudev/vfio-user-protocol';
import { createColors } from 'picocolors';
import { printable } from '../printable.ts';
import { errnoOf, headerOf, latencyMs, type Exchange, type Half } from './exchanges.ts';
import type { Formatter } from './format.ts';
import type { SpanSink } from './output.ts';
import type { Summary } from './summary.ts';
import { ORIGIN_MS, type ExchangeSink } from './tracer.ts';

export type TimeStyle = 'relative' | 'absolute' | 'delta';
type Filter = (exchange: Exchange) => boolean;

function startOf(exchange: Exchange): number {
  return (exchange.request?.message ?? exchange.reply?.message ?? exchange.raw!).atMs;
}

/** Time of day in UTC, to the microsecond. */
function timeOfDay(atMs: number): string {
  const whole = Math.floor(ORIGIN_MS + atMs);
  const micros = Math.floor(((ORIGIN_MS + atMs) % 1) * 1000);
  return `${new Date(whole).toISOString().slice(11, 23)}${String(micros).padStart(3, '0')}`;
}

export class TextPrinter implements ExchangeSink {
  readonly #out: SpanSink;
  readonly #formatter: Formatter;
  readonly #filter: Filter;
  readonly #style: TimeStyle;
  readonly #startMs: number;
  readonly #colors: ReturnType<typeof createColors>;
  /** Notes about sessions would be noise where a filter asks for few lines. */
  readonly #notes: boolean;
  #lastMs: number;

  constructor(out: SpanSink, formatter: Formatter, filter: Filter, options: { readonly time: TimeStyle; readonly colors: boolean; readonly startMs: number; readonly notes: boolean }) {
    this.#out = out;
    this.#formatter = formatter;
    this.#filter = filter;
    this.#style = options.time;
    this.#startMs = options.startMs;
    this.#lastMs = options.startMs;
    this.#colors = createColors(options.colors);
    this.#notes = options.notes;
  }

  exchange(exchange: Exchange): void {
    if (!this.#filter(exchange)) return;
    const { name, call, result, failed, latency, malformed } = this.#formatter.line(exchange);
    const c = this.#colors;
    const text = exchange.late ? `<... ${c.bold(name)} resumed>` : `${exchange.from === 'server' ? '<- ' : ''}${c.bold(name)}${call}`;
    const answered = exchange.posted || exchange.reply !== undefined || exchange.raw !== undefined;
    const parts = [this.#prefix(exchange, startOf(exchange)), text, failed || !answered ? c.red(result) : result];
    if (exchange.request === undefined && exchange.raw === undefined) parts.push(c.yellow('(a reply to nothing)'));
    if (!answered) parts.push(c.yellow('(no reply)'));
    if (latency !== '') parts.push(c.dim(latency));
    if (malformed !== '') parts.push(c.yellow(`! ${malformed}`));
    this.#out.write(`${parts.filter((part) => part !== '').join(' ')}\n`);
  }

  unfinished(exchange: Exchange): void {
    if (!this.#filter(exchange)) return;
    const { name, call } = this.#formatter.line(exchange);
    this.#out.write(`${this.#prefix(exchange, startOf(exchange))} ${exchange.from === 'server' ? '<- ' : ''}${this.#colors.bold(name)}${call} ${this.#colors.yellow('<unfinished ...>')}\n`);
  }

  note(session: number, atMs: number, text: string): void {
    if (this.#notes) this.#out.write(`${this.#time(atMs)} #${session}  ${this.#colors.cyan(`-- ${printable(text)} --`)}\n`);
  }

  flush(): void {
    this.#out.flush();
  }

  #prefix(exchange: Exchange, atMs: number): string {
    return `${this.#time(atMs)} #${exchange.session}${exchange.channel === 'twin' ? 't' : ' '}`;
  }

  #time(atMs: number): string {
    if (this.#style === 'absolute') return this.#colors.dim(timeOfDay(atMs));
    const since = this.#style === 'delta' ? atMs - this.#lastMs : atMs - this.#startMs;
    this.#lastMs = atMs;
    return this.#colors.dim((since / 1000).toFixed(6).padStart(11));
  }
}

/** One object per line; the fields are those of `describeMessage`. */
export class JsonPrinter implements ExchangeSink {
  readonly #out: SpanSink;
  readonly #formatter: Formatter;
  readonly #filter: Filter;

  constructor(out: SpanSink, formatter: Formatter, filter: Filter) {
    this.#out = out;
    this.#formatter = formatter;
    this.#filter = filter;
  }

  exchange(exchange: Exchange): void {
    if (!this.#filter(exchange)) return;
    const header = headerOf(exchange);
    const { request, reply } = this.#formatter.describe(exchange);
    const latency = latencyMs(exchange);
    const errno = errnoOf(exchange);
    const entry = {
      time: new Date(ORIGIN_MS + startOf(exchange)).toISOString(), session: exchange.session, channel: exchange.channel, from: exchange.from,
      ...(exchange.raw === undefined ? {} : { raw: Buffer.from(exchange.raw.bytes).toString('hex'), fds: exchange.raw.fds }),
      ...(header === undefined ? {} : { command: (request ?? reply)?.name, id: header.id, posted: isPosted(header.flags) }),
      ...(exchange.request === undefined ? {} : { request: half(exchange.request, request) }),
      ...(exchange.reply === undefined ? {} : { reply: half(exchange.reply, reply), ...(errno === 0 ? { errno: 0 } : { errno, error: errnoName(errno) }) }),
      ...(latency === undefined ? {} : { latencyUs: Math.round(latency * 1e6) / 1e3 }),
    };
    this.#out.write(`${JSON.stringify(entry)}\n`);
  }

  unfinished(): void {
    // The line comes with the reply, or at the end.
  }

  note(session: number, atMs: number, text: string): void {
    this.#out.write(`${JSON.stringify({ time: new Date(ORIGIN_MS + atMs).toISOString(), session, note: text })}\n`);
  }

  flush(): void {
    this.#out.flush();
  }
}

function half({ message }: Half, described: ReturnType<Formatter['describe']>['request']): unknown {
  return {
    ...Object.fromEntries((described?.fields ?? []).filter(({ name }) => name !== 'fds').map(({ name, value }) => [name, value])),
    ...(message.fds.length === 0 ? {} : { fds: message.fds }),
    ...(described?.malformed === undefined ? {} : { malformed: described.malformed }),
    ...(message.framing === 'cut' ? { cut: { size: message.size, kept: message.bytes.length } } : {}),
  };
}

export class Counting implements ExchangeSink {
  readonly #summary: Summary;
  readonly #filter: Filter;

  constructor(summary: Summary, filter: Filter) {
    this.#summary = summary;
    this.#filter = filter;
  }

  exchange(exchange: Exchange): void {
    if (this.#filter(exchange)) this.#summary.add(exchange);
  }

  unfinished(): void {
    // Counted when it is done.
  }

  note(): void {
    // Not counted.
  }

  flush(): void {
    // The table comes at the end.
  }
}
