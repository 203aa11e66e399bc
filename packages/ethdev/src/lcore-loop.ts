/** The polling half of an lcore: everything here runs per loop or per burst. */
import type { QuiescentReader } from '@emudev/dma';
import type { Sys } from '@emudev/linux';
import { FRAME_LENGTH, FRAME_RECORD_BYTES, type Burst } from './burst.ts';
import { addCounter } from './counter.ts';
import type { Engine } from './engines/engine.ts';
import { EthdevError } from './errors.ts';
import {
  LCORE_COMMAND,
  LCORE_LOOPS,
  LCORE_SLEEPS,
  STREAM_CONSUMED,
  STREAM_DROPPED,
  STREAM_GENERATED,
  STREAM_RX_BYTES,
  STREAM_RX_PACKETS,
  STREAM_TX_BYTES,
  STREAM_TX_PACKETS,
  type LcoreWorkerData,
} from './lcore-protocol.ts';
import { DEEP_IDLE_SLEEPS, MAX_FRUITLESS_WAKES } from './limits.ts';
import type { LcoreContext, PortDatapath } from './port.ts';

/** Loops between two additions to the loop counter: the cell is shared, the count need not be exact. */
const LOOPS_PER_UPDATE = 1024;

export interface RunningStream {
  readonly id: number;
  readonly rx: PortDatapath;
  readonly rxQueue: number;
  readonly tx: PortDatapath;
  readonly txQueue: number;
  readonly engine: Engine;
  readonly burst: Burst;
  readonly counters: number;
}

export class LcoreLoop {
  readonly streams: RunningStream[] = [];
  /** The stream being polled: whose fault it is if something throws. -1 outside of streams. */
  current = -1;
  readonly #context: LcoreContext;
  readonly #reader: QuiescentReader;
  readonly #sys: Pick<Sys, 'pollIn' | 'eventfdDrain'>;
  readonly #command: number;
  readonly #control: number;
  readonly #idleSpins: number;
  readonly #minSleepNs: number;
  readonly #maxSleepNs: number;
  readonly #deepSleepNs: number;
  readonly #wakeFd: number;
  #fds: Int32Array;
  #fdCount = 1;
  #fruitlessWakes = 0;

  constructor(context: LcoreContext, reader: QuiescentReader, sys: Pick<Sys, 'pollIn' | 'eventfdDrain'>, data: LcoreWorkerData) {
    this.#context = context;
    this.#reader = reader;
    this.#sys = sys;
    this.#control = data.control;
    this.#command = (data.control >>> 2) + LCORE_COMMAND;
    this.#idleSpins = data.idleSpins;
    this.#minSleepNs = data.minSleepNs;
    this.#maxSleepNs = data.maxSleepNs;
    this.#deepSleepNs = data.deepSleepNs;
    this.#wakeFd = data.wakeFd;
    this.#fds = Int32Array.of(data.wakeFd);
  }

  /** Descriptors of the ports in use; the lcore's own comes first. */
  setPortFds(fds: readonly number[]): void {
    this.#fds = Int32Array.from([this.#wakeFd, ...fds]);
    this.#fdCount = this.#fds.length;
    this.#fruitlessWakes = 0;
  }

