/**
 * VERSION (1): `major u16 | minor u16 | JSON text, NUL-terminated`, the JSON optional.
 *
 * Each side announces what *it* can receive; nothing is intersected. Unknown keys are ignored, wrong types and values out of
 * bounds are errors (never defaults: a peer that misspells a limit would be trusted with another one).
 */
import { getU16, putU16 } from './bytes.ts';
import { VFIO_USER_MAJOR, VFIO_USER_MINOR } from './constants.ts';
import { badPeer } from './errors.ts';
import type { ProtocolError } from './errors.ts';
import { DEFAULT_MAX_DMA_MAPS, MAX_ANNOUNCED_MSG_FDS, MAX_DATA_XFER_BYTES, MAX_VERSION_FRAME_BYTES } from './limits.ts';

const FIXED_BYTES = 4;
const PAGE_BYTES = 4096;

/** The `capabilities` object; an absent key means the default of `effectiveCapabilities`. */
export interface Capabilities {
  readonly maxMsgFds?: number;
  readonly maxDataXferSize?: number;
  readonly maxDmaMaps?: number;
  /** Bitmap of supported page sizes. */
  readonly pgsizes?: number;
  /** Present: the device can migrate (server), or the consumer would (client). */
  readonly migration?: { readonly pgsize?: number; readonly maxBitmapSize?: number };
  readonly writeMultiple?: boolean;
  readonly twinSocket?: { readonly supported?: boolean; readonly fdIndex?: number };
}

/** A VERSION request or reply. */
export interface Version {
  readonly major: number;
  readonly minor: number;
  /** undefined: the message had no JSON at all, or no `capabilities` in it. */
  readonly capabilities?: Capabilities;
}

/** What a peer can receive, defaults filled in and cut down to what makes sense here. */
export interface EffectiveCapabilities {
  readonly maxMsgFds: number;
  readonly maxDataXferSize: number;
  readonly maxDmaMaps: number;
  readonly pgsizes: number;
  readonly migration: { readonly pgsize: number; readonly maxBitmapSize: number } | undefined;
  readonly writeMultiple: boolean;
  readonly twinSocket: boolean;
}

/** The payload of a request or reply. A reply to QEMU must have JSON and must not be longer than QEMU's request. */
export function encodeVersion(version: Version): Uint8Array {
  const json = version.capabilities === undefined ? '' : `${JSON.stringify({ capabilities: toJson(version.capabilities) })}\0`;
  const text = new TextEncoder().encode(json);
  const bytes = new Uint8Array(FIXED_BYTES + text.length);
  putU16(bytes, 0, version.major);
  putU16(bytes, 2, version.minor);
  bytes.set(text, FIXED_BYTES);
  return bytes;
}

/** Every error closes: without an agreed version there is no conversation. A server answers `errno` first. */
export function decodeVersion(payload: Uint8Array): Version {
  if (payload.length < FIXED_BYTES) throw bad(`payload of ${payload.length} bytes, needs ${FIXED_BYTES}`);
  const version = { major: getU16(payload, 0), minor: getU16(payload, 2) };
  if (payload.length === FIXED_BYTES) return version;
  if (payload.length > MAX_VERSION_FRAME_BYTES) throw bad(`${payload.length} bytes of JSON, the limit is ${MAX_VERSION_FRAME_BYTES}`);
  const end = payload.indexOf(0, FIXED_BYTES);
  if (end === -1) throw bad('JSON without a terminating NUL');
  const root = object(parse(payload.subarray(FIXED_BYTES, end)), 'JSON');
  const capabilities = member(root, 'capabilities');
  return capabilities === undefined ? version : { ...version, capabilities: fromJson(object(capabilities, 'capabilities')) };
}

/** The minor version to answer with; throws when the majors differ. */
export function negotiateVersion(client: Version, ownMinor: number = VFIO_USER_MINOR): number {
  if (client.major !== VFIO_USER_MAJOR) throw bad(`major version ${client.major}, this is ${VFIO_USER_MAJOR}`);
  return Math.min(client.minor, ownMinor);
}

/** The answer a client accepts: same major, minor not above the proposed one; throws otherwise. */
export function checkVersionReply(reply: Version, proposedMinor: number = VFIO_USER_MINOR): void {
  if (reply.major !== VFIO_USER_MAJOR || reply.minor > proposedMinor) {
    throw bad(`the server answers ${reply.major}.${reply.minor} to ${VFIO_USER_MAJOR}.${proposedMinor}`);
  }
}

