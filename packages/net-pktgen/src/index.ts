/**
 * ethdev driver: a port that asks and checks. It resolves its peer by ARP, pings it with measured round-trip times, and sends UDP
 * frames to the peer's echo service (port 7) with a bounded number of open questions, comparing every answer byte for byte.
 *
 * @packageDocumentation
 */
import { integerArg, macArg, type ArgSpec, type VdevDriver } from '@emudev/emudev';
import { SoftwarePort, type DatapathSpec } from '@emudev/ethdev';
import { MAX_FRAME_BYTES, MAX_WINDOW, MIN_FRAME_BYTES } from './limits.ts';
import {
  PHASE_DRAIN, PHASE_IDLE, PHASE_PING, PHASE_RESOLVE, PHASE_TRAFFIC, RTT_SLOTS, STATE_BYTES, STATE_LOST, STATE_PHASE,
  STATE_PINGS_ANSWERED, STATE_PINGS_SENT, STATE_PINGS_WANTED, STATE_RESOLVED, STATE_RTTS, STATE_RX_BYTES, STATE_RX_PACKETS, STATE_TX_BYTES, STATE_TX_PACKETS,
  STATE_WRONG, type PktgenInit,
} from './state.ts';

/** Arguments of `net_pktgen`, as its `driver` describes them; MAC addresses in 6 bytes, IPv4 addresses in 4. */
export interface PktgenArgs {
  /** Our addresses. */
  readonly mac: Uint8Array;
  readonly ip: Uint8Array;
  /** The host that answers. */
  readonly peer: Uint8Array;
  /** Bytes of a traffic frame without FCS, 60 to 1514. */
  readonly size: number;
  /** Open questions at a time. */
  readonly window: number;
  /** Milliseconds between pings, and after which an answer counts as lost. */
  readonly interval: number;
  readonly timeout: number;
}

/** `drain`: send nothing more, count the answers that still come. */
export type PktgenPhase = 'idle' | 'resolve' | 'ping' | 'traffic' | 'drain';
const PHASES: Record<PktgenPhase, number> = { idle: PHASE_IDLE, resolve: PHASE_RESOLVE, ping: PHASE_PING, traffic: PHASE_TRAFFIC, drain: PHASE_DRAIN };

/** What a `PktgenPort` has asked and learned. `tx`, `rx`, `lost` and `wrong` are about traffic, not pings. */
export interface PktgenReport {
  readonly resolved: boolean;
  readonly pings: { readonly sent: number; readonly answered: number };
  readonly tx: { readonly packets: number; readonly bytes: number };
  /** Right answers. */
  readonly rx: { readonly packets: number; readonly bytes: number };
  readonly lost: number;
  readonly wrong: number;
}

/** Four decimal bytes; throws an Error that shows the form. */
function parseIpv4(text: string): Uint8Array {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number);
  if (parts === undefined || parts.some((n) => n > 255)) throw new Error(`"${text}" is not an IPv4 address such as 10.0.2.15`);
  return Uint8Array.from(parts);
}

const ipArg = (help: string, value: string): ArgSpec<Uint8Array> => ({ help, placeholder: 'A.B.C.D', default: parseIpv4(value), defaultText: value, parse: parseIpv4 });

const PKTGEN_SPEED_MBPS = 100_000;

/** The port; idle until `setPhase` gives it something to do. */
export class PktgenPort extends SoftwarePort {
  readonly #state: number;
  readonly #init: PktgenInit;

