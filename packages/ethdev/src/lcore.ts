import { channel } from 'node:diagnostics_channel';
import { Worker } from 'node:worker_threads';
import type { Quiescence, ReaderCells, Window } from '@emudev/dma';
import { linux, type Sys } from '@emudev/linux';
import { DEFAULT_ARENA_BYTES, DEFAULT_BURST } from './burst.ts';
import { allocateBurst, type OwnedBurst } from './burst-memory.ts';
import { addCounter, readCounter } from './counter.ts';
import type { EngineSpec } from './engines/engine.ts';
import { EthdevError } from './errors.ts';
import {
  LCORE_COMMAND,
  LCORE_CONTROL_BYTES,
  LCORE_LOOPS,
  LCORE_SLEEPS,
  STREAM_CONSUMED,
  STREAM_COUNTERS_BYTES,
  STREAM_DROPPED,
  STREAM_GENERATED,
  STREAM_RX_BYTES,
  STREAM_RX_PACKETS,
  STREAM_TX_BYTES,
  STREAM_TX_PACKETS,
  unpackError,
  type LcoreReport,
  type LcoreRequest,
  type LcoreWorkerData,
  type PortOnLcore,
} from './lcore-protocol.ts';
import { COMMAND_DEADLINE_MS, DEEP_SLEEP_NS, IDLE_SPINS, MAX_SLEEP_NS, MAX_STREAMS_PER_LCORE, MIN_SLEEP_NS } from './limits.ts';
import type { Port } from './port.ts';

/** When an lcore that finds nothing to do sleeps, and for how long. */
export interface LcoreOptions {
  /** Loops without a frame before the lcore sleeps. */
  readonly idleSpins?: number;
  /** First sleep, nanoseconds; doubles up to `maxSleepNs` while nothing moves. */
  readonly minSleepNs?: number;
  readonly maxSleepNs?: number;
  /** Length of a sleep after a fifth of a second without a frame; at least `maxSleepNs`. */
  readonly deepSleepNs?: number;
}

/** What an lcore shares with the rest of the process. */
export interface LcoreResources {
  readonly window: Window;
  readonly quiescence: Quiescence;
  readonly sys?: Sys;
}

/** One direction of forwarding: from a queue through an engine to a queue. No other stream may use either. */
export interface StreamSpec {
  readonly rxPort: Port;
  readonly rxQueue: number;
  readonly txPort: Port;
  readonly txQueue: number;
  readonly engine: EngineSpec;
  /** Frames per burst. */
  readonly burst?: number;
  readonly arenaBytes?: number;
}

/** received + generated = sent + dropped + consumed, at rest. */
export interface StreamStats {
  readonly received: bigint;
  readonly receivedBytes: bigint;
  readonly sent: bigint;
  readonly sentBytes: bigint;
  /** The Tx port did not take them. */
  readonly dropped: bigint;
  /** The engine did not want them sent. */
  readonly consumed: bigint;
  /** The engine made them. */
  readonly generated: bigint;
}

/** A direction of forwarding that an lcore polls. */
export interface Stream {
  readonly id: number;
  readonly lcore: number;
  readonly spec: StreamSpec;
  readonly state: 'running' | 'failed' | 'removed';
  /** Why it failed. */
  readonly error: EthdevError | undefined;
  /** Its counters now; the last ones once it has been removed. */
  stats(): StreamStats;
}

/** What can happen to an lcore and its streams by itself. */
export type LcoreEvent =
  | { readonly kind: 'stream-failed'; readonly lcore: number; readonly stream: Stream; readonly error: EthdevError }
  | { readonly kind: 'lcore-died'; readonly lcore: number; readonly error: EthdevError }
  /** A data path threw while it was being closed. */
  | { readonly kind: 'warning'; readonly lcore: number; readonly error: Error };

/** Every `LcoreEvent` is published here too. */
export const LCORE_EVENTS_CHANNEL = 'emudev:ethdev:lcore';
const events = channel(LCORE_EVENTS_CHANNEL);