/**
 * What may be sent to a peer, from the capabilities of its VERSION message. Absent keys have the specification's defaults: 1 descriptor, 1 MiB
 * per transfer (also where more was announced), 65535 DMA maps, pages of 4 KiB, dirty bitmaps of 256 MiB.
 */
export function effectiveCapabilities(announced: Capabilities | undefined): EffectiveCapabilities {
  const migration = announced?.migration;
  return {
    maxMsgFds: announced?.maxMsgFds ?? 1,
    // CLIENT: the peer's wish bounds what is sent to it, never what is allocated here.
    maxDataXferSize: Math.min(announced?.maxDataXferSize ?? MAX_DATA_XFER_BYTES, MAX_DATA_XFER_BYTES),
    maxDmaMaps: announced?.maxDmaMaps ?? DEFAULT_MAX_DMA_MAPS,
    pgsizes: announced?.pgsizes ?? PAGE_BYTES,
    migration: migration === undefined ? undefined : { pgsize: migration.pgsize ?? PAGE_BYTES, maxBitmapSize: migration.maxBitmapSize ?? 268_435_456 },
    writeMultiple: announced?.writeMultiple ?? false,
    twinSocket: announced?.twinSocket?.supported ?? false,
  };
}

function bad(message: string): ProtocolError {
  return badPeer('ERR_VFU_VERSION', `VERSION: ${message}`);
}

type JsonObject = Readonly<Record<string, unknown>>;

function parse(text: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text));
  } catch {
    throw bad('malformed JSON');
  }
}

function object(value: unknown, name: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(`${name} is not an object`);
  return value as JsonObject;
}

function member(from: JsonObject, key: string): unknown {
  return Object.hasOwn(from, key) ? from[key] : undefined;
}

function integer(from: JsonObject, key: string, min: number, max: number): number | undefined {
  const value = member(from, key);
  if (value === undefined) return undefined;
  if (!Number.isSafeInteger(value) || (value as number) < min || (value as number) > max) throw bad(`${key} is not an integer within ${min}..${max}`);
  // JSON has a -0; nobody means it.
  return (value as number) + 0;
}

function boolean(from: JsonObject, key: string): boolean | undefined {
  const value = member(from, key);
  if (value !== undefined && typeof value !== 'boolean') throw bad(`${key} is not a boolean`);
  return value;
}

function nested<T>(from: JsonObject, key: string, read: (value: JsonObject) => T): T | undefined {
  const value = member(from, key);
  return value === undefined ? undefined : read(object(value, key));
}

/** Drops the keys whose value is undefined, which exactOptionalPropertyTypes tells from absent ones. */
function present<T extends object>(value: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as T;
}

function fromJson(caps: JsonObject): Capabilities {
  return present<Required<Capabilities>>({
    maxMsgFds: integer(caps, 'max_msg_fds', 0, MAX_ANNOUNCED_MSG_FDS),
    maxDataXferSize: integer(caps, 'max_data_xfer_size', 1, Number.MAX_SAFE_INTEGER),
    maxDmaMaps: integer(caps, 'max_dma_maps', 0, Number.MAX_SAFE_INTEGER),
    pgsizes: integer(caps, 'pgsizes', 0, Number.MAX_SAFE_INTEGER),
    migration: nested(caps, 'migration', (m) => present<{ pgsize: number; maxBitmapSize: number }>({
      pgsize: integer(m, 'pgsize', PAGE_BYTES, Number.MAX_SAFE_INTEGER),
      maxBitmapSize: integer(m, 'max_bitmap_size', 0, Number.MAX_SAFE_INTEGER),
    })),
    writeMultiple: boolean(caps, 'write_multiple'),
    twinSocket: nested(caps, 'twin_socket', (t) => present<{ supported: boolean; fdIndex: number }>({
      supported: boolean(t, 'supported'),
      fdIndex: integer(t, 'fd_index', 0, MAX_ANNOUNCED_MSG_FDS),
    })),
  });
}

function toJson(caps: Capabilities): JsonObject {
  return {
    max_msg_fds: caps.maxMsgFds,
    max_data_xfer_size: caps.maxDataXferSize,
    max_dma_maps: caps.maxDmaMaps,
    pgsizes: caps.pgsizes,
    migration: caps.migration && { pgsize: caps.migration.pgsize, max_bitmap_size: caps.migration.maxBitmapSize },
    write_multiple: caps.writeMultiple,
    twin_socket: caps.twinSocket && { supported: caps.twinSocket.supported, fd_index: caps.twinSocket.fdIndex },
  };
}
