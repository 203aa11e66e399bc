/**
 * The capture format: pcapng, link type LINKTYPE_USER0 (147), one packet per message, and more behind it where a message is larger
 * than a packet may be. In front of the message's exact bytes there is a header, little-endian:
 *
 * | off | size | field                                                                                       |
 * | --- | ---- | ------------------------------------------------------------------------------------------- |
 * | 0   | 2    | magic: 0x56 0x55 ("VU")                                                                      |
 * | 2   | 1    | version: 1                                                                                   |
 * | 3   | 1    | flags: 1 from the server, 2 twin socket, 4 raw bytes (no message), 8 cut,  16 the session ended, |
 * |     |      | 32 goes on with the message of the packet before                                             |
 * | 4   | 4    | session: counted from 1                                                                      |
 * | 8   | 2    | length of this header: 16 + 16 per descriptor                                                |
 * | 10  | 2    | number of descriptors that came with the message                                             |
 * | 12  | 4    | 0                                                                                            |
 * | 16  | 16·n | per descriptor: kind u8, 3 zero bytes, file u32, size u64                                    |
 *
 * Kind: 0 other, 1 memfd, 2 file, 3 eventfd, 4 socket, 5 device, 6 pipe. File: the same number for the same file, 0 unknown. Size in
 * bytes, of memfds and files. A packet with flag 16 has no message.
 */
import { DESCRIPTOR_KINDS, type DescriptorInfo } from '../trace/descriptors.ts';
import type { ObservedMessage } from '../trace/observed.ts';
import { interfaceBlock, packetBlock, readPackets, sectionHeaderBlock } from './blocks.ts';
import { MAX_CAPTURED_BYTES, MAX_PACKET_BYTES } from '../limits.ts';
import { CaptureError } from './errors.ts';

/** LINKTYPE_USER0: reserved for private use; the dissector in wireshark/ takes it. */
export const LINK_TYPE = 147;
export const CAPTURE_VERSION = 1;

const MAGIC = 0x5556;
const FIXED_BYTES = 16;
const DESCRIPTOR_BYTES = 16;
const FROM_SERVER = 1;
const TWIN = 2;
const RAW = 4;
const CUT = 8;
const ENDED = 16;
const CONTINUED = 32;

/** The pseudo header. */
export function captureHeader(message: Pick<ObservedMessage, 'session' | 'channel' | 'from' | 'framing' | 'fds'>, more: 0 | typeof ENDED | typeof CONTINUED = 0): Uint8Array {
  const bytes = new Uint8Array(FIXED_BYTES + DESCRIPTOR_BYTES * message.fds.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, MAGIC, true);
  view.setUint8(2, CAPTURE_VERSION);
  view.setUint8(3, (message.from === 'server' ? FROM_SERVER : 0) | (message.channel === 'twin' ? TWIN : 0) | (message.framing === 'raw' ? RAW : 0)
    | (message.framing === 'cut' ? CUT : 0) | more);
  view.setUint32(4, message.session, true);
  view.setUint16(8, bytes.length, true);
  view.setUint16(10, message.fds.length, true);
  message.fds.forEach((fd, i) => {
    const at = FIXED_BYTES + DESCRIPTOR_BYTES * i;
    view.setUint8(at, DESCRIPTOR_KINDS.indexOf(fd.kind));
    view.setUint32(at + 4, fd.file, true);
    view.setBigUint64(at + 8, BigInt(fd.sizeBytes), true);
  });
  return bytes;
}

/** The blocks that begin a capture. */
export function captureStart(listen: string, connect: string): Uint8Array[] {
  return [
    sectionHeaderBlock('vfio-user trace', 'vfio-user messages, one packet each, behind a header that says where they belong (see the README of @emudev/vfio-user); dissector: vfio-user wireshark'),
    interfaceBlock(LINK_TYPE, 'vfio-user', `${listen} -> ${connect}`, `link type ${LINK_TYPE} (USER0), pseudo header version ${CAPTURE_VERSION}`),
  ];
}

/** `originMs`: what performance.now() 0 means since 1970. */
export function captureMessage(message: ObservedMessage, originMs: number): Uint8Array {
  const timestampNs = nanoseconds(originMs, message.atMs);
  const packet = (header: Uint8Array, data: Uint8Array, size: number): Uint8Array => packetBlock({
    interface: 0, timestampNs, data: [header, data], originalBytes: header.length + size, direction: message.from === 'server' ? 'inbound' : 'outbound',
  });
  const { bytes } = message;
  const header = captureHeader(message);
  const first = MAX_PACKET_BYTES - header.length;
  const packets = [packet(header, bytes.subarray(0, first), message.size)];
  if (bytes.length > first) {
    const following = captureHeader({ ...message, fds: [] }, CONTINUED);
    const step = MAX_PACKET_BYTES - following.length;
    for (let at = first; at < bytes.length; at += step) {
      const data = bytes.subarray(at, at + step);
      packets.push(packet(following, data, data.length));
    }
  }
  return packets.length === 1 ? packets[0]! : Buffer.concat(packets);
}

