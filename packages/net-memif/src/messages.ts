/**
 * Control messages of memif 2.0 (memif.h of DPDK and VPP): 128 bytes each, little-endian, packed; a u16 type and a body.
 *
 * ```
 * HELLO       2 name[32]  34 u16 min version  36 u16 max version  38 u16 max region  40 u16 max S2C ring  42 u16 max C2S ring  44 u8 max log2 ring size
 * INIT        2 u16 version  4 u32 id  8 u8 mode  9 secret[24]  33 name[32]
 * ADD_REGION  2 u16 index  4 u64 size                                                      one descriptor: the memory
 * ADD_RING    2 u16 flags  4 u16 index  6 u16 region  8 u32 offset  12 u8 log2 size  13 u16 private header bytes   one descriptor: the eventfd
 * CONNECT     2 interface name[32]
 * CONNECTED   2 interface name[32]
 * DISCONNECT  2 u32 code  6 reason[96]
 * ```
 */
import { MemifError } from './errors.ts';

/** Bytes of every message. */
export const MESSAGE_BYTES = 128;
/** 2.0: major in the high byte. */
export const MEMIF_VERSION = 0x0200;
/** INIT: frames begin with an Ethernet header. */
export const MODE_ETHERNET = 0;
/** Bytes of INIT's secret, filled up with NULs. */
export const SECRET_BYTES = 24;

const NAME_BYTES = 32;
const REASON_BYTES = 96;
const RING_FLAG_C2S = 1;

/** The numbers on the wire. */
const TYPES = { ack: 1, hello: 2, init: 3, addRegion: 4, addRing: 5, connect: 6, connected: 7, disconnect: 8 } as const;

/** Which way a ring carries frames: to the server, or to the client. */
export type Direction = 'c2s' | 's2c';

/** The server has dealt with the client's last message. */
export interface AckMessage { readonly type: 'ack' }
/** What the server can do; the ring and region numbers are the largest index, so one less than the count. */
export interface HelloMessage {
  readonly type: 'hello';
  readonly name: string;
  readonly minVersion: number;
  readonly maxVersion: number;
  readonly maxRegion: number;
  readonly maxS2cRing: number;
  readonly maxC2sRing: number;
  readonly maxLog2RingSize: number;
}
/** Which interface the client wants. */
export interface InitMessage {
  readonly type: 'init';
  readonly version: number;
  readonly id: number;
  readonly mode: number;
  /** `SECRET_BYTES` of them. */
  readonly secret: Uint8Array;
  readonly name: string;
}
/** Shared memory of the client. */
export interface AddRegionMessage {
  readonly type: 'addRegion';
  readonly index: number;
  readonly sizeBytes: number;
}
/** A ring in that memory. */
export interface AddRingMessage {
  readonly type: 'addRing';
  readonly direction: Direction;
  readonly index: number;
  readonly region: number;
  readonly offset: number;
  readonly log2Size: number;
  readonly privateHeaderBytes: number;
}
/** The client has said everything. */
export interface ConnectMessage { readonly type: 'connect'; readonly interfaceName: string }
/** The server uses the rings from now on. */
export interface ConnectedMessage { readonly type: 'connected'; readonly interfaceName: string }
/** The end, from either side, and why. */
export interface DisconnectMessage { readonly type: 'disconnect'; readonly code: number; readonly reason: string }

/** Every message there is. */
export type MemifMessage =
  | AckMessage | HelloMessage | InitMessage | AddRegionMessage | AddRingMessage | ConnectMessage | ConnectedMessage | DisconnectMessage;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Up to the first NUL; what is not printable is shown as '?', because it ends up in logs. */
function textAt(bytes: Uint8Array, at: number, length: number): string {
  const field = bytes.subarray(at, at + length);
  const end = field.indexOf(0);
  return decoder.decode(end === -1 ? field : field.subarray(0, end)).replace(/\p{C}/gu, '?');
}

/** Cut to leave a NUL. */
function putText(bytes: Uint8Array, at: number, length: number, text: string): void {
  encoder.encodeInto(text, bytes.subarray(at, at + length - 1));
}

