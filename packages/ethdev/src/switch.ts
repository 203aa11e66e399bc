/**
 * A learning switch (a MAC bridge in the sense of IEEE 802.1D, as far as a host needs one): where addresses are is learned from
 * what ports send; a frame for a known one goes to its port, everything else to every other port. It knows no VLANs: a tag passes
 * as it is, and an address is in one place whatever its tag (shared learning, as Linux's bridge without vlan_filtering). It runs
 * no spanning tree: ports that are one network behind it make a loop.
 *
 * All its lcores use one table. A table for each would have to be told what the others learn, and until then they would flood what
 * is known; one word for an address, read whole and exchanged whole, needs neither messages nor locks. Words change when addresses
 * come, move, or have not been seen for a 256th of the ageing time, so lcores that only read share its cache lines.
 */
import { randomFillSync } from 'node:crypto';
import { loadKernels, type Window } from '@emudev/dma';
import { COUNTER_BYTES, readCounter } from './counter.ts';
import { SWC_DELIVERED, SWC_DROPPED, SWC_TAKEN, SWITCH_PORT_COUNTERS_BYTES, type SwitchInit } from './datapath-switch.ts';
import { EthdevError } from './errors.ts';
import { KERNELS_WASM_BASE64 } from './kernels.gen.ts';
import { DEFAULT_AGEING_SECONDS, DEFAULT_PORT_ADDRESSES, MAX_AGEING_SECONDS, MAX_BURST, MAX_PORT_ADDRESSES, MAX_SWITCH_PORTS, MIN_AGEING_SECONDS, SWITCH_AGE_TICKS } from './limits.ts';
import type { DatapathSpec, Port } from './port.ts';
import { SoftwarePort } from './software-port.ts';
import {
  SIDE_RECORDS, SWC_ALONE, SWC_BAD_SOURCE, SWC_FILTERED, SWC_FLOODED, SWC_LEARNED, SWC_MOVED, SWC_RESERVED, SWC_SHORT, SWC_UNLEARNED,
  SWITCH_BUCKET_BYTES, SWITCH_WAYS, SW_BYTES, SW_HELD, SW_MASK, SW_QUOTA, SW_SEED, SW_TABLE, SW_TICK, SW_UP, TICK_MASK,
} from './switch-layout.ts';
import { createSwitchTwin, type SwitchKernels } from './switch-twin.ts';
import { FRAME_RECORD_BYTES } from './burst.ts';

/** How a switch learns and forgets. */
export interface SwitchOptions {
  /** Seconds until an address that nobody sends from is forgotten: 10 to 1,000,000, default 300. */
  readonly ageingSeconds?: number;
  /** Addresses that one port may hold: 1 to 16384, default 1024. */
  readonly addressesPerPort?: number;
  /** `ts`: the TypeScript twins, for where WebAssembly over mapped memory does not work. Default `wasm`. */
  readonly kernels?: 'wasm' | 'ts';
  /** Milliseconds of a clock that never goes back; for tests. */
  readonly now?: () => number;
}

/** What has become of frames and addresses at one port. taken = forwarded + flooded + filtered + reserved + alone + badSource + tooShort, at rest. */
export interface SwitchPortStats {
  readonly port: string;
  /** Frames that came from the port. */
  readonly taken: bigint;
  /** … for an address on another port. */
  readonly forwarded: bigint;
  /** … for a group or an unknown address, and sent to all other ports that have a link. */
  readonly flooded: bigint;
  /** … for an address on the same port: not the switch's business, and no loss. */
  readonly filtered: bigint;
  /** … for 01:80:C2:00:00:00 to 0F, which no bridge passes on. */
  readonly reserved: bigint;
  /** … to be flooded, when no other port had a link. */
  readonly alone: bigint;
  /** … from a group address or from zero. */
  readonly badSource: bigint;
  /** … without a whole Ethernet header. */
  readonly tooShort: bigint;
  /** Addresses. */
  readonly learned: bigint;
  /** Addresses that were on another port before. */
  readonly moved: bigint;
  /** Times that an address got no place: the port holds as many as it may, or both of its buckets are full. Frames for it are flooded. */
  readonly unlearned: bigint;
  /** Addresses that the port holds now. */
  readonly addresses: number;
  /** Frames that were sent to the port, and taken by it. */
  readonly delivered: bigint;
  /** Frames that were sent to the port, and not taken. */
  readonly dropped: bigint;
}

/** An address that a switch knows. */
export interface SwitchAddress {
  readonly mac: string;
  readonly port: string;
  readonly ageSeconds: number;
}

