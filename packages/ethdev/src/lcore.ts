import { channel } from 'node:diagnostics_channel';
import { Worker } from 'node:worker_threads';
import type { Quiescence, ReaderCells, Window } from '@emudev/dma';
import { linux, type Sys } from '@emudev/linux';
import type { Burst } from './burst.ts';
import { SharedBursts } from './burst-memory.ts';
import { readCounter } from './counter.ts';
import { EthdevError } from './errors.ts';
import {
  LCORE_ATTENTIVE,
  LCORE_COMMAND,
  LCORE_CONTROL_BYTES,
  LCORE_LOOPS,
  LCORE_SLEEPS,
  unpackError,
  type LcoreReport,
  type LcoreRequest,
  type LcoreWorkerData,
  type PortOnLcore,
} from './lcore-protocol.ts';
import { COMMAND_DEADLINE_MS, IDLE_LATENCY_US, IDLE_SPINS, MAX_CPU, MAX_IDLE_LATENCY_US, MAX_STREAMS_PER_LCORE } from './limits.ts';
import type { Port } from './port.ts';
import { RunningStream, type Stream, type StreamSpec } from './stream.ts';

export type { Stream, StreamSpec, StreamStats } from './stream.ts';

/** Where an lcore runs, when one that finds nothing to do sleeps, and for how long. */
export interface LcoreOptions {
  /** Loops without a frame before the lcore sleeps. */
  readonly idleSpins?: number;
  /**
   * Microseconds an idle lcore sleeps before it looks again at ports whose frames no descriptor announces (a guest's doorbells), 1 to
   * `MAX_IDLE_LATENCY_US`. While no such port has link it sleeps until it is woken.
   */
  readonly idleLatencyUs?: number;
  /** Processor the thread is bound to; default: the scheduler chooses. */
  readonly cpu?: number;
}

/** What an lcore shares with the rest of the process. */
export interface LcoreResources {
  readonly window: Window;
  readonly quiescence: Quiescence;
  readonly sys?: Sys;
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
  const { module, init, wakeFds = [], sendsTo = [] } = port.datapath();
  return { id, name: port.name, module, init, wakeFds, sendsTo: sendsTo.map(onLcore) };
}

function requireInteger(what: string, value: number | undefined, least: number, most: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= least && value <= most)) return;
  throw new EthdevError('ERR_ETHDEV_CONFIG', `${what} ${String(value)}: want ${String(least)} to ${String(most)}`);
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
  readonly #bursts: SharedBursts;
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
    requireInteger('idleLatencyUs', options.idleLatencyUs, 1, MAX_IDLE_LATENCY_US);
    requireInteger('cpu', options.cpu, 0, MAX_CPU);
    this.id = id;
    this.#window = resources.window;
    this.#bursts = new SharedBursts(resources.window);
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
      idleLatencyUs: options.idleLatencyUs ?? IDLE_LATENCY_US,
      cpu: options.cpu,
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
    const stream = new RunningStream(this.#window, this.#bursts, this.#nextStream++, this.id, spec);
    this.#streams.set(stream.id, stream);
    const plain = ({ records, capacity, arena, arenaBytes }: Burst): Burst => ({ records, capacity, arena, arenaBytes });
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
          announced: stream.announced,
          burst: plain(stream.burst),
          keeping: plain(stream.keeping),
          counters: stream.counters,
        },
      }));
    } catch (error) {
      // A stuck lcore may still get to it: its memory is then left alone until the thread is gone.
      if (!(error instanceof EthdevError && error.code === 'ERR_ETHDEV_LCORE_STUCK')) this.#forget(stream);
      throw error;
    }
    stream.links.push(spec.rxPort.onLink(({ up }) => { this.#look(up); }), spec.txPort.onLink(() => { this.#look(false); }));
    this.#look(false);
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
    this.#look(false);
  }

  /** Tells the thread whether it has to look now and then. `wake`: the descriptors of a port may be other ones than those it sleeps on. */
  #look(wake: boolean): void {
    if (this.#state !== 'running') return;
    const attentive = [...this.#streams.values()].some((stream) => stream.needsLooking) ? 1 : 0;
    const before = Atomics.exchange(this.#window.i32, (this.#control >>> 2) + LCORE_ATTENTIVE, attentive);
    if (wake || attentive > before) this.#sys.eventfdSignal(this.#wakeFd);
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
        this.#look(false);
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