/** The 128 bytes of a message. Names and reasons that are too long are cut. */
export function encodeMessage(message: MemifMessage): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(MESSAGE_BYTES));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, TYPES[message.type], true);
  switch (message.type) {
    case 'ack':
      break;
    case 'hello':
      putText(bytes, 2, NAME_BYTES, message.name);
      view.setUint16(34, message.minVersion, true);
      view.setUint16(36, message.maxVersion, true);
      view.setUint16(38, message.maxRegion, true);
      view.setUint16(40, message.maxS2cRing, true);
      view.setUint16(42, message.maxC2sRing, true);
      view.setUint8(44, message.maxLog2RingSize);
      break;
    case 'init':
      view.setUint16(2, message.version, true);
      view.setUint32(4, message.id, true);
      view.setUint8(8, message.mode);
      bytes.set(message.secret.subarray(0, SECRET_BYTES), 9);
      putText(bytes, 33, NAME_BYTES, message.name);
      break;
    case 'addRegion':
      view.setUint16(2, message.index, true);
      view.setBigUint64(4, BigInt(message.sizeBytes), true);
      break;
    case 'addRing':
      view.setUint16(2, message.direction === 'c2s' ? RING_FLAG_C2S : 0, true);
      view.setUint16(4, message.index, true);
      view.setUint16(6, message.region, true);
      view.setUint32(8, message.offset, true);
      view.setUint8(12, message.log2Size);
      view.setUint16(13, message.privateHeaderBytes, true);
      break;
    case 'connect':
    case 'connected':
      putText(bytes, 2, NAME_BYTES, message.interfaceName);
      break;
    case 'disconnect':
      view.setUint32(2, message.code, true);
      putText(bytes, 6, REASON_BYTES, message.reason);
  }
  return bytes;
}

/** A message as it came. Throws ERR_MEMIF_MESSAGE for anything but `MESSAGE_BYTES` bytes of a known type, and for a size no memory has. */
export function decodeMessage(bytes: Uint8Array): MemifMessage {
  if (bytes.byteLength !== MESSAGE_BYTES) throw new MemifError('ERR_MEMIF_MESSAGE', `a control message has ${MESSAGE_BYTES} bytes, not ${bytes.byteLength}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const type = view.getUint16(0, true);
  switch (type) {
    case TYPES.ack:
      return { type: 'ack' };
    case TYPES.hello:
      return {
        type: 'hello',
        name: textAt(bytes, 2, NAME_BYTES),
        minVersion: view.getUint16(34, true),
        maxVersion: view.getUint16(36, true),
        maxRegion: view.getUint16(38, true),
        maxS2cRing: view.getUint16(40, true),
        maxC2sRing: view.getUint16(42, true),
        maxLog2RingSize: view.getUint8(44),
      };
    case TYPES.init:
      return {
        type: 'init',
        version: view.getUint16(2, true),
        id: view.getUint32(4, true),
        mode: view.getUint8(8),
        secret: Uint8Array.from(bytes.subarray(9, 9 + SECRET_BYTES)),
        name: textAt(bytes, 33, NAME_BYTES),
      };
    case TYPES.addRegion: {
      const size = view.getBigUint64(4, true);
      if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw new MemifError('ERR_MEMIF_MESSAGE', `a region of ${size} bytes cannot be`);
      return { type: 'addRegion', index: view.getUint16(2, true), sizeBytes: Number(size) };
    }
    case TYPES.addRing:
      return {
        type: 'addRing',
        direction: (view.getUint16(2, true) & RING_FLAG_C2S) !== 0 ? 'c2s' : 's2c',
        index: view.getUint16(4, true),
        region: view.getUint16(6, true),
        offset: view.getUint32(8, true),
        log2Size: view.getUint8(12),
        privateHeaderBytes: view.getUint16(13, true),
      };
    case TYPES.connect:
      return { type: 'connect', interfaceName: textAt(bytes, 2, NAME_BYTES) };
    case TYPES.connected:
      return { type: 'connected', interfaceName: textAt(bytes, 2, NAME_BYTES) };
    case TYPES.disconnect:
      return { type: 'disconnect', code: view.getUint32(2, true), reason: textAt(bytes, 6, REASON_BYTES) };
    default:
      throw new MemifError('ERR_MEMIF_MESSAGE', `message type ${type} is unknown`);
  }
}