  /** Polls until a command waits. Throws what a data path or engine threw; `current` is the stream then. */
  run(): void {
    const i32 = this.#context.i32;
    const u32 = this.#context.u32;
    const loopsCell = (this.#control + LCORE_LOOPS) >>> 2;
    const streams = this.streams;
    let loops = 0;
    let empty = 0;
    let sleeps = 0;
    let sleepNs = this.#minSleepNs;
    this.current = -1;
    this.#reader.online();
    try {
      while (Atomics.load(i32, this.#command) === 0) {
        this.#reader.checkpoint();
        let moved = 0;
        for (let s = 0; s < streams.length; s++) {
          this.current = s;
          moved += this.#poll(streams[s]!);
        }
        if (++loops === LOOPS_PER_UPDATE) {
          addCounter(u32, loopsCell, loops);
          loops = 0;
        }
        if (moved !== 0) {
          empty = 0;
          sleeps = 0;
          sleepNs = this.#minSleepNs;
          this.#fruitlessWakes = 0;
          continue;
        }
        if (++empty < this.#idleSpins) continue;
        this.current = -1;
        this.#sleep(sleepNs);
        if (++sleeps < DEEP_IDLE_SLEEPS) sleepNs = sleepNs * 2 < this.#maxSleepNs ? sleepNs * 2 : this.#maxSleepNs;
        else sleepNs = this.#deepSleepNs;
      }
      this.current = -1;
    } finally {
      addCounter(u32, loopsCell, loops);
      this.#reader.offline();
    }
  }

  /** Frames that moved: received, or taken by the Tx port. */
  #poll(stream: RunningStream): number {
    const u32 = this.#context.u32;
    const burst = stream.burst;
    const counters = stream.counters >>> 2;
    let received = 0;
    if (stream.engine.receives) {
      received = stream.rx.rxBurst(stream.rxQueue, burst, burst.capacity);
      if (received === 0) return 0;
      if (!(received > 0 && received <= burst.capacity)) throw badCount('rxBurst', received, burst.capacity);
      addCounter(u32, counters + STREAM_RX_PACKETS / 4, received);
      addCounter(u32, counters + STREAM_RX_BYTES / 4, bytesOf(u32, burst, 0, received));
    }
    const toSend = stream.engine.run(burst, received);
    if (toSend < received) addCounter(u32, counters + STREAM_CONSUMED / 4, received - toSend);
    else if (toSend > received) addCounter(u32, counters + STREAM_GENERATED / 4, toSend - received);
    if (toSend === 0) return received;
    // Before the burst: a port may change records it has consumed.
    const bytes = bytesOf(u32, burst, 0, toSend);
    const sent = stream.tx.txBurst(stream.txQueue, burst, toSend);
    if (sent !== toSend) {
      if (!(sent >= 0 && sent < toSend)) throw badCount('txBurst', sent, toSend);
      addCounter(u32, counters + STREAM_DROPPED / 4, toSend - sent);
      addCounter(u32, counters + STREAM_TX_BYTES / 4, bytes - bytesOf(u32, burst, sent, toSend));
    } else {
      addCounter(u32, counters + STREAM_TX_BYTES / 4, bytes);
    }
    addCounter(u32, counters + STREAM_TX_PACKETS / 4, sent);
    return received + sent;
  }

  /** Asleep this thread holds no guest memory, so it is offline: nobody who quiesces has to wait for it. */
  #sleep(timeoutNs: number): void {
    // A port's descriptor that is readable for ever and never yields a frame must not turn a sleep into a spin.
    const usePorts = this.#fruitlessWakes < MAX_FRUITLESS_WAKES;
    this.#reader.offline();
    try {
      addCounter(this.#context.u32, (this.#control + LCORE_SLEEPS) >>> 2, 1);
      if (this.#sys.pollIn(this.#fds, usePorts ? this.#fdCount : 1, timeoutNs) > 0) {
        this.#fruitlessWakes++;
        // The signal of a command that was obeyed before it came: left standing it would end every further sleep at once.
        // None is lost by this, a command's cell is set before its signal and looked at next.
        this.drainWake();
      }
    } finally {
      this.#reader.online();
    }
  }

  /** Before the command cell is looked at, or after it has been cleared. */
  drainWake(): void {
    this.#sys.eventfdDrain(this.#wakeFd);
  }
}

function bytesOf(u32: Uint32Array, burst: Burst, from: number, to: number): number {
  let bytes = 0;
  let index = (burst.records + from * FRAME_RECORD_BYTES + FRAME_LENGTH) >>> 2;
  for (let i = from; i < to; i++) {
    bytes += u32[index]!;
    index += FRAME_RECORD_BYTES / 4;
  }
  return bytes;
}

function badCount(what: string, seen: number, most: number): EthdevError {
  return new EthdevError('ERR_ETHDEV_STREAM', `${what} returned ${String(seen)}: want 0 to ${String(most)}`);
}
