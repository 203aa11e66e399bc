/**
 * The port class (DPDK's ethdev): something frames can be received from and sent to. A port has two halves:
 *
 * - the control half (`Port`) lives on the main thread: configuration, link, statistics, teardown;
 * - the data-path half (`PortDatapath`) lives in an lcore: bursts, nothing else. The control half describes it by a module to load
 *   and plain data (`DatapathSpec`); both share cells in the DMA window, never objects.
 *
 * A queue is polled by one lcore at a time.
 */
import type { Burst } from './burst.ts';

/** What a port is and can do; fixed when it is made. */
export interface PortInfo {
  readonly name: string;
  readonly driver: string;
  readonly maxRxQueues: number;
  readonly maxTxQueues: number;
  /** Work a frame sent to this port may leave undone: mask of FRAME_TX_*. */
  readonly txCapabilities: number;
  /** Its `txBurst` takes lent frames (FRAME_LENT). Absent: it does not. */
  readonly takesLoans?: boolean;
  /** Longest frame (without FCS, without offloaded segmentation) the port can carry. */
  readonly maxFrameBytes: number;
  readonly mac?: Uint8Array;
}

/** How many queues are used from now on: 1 to what `PortInfo` says. */
export interface PortConfig {
  readonly rxQueues: number;
  readonly txQueues: number;
  /** What the port on the other end of the forwarding stream can do for us: frames we receive may leave that much undone. */
  readonly peerTxCapabilities: number;
  /** Frames we receive may be lent (FRAME_LENT): the only port they go to takes them, nobody on the way looks further than their headers. */
  readonly peerTakesLoans?: boolean;
}

/** The state of a link; a speed of 0 is unknown, or that of a link that is down. */
export interface LinkStatus {
  readonly up: boolean;
  readonly speedMbps: number;
}

/** DPDK's rte_eth_stats, the port's own direction: `i` = received by rxBurst, `o` = accepted by txBurst. */
export interface PortStats {
  readonly ipackets: bigint;
  readonly opackets: bigint;
  readonly ibytes: bigint;
  readonly obytes: bigint;
  /** Frames lost because there was nowhere to put them (for a NIC back end: no guest buffer). */
  readonly imissed: bigint;
  readonly ierrors: bigint;
  readonly oerrors: bigint;
  readonly rxNombuf: bigint;
}

/** How an lcore gets the data-path half. `init` survives structured cloning (numbers, strings, plain objects, WebAssembly.Module). */
export interface DatapathSpec {
  /** URL of an ES module that exports `createDatapath: CreateDatapath`. */
  readonly module: string;
  readonly init: unknown;
  /**
   * Descriptors that become readable when frames come: one for each Rx queue, in order, or one for all. A port that names any announces
   * every frame so: a sleeping lcore does not look at it otherwise.
   */
  readonly wakeFds?: readonly number[];
  /**
   * When frames may come to a port without `wakeFds` whose link is up; a sleeping lcore looks at it accordingly. `any`: at any time.
   * `answers`: only after frames were sent to it. `none`: never. While its link is down a port need not be looked at.
   */
  readonly arrivals?: 'any' | 'answers' | 'none';
  /** Other ports that its `txBurst` sends to: their data paths are loaded with it and found in `LcoreContext.sendsTo`. Configured before it, and as long as it is. */
  readonly sendsTo?: readonly Port[];
}