  constructor(name: string, args: PktgenArgs) {
    super({ name, driver: 'net_pktgen', maxRxQueues: 1, maxTxQueues: 1, txCapabilities: 0, maxFrameBytes: MAX_FRAME_BYTES, mac: args.mac }, PKTGEN_SPEED_MBPS);
    try {
      this.#state = this.own(this.window.alloc(STATE_BYTES));
    } catch (error) {
      this.release();
      throw error;
    }
    this.#init = {
      state: this.#state, rxCounters: this.counters.rxBlock(0), txCounters: this.counters.txBlock(0), mac: [...args.mac], ip: [...args.ip], peer: [...args.peer],
      frameBytes: args.size, window: args.window, pingIntervalMs: args.interval, timeoutMs: args.timeout,
    };
  }

  #cell(field: number): number {
    return (this.#state + field) >>> 2;
  }

  #count(field: number): number {
    return this.window.view.getFloat64(this.#state + field, true);
  }

  /** What to do from now on; with 'ping', ask until `pings` were sent in all. */
  setPhase(phase: PktgenPhase, pings = 0): void {
    this.window.i32[this.#cell(STATE_PINGS_WANTED)] = pings;
    Atomics.store(this.window.i32, this.#cell(STATE_PHASE), PHASES[phase]);
  }

  /** Where it stands now. */
  report(): PktgenReport {
    const { i32 } = this.window;
    return {
      resolved: Atomics.load(i32, this.#cell(STATE_RESOLVED)) === 1,
      pings: { sent: Atomics.load(i32, this.#cell(STATE_PINGS_SENT)), answered: Atomics.load(i32, this.#cell(STATE_PINGS_ANSWERED)) },
      tx: { packets: this.#count(STATE_TX_PACKETS), bytes: this.#count(STATE_TX_BYTES) },
      rx: { packets: this.#count(STATE_RX_PACKETS), bytes: this.#count(STATE_RX_BYTES) },
      lost: this.#count(STATE_LOST),
      wrong: this.#count(STATE_WRONG),
    };
  }

  /** Round-trip time of ping `number` (1, 2, …; the last 64 are kept) in microseconds; 0 while unanswered. */
  rttMicroseconds(number: number): number {
    return this.window.view.getFloat64(this.#state + STATE_RTTS + (number % RTT_SLOTS) * 8, true);
  }

  /** Back to idle. */
  protected override onStop(): void {
    this.setPhase('idle');
  }

  /** What `report` counts begins anew, too. */
  override resetStats(): void {
    super.resetStats();
    for (const field of [STATE_TX_PACKETS, STATE_TX_BYTES, STATE_RX_PACKETS, STATE_RX_BYTES, STATE_LOST, STATE_WRONG]) this.window.view.setFloat64(this.#state + field, 0, true);
  }

  /** Besides DPDK's names what became of the questions: pings_sent, pings_answered, questions_lost, answers_wrong. */
  override xstats(): ReadonlyMap<string, bigint> {
    const { pings, lost, wrong } = this.report();
    return this.counters.xstats([
      ['pings_sent', BigInt(pings.sent)], ['pings_answered', BigInt(pings.answered)], ['questions_lost', BigInt(lost)], ['answers_wrong', BigInt(wrong)],
    ]);
  }

  /** The module that lcores load, and what it is started with. */
  datapath(): DatapathSpec {
    return { module: new URL('./datapath.js', import.meta.url).href, init: this.#init };
  }
}

/** `net_pktgen` for the vdev bus. */
export const driver: VdevDriver<PktgenArgs, PktgenPort> = {
  name: 'net_pktgen',
  class: 'port',
  summary: 'sends pings and UDP echo traffic and checks every answer',
  args: {
    mac: macArg({ help: 'our MAC address', default: Uint8Array.of(0x02, 0x70, 0x6b, 0x74, 0x67, 0x01) }),
    ip: ipArg('our IPv4 address', '10.0.2.100'),
    peer: ipArg('the host that answers', '10.0.2.2'),
    size: integerArg({ help: 'bytes of a traffic frame without FCS', min: MIN_FRAME_BYTES, max: MAX_FRAME_BYTES, default: MIN_FRAME_BYTES }),
    window: integerArg({ help: 'open questions at a time', min: 1, max: MAX_WINDOW, default: 256 }),
    interval: integerArg({ help: 'milliseconds between pings', min: 1, max: 60_000, default: 100 }),
    timeout: integerArg({ help: 'milliseconds until an answer counts as lost', min: 10, max: 60_000, default: 2000 }),
  },
  probe: (name, args) => Promise.resolve(new PktgenPort(name, args)),
};
