/**
 * pcapng (draft-ietf-opsawg-pcapng): the blocks a capture of ours has, written; and packets of any pcapng file, read.
 * Sections, interfaces and enhanced packets; other blocks are skipped.
 */
import { MAX_CAPTURE_BLOCK_BYTES } from '../limits.ts';
import { CaptureError } from './errors.ts';

const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION = 1;
const ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;

const OPT_COMMENT = 1;
const SHB_USERAPPL = 4;
const IF_NAME = 2;
const IF_DESCRIPTION = 3;
const IF_TSRESOL = 9;
const EPB_FLAGS = 2;
/** Decimal exponent: nanoseconds. */
const NANOSECONDS = 9;

type Option = readonly [code: number, value: Uint8Array | string];

const padded = (bytes: number): number => (bytes + 3) & ~3;
const text = new TextEncoder();

function block(type: number, fixed: Uint8Array, data: readonly Uint8Array[], options: readonly Option[]): Uint8Array {
  const values = options.map(([code, value]) => [code, typeof value === 'string' ? text.encode(value) : value] as const);
  const dataBytes = data.reduce((n, part) => n + part.length, 0);
  const optionBytes = values.length === 0 ? 0 : values.reduce((n, [, value]) => n + 4 + padded(value.length), 4);
  const bytes = new Uint8Array(12 + fixed.length + padded(dataBytes) + optionBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, bytes.length, true);
  view.setUint32(bytes.length - 4, bytes.length, true);
  bytes.set(fixed, 8);
  let at = 8 + fixed.length;
  for (const part of data) {
    bytes.set(part, at);
    at += part.length;
  }
  at = 8 + fixed.length + padded(dataBytes);
  for (const [code, value] of values) {
    view.setUint16(at, code, true);
    view.setUint16(at + 2, value.length, true);
    bytes.set(value, at + 4);
    at += 4 + padded(value.length);
  }
  return bytes;
}

function fields(bytes: number, fill: (view: DataView) => void): Uint8Array {
  const view = new DataView(new ArrayBuffer(bytes));
  fill(view);
  return new Uint8Array(view.buffer);
}

/** Begins a file. */
export function sectionHeaderBlock(application: string, comment: string): Uint8Array {
  const fixed = fields(16, (view) => {
    view.setUint32(0, BYTE_ORDER_MAGIC, true);
    view.setUint16(4, 1, true);
    // Length of the section: unknown.
    view.setBigInt64(8, -1n, true);
  });
  return block(SECTION_HEADER, fixed, [], [[OPT_COMMENT, comment], [SHB_USERAPPL, application]]);
}

/** Interfaces are numbered from 0 in the order of their blocks. Time stamps count nanoseconds. */
export function interfaceBlock(linkType: number, name: string, description: string, comment: string): Uint8Array {
  const fixed = fields(8, (view) => { view.setUint16(0, linkType, true); });
  return block(INTERFACE_DESCRIPTION, fixed, [], [[OPT_COMMENT, comment], [IF_NAME, name], [IF_DESCRIPTION, description], [IF_TSRESOL, Uint8Array.of(NANOSECONDS)]]);
}

export interface Packet {
  readonly interface: number;
  /** Since 1970. */
  readonly timestampNs: bigint;
  /** Consecutive parts of the packet. */
  readonly data: readonly Uint8Array[];
  /** Longer than the data where some of it was not kept. */
  readonly originalBytes: number;
  readonly direction: 'inbound' | 'outbound';
}

export function packetBlock(packet: Packet): Uint8Array {
  const fixed = fields(20, (view) => {
    view.setUint32(0, packet.interface, true);
    view.setUint32(4, Number(packet.timestampNs >> 32n), true);
    view.setUint32(8, Number(packet.timestampNs & 0xffff_ffffn), true);
    view.setUint32(12, packet.data.reduce((n, part) => n + part.length, 0), true);
    view.setUint32(16, packet.originalBytes, true);
  });
  return block(ENHANCED_PACKET, fixed, packet.data, [[EPB_FLAGS, Uint8Array.of(packet.direction === 'inbound' ? 1 : 2, 0, 0, 0)]]);
}

