/** The polling half of an lcore: everything here runs per loop or per burst. */
import type { QuiescentReader } from '@emudev/dma';
import type { Sys } from '@emudev/linux';
import { FRAME_LENGTH, FRAME_RECORD_BYTES, type Burst } from './burst.ts';
import { addCounter } from './counter.ts';
import { EthdevError } from './errors.ts';
import {
  LCORE_ATTENTIVE,
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
import { EAGER_MS, EAGER_SLEEP_NS, FRUITLESS_SLEEP_NS, IDLE_SPIN_MS, MAX_EAGER_SLEEP_MS, MAX_FRUITLESS_WAKES, MAX_HOLD_MS, PREFETCH_STREAMS } from './limits.ts';
import { RunningStream, type LoopStream } from './loop-stream.ts';
import type { LcoreContext, PortDatapath } from './port.ts';

/** Loops between two additions to the loop counter: the cell is shared, the count need not be exact. */
const LOOPS_PER_UPDATE = 1024;
const FOR_EVER = -1;
/** Empty loops between two looks at the clock while spinning; a power of two. */
const LOOPS_PER_CLOCK = 8;

/** The system calls of the loop itself. */
export type LoopSys = Pick<Sys, 'pollIn' | 'eventfdDrain' | 'yieldProcessor'>;

export class LcoreLoop {
  /** The stream being polled: whose fault it is if something throws. -1 outside of streams. */
  current = -1;
  readonly #streams: RunningStream[] = [];
  /** Data paths that want to hear of time. */
  #ticking: PortDatapath[] = [];
  /** Empty loops that some port wants before a sleep. */
  #leastSpins = 0;
  readonly #context: LcoreContext;
  readonly #reader: QuiescentReader;
  readonly #sys: LoopSys;
  readonly #command: number;
  readonly #attentive: number;
  readonly #control: number;
  readonly #idleSpins: number;
  readonly #idleNs: number;
  readonly #wakeFd: number;
  /** The lcore's own descriptor first. */
  #fds: Int32Array;
  #fdCount = 1;
  #fruitlessWakes = 0;
  /** performance.now() of the first look at the clock since something moved; 0: there was none yet, or sleeps are long again. */
  #idleSince = 0;
  /** performance.now() before the last short sleep since something moved; 0: there was none yet. */
  #eagerSince = 0;
  /** In this loop a stream has left frames where they are. */
  #held = false;

  constructor(context: LcoreContext, reader: QuiescentReader, sys: LoopSys, data: LcoreWorkerData) {
    this.#context = context;
    this.#reader = reader;
    this.#sys = sys;
    this.#control = data.control;
    this.#command = (data.control >>> 2) + LCORE_COMMAND;
    this.#attentive = (data.control >>> 2) + LCORE_ATTENTIVE;
    this.#idleSpins = data.idleSpins;
    this.#idleNs = data.idleLatencyUs * 1000;
    this.#wakeFd = data.wakeFd;
    this.#fds = Int32Array.of(data.wakeFd);
  }

  get empty(): boolean {
    return this.#streams.length === 0;
  }

  /** The id of the stream at `current`. */
  get currentId(): number | undefined {
    return this.#streams[this.current]?.given.id;
  }

  add(stream: LoopStream): void {
    // One object for one burst: those of many streams are not all near.
    const burst = this.#streams.find(({ burst: { records } }) => records === stream.burst.records)?.burst ?? stream.burst;
    this.#streams.push(new RunningStream({ ...stream, burst }));
    this.#findSenders();
  }

  /** Frames it has kept are dropped, and counted. */
  remove(id: number): void {
    const index = this.#streams.findIndex((stream) => stream.given.id === id);
    if (index < 0) return;
    const [stream] = this.#streams.splice(index, 1);
    this.#findSenders();
    this.#dropKept(stream!);
  }

  #findSenders(): void {
    for (const stream of this.#streams) stream.sendsToRx = this.#streams.some(({ tx }) => tx === stream.rx);
  }

  /** The ports in use, each once, and their descriptors. */
  setPorts(datapaths: readonly PortDatapath[], fds: readonly number[]): void {
    this.#ticking = datapaths.filter((datapath) => datapath.tick !== undefined);
    this.#leastSpins = Math.max(0, ...datapaths.map((datapath) => datapath.pollsBeforeSleep ?? 0));
    this.#fds = Int32Array.from([this.#wakeFd, ...fds]);
    this.#fdCount = this.#fds.length;
    this.#fruitlessWakes = 0;
  }

  /** Polls until a command waits. Throws what a data path or engine threw; `current` is the stream then. */
  run(): void {
    const i32 = this.#context.i32;
    const u32 = this.#context.u32;
    const loopsCell = (this.#control + LCORE_LOOPS) >>> 2;
    const { wakeUps } = this.#context;
    const streams = this.#streams;
    let loops = 0;
    let empty = 0;
    // Between two sleeps without a descriptor being ready: announced streams have nothing.
    let glance = false;
    // It has slept since something moved: no more spinning.
    let asleep = false;
    this.current = -1;
    this.#reader.online();
    try {
      // A plain read, as those below: a call of Atomics.load costs as much as ten, and what comes late by a loop is not lost.
      while (i32[this.#command] === 0) {
        this.#reader.checkpoint();
        let moved = 0;
        this.#held = false;
        for (let first = 0; first < streams.length; first += PREFETCH_STREAMS) {
          for (let ready = this.#ready(first, glance), s = first; ready !== 0; ready >>>= 1, s++) {
            if ((ready & 1) === 0) continue;
            this.current = s;
            const stream = streams[s]!;
            moved += stream.kept === 0 ? this.#poll(stream) : this.#sendKept(stream);
            if (stream.lends) stream.rx.takeBack!(stream.rxQueue, stream.rest, stream.kept);
          }
        }
        this.current = -1;
        const dueUs = this.#tick();
        if (++loops === LOOPS_PER_UPDATE) {
          addCounter(u32, loopsCell, loops);
          loops = 0;
        }
        if (wakeUps !== undefined && wakeUps.count !== 0) {
          wakeUps.count = 0;
          this.#sys.yieldProcessor();
        }
        if (moved !== 0) {
          empty = 0;
          asleep = false;
          this.#idleSince = 0;
          this.#eagerSince = 0;
          glance = false;
          this.#fruitlessWakes = 0;
          continue;
        }
        if (!asleep && ((this.#spins(++empty) && empty < this.#idleSpins) || empty <= this.#leastSpins)) continue;
        asleep = true;
        glance = this.#sleep(dueUs);
      }
    } finally {
      addCounter(u32, loopsCell, loops);
      try {
        this.#endLoans();
      } finally {
        this.#reader.offline();
      }
    }
  }

  /** A stream has failed: what it was lent goes back as long as this thread may touch guest memory. */
  #endLoans(): void {
    const failed = this.#streams[this.current];
    if (failed?.lends === true) failed.rx.takeBack!(failed.rxQueue, failed.rest, 0);
  }

  /** Is it too early to sleep? A loop over TAP interfaces is a microsecond for each, one over rings in memory some ten nanoseconds. */
  #spins(empty: number): boolean {
    if (empty % LOOPS_PER_CLOCK !== 0) return true;
    const now = performance.now();
    if (this.#idleSince === 0) this.#idleSince = now;
    return now - this.#idleSince < IDLE_SPIN_MS;
  }

  /** Of up to PREFETCH_STREAMS streams from `first` on, those that are worth a poll: bit n is stream `first` + n. */
  #ready(first: number, glance: boolean): number {
    const streams = this.#streams;
    const isOnly = streams.length === 1;
    const end = Math.min(first + PREFETCH_STREAMS, streams.length);
    let ready = 0;
    for (let s = first; s < end; s++) {
      const stream = streams[s]!;
      if (glance && stream.announced) continue;
      if (stream.prefetches && !isOnly && stream.kept === 0) {
        // It reads what a guest may take away: if that throws, it is this stream's fault.
        this.current = s;
        // Nothing else: what is no answer (a port written before there was one) leaves out nothing.
        if (stream.rx.prefetch!(stream.rxQueue, stream.sendsToRx) === false) {
          // Nothing waits for the Tx port: when it holds the next time, a moment begins.
          if (stream.heldSince !== 0) stream.heldSince = 0;
          continue;
        }
      }
      ready |= 1 << (s - first);
    }
    return ready;
  }

  /** Microseconds until the first data path wants to be called again; 0: none does. */
  #tick(): number {
    let first = 0;
    for (const datapath of this.#ticking) {
      const dueUs = datapath.tick!();
      if (dueUs !== 0 && (first === 0 || dueUs < first)) first = dueUs;
    }
    return first;
  }

  /** Frames that moved: received, or taken by the Tx port. */
  #poll(stream: RunningStream): number {
    const u32 = this.#context.u32;
    const burst = stream.burst;
    const counters = stream.counters;
    if (stream.holds && this.#isHeld(stream)) return 0;
    let received = 0;
    let receivedBytes = 0;
    if (stream.engine.receives) {
      received = stream.rx.rxBurst(stream.rxQueue, burst, burst.capacity);
      if (received === 0) return 0;
      if (!(received > 0 && received <= burst.capacity)) throw badCount('rxBurst', received, burst.capacity);
      addCounter(u32, counters + STREAM_RX_PACKETS / 4, received);
      receivedBytes = bytesOf(u32, burst, 0, received);
      addCounter(u32, counters + STREAM_RX_BYTES / 4, receivedBytes);
    }
    const toSend = stream.engine.run(burst, received);
    if (toSend < received) addCounter(u32, counters + STREAM_CONSUMED / 4, received - toSend);
    else if (toSend > received) addCounter(u32, counters + STREAM_GENERATED / 4, toSend - received);
    if (toSend === 0) return received;
    // Before the burst: a port may change records it has consumed.
    const bytes = stream.keepsLengths ? receivedBytes : bytesOf(u32, burst, 0, toSend);
    const sent = stream.tx.txBurst(stream.txQueue, burst, toSend);
    if (sent === toSend) {
      addCounter(u32, counters + STREAM_TX_BYTES / 4, bytes);
    } else {
      if (!(sent >= 0 && sent < toSend)) throw badCount('txBurst', sent, toSend);
      addCounter(u32, counters + STREAM_TX_BYTES / 4, bytes - bytesOf(u32, burst, sent, toSend));
      if (stream.holds && stream.tx.holding!(stream.txQueue)) {
        stream.keep(this.#context, sent, toSend);
      } else {
        addCounter(u32, counters + STREAM_DROPPED / 4, toSend - sent);
      }
    }
    addCounter(u32, counters + STREAM_TX_PACKETS / 4, sent);
    return received + sent;
  }

  /** What was kept of a burst. No frame is received before all of it is gone: it is the stream's only memory. */
  #sendKept(stream: RunningStream): number {
    const u32 = this.#context.u32;
    const counters = stream.counters;
    const rest = stream.rest;
    const bytes = bytesOf(u32, rest, 0, stream.kept);
    // Before the burst: a port that has refused it and has stopped to hold since takes the frames next time.
    const held = this.#isHeld(stream);
    const sent = stream.tx.txBurst(stream.txQueue, rest, stream.kept);
    if (!(sent >= 0 && sent <= stream.kept)) throw badCount('txBurst', sent, stream.kept);
    addCounter(u32, counters + STREAM_TX_BYTES / 4, bytes - bytesOf(u32, rest, sent, stream.kept));
    addCounter(u32, counters + STREAM_TX_PACKETS / 4, sent);
    stream.kept -= sent;
    rest.records += sent * FRAME_RECORD_BYTES;
    if (stream.kept !== 0 && !held && !this.#isHeld(stream)) this.#dropKept(stream);
    return sent;
  }

  #dropKept(stream: RunningStream): void {
    addCounter(this.#context.u32, stream.counters + STREAM_DROPPED / 4, stream.kept);
    stream.kept = 0;
  }

  /** Does the Tx port ask for a moment, and has it not had that moment yet? */
  #isHeld(stream: RunningStream): boolean {
    if (!stream.tx.holding!(stream.txQueue)) {
      stream.heldSince = 0;
      return false;
    }
    const now = performance.now();
    if (stream.heldSince === 0) stream.heldSince = now;
    if (now - stream.heldSince >= MAX_HOLD_MS) return false;
    this.#held = true;
    return true;
  }

  /**
   * Asleep this thread holds no guest memory, so it is offline: nobody who quiesces has to wait for it. `dueUs` as `tick` returned it.
   * Returns true if no descriptor ended the sleep.
   */
  #sleep(dueUs: number): boolean {
    // A port's descriptor that is readable for ever and never yields a frame must not turn a sleep into a spin. Nor one whose frames are held.
    const usePorts = this.#fruitlessWakes < MAX_FRUITLESS_WAKES && !this.#held;
    let timeoutNs = FOR_EVER;
    if (this.#held || Atomics.load(this.#context.i32, this.#attentive) !== 0) timeoutNs = this.#idleSleepNs();
    else if (!usePorts) timeoutNs = FRUITLESS_SLEEP_NS;
    if (dueUs !== 0 && (timeoutNs === FOR_EVER || dueUs * 1000 < timeoutNs)) timeoutNs = dueUs * 1000;
    this.#reader.offline();
    try {
      addCounter(this.#context.u32, (this.#control + LCORE_SLEEPS) >>> 2, 1);
      if (this.#sys.pollIn(this.#fds, usePorts ? this.#fdCount : 1, timeoutNs) === 0) {
        if (usePorts) this.#fruitlessWakes = 0;
        return usePorts;
      }
      // The signal of a command that was obeyed before it came: left standing it would end every further sleep at once.
      // None is lost by this, a command's cell is set before its signal and looked at next.
      if (this.drainWake() === 0) this.#fruitlessWakes++;
      return false;
    } finally {
      this.#reader.online();
    }
  }

  /** The next frame may come soon, as a store of which nobody hears. */
  #idleSleepNs(): number {
    if (this.#idleSince === 0 || this.#idleNs <= EAGER_SLEEP_NS) return this.#idleNs;
    const now = performance.now();
    // Whoever oversleeps like that shares its processor with those who have work to do, the guest perhaps.
    const late = this.#eagerSince !== 0 && now - this.#eagerSince > MAX_EAGER_SLEEP_MS;
    this.#eagerSince = now;
    if (late || now - this.#idleSince > EAGER_MS) {
      this.#idleSince = 0;
      return this.#idleNs;
    }
    return EAGER_SLEEP_NS;
  }

  /** Before the command cell is looked at, or after it has been cleared. */
  drainWake(): number {
    return this.#sys.eventfdDrain(this.#wakeFd);
  }
}

function bytesOf(u32: Uint32Array, burst: Burst, from: number, to: number): number {
  let bytes = 0;
  let index = (burst.records + from * FRAME_RECORD_BYTES + FRAME_LENGTH) >>> 2;
  for (let i = from; i < to; i++) {
    bytes = (bytes + u32[index]!) | 0; // far from 2^31; as a number of any size it would be added in floating point
    index += FRAME_RECORD_BYTES / 4;
  }
  return bytes;
}

function badCount(what: string, seen: number, most: number): EthdevError {
  return new EthdevError('ERR_ETHDEV_STREAM', `${what} returned ${String(seen)}: want 0 to ${String(most)}`);
}
