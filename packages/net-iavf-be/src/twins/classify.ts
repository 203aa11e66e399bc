/** What a frame is (twin of src/kernels/classify.ts), from iavf.md's tables of packet types and HENA bits. */
import type { TwinMemory } from './memory.ts';

const IP_SLOT = { fragment: 0, other: 1, udp: 2, tcp: 4, sctp: 5, icmp: 6 } as const;
type Kind = keyof typeof IP_SLOT;
/** HENA bits of IPv4 by kind; IPv6's are ten higher. UDP and TCP have further ones by destination and by SYN. */
const HENA_BIT = { fragment: 36, other: 35, udp: 31, tcp: 33, sctp: 34, icmp: 35 } as const;
const HENA_UDP_UNICAST = 29;
const HENA_UDP_MULTICAST = 30;
const HENA_TCP_SYN = 32;
const L2_PTYPES: ReadonlyMap<number, number> = new Map([[0x0806, 11], [0x88cc, 6], [0x88f7, 2]]);
const L2_PAYLOAD = 1;
const MAX_EXTENSION_HEADERS = 8;
const L4_KINDS: ReadonlyMap<number, { readonly kind: Kind; readonly minBytes: number }> = new Map([
  [6, { kind: 'tcp', minBytes: 20 }],
  [17, { kind: 'udp', minBytes: 8 }],
  [132, { kind: 'sctp', minBytes: 12 }],
]);

export interface Classified {
  readonly ptype: number;
  readonly ip: 0 | 4 | 6;
  /** HENA bits that name it. */
  readonly hashBits: readonly number[];
  /** Offset of a TCP, UDP or SCTP header in the frame; 0 = none. */
  readonly l4: number;
  readonly l4Bytes: number;
  readonly kind: Kind | undefined;
  readonly ipv4HeaderBytes: number;
  readonly hasExtensions: boolean;
}

export function classify(memory: TwinMemory, frame: number, length: number, l3: number, etherType: number, multicast: boolean): Classified {
  const classified =
    etherType === 0x0800 ? classifyIpv4(memory, frame, length, l3, multicast)
    : etherType === 0x86dd ? classifyIpv6(memory, frame, length, l3, multicast)
    : undefined;
  return classified ?? {
    ptype: L2_PTYPES.get(etherType) ?? L2_PAYLOAD, ip: 0, hashBits: [], l4: 0, l4Bytes: 0, kind: undefined, ipv4HeaderBytes: 0, hasExtensions: false,
  };
}

/** undefined = it does not parse: an L2 payload. */
function classifyIpv4(memory: TwinMemory, frame: number, length: number, l3: number, multicast: boolean): Classified | undefined {
  if (length < l3 + 20) return undefined;
  const ip = frame + l3;
  const header = (memory.u8(ip) & 0xf) * 4;
  const total = memory.be16(ip + 2);
  if (memory.u8(ip) >> 4 !== 4 || header < 20 || total < header || l3 + total > length) return undefined;
  const base = { ip: 4 as const, ipv4HeaderBytes: header, hasExtensions: false };
  if (memory.be16(ip + 6) & 0x3fff) return { ...base, ...typed(memory, frame, 4, 'fragment', 0, 0, multicast) };
  return { ...base, ...l4Of(memory, frame, 4, memory.u8(ip + 9), l3 + header, total - header, multicast) };
}

function classifyIpv6(memory: TwinMemory, frame: number, length: number, l3: number, multicast: boolean): Classified | undefined {
  if (length < l3 + 40 || memory.u8(frame + l3) >> 4 !== 6) return undefined;
  const end = l3 + 40 + memory.be16(frame + l3 + 4);
  if (end > length) return undefined;
  const base = { ip: 6 as const, ipv4HeaderBytes: 0 };
  let next = memory.u8(frame + l3 + 6);
  let at = l3 + 40;
  for (let count = 0; count < MAX_EXTENSION_HEADERS; count++) {
    if (next === 44) return { ...base, hasExtensions: true, ...typed(memory, frame, 6, 'fragment', 0, 0, multicast) };
    if (next !== 0 && next !== 43 && next !== 60) {
      return { ...base, hasExtensions: at !== l3 + 40, ...l4Of(memory, frame, 6, next, at, end - at, multicast) };
    }
    if (at + 8 > end) break;
    next = memory.u8(frame + at);
    at += (memory.u8(frame + at + 1) + 1) * 8;
    if (at > end) break;
  }
  return { ...base, hasExtensions: true, ...typed(memory, frame, 6, 'other', 0, 0, multicast) };
}

type Typed = Pick<Classified, 'ptype' | 'hashBits' | 'l4' | 'l4Bytes' | 'kind'>;

function l4Of(memory: TwinMemory, frame: number, ip: 4 | 6, protocol: number, at: number, bytes: number, multicast: boolean): Typed {
  const known = L4_KINDS.get(protocol);
  if (known !== undefined && bytes >= known.minBytes) return typed(memory, frame, ip, known.kind, at, bytes, multicast);
  return typed(memory, frame, ip, protocol === (ip === 4 ? 1 : 58) ? 'icmp' : 'other', 0, 0, multicast);
}

function typed(memory: TwinMemory, frame: number, ip: 4 | 6, kind: Kind, l4: number, l4Bytes: number, multicast: boolean): Typed {
  const bits: number[] = [HENA_BIT[kind]];
  if (kind === 'udp') bits.push(multicast ? HENA_UDP_MULTICAST : HENA_UDP_UNICAST);
  const SYN_ACK = 0x12;
  if (kind === 'tcp' && (memory.u8(frame + l4 + 13) & SYN_ACK) === 0x02) bits.push(HENA_TCP_SYN);
  return { ptype: (ip === 4 ? 22 : 88) + IP_SLOT[kind], hashBits: ip === 4 ? bits : bits.map((b) => b + 10), l4, l4Bytes, kind };
}