/**
 * The table of a switch and its clock; `side` gives each lcore what it sends to. Forwarding makes and wires it. Its memory is in
 * the window until it is disposed of, after every lcore has let go of its sides.
 */
export class LearningSwitch implements Disposable {
  readonly ports: readonly Port[];
  readonly #window: Window;
  readonly #options: Required<Pick<SwitchOptions, 'kernels' | 'now'>>;
  readonly #tickMs: number;
  readonly #block: number;
  readonly #table: number;
  readonly #buckets: number;
  readonly #kernels: SwitchKernels;
  readonly #sides: SwitchSide[] = [];
  readonly #began: number;
  readonly #timer: NodeJS.Timeout;
  #ticks = 0;
  #disposed = false;

  /** ERR_ETHDEV_CONFIG for ports and options outside of what a switch can do; ERR_WINDOW_FULL. */
  constructor(window: Window, ports: readonly Port[], options: SwitchOptions = {}) {
    const { ageingSeconds = DEFAULT_AGEING_SECONDS, addressesPerPort = DEFAULT_PORT_ADDRESSES, kernels = 'wasm', now = () => performance.now() } = options;
    within('ports', ports.length, 2, MAX_SWITCH_PORTS);
    within('seconds until an address is old', ageingSeconds, MIN_AGEING_SECONDS, MAX_AGEING_SECONDS);
    within('addresses per port', addressesPerPort, 1, MAX_PORT_ADDRESSES);
    this.ports = ports;
    this.#window = window;
    this.#options = { kernels, now };
    this.#tickMs = (ageingSeconds * 1000) / SWITCH_AGE_TICKS;
    // Half full with all quotas used up: both buckets of an address are hardly ever full.
    this.#buckets = Math.max(2, 2 ** Math.ceil(Math.log2((2 * ports.length * addressesPerPort) / SWITCH_WAYS)));
    this.#block = window.alloc(SW_BYTES, 64);
    try {
      this.#table = window.alloc(this.#buckets * SWITCH_BUCKET_BYTES, 64);
    } catch (error) {
      window.free(this.#block);
      throw error;
    }
    this.#kernels = kernels === 'ts' ? createSwitchTwin(window.memory.buffer) : loadKernels<SwitchKernels>(KERNELS_WASM_BASE64, window.memory);
    const { u32 } = window;
    u32[(this.#block + SW_TABLE) >>> 2] = this.#table;
    u32[(this.#block + SW_MASK) >>> 2] = this.#buckets - 1;
    u32[(this.#block + SW_QUOTA) >>> 2] = addressesPerPort;
    u32.set(randomFillSync(new Uint32Array(2)), (this.#block + SW_SEED) >>> 2);
    this.#began = now();
    this.#timer = setInterval(() => {
      this.tick();
    }, Math.min(this.#tickMs, 0x7fff_ffff)).unref();
  }

  /**
   * Tells lcores the time, and gives the places of old addresses back. A timer calls it. When it has not been called for long (the
   * process was stopped, say) everything is forgotten: a word's ten bits of time could not tell.
   */
  tick(): void {
    const ticks = Math.floor((this.#options.now() - this.#began) / this.#tickMs);
    const skipped = ticks - this.#ticks;
    if (skipped === 0) return;
    this.#ticks = ticks;
    const all = skipped > TICK_MASK - SWITCH_AGE_TICKS ? 0xffff_ffff : 0;
    this.#kernels.switchForget(this.#block, ticks & TICK_MASK, all, all);
    Atomics.store(this.#window.u32, (this.#block + SW_TICK) >>> 2, ticks & TICK_MASK);
  }

  /** Whether floods go to a port. One that goes down is forgotten with all its addresses: its stations may come back elsewhere. */
  setLink(port: number, up: boolean): void {
    const bit = 1 << (port & 31);
    const word = (this.#block + SW_UP + (port >>> 5) * 4) >>> 2;
    if (up) {
      Atomics.or(this.#window.u32, word, bit);
      return;
    }
    Atomics.and(this.#window.u32, word, ~bit);
    this.#kernels.switchForget(this.#block, this.#ticks & TICK_MASK, port < 32 ? bit : 0, port < 32 ? 0 : bit);
  }

  /**
   * What one lcore sends to, on Tx queue p what came from port p. `targets` are the ports themselves or, where another lcore must do
   * it, what takes frames there; `txQueues` the queue of each that is this lcore's own. Closed by its owner, before the switch.
   */
  side(name: string, targets: readonly Port[], txQueues: readonly number[], burst: number): Port {
    within('frames of a burst', burst, 1, MAX_BURST);
    const side = new SwitchSide(name, { sw: this.#block, burst, txQueues, kernels: this.#options.kernels }, targets);
    this.#sides.push(side);
    return side;
  }

  /** Everything it knows, in no order; addresses that have just grown old, too. */
  addresses(): SwitchAddress[] {
    const { view } = this.#window;
    const found: SwitchAddress[] = [];
    for (let at = this.#table; at < this.#table + this.#buckets * SWITCH_BUCKET_BYTES; at += 8) {
      const low = view.getUint32(at, true);
      const high = view.getUint32(at + 4, true);
      if (low === 0 && high === 0) continue;
      const bytes = [low, low >>> 8, low >>> 16, low >>> 24, high, high >>> 8].map((byte) => (byte & 255).toString(16).padStart(2, '0'));
      const age = (this.#ticks - (high >>> 22)) & TICK_MASK;
      found.push({ mac: bytes.join(':'), port: this.ports[(high >>> 16) & 63]?.name ?? '', ageSeconds: (age * this.#tickMs) / 1000 });
    }
    return found;
  }

  /** By port, in the order of `ports`. */
  stats(): SwitchPortStats[] {
    return this.ports.map(({ name }, port) => {
      const read = (cell: number): bigint => this.#sides.reduce((sum, side) => sum + side.read(port, cell), 0n);
      const fates = {
        flooded: read(SWC_FLOODED),
        filtered: read(SWC_FILTERED),
        reserved: read(SWC_RESERVED),
        alone: read(SWC_ALONE),
        badSource: read(SWC_BAD_SOURCE),
        tooShort: read(SWC_SHORT),
      };
      const taken = read(SWC_TAKEN);
      return {
        port: name,
        taken,
        forwarded: Object.values(fates).reduce((left, fate) => left - fate, taken),
        ...fates,
        learned: read(SWC_LEARNED),
        moved: read(SWC_MOVED),
        unlearned: read(SWC_UNLEARNED),
        addresses: Atomics.load(this.#window.u32, (this.#block + SW_HELD >>> 2) + port),
        delivered: read(SWC_DELIVERED),
        dropped: read(SWC_DROPPED),
      };
    });
  }

  /** No lcore uses it any more, and its sides are closed. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    clearInterval(this.#timer);
    this.#window.free(this.#table);
    this.#window.free(this.#block);
  }
}

/** To an lcore a switch is a port: what it is sent goes on to the ports behind it. */
class SwitchSide extends SoftwarePort {
  readonly #init: SwitchInit;
  readonly #targets: readonly Port[];
  #last: readonly bigint[] | undefined;

  constructor(name: string, init: Omit<SwitchInit, 'side' | 'counters'>, targets: readonly Port[]) {
    super({ name, driver: 'switch', maxRxQueues: 1, maxTxQueues: targets.length, txCapabilities: 0, maxFrameBytes: Math.max(...targets.map((port) => port.info.maxFrameBytes)) }, 0);
    this.#targets = targets;
    try {
      const side = this.own(this.window.alloc(SIDE_RECORDS + init.burst * FRAME_RECORD_BYTES, 64));
      const counters = this.own(this.window.alloc(targets.length * SWITCH_PORT_COUNTERS_BYTES, 64));
      this.#init = { ...init, side, counters };
    } catch (error) {
      this.release();
      throw error;
    }
  }

  read(port: number, cell: number): bigint {
    if (this.#last !== undefined) return this.#last[port * (SWC_DROPPED + 1) + cell] ?? 0n;
    return readCounter(this.window.u32, (this.#init.counters + port * SWITCH_PORT_COUNTERS_BYTES + cell * COUNTER_BYTES) >>> 2);
  }

  datapath(): DatapathSpec {
    return { module: new URL('./datapath-switch.js', import.meta.url).href, init: this.#init, sendsTo: this.#targets };
  }

  /** The figures outlive the memory they were in. */
  protected override onClose(): void {
    this.#last = this.#targets.flatMap((_, port) => Array.from({ length: SWC_DROPPED + 1 }, (__, cell) => this.read(port, cell)));
  }
}

function within(what: string, seen: number, min: number, max: number): void {
  if (!Number.isInteger(seen) || seen < min || seen > max) throw new EthdevError('ERR_ETHDEV_CONFIG', `a switch with ${String(seen)} ${what}: want ${String(min)} to ${String(max)}`);
}