export function captureEnd(session: number, atMs: number, originMs: number): Uint8Array {
  const header = captureHeader({ session, channel: 'main', from: 'client', framing: 'whole', fds: [] }, ENDED);
  return packetBlock({ interface: 0, timestampNs: nanoseconds(originMs, atMs), data: [header], originalBytes: header.length, direction: 'outbound' });
}

function nanoseconds(originMs: number, atMs: number): bigint {
  // In two steps: a sum of the two as a double would keep no more than 256 ns.
  return BigInt(Math.round(originMs)) * 1_000_000n + BigInt(Math.round((atMs + (originMs - Math.round(originMs))) * 1e6));
}

/** A message of a capture; `atNs` since 1970. */
export interface CapturedMessage extends Omit<ObservedMessage, 'atMs'> {
  readonly atNs: bigint;
  /** Of its block in the file. */
  readonly offset: number;
}

export interface CapturedEnd {
  readonly session: number;
  readonly atNs: bigint;
}

/** What a capture holds, in order. @throws CaptureError where it is not as the format has it */
export function* readCapture(file: Uint8Array): Generator<CapturedMessage | CapturedEnd, void, void> {
  // A message of which there may be more in the next packet, its parts, and how much of it they are.
  let message: CapturedMessage | undefined;
  let parts: Uint8Array[] = [];
  let present = 0;
  for (const packet of readPackets(file)) {
    const { offset, data, originalBytes, timestampNs } = packet;
    if (packet.linkType !== LINK_TYPE) throw new CaptureError(offset, `a packet of link type ${packet.linkType}, a trace has ${LINK_TYPE}`);
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    if (data.length < FIXED_BYTES || view.getUint16(0, true) !== MAGIC) throw new CaptureError(offset, 'a packet without the header of a trace');
    if (view.getUint8(2) !== CAPTURE_VERSION) throw new CaptureError(offset, `a trace of version ${view.getUint8(2)}, this program knows ${CAPTURE_VERSION}`);
    const flags = view.getUint8(3);
    const count = view.getUint16(10, true);
    const length = view.getUint16(8, true);
    if (length !== FIXED_BYTES + DESCRIPTOR_BYTES * count || length > data.length) throw new CaptureError(offset, `a header of ${length} bytes for ${count} descriptors`);
    const session = view.getUint32(4, true);
    const channel = (flags & TWIN) !== 0 ? 'twin' : 'main';
    const from = (flags & FROM_SERVER) !== 0 ? 'server' : 'client';
    const bytes = data.subarray(length);
    if ((flags & CONTINUED) !== 0) {
      if (message?.session !== session || message.channel !== channel || message.from !== from) throw new CaptureError(offset, 'a packet that goes on with no message');
      parts.push(bytes);
      present += bytes.length;
      if (present > Math.min(message.size, MAX_CAPTURED_BYTES)) throw new CaptureError(offset, `a message of ${message.size} bytes has more of them`);
      if (present < message.size) continue;
    }
    if (message !== undefined) yield joined(message, parts);
    message = undefined;
    if ((flags & CONTINUED) !== 0) continue;
    if ((flags & ENDED) !== 0) {
      yield { session, atNs: timestampNs };
      continue;
    }
    const begun: CapturedMessage = {
      offset, session, atNs: timestampNs, channel, from, bytes, size: Math.max(originalBytes, data.length) - length,
      framing: (flags & RAW) !== 0 ? 'raw' : (flags & CUT) !== 0 ? 'cut' : 'whole',
      fds: Array.from({ length: count }, (_, i) => readDescriptor(view, FIXED_BYTES + DESCRIPTOR_BYTES * i, offset)),
    };
    if (bytes.length === begun.size) {
      yield begun;
      continue;
    }
    message = begun;
    parts = [bytes];
    present = bytes.length;
  }
  if (message !== undefined) yield joined(message, parts);
}

function joined(message: CapturedMessage, parts: readonly Uint8Array[]): CapturedMessage {
  return parts.length === 1 ? message : { ...message, bytes: Uint8Array.from(Buffer.concat(parts)) };
}

function readDescriptor(view: DataView, at: number, offset: number): DescriptorInfo {
  const kind = DESCRIPTOR_KINDS[view.getUint8(at)];
  const size = view.getBigUint64(at + 8, true);
  if (kind === undefined) throw new CaptureError(offset, `a descriptor of kind ${view.getUint8(at)}`);
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw new CaptureError(offset, `a descriptor of a file of ${size} bytes`);
  return { kind, sizeBytes: Number(size), file: view.getUint32(at + 4, true), name: '' };
}
