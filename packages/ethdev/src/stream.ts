/** A direction of forwarding as the control thread sees it: its burst, its counters, its state. */
import type { Window } from '@emudev/dma';
import { allocateBurst, type OwnedBurst, type SharedBursts } from './burst-memory.ts';
import { addCounter, readCounter } from './counter.ts';
import type { EngineSpec } from './engines/engine.ts';
import type { EthdevError } from './errors.ts';
import {
  STREAM_CONSUMED, STREAM_COUNTERS_BYTES, STREAM_DROPPED, STREAM_GENERATED, STREAM_RX_BYTES, STREAM_RX_PACKETS, STREAM_TX_BYTES, STREAM_TX_PACKETS,
} from './lcore-protocol.ts';
import type { DatapathSpec, Port } from './port.ts';

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

export class RunningStream implements Stream {
  state: Stream['state'] = 'running';
  error: EthdevError | undefined;
  readonly id: number;
  readonly lcore: number;
  readonly spec: StreamSpec;
  /** Into which it receives, as others do. */
  readonly burst: OwnedBurst;
  /** For frames that are kept. */
  readonly keeping: OwnedBurst;
  readonly counters: number;
  /** A descriptor announces what it receives. */
  readonly announced: boolean;
  readonly #arrivals: DatapathSpec['arrivals'];
  /** What hears of its ports' links. */
  readonly links: Disposable[] = [];
  readonly #window: Window;
  readonly #memory: DisposableStack;
  #last: StreamStats | undefined;

  constructor(window: Window, bursts: SharedBursts, id: number, lcore: number, spec: StreamSpec) {
    this.#window = window;
    this.id = id;
    this.lcore = lcore;
    this.spec = spec;
    const { wakeFds = [], arrivals } = spec.rxPort.datapath();
    this.announced = wakeFds.length > 0;
    this.#arrivals = arrivals;
    using memory = new DisposableStack();
    this.burst = memory.use(bursts.use(spec.burst, spec.arenaBytes));
    this.keeping = memory.use(allocateBurst(window, spec.burst, spec.arenaBytes));
    this.counters = memory.adopt(window.alloc(STREAM_COUNTERS_BYTES, 64), (counters) => { window.free(counters); });
    this.#memory = memory.move();
  }

  /** May frames come at any moment that nothing but looking finds? */
  get needsLooking(): boolean {
    if (this.state !== 'running') return false;
    const { engine, rxPort, txPort } = this.spec;
    if (engine.name === 'txonly') return true;
    if (this.announced || this.#arrivals === 'none' || !rxPort.link().up) return false;
    return this.#arrivals !== 'answers' || txPort.link().up;
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
    for (const link of this.links.splice(0)) link[Symbol.dispose]();
    this.#last = this.stats();
    this.#memory.dispose();
  }
}
