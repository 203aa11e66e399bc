/**
 * The echo port: a small host on the other end of the wire. It answers ARP and neighbour discovery, pings, UDP echo, and gives out
 * addresses by DHCP, so that a guest behind an emulated card has somebody to talk to, without privileges and without a network.
 *
 * @packageDocumentation
 */
import { integerArg, macArg, type ArgSpec, type VdevDriver } from '@emudev/emudev';
import { COUNTER_BYTES, EthdevError, SoftwarePort, allocateFrameRing, readCounter, type DatapathSpec, type FrameRingCells } from '@emudev/ethdev';
import { formatIpv4, linkLocalOf, parseIpv4, parseIpv4Network, parseIpv6, type Ipv4Network } from './address.ts';
import { HOST_COUNTERS, HOST_COUNTERS_BYTES, type EchoInit } from './datapath/host.ts';
import { LEASE_BYTES } from './datapath/leases.ts';
import { ANSWER_RING_BYTES, DEFAULT_LEASE_SECONDS, MAX_FRAME_BYTES, MAX_LEASES, MAX_LEASE_SECONDS, MAX_MTU, MIN_MTU } from './limits.ts';

/** First and last address handed out. */
export interface DhcpRange {
  readonly first: number;
  readonly last: number;
}

/** Arguments of `net_echo`, as its `driver` describes them; IPv4 addresses as unsigned numbers, `lease` in seconds, `mtu` in bytes. */
export interface EchoArgs {
  readonly mac?: Uint8Array;
  readonly ip?: Ipv4Network;
  readonly ip6?: Uint8Array;
  readonly dhcp?: DhcpRange | 'on' | 'off';
  readonly router?: number;
  readonly dns?: number;
  readonly lease?: number;
  readonly mtu?: number;
}

const DEFAULT_MAC = Uint8Array.of(0x02, 0x65, 0x63, 0x68, 0x6f, 0x02);
const DEFAULT_IP_TEXT = '10.0.2.2/24';
const DEFAULT_IP: Ipv4Network = parseIpv4Network(DEFAULT_IP_TEXT);
const DEFAULT_IP6_TEXT = 'fd00:10:0:2::2';
const DEFAULT_IP6: Uint8Array = parseIpv6(DEFAULT_IP6_TEXT);
/** The default range begins this many addresses into the network, as in the user networks people know. */
const DEFAULT_RANGE_OFFSET = 15;
const ECHO_SPEED_MBPS = 10_000;

function rangeOf({ ip, mask }: Ipv4Network, dhcp: DhcpRange | 'on'): DhcpRange {
  const network = (ip & mask) >>> 0;
  const broadcast = (network | ~mask) >>> 0;
  const hosts = broadcast - network - 1;
  const range = dhcp === 'on' ? { first: network + Math.min(DEFAULT_RANGE_OFFSET, hosts), last: Math.min(broadcast - 1, network + DEFAULT_RANGE_OFFSET + MAX_LEASES - 1) } : dhcp;
  const { first, last } = dhcp === 'on' && ip >= range.first && ip <= range.last ? avoiding(ip, range) : range;
  if (first <= network || last >= broadcast || first > last) {
    throw new EthdevError('ERR_ETHDEV_CONFIG', `dhcp range ${formatIpv4(first)}-${formatIpv4(last)}: want addresses of hosts between ${formatIpv4(network + 1)} and ${formatIpv4(broadcast - 1)}`);
  }
  if (ip >= first && ip <= last) throw new EthdevError('ERR_ETHDEV_CONFIG', `dhcp range ${formatIpv4(first)}-${formatIpv4(last)} contains the port's own address ${formatIpv4(ip)}`);
  if (last - first >= MAX_LEASES) throw new EthdevError('ERR_ETHDEV_CONFIG', `dhcp range of ${String(last - first + 1)} addresses: at most ${String(MAX_LEASES)}`);
  return { first, last };
}

/** The larger side of the default range that leaves our own address out. */
function avoiding(ip: number, { first, last }: DhcpRange): DhcpRange {
  return ip - first > last - ip ? { first, last: ip - 1 } : { first: ip + 1, last };
}

/** The host as a port: one queue pair, `mac` its address. */
export class EchoPort extends SoftwarePort {
  readonly #hostCounters: number;
  readonly #init: EchoInit;