/** The control half of a port. What is not allowed in its state rejects with EthdevError ERR_ETHDEV_STATE; a driver's own errors come as they are. */
export interface Port {
  readonly name: string;
  readonly info: PortInfo;
  /** Before the first `start`, and between `stop` and `start`. ERR_ETHDEV_CONFIG for queues the port does not have. */
  configure(config: PortConfig): Promise<void>;
  /** Frames may be received and sent from now on. A started port stays started. */
  start(): Promise<void>;
  /** No more frames; the configuration stays. Nothing where it is not started. */
  stop(): Promise<void>;
  /** Stops it and gives everything back. No lcore uses the port any more. Later calls wait for the same end. */
  close(): Promise<void>;
  /** The link now. */
  link(): LinkStatus;
  /** Called on every change of `link()`. */
  onLink(observer: (link: LinkStatus) => void): Disposable;
  /** The far end of the forwarding stream came or went: a NIC back end shows it to its guest as carrier. */
  setPeerLink?(link: LinkStatus): void;
  /** Counted since the port was made, or since `resetStats`. */
  stats(): PortStats;
  /** `stats` and `xstats` count from zero. */
  resetStats(): void;
  /** Every counter by its DPDK-style name (rx_good_packets, rx_q0_packets, …). */
  xstats(): ReadonlyMap<string, bigint>;
  /** Whether frames for other addresses are received, too. Absent: the port does not filter. */
  setPromiscuous?(on: boolean): Promise<void>;
  /** After configure. */
  datapath(): DatapathSpec;
}

/** What a data path finds in its lcore. */
export interface LcoreContext {
  readonly lcore: number;
  readonly memory: WebAssembly.Memory;
  /** Address of the window's byte 0, for system calls on frames. */
  readonly base: bigint;
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly view: DataView;
  /**
   * To be counted up by a data path that wakes somebody at its far end: a card by an interrupt. After a loop with a wake-up the lcore lets others
   * have its processor first, because whom it has woken may wait for that one.
   */
  readonly wakeUps?: { count: number };
  /** Data paths of the ports that the `DatapathSpec` names in `sendsTo`, in that order. */
  readonly sendsTo?: readonly PortDatapath[];
}

/** The data-path half of a port, in one lcore. */
export interface PortDatapath {
  /** Receives at most min(max, burst.capacity) frames of `queue` into the burst; returns how many. Never blocks, never throws. */
  rxBurst(queue: number, burst: Burst, max: number): number;
  /**
   * Asks for the cache lines that the next `rxBurst` of this queue is going to wait for, and waits for none: an lcore with several streams
   * calls it for some of them in a row, so that their lines come together. False: that `rxBurst` would have nothing to do, and this loop leaves
   * it out. `sends`: this lcore sends to the port, too, so that no other lcore does on the same Tx queue. Changes nothing that anybody sees, never
   * blocks, never throws.
   */
  prefetch?(queue: number, sends: boolean): boolean;
  /**
   * Sends records [0, count) of the burst on `queue`; returns how many were taken (the first ones). Never blocks, never throws. May
   * change the records, but neither the bytes of a frame nor those around it: a switch sends one frame to several ports.
   */
  txBurst(queue: number, burst: Burst, count: number): number;
  /**
   * Of a port that lends frames: ends the loans of the last `rxBurst` of this queue, in the same loop of the lcore, whatever became of
   * its frames. Records [0, count) of `burst` are those that are kept: they are made whole first. Never blocks.
   */
  takeBack?(queue: number, burst: Burst, count: number): void;
  /**
   * True while frames that `txBurst` does not take had better be kept for a moment: its far end is busy, not gone. The stream then leaves
   * frames where they come from, and keeps those it has, up to `MAX_HOLD_MS`. Absent: what is not taken is dropped.
   */
  holding?(queue: number): boolean;
  /**
   * So often an lcore polls it in vain, at least, before it sleeps: only then has it asked its far end to announce what comes, or does every
   * look see a single frame. Absent: 0, its descriptor always announces, or every look does.
   */
  readonly pollsBeforeSleep?: number;
  /** Called once per loop, for what time brings and no frame. Returns the microseconds until it has to be called again; 0: not before the next burst. */
  tick?(): number;
  /** Called once when the lcore stops using the port. */
  close?(): void;
}
/** What the module of a `DatapathSpec` exports as `createDatapath`; `init` is the spec's. A throw rejects `Lcore.addStream` with ERR_ETHDEV_DATAPATH. */
export type CreateDatapath = (context: LcoreContext, init: never) => PortDatapath | Promise<PortDatapath>;