let nextPortId = 1;
const portIds = new WeakMap<Port, number>();
function onLcore(port: Port): PortOnLcore {
  let id = portIds.get(port);
  if (id === undefined) {
    id = nextPortId++;
    portIds.set(port, id);
  }
  const { module, init, wakeFds = [] } = port.datapath();
  return { id, name: port.name, module, init, wakeFds };
}

class RunningStream implements Stream {
  state: Stream['state'] = 'running';
  error: EthdevError | undefined;
  readonly id: number;
  readonly lcore: number;
  readonly spec: StreamSpec;
  readonly burst: OwnedBurst;
  readonly counters: number;
  readonly #window: Window;
  #last: StreamStats | undefined;

  constructor(window: Window, id: number, lcore: number, spec: StreamSpec) {
    this.#window = window;
    this.id = id;
    this.lcore = lcore;
    this.spec = spec;
    this.burst = allocateBurst(window, spec.burst ?? DEFAULT_BURST, spec.arenaBytes ?? DEFAULT_ARENA_BYTES);
    try {
      this.counters = window.alloc(STREAM_COUNTERS_BYTES, 64);
    } catch (error) {
      this.burst[Symbol.dispose]();
      throw error;
    }
  }

  stats(): StreamStats {
    if (this.#last !== undefined) return this.#last;
    const read = (field: number): bigint => readCounter(this.#window.u32, (this.counters + field) >>> 2);
    return {
      received: read(STREAM_RX_PACKETS),
      receivedBytes: read(STREAM_RX_BYTES),
      sent: read(STREAM_TX_PACKETS),
      sentBytes: read(STREAM_TX_BYTES),
      dropped: read(STREAM_DROPPED),
      consumed: read(STREAM_CONSUMED),
      generated: read(STREAM_GENERATED),
    };
  }

  /** The lcore has given the stream up in the middle of a burst: what was under way then is dropped. */
  countLost(): void {
    const { received, generated, sent, dropped, consumed } = this.stats();
    addCounter(this.#window.u32, (this.counters + STREAM_DROPPED) >>> 2, Number(received + generated - sent - dropped - consumed));
  }

  /** Once the lcore does not know the stream any more. The last figures stay. */
  free(): void {
    if (this.#last !== undefined) return;
    this.#last = this.stats();
    this.#window.free(this.counters);
    this.burst[Symbol.dispose]();
  }
}

/** One polling thread, as the control thread sees it. */
export class Lcore {
  readonly id: number;
  readonly #window: Window;
  readonly #quiescence: Quiescence;
  readonly #sys: Sys;
  readonly #worker: Worker;
  readonly #control: number;
  readonly #wakeFd: number;
  readonly #readerCells: ReaderCells;
  readonly #streams = new Map<number, RunningStream>();
  readonly #pending = new Map<number, { resolve(): void; reject(error: Error): void }>();
  readonly #observers = new Set<(event: LcoreEvent) => void>();
  readonly #exited: Promise<void>;
  #nextRequest = 1;
  #nextStream = 1;
  #state: 'starting' | 'running' | 'closing' | 'dead' = 'starting';
  #failure: unknown;

  /** Resolves when the thread runs. */
  static async start(id: number, resources: LcoreResources, options: LcoreOptions = {}): Promise<Lcore> {
    const lcore = new Lcore(id, resources, options);
    try {
      await lcore.#reply(0);
    } catch (error) {
      await lcore.#worker.terminate();
      await lcore.#exited;
      throw error;
    }
    lcore.#state = 'running';
    return lcore;
  }

  private constructor(id: number, resources: LcoreResources, options: LcoreOptions) {
    this.id = id;
    this.#window = resources.window;
    this.#quiescence = resources.quiescence;
    this.#sys = resources.sys ?? linux;
    this.#control = this.#window.alloc(LCORE_CONTROL_BYTES, 64);
    this.#wakeFd = this.#sys.eventfd();
    this.#readerCells = this.#quiescence.addReader(`lcore ${String(id)}`);
    const workerData: LcoreWorkerData = {
      lcore: id,
      memory: this.#window.memory,
      base: this.#window.base,
      readerCells: this.#readerCells,
      control: this.#control,
      wakeFd: this.#wakeFd,
      idleSpins: options.idleSpins ?? IDLE_SPINS,
      minSleepNs: options.minSleepNs ?? MIN_SLEEP_NS,
      maxSleepNs: options.maxSleepNs ?? MAX_SLEEP_NS,
      deepSleepNs: Math.max(options.deepSleepNs ?? DEEP_SLEEP_NS, options.maxSleepNs ?? MAX_SLEEP_NS),
    };
    this.#worker = new Worker(new URL('./lcore-worker.js', import.meta.url), {
      workerData,
      name: `lcore-${String(id)}`,
      // A thread inherits these, and node refuses this one for a file: `node --input-type=module -e …` could have no lcores.
      execArgv: process.execArgv.filter((argument) => !argument.startsWith('--input-type')),
    });
    this.#worker.on('message', (report: LcoreReport) => {
      this.#onReport(report);
    });
    this.#worker.on('error', (error) => {
      this.#failure = error;
    });
    this.#exited = new Promise((resolve) => {
      this.#worker.once('exit', (code) => {
        this.#onExit(code);
        resolve();
      });
    });
  }

  /** 'dead' after its thread ended by itself. */
  get state(): 'starting' | 'running' | 'closing' | 'dead' {
    return this.#state;
  }

  /** The streams it polls, failed ones included. */
  get streams(): readonly Stream[] {
    return [...this.#streams.values()];
  }

  /** Loops and sleeps since the start; loops are counted in steps. */
  stats(): { loops: bigint; sleeps: bigint } {
    if (this.#state === 'dead') return { loops: 0n, sleeps: 0n };
    const read = (field: number): bigint => readCounter(this.#window.u32, (this.#control + field) >>> 2);
    return { loops: read(LCORE_LOOPS), sleeps: read(LCORE_SLEEPS) };
  }

  /** Tells `observer` of this lcore's events, until what this returns is disposed of. */
  onEvent(observer: (event: LcoreEvent) => void): Disposable {
    this.#observers.add(observer);
    return { [Symbol.dispose]: () => void this.#observers.delete(observer) };
  }

  /**
   * Resolves when the lcore polls the stream. The two ports are configured and stay so until the stream is removed. Rejects with
   * ERR_ETHDEV_DATAPATH when a data path cannot be loaded; nothing is left behind then.
   */
  async addStream(spec: StreamSpec): Promise<Stream> {
    this.#mustRun();
    if (this.#streams.size >= MAX_STREAMS_PER_LCORE) {
      throw new EthdevError('ERR_ETHDEV_CONFIG', `lcore ${String(this.id)} has ${String(MAX_STREAMS_PER_LCORE)} streams: the limit`);
    }
    const rx = onLcore(spec.rxPort);
    const tx = onLcore(spec.txPort);
    const stream = new RunningStream(this.#window, this.#nextStream++, this.id, spec);
    this.#streams.set(stream.id, stream);
    const { records, capacity, arena, arenaBytes } = stream.burst;
    try {
      await this.#request((request) => ({
        kind: 'add',
        request,
        stream: {
          id: stream.id,
          rx,
          rxQueue: spec.rxQueue,
          tx,
          txQueue: spec.txQueue,
          engine: spec.engine,
          burst: { records, capacity, arena, arenaBytes },
          counters: stream.counters,
        },
      }));
    } catch (error) {
      // A stuck lcore may still get to it: its memory is then left alone until the thread is gone.
      if (!(error instanceof EthdevError && error.code === 'ERR_ETHDEV_LCORE_STUCK')) this.#forget(stream);
      throw error;
    }
    return stream;
  }

  /** Resolves when the lcore has done its last burst for the stream and let go of its ports. Removing twice does nothing. */
  async removeStream(stream: Stream): Promise<void> {
    const ours = this.#streams.get(stream.id);
    if (ours === undefined || ours !== stream) return;
    if (this.#state !== 'running') {
      await this.#exited;
      return;
    }
    await this.#request((request) => ({ kind: 'remove', request, id: ours.id }));
    this.#forget(ours);
  }

  /** Ends streams and thread; afterwards all memory and descriptors are given back. */
  async close(): Promise<void> {
    if (this.#state === 'running') {
      this.#state = 'closing';
      try {
        await this.#request((request) => ({ kind: 'stop', request }));
      } catch {
        // Stuck in somebody's data path: the thread is ended below whatever it does.
        await this.#worker.terminate();
      }
    }
    await this.#exited;
  }

  #mustRun(): void {
    if (this.#state !== 'running') throw new EthdevError('ERR_ETHDEV_STATE', `lcore ${String(this.id)} is ${this.#state}: want running`);
  }

  #reply(request: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(request);
        reject(new EthdevError('ERR_ETHDEV_LCORE_STUCK', `lcore ${String(this.id)} did not answer for ${String(COMMAND_DEADLINE_MS)} ms: a data path of its ports does not return`));
      }, COMMAND_DEADLINE_MS);
      this.#pending.set(request, {
        resolve: () => {
          clearTimeout(timer);
          resolve();
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
    });
  }

  async #request(make: (request: number) => LcoreRequest): Promise<void> {
    const request = this.#nextRequest++;
    const reply = this.#reply(request);
    try {
      this.#worker.postMessage(make(request));
    } catch (error) {
      // Not cloneable: a port's init.
      this.#settle(request, new EthdevError('ERR_ETHDEV_DATAPATH', `a data path's init cannot be sent to an lcore: ${String(error)}`, { cause: error }));
    }
    Atomics.store(this.#window.i32, (this.#control >>> 2) + LCORE_COMMAND, 1);
    this.#sys.eventfdSignal(this.#wakeFd);
    await reply;
  }

  #settle(request: number, error?: Error): void {
    const waiting = this.#pending.get(request);
    this.#pending.delete(request);
    if (error === undefined) waiting?.resolve();
    else waiting?.reject(error);
  }

  #forget(stream: RunningStream): void {
    this.#streams.delete(stream.id);
    stream.state = 'removed';
    stream.free();
  }

  #emit(event: LcoreEvent): void {
    events.publish(event);
    for (const observer of this.#observers) observer(event);
  }

  #onReport(report: LcoreReport): void {
    switch (report.kind) {
      case 'ready':
        this.#settle(0);
        return;
      case 'done':
        this.#settle(report.request);
        return;
      case 'refused': {
        const cause = unpackError(report.error);
        this.#settle(report.request, new EthdevError('ERR_ETHDEV_DATAPATH', cause.message, { cause }));
        return;
      }
      case 'stream-failed': {
        const stream = this.#streams.get(report.id);
        if (stream === undefined) return;
        const cause = unpackError(report.error);
        const { rxPort, rxQueue, txPort, txQueue } = stream.spec;
        stream.countLost();
        stream.state = 'failed';
        stream.error = new EthdevError('ERR_ETHDEV_STREAM', `stream ${rxPort.name}:${String(rxQueue)} → ${txPort.name}:${String(txQueue)} was stopped: ${cause.message}`, { cause });
        this.#emit({ kind: 'stream-failed', lcore: this.id, stream, error: stream.error });
        return;
      }
      case 'warning':
        this.#emit({ kind: 'warning', lcore: this.id, error: unpackError(report.error) });
    }
  }

  #onExit(code: number): void {
    const expected = this.#state === 'closing';
    this.#state = 'dead';
    // Nobody uses any of it now.
    this.#quiescence.removeReader(this.#readerCells);
    const error = new EthdevError('ERR_ETHDEV_LCORE_DIED', `lcore ${String(this.id)} ended by itself (exit code ${String(code)}): ${this.#failure instanceof Error ? this.#failure.message : 'no error'}`, { cause: this.#failure });
    for (const stream of [...this.#streams.values()]) {
      if (!expected) stream.error ??= error;
      const failed = stream.error !== undefined;
      this.#forget(stream);
      if (failed) stream.state = 'failed';
    }
    for (const request of [...this.#pending.keys()]) this.#settle(request, error);
    this.#window.free(this.#control);
    this.#sys.close(this.#wakeFd);
    if (!expected) this.#emit({ kind: 'lcore-died', lcore: this.id, error });
  }
}
