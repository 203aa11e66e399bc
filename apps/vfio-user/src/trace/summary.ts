/** Counts and latencies per command, as the table that strace -c prints. */
import { commandName } from '@emudev/vfio-user-protocol';
import { MAX_LATENCY_SAMPLES } from '../limits.ts';
import { errnoOf, headerOf, latencyMs, type Exchange } from './exchanges.ts';
import { durationText } from './format.ts';

export interface CommandSummary {
  readonly name: string;
  readonly count: number;
  readonly errors: number;
  readonly posted: number;
  readonly unanswered: number;
  /** Milliseconds; undefined where nothing was answered. */
  readonly latency: { readonly total: number; readonly min: number; readonly median: number; readonly p99: number; readonly max: number } | undefined;
}

interface Counts {
  count: number;
  errors: number;
  posted: number;
  unanswered: number;
  answered: number;
  totalMs: number;
  minMs: number;
  maxMs: number;
  /** All of them, or where there are too many a sample in which each has the same chance to be. */
  readonly samples: number[];
}

export class Summary {
  readonly #commands = new Map<string, Counts>();

  add(exchange: Exchange): void {
    const header = headerOf(exchange);
    if (header === undefined) return;
    const name = `${exchange.from === 'server' ? '<- ' : ''}${commandName(header.command)}`;
    let counts = this.#commands.get(name);
    // 2^16 command numbers, for a peer that tries them all.
    if (counts === undefined) this.#commands.set(name, (counts = { count: 0, errors: 0, posted: 0, unanswered: 0, answered: 0, totalMs: 0, minMs: Infinity, maxMs: 0, samples: [] }));
    counts.count++;
    if (errnoOf(exchange) !== 0) counts.errors++;
    if (exchange.posted) counts.posted++;
    else if (exchange.reply === undefined) counts.unanswered++;
    const latency = latencyMs(exchange);
    if (latency === undefined) return;
    counts.answered++;
    counts.totalMs += latency;
    counts.minMs = Math.min(counts.minMs, latency);
    counts.maxMs = Math.max(counts.maxMs, latency);
    if (counts.samples.length < MAX_LATENCY_SAMPLES) counts.samples.push(latency);
    else {
      const at = Math.floor(Math.random() * counts.answered);
      if (at < MAX_LATENCY_SAMPLES) counts.samples[at] = latency;
    }
  }

  /** Most time first. */
  commands(): CommandSummary[] {
    return [...this.#commands].map(([name, counts]) => {
      const sorted = [...counts.samples].sort((a, b) => a - b);
      const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!;
      return {
        name, count: counts.count, errors: counts.errors, posted: counts.posted, unanswered: counts.unanswered,
        latency: sorted.length === 0 ? undefined : { total: counts.totalMs, min: counts.minMs, median: at(0.5), p99: at(0.99), max: counts.maxMs },
      };
    }).sort((a, b) => (b.latency?.total ?? 0) - (a.latency?.total ?? 0) || b.count - a.count);
  }

  table(): string {
    const rows = this.commands().map(({ name, count, errors, posted, unanswered, latency }) => [
      name, String(count), errors === 0 ? '' : String(errors), posted === 0 ? '' : String(posted), unanswered === 0 ? '' : String(unanswered),
      ...(latency === undefined ? ['', '', '', ''] : [latency.total, latency.min, latency.median, latency.p99].map(durationText)),
    ]);
    const head = ['command', 'count', 'errors', 'posted', 'unanswered', 'total', 'min', 'median', 'p99'];
    const widths = head.map((title, i) => rows.reduce((width, row) => Math.max(width, row[i]!.length), title.length));
    const line = (cells: readonly string[]): string => cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ').trimEnd();
    return `${[line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n')}\n`;
  }
}