export interface ReadPacket {
  /** Where its block begins in the file. */
  readonly offset: number;
  readonly linkType: number;
  readonly timestampNs: bigint;
  /** A view of the file. */
  readonly data: Uint8Array;
  readonly originalBytes: number;
}

interface Interface {
  readonly linkType: number;
  /** Units of its time stamps per second. */
  readonly perSecond: bigint;
}

/** The packets of a file, in order. @throws CaptureError at the first thing that is not as the format has it, with the packets before it delivered */
export function* readPackets(file: Uint8Array): Generator<ReadPacket, void, void> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  let little = true;
  let interfaces: Interface[] | undefined;
  for (let at = 0; at < file.length;) {
    if (file.length - at < 12) throw new CaptureError(at, `the file ends within a block: ${file.length - at} bytes are left`);
    const type = view.getUint32(at, little);
    if (type === SECTION_HEADER) {
      const magic = view.getUint32(at + 8, true);
      if (magic !== BYTE_ORDER_MAGIC && magic !== 0x4d3c2b1a) throw new CaptureError(at + 8, 'this is no pcapng file');
      little = magic === BYTE_ORDER_MAGIC;
      interfaces = [];
    } else if (interfaces === undefined) {
      throw new CaptureError(at, 'this is no pcapng file');
    }
    const length = view.getUint32(at + 4, little);
    if (length < 12 || length % 4 !== 0 || length > MAX_CAPTURE_BLOCK_BYTES) throw new CaptureError(at + 4, `a block of ${length} bytes`);
    if (length > file.length - at) throw new CaptureError(at, `the file ends within a block of ${length} bytes, of which ${file.length - at} are there`);
    if (view.getUint32(at + length - 4, little) !== length) throw new CaptureError(at + length - 4, `a block's two lengths differ, ${length} and ${view.getUint32(at + length - 4, little)}`);
    const end = at + length - 4;
    if (type === INTERFACE_DESCRIPTION) interfaces.push(readInterface(view, at + 8, end, little));
    else if (type === ENHANCED_PACKET) yield readPacket(file, view, at, end, little, interfaces);
    at += length;
  }
}

function readInterface(view: DataView, at: number, end: number, little: boolean): Interface {
  if (end - at < 8) throw new CaptureError(at, 'an interface block without its fixed part');
  let perSecond = 1_000_000n;
  for (let option = at + 8; option + 4 <= end;) {
    const code = view.getUint16(option, little);
    const length = view.getUint16(option + 2, little);
    if (code === 0) break;
    if (option + 4 + length > end) throw new CaptureError(option, `an option of ${length} bytes reaches beyond its block`);
    if (code === IF_TSRESOL && length === 1) {
      const resolution = view.getUint8(option + 4);
      perSecond = (resolution & 0x80) === 0 ? 10n ** BigInt(resolution) : 1n << BigInt(resolution & 0x7f);
    }
    option += 4 + padded(length);
  }
  return { linkType: view.getUint16(at, little), perSecond };
}

function readPacket(file: Uint8Array, view: DataView, at: number, end: number, little: boolean, interfaces: readonly Interface[]): ReadPacket {
  if (end - at < 28) throw new CaptureError(at, 'a packet block without its fixed part');
  const number = view.getUint32(at + 8, little);
  const source = interfaces[number];
  if (source === undefined) throw new CaptureError(at + 8, `a packet of interface ${number}, of which there are ${interfaces.length}`);
  const stamp = (BigInt(view.getUint32(at + 12, little)) << 32n) | BigInt(view.getUint32(at + 16, little));
  const captured = view.getUint32(at + 20, little);
  if (captured > end - at - 28) throw new CaptureError(at + 20, `a packet of ${captured} bytes in a block with room for ${end - at - 28}`);
  return {
    offset: at, linkType: source.linkType, timestampNs: (stamp * 1_000_000_000n) / source.perSecond,
    data: file.subarray(at + 28, at + 28 + captured), originalBytes: view.getUint32(at + 24, little),
  };
}
