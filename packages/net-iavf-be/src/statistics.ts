/**
 * The counters that the data path keeps in the window, as two readers want them. The guest's directions are those of the blocks:
 * what it transmits is what our port receives.
 */
import type { Window } from '@emudev/dma';
import type { PortStats } from '@emudev/ethdev';
import type { EthStats } from '@emudev/virtchnl';
import {
  DEV_STATS, DEVS_RX_FILTERED, DEVS_RX_NO_QUEUE, DEVS_RX_OVERSIZE, DEVS_RX_RUNT, Q_STATS, QS_BROADCAST, QS_BYTES, QS_DISCARDS, QS_ERRORS, QS_INTERRUPTS,
  QS_MULTICAST, QS_PACKETS, QS_UNICAST,
} from './layout.ts';
import type { Ring } from './ring.ts';

/** DPDK-style names of what a queue counts, by QS_*. */
const QUEUE_FIELDS: readonly (readonly [string, number])[] = [
  ['packets', QS_PACKETS],
  ['bytes', QS_BYTES],
  ['unicast_packets', QS_UNICAST],
  ['multicast_packets', QS_MULTICAST],
  ['broadcast_packets', QS_BROADCAST],
  ['dropped', QS_DISCARDS],
  ['errors', QS_ERRORS],
  ['interrupts', QS_INTERRUPTS],
];
/** In the port's direction these belong to what it transmits. */
const DEVICE_FIELDS: readonly (readonly [string, number])[] = [
  ['tx_filtered_packets', DEVS_RX_FILTERED],
  ['tx_no_queue_dropped', DEVS_RX_NO_QUEUE],
  ['tx_oversize_dropped', DEVS_RX_OVERSIZE],
  ['tx_runt_dropped', DEVS_RX_RUNT],
];

export class Statistics {
  readonly #cells: BigUint64Array;
  readonly #device: number;
  readonly #tx: readonly Ring[];
  readonly #rx: readonly Ring[];
  #guestZero = new Map<number, bigint>();
  #portZero = new Map<number, bigint>();

  constructor(window: Window, device: number, tx: readonly Ring[], rx: readonly Ring[]) {
    this.#cells = new BigUint64Array(window.memory.buffer);
    this.#device = device;
    this.#tx = tx;
    this.#rx = rx;
  }

  /** Atomic, so a 64-bit counter is never seen half written. */
  #read(cell: number, zero: ReadonlyMap<number, bigint>): bigint {
    return BigInt.asUintN(64, Atomics.load(this.#cells, cell) - (zero.get(cell) ?? 0n));
  }

  static #cellOf(ring: Ring, field: number): number {
    return (ring.block + Q_STATS + 8 * field) / 8;
  }

  static #asideOf(ring: Ring, field: number): number {
    return (ring.aside + Q_STATS + 8 * field) / 8;
  }

  #deviceCell(field: number): number {
    return (this.#device + DEV_STATS + 8 * field) / 8;
  }

  /** What lcores count, and of bounced rings the control thread: frames that have been delivered to the shadow and were lost on the way from there. */
  #count(ring: Ring, field: number, zero: ReadonlyMap<number, bigint>): bigint {
    const aside = this.#read(Statistics.#asideOf(ring, field), zero);
    return this.#read(Statistics.#cellOf(ring, field), zero) + (field === QS_DISCARDS || field === QS_INTERRUPTS ? aside : -aside);
  }

  #sum(rings: readonly Ring[], field: number, zero: ReadonlyMap<number, bigint>): bigint {
    return rings.reduce((sum, ring) => sum + this.#count(ring, field, zero), 0n);
  }

  #now(): Map<number, bigint> {
    const cells = [
      ...[...this.#tx, ...this.#rx].flatMap((ring) => QUEUE_FIELDS.flatMap(([, field]) => [Statistics.#cellOf(ring, field), Statistics.#asideOf(ring, field)])),
      ...DEVICE_FIELDS.map(([, field]) => this.#deviceCell(field)),
    ];
    return new Map(cells.map((cell) => [cell, Atomics.load(this.#cells, cell)]));
  }

  /** A new guest begins at zero. The cells stay: they belong to the lcores. */
  restartGuest(): void {
    this.#guestZero = this.#now();
  }

  restartPort(): void {
    this.#portZero = this.#now();
  }

  /** GET_STATS: the guest's directions. */
  guest(): EthStats {
    const zero = this.#guestZero;
    const lost = [DEVS_RX_NO_QUEUE, DEVS_RX_OVERSIZE, DEVS_RX_RUNT].reduce((sum, field) => sum + this.#read(this.#deviceCell(field), zero), 0n);
    return {
      rxBytes: this.#sum(this.#rx, QS_BYTES, zero),
      rxUnicast: this.#sum(this.#rx, QS_UNICAST, zero),
      rxMulticast: this.#sum(this.#rx, QS_MULTICAST, zero),
      rxBroadcast: this.#sum(this.#rx, QS_BROADCAST, zero),
      rxDiscards: this.#sum(this.#rx, QS_DISCARDS, zero) + lost,
      rxUnknownProtocol: 0n,
      txBytes: this.#sum(this.#tx, QS_BYTES, zero),
      txUnicast: this.#sum(this.#tx, QS_UNICAST, zero),
      txMulticast: this.#sum(this.#tx, QS_MULTICAST, zero),
      txBroadcast: this.#sum(this.#tx, QS_BROADCAST, zero),
      txDiscards: this.#sum(this.#tx, QS_DISCARDS, zero),
      txErrors: this.#sum(this.#tx, QS_ERRORS, zero),
    };
  }

  /** The port's directions: `i` is what the guest transmitted. */
  port(): PortStats {
    const zero = this.#portZero;
    const device = (field: number): bigint => this.#read(this.#deviceCell(field), zero);
    return {
      ipackets: this.#sum(this.#tx, QS_PACKETS, zero),
      ibytes: this.#sum(this.#tx, QS_BYTES, zero),
      ierrors: this.#sum(this.#tx, QS_ERRORS, zero) + this.#sum(this.#tx, QS_DISCARDS, zero),
      opackets: this.#sum(this.#rx, QS_PACKETS, zero),
      obytes: this.#sum(this.#rx, QS_BYTES, zero),
      oerrors: device(DEVS_RX_OVERSIZE) + device(DEVS_RX_RUNT),
      imissed: this.#sum(this.#rx, QS_DISCARDS, zero) + device(DEVS_RX_NO_QUEUE),
      rxNombuf: 0n,
    };
  }

  /** Per queue and per device, the port's directions: `rx_q0_packets` counts what the guest sent on its Tx queue 0. */
  *named(): Generator<[string, bigint], void, void> {
    const zero = this.#portZero;
    for (const [prefix, rings] of [['rx', this.#tx], ['tx', this.#rx]] as const) {
      for (const ring of rings) {
        for (const [name, field] of QUEUE_FIELDS) yield [`${prefix}_q${String(ring.pair)}_${name}`, this.#count(ring, field, zero)];
      }
    }
    for (const [name, field] of DEVICE_FIELDS) yield [name, this.#read(this.#deviceCell(field), zero)];
  }
}
