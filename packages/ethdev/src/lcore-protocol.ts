/**
 * What the control thread and an lcore's thread say to each other. Messages travel as `postMessage`; a cell in the window says
 * that some are waiting, because a polling thread has no event loop; an eventfd wakes it when it sleeps.
 *
 * | lcore    | add / remove                        | stop              | data path throws              |
 * | -------- | ----------------------------------- | ----------------- | ----------------------------- |
 * | starting | forbidden: not ready yet            | forbidden         | (no streams)                  |
 * | idle     | loads, then polls if it has streams | closes, exits     | (no streams)                  |
 * | polling  | between two loops                   | between two loops | that stream ends, others go on |
 * | stopped  | forbidden: its memory may be gone   | forbidden         | -                             |
 */
import type { ReaderCells } from '@emudev/dma';
import type { EngineSpec } from './engines/engine.ts';
import type { Burst } from './burst.ts';

/* Control block, Int32 cells from its window offset on; two cache lines, one per writer. */
/** Written by control: messages are waiting. The lcore clears it before it reads them. */
export const LCORE_COMMAND = 0;
/** Written by control: frames may come that no descriptor announces, so sleeps have to be short. The eventfd is signalled when it becomes 1. */
export const LCORE_ATTENTIVE = 1;
export const LCORE_CONTROL_BYTES = 128;
/** Counters (counter.ts), byte offsets in the control block, written by the lcore. */
export const LCORE_LOOPS = 64;
export const LCORE_SLEEPS = 80;

/** Counters of one stream, byte offsets in its block. received + generated = sent + dropped + consumed. */
export const STREAM_RX_PACKETS = 0;
export const STREAM_RX_BYTES = 16;
export const STREAM_TX_PACKETS = 32;
export const STREAM_TX_BYTES = 48;
/** The Tx port did not take them. */
export const STREAM_DROPPED = 64;
/** The engine did not want them sent. */
export const STREAM_CONSUMED = 80;
export const STREAM_GENERATED = 96;
export const STREAM_COUNTERS_BYTES = 128;

export interface LcoreWorkerData {
  readonly lcore: number;
  readonly memory: WebAssembly.Memory;
  readonly base: bigint;
  /** From `Quiescence.addReader`. */
  readonly readerCells: ReaderCells;
  readonly control: number;
  readonly wakeFd: number;
  readonly idleSpins: number;
  readonly idleLatencyUs: number;
  /** Processor to stay on. */
  readonly cpu: number | undefined;
}

/** A port as an lcore sees it. The same number: the same data-path object for all streams of the lcore. */
export interface PortOnLcore {
  readonly id: number;
  readonly name: string;
  readonly module: string;
  readonly init: unknown;
  readonly wakeFds: readonly number[];
  readonly sendsTo: readonly PortOnLcore[];
}

export interface StreamOnLcore {
  readonly id: number;
  readonly rx: PortOnLcore;
  readonly rxQueue: number;
  readonly tx: PortOnLcore;
  readonly txQueue: number;
  readonly engine: EngineSpec;
  /** A descriptor announces what it receives. */
  readonly announced: boolean;
  /** Into which it receives, as other streams of the lcore do. */
  readonly burst: Burst;
  /** Of its own, as large: for frames that are kept. */
  readonly keeping: Burst;
  readonly counters: number;
}

export type LcoreRequest =
  | { readonly kind: 'add'; readonly request: number; readonly stream: StreamOnLcore }
  | { readonly kind: 'remove'; readonly request: number; readonly id: number }
  | { readonly kind: 'stop'; readonly request: number };

/** An Error's parts that survive the journey between threads. */
export interface CarriedError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  readonly code: string | undefined;
}

export type LcoreReport =
  | { readonly kind: 'ready' }
  | { readonly kind: 'done'; readonly request: number }
  | { readonly kind: 'refused'; readonly request: number; readonly error: CarriedError }
  | { readonly kind: 'stream-failed'; readonly id: number; readonly error: CarriedError }
  | { readonly kind: 'warning'; readonly error: CarriedError };

export function packError(error: unknown): CarriedError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), stack: undefined, code: undefined };
  const code: unknown = (error as { code?: unknown }).code;
  return { name: error.name, message: error.message, stack: error.stack, code: typeof code === 'string' ? code : undefined };
}

export function unpackError(carried: CarriedError): Error {
  const error = Object.assign(new Error(carried.message), { name: carried.name, code: carried.code });
  if (carried.stack !== undefined) error.stack = carried.stack;
  return error;
}
