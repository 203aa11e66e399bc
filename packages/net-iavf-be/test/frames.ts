/** Frames for tests, and checksums by their textbook definitions: what the code under test is judged by. */

export const MAC: Buffer = Buffer.from('020000000001', 'hex');
export const PEER: Buffer = Buffer.from('020000000002', 'hex');

/** RFC 1071, the slow way. */
export function onesComplementSum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let n = 0; n < part.length; n += 2) {
      sum += (part[n]! << 8) | (part[n + 1] ?? 0);
      if (sum > 0xffff) sum -= 0xffff;
    }
  }
  return sum;
}

/** RFC 9260 appendix A, bit by bit. */
export function crc32cOf(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

export interface FrameOptions {
  readonly ip?: 4 | 6;
  readonly protocol?: 'tcp' | 'udp' | 'sctp' | 'icmp';
  readonly payload?: number;
  readonly destination?: Uint8Array;
  readonly source?: string;
  readonly target?: string;
  readonly ports?: readonly [number, number];
  readonly tcpFlags?: number;
  readonly tcpOptions?: number;
  readonly seq?: number;
  readonly id?: number;
  readonly vlan?: number;
  /** Bytes of hop-by-hop options (multiple of 8), IPv6 only. */
  readonly hopByHop?: number;
  /** Leave the checksums to the device: IPv4's zero, L4's the pseudo-header sum, with or (TSO) without its length. */
  readonly undone?: 'checksum' | 'tso';
}

export interface Layout {
  readonly bytes: Buffer;
  readonly l2: number;
  readonly l3: number;
  readonly l4: number;
}

const PROTOCOL = { tcp: 6, udp: 17, sctp: 132 } as const;
const address = (text: string, ip: 4 | 6): Buffer =>
  ip === 4 ? Buffer.from(text.split('.').map(Number)) : Buffer.from(text.split(':').map((g) => g.padStart(4, '0')).join(''), 'hex');

function pseudoHeader(source: Uint8Array, target: Uint8Array, protocol: number, length: number): Buffer {
  const tail = Buffer.alloc(8);
  tail.writeUInt32BE(length, 0);
  tail.writeUInt32BE(protocol, 4);
  return Buffer.concat([source, target, tail]);
}

export function frameOf(options: FrameOptions = {}): Layout {
  const ip = options.ip ?? 4;
  const kind = options.protocol ?? 'tcp';
  const protocol = kind === 'icmp' ? (ip === 4 ? 1 : 58) : PROTOCOL[kind];
  const l4 = kind === 'tcp' ? 20 + (options.tcpOptions ?? 0) : kind === 'udp' ? 8 : kind === 'sctp' ? 12 : 8;
  const payload = Buffer.from(Array.from({ length: options.payload ?? 26 }, (_, n) => (n * 7 + 13) & 0xff));
  const segment = Buffer.concat([Buffer.alloc(l4), payload]);
  segment.writeUInt16BE(options.ports?.[0] ?? 1234, 0);
  segment.writeUInt16BE(options.ports?.[1] ?? 80, 2);
  if (kind === 'tcp') {
    segment.writeUInt32BE(options.seq ?? 1000, 4);
    segment[12] = (l4 / 4) << 4;
    segment[13] = options.tcpFlags ?? 0x10;
  }
  if (kind === 'udp') segment.writeUInt16BE(options.undone === 'tso' ? 0 : segment.length, 4);

  const source = address(options.source ?? (ip === 4 ? '10.0.0.1' : 'fe80:0:0:0:0:0:0:1'), ip);
  const target = address(options.target ?? (ip === 4 ? '10.0.0.2' : 'fe80:0:0:0:0:0:0:2'), ip);
  const hopByHop = options.hopByHop ?? 0;
  const header = Buffer.alloc(ip === 4 ? 20 : 40 + hopByHop);
  if (ip === 4) {
    header[0] = 0x45;
    header.writeUInt16BE(options.undone === 'tso' ? 0 : 20 + segment.length, 2);
    header.writeUInt16BE(options.id ?? 0x1234, 4);
    header[6] = 0x40;
    header[8] = 64;
    header[9] = protocol;
    source.copy(header, 12);
    target.copy(header, 16);
    if (options.undone === undefined) header.writeUInt16BE(onesComplementSum(header) ^ 0xffff, 10);
  } else {
    header[0] = 0x60;
    header.writeUInt16BE(options.undone === 'tso' ? 0 : hopByHop + segment.length, 4);
    header[6] = hopByHop > 0 ? 0 : protocol;
    header[7] = 64;
    source.copy(header, 8);
    target.copy(header, 24);
    if (hopByHop > 0) header.set([protocol, hopByHop / 8 - 1, 1, hopByHop - 4], 40); // PadN
  }
  const field = kind === 'tcp' ? 16 : kind === 'udp' ? 6 : undefined;
  if (field !== undefined) {
    const pseudo = pseudoHeader(source, target, protocol, options.undone === 'tso' ? 0 : segment.length);
    if (options.undone === undefined) segment.writeUInt16BE(onesComplementSum(pseudo, segment) ^ 0xffff || 0xffff, field);
    else segment.writeUInt16BE(onesComplementSum(pseudo), field);
  }
  const type = Buffer.from(ip === 4 ? '0800' : '86dd', 'hex');
  const tag = options.vlan === undefined ? Buffer.alloc(0) : Buffer.from([0x81, 0, options.vlan >> 8, options.vlan & 0xff]);
  const bytes = Buffer.concat([options.destination ?? MAC, PEER, tag, type, header, segment]);
  return { bytes, l2: 14 + tag.length, l3: header.length, l4 };
}

/** Is every checksum of a complete TCP or UDP frame right, and do its lengths agree with its bytes? (Padding is allowed for.) */
export function verifyFrame(frame: Buffer, { l2, l3 }: { readonly l2: number; readonly l3: number }): { ip: boolean; l4: boolean; length: number } {
  const ip = frame.subarray(l2, l2 + l3);
  const v4 = ip[0]! >> 4 === 4;
  const total = v4 ? ip.readUInt16BE(2) - l3 : ip.readUInt16BE(4) - (l3 - 40);
  const segment = frame.subarray(l2 + l3, l2 + l3 + total);
  const protocol = v4 ? ip[9]! : l3 > 40 ? ip[40]! : ip[6]!;
  const [source, target] = v4 ? [ip.subarray(12, 16), ip.subarray(16, 20)] : [ip.subarray(8, 24), ip.subarray(24, 40)];
  return {
    ip: !v4 || onesComplementSum(ip) === 0xffff,
    l4: segment.length === total && onesComplementSum(pseudoHeader(source, target, protocol, total), segment) === 0xffff,
    length: total,
  };
}
