import { COUNTER_BYTES, addCounter, windowBytes, type FrameRingCells, type LcoreContext, type WindowBytes } from '@emudev/ethdev';

/** What the host counts, in the order of its cells; xstats prefixes `echo_`. */
export const HOST_COUNTERS = [
  'arp_replies',
  'icmp_echo_replies',
  'icmpv6_echo_replies',
  'neighbour_advertisements',
  'router_advertisements',
  'udp_echoes',
  'udp_discarded',
  'udp_unreachable',
  'tcp_resets',
  'dhcp_replies',
  'dhcp_no_address',
  'fragments',
  'malformed',
  'not_for_us',
] as const;
export type HostCounter = (typeof HOST_COUNTERS)[number];
export const HOST_COUNTERS_BYTES: number = HOST_COUNTERS.length * COUNTER_BYTES;

/** IPv4 addresses are unsigned 32-bit numbers. */
export interface DhcpInit {
  readonly first: number;
  readonly count: number;
  /** Window offset of `count` leases. */
  readonly leases: number;
  readonly router: number;
  readonly dns: number;
  readonly leaseSeconds: number;
}

export interface EchoInit {
  readonly mac: Uint8Array;
  readonly ip: number;
  readonly mask: number;
  /** Sixteen bytes each. */
  readonly ip6: Uint8Array;
  readonly linkLocal: Uint8Array;
  /** 0: say nothing about it. */
  readonly mtu: number;
  readonly dhcp: DhcpInit | undefined;
  readonly answers: FrameRingCells;
  readonly hostCounters: number;
  readonly rxCounters: number;
  readonly txCounters: number;
}

/**
 * The host's configuration and the window as the protocol handlers use them. A handler gets the offset of a private copy of the
 * frame, the offset of its own header and where the frame ends; it turns the copy into the answer and returns the answer's
 * length, or 0 for none. The copy cannot change under it.
 */
export class Host {
  readonly init: EchoInit;
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  readonly view: DataView;
  readonly bytes: WindowBytes;
  readonly broadcast: number;
  readonly #cells: Record<string, number> = {};

  constructor(context: LcoreContext, init: EchoInit) {
    this.init = init;
    this.u8 = context.u8;
    this.u32 = context.u32;
    this.view = context.view;
    this.bytes = windowBytes(context);
    this.broadcast = (init.ip | ~init.mask) >>> 0;
    HOST_COUNTERS.forEach((name, i) => {
      this.#cells[name] = (init.hostCounters + i * COUNTER_BYTES) >>> 2;
    });
  }

  count(counter: HostCounter): void {
    addCounter(this.u32, this.#cells[counter]!, 1);
  }

  /** Ethernet addresses of the answer: to where the frame came from, from us. */
  turnAround(frame: number): void {
    const u8 = this.u8;
    const mac = this.init.mac;
    for (let i = 0; i < 6; i++) {
      u8[frame + i] = u8[frame + 6 + i]!;
      u8[frame + 6 + i] = mac[i]!;
    }
  }

  put(offset: number, bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i++) this.u8[offset + i] = bytes[i]!;
  }

  equals(offset: number, bytes: Uint8Array): boolean {
    for (let i = 0; i < bytes.length; i++) if (this.u8[offset + i] !== bytes[i]) return false;
    return true;
  }

  zero(offset: number, length: number): void {
    this.u8.fill(0, offset, offset + length);
  }
}