  /** Throws ERR_ETHDEV_CONFIG for a DHCP range outside of the network. */
  constructor(name: string, args: EchoArgs = {}) {
    const mac = args.mac ?? DEFAULT_MAC;
    const network = args.ip ?? DEFAULT_IP;
    const range = args.dhcp === 'off' ? undefined : rangeOf(network, args.dhcp ?? 'on');
    super(
      {
        name,
        driver: driver.name,
        // One queue: there is one host, and its leases have one writer.
        maxRxQueues: 1,
        maxTxQueues: 1,
        // Checksums are checked: frames have to be complete.
        txCapabilities: 0,
        maxFrameBytes: MAX_FRAME_BYTES,
        mac,
      },
      ECHO_SPEED_MBPS,
    );
    let answers: FrameRingCells;
    let leases: number;
    try {
      answers = allocateFrameRing(this.window, ANSWER_RING_BYTES);
      this.own(answers.offset);
      this.#hostCounters = this.own(this.window.alloc(HOST_COUNTERS_BYTES));
      leases = this.own(this.window.alloc(MAX_LEASES * LEASE_BYTES));
    } catch (error) {
      this.release();
      throw error;
    }
    this.#init = {
      mac,
      ip: network.ip,
      mask: network.mask,
      ip6: args.ip6 ?? DEFAULT_IP6,
      linkLocal: linkLocalOf(mac),
      mtu: args.mtu ?? 0,
      dhcp:
        range === undefined
          ? undefined
          : {
              first: range.first,
              count: range.last - range.first + 1,
              leases,
              router: args.router ?? network.ip,
              dns: args.dns ?? network.ip,
              leaseSeconds: args.lease ?? DEFAULT_LEASE_SECONDS,
            },
      answers,
      hostCounters: this.#hostCounters,
      rxCounters: this.counters.rxBlock(0),
      txCounters: this.counters.txBlock(0),
    };
  }

  /** The module that lcores load, and what it is started with. */
  datapath(): DatapathSpec {
    return { module: new URL('./datapath.js', import.meta.url).href, init: this.#init, arrivals: 'answers' };
  }

  /** Besides DPDK's names what the host did: echo_arp_replies, echo_udp_echoes, … (never reset). */
  override xstats(): ReadonlyMap<string, bigint> {
    return this.counters.xstats(HOST_COUNTERS.map((name, i) => [`echo_${name}`, readCounter(this.window.u32, (this.#hostCounters + i * COUNTER_BYTES) >>> 2)] as const));
  }
}

/** An address argument whose default is the port's own address. */
const addressArg = (help: string, defaultText: string): ArgSpec<number> => ({ help, placeholder: 'ADDRESS', defaultText, parse: parseIpv4 });

/** `net_echo` for the vdev bus. */
export const driver: VdevDriver<EchoArgs, EchoPort> = {
  name: 'net_echo',
  class: 'port',
  summary: 'a host to talk to: ARP, ping, UDP echo, DHCP, no privileges',
  args: {
    mac: macArg({ help: "the host's MAC address", default: DEFAULT_MAC }),
    ip: { help: "the host's IPv4 address and network", placeholder: 'ADDRESS/BITS', default: DEFAULT_IP, defaultText: DEFAULT_IP_TEXT, parse: parseIpv4Network },
    ip6: { help: "the host's IPv6 address (/64), besides its link-local one", placeholder: 'ADDRESS', default: DEFAULT_IP6, defaultText: DEFAULT_IP6_TEXT, parse: parseIpv6 },
    dhcp: {
      help: 'addresses to give out; on: from .15 of the network on',
      placeholder: 'on|off|FIRST-LAST',
      default: 'on',
      parse: (text) => {
        if (text === 'on' || text === 'off') return text;
        const [first, last, ...more] = text.split('-');
        if (first === undefined || last === undefined || more.length > 0) throw new Error('must be on, off, or a range as in 10.0.2.15-10.0.2.99');
        return { first: parseIpv4(first), last: parseIpv4(last) };
      },
    },
    router: addressArg('router that DHCP tells of', 'the host'),
    dns: addressArg('name server that DHCP tells of', 'the host, which refuses at once'),
    lease: integerArg({ help: 'seconds a DHCP lease lasts', min: 60, max: MAX_LEASE_SECONDS, default: DEFAULT_LEASE_SECONDS }),
    mtu: integerArg({ help: 'MTU that DHCP and router advertisements tell of', min: MIN_MTU, max: MAX_MTU }),
  },
  probe: (name, args) => Promise.resolve().then(() => new EchoPort(name, args)),
};
