/**
 * From received chunks to whole messages.
 *
 * Which message descriptors belong to: the kernel attaches them to the first byte of the send that carried them, and one
 * receive ends at the latest with that send (unix(7), "ancillary data forms a barrier"). It may however *begin* with bytes of
 * earlier sends that carried none. As every peer sends a message with descriptors by a send of its own, they belong to the last
 * message that begins in the chunk, or, when none begins in it, to the message the chunk continues.
 */
import { getU16, getU32 } from './bytes.ts';
import { HEADER_BYTES } from './constants.ts';
import { badPeer } from './errors.ts';
import type { ProtocolError } from './errors.ts';
import { decodeHeader, type Header } from './header.ts';

/** What a `FrameReader` accepts. */
export interface FrameLimits {
  /** Longest message accepted, header included. */
  readonly maxFrameBytes: number;
  /** Most descriptors accepted with one message. */
  readonly maxFds: number;
}

/** One whole message. Its payload is the receiver's own; its descriptors are the receiver's to close. */
export interface Frame extends Header {
  readonly payload: Uint8Array;
  readonly fds: readonly number[];
}

/** What `FrameReader.push` has made of the bytes so far. */
export interface Pushed {
  /** Complete messages in order of arrival; their descriptors now belong to the caller. */
  readonly frames: readonly Frame[];
  /** Set when the stream cannot be trusted any more: close it, and what `dispose()` returns. */
  readonly error?: ProtocolError;
}

const NO_FDS: readonly number[] = [];
const EMPTY = new Uint8Array(0);
const NOTHING: Pushed = { frames: [] };

/**
 * | state   | bytes arrive                                | fds arrive               | bad size field or too many fds |
 * | ------- | ------------------------------------------- | ------------------------ | ------------------------------ |
 * | header  | 16 collected → payload (or a frame if empty)| kept for their message   | → failed                       |
 * | payload | all collected → frame, → header             | kept for their message   | → failed                       |
 * | failed  | dropped: their meaning is unknown           | kept for dispose()       | stays failed (first error)     |
 */
export class FrameReader {
  /** May be changed between pushes: a server raises it once VERSION has been agreed. */
  limits: FrameLimits;
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerBytes = 0;
  #payload: Uint8Array = EMPTY;
  #payloadBytes = 0;
  #size = 0;
  #fds: number[] = [];
  #error: ProtocolError | undefined;

  constructor(limits: FrameLimits) {
    this.limits = limits;
  }

  /** True between messages: an end of stream here loses nothing. */
  get idle(): boolean {
    return this.#headerBytes === 0 && this.#fds.length === 0;
  }

  /** The header whose size field made `push` fail: a server may still answer it before it closes. */
  get rejected(): Header | undefined {
    return this.#error?.code === 'ERR_VFU_FRAME_SIZE' && this.#headerBytes === HEADER_BYTES ? decodeHeader(this.#header) : undefined;
  }

  /** Takes one receive's bytes (copied; the buffer may be reused) and descriptors (owned from now on). Never throws. */
  push(chunk: Uint8Array, fds: readonly number[] = NO_FDS): Pushed {
    if (this.#error !== undefined) {
      for (const fd of fds) this.#fds.push(fd);
      return { frames: [], error: this.#error };
    }
    const frames: Frame[] = [];
    let pending = fds;
    // A message that began in an earlier chunk gets the descriptors only if no other begins in this one.
    const owner = pending.length === 0 ? -1 : this.#lastStart(chunk);
    if (owner === -1 && pending.length > 0) {
      this.#adopt(pending);
      pending = NO_FDS;
    }
    let at = 0;
    while (at < chunk.length && this.#error === undefined) {
      if (this.#headerBytes === 0 && at === owner) {
        this.#adopt(pending);
        pending = NO_FDS;
        if (this.#error !== undefined) break;
      }
      at = this.#headerBytes < HEADER_BYTES ? this.#takeHeader(chunk, at) : this.#takePayload(chunk, at);
      if (this.#error === undefined && this.#headerBytes === HEADER_BYTES && this.#payloadBytes === this.#payload.length) frames.push(this.#finish());
    }
    for (const fd of pending) this.#fds.push(fd);
    if (this.#error !== undefined) return { frames, error: this.#error };
    return frames.length === 0 ? NOTHING : { frames };
  }

  /** Ends the reader; returns the descriptors that belong to no delivered message, for the caller to close. */
  dispose(): number[] {
    const left = this.#fds;
    this.#fds = [];
    this.#headerBytes = 0;
    this.#payload = EMPTY;
    this.#payloadBytes = 0;
    this.#error ??= badPeer('ERR_VFU_FRAME_SIZE', 'the reader has been disposed of');
    return left;
  }

  /** Offset of the last message that begins in `chunk`, -1 if none does. A bad size field ends the walk: `push` reports it. */
  #lastStart(chunk: Uint8Array): number {
    let at = 0;
    if (this.#headerBytes > 0) {
      if (this.#headerBytes < HEADER_BYTES) {
        const missing = HEADER_BYTES - this.#headerBytes;
        if (chunk.length < missing) return -1;
        const whole = new Uint8Array(HEADER_BYTES);
        whole.set(this.#header.subarray(0, this.#headerBytes));
        whole.set(chunk.subarray(0, missing), this.#headerBytes);
        const size = getU32(whole, 4);
        if (size < HEADER_BYTES) return -1;
        at = size - this.#headerBytes;
      } else {
        at = this.#payload.length - this.#payloadBytes;
      }
    }
    let start = -1;
    while (at < chunk.length) {
      start = at;
      if (chunk.length - at < HEADER_BYTES) break;
      const size = getU32(chunk, at + 4);
      if (size < HEADER_BYTES) break;
      at += size;
    }
    return start;
  }

  #adopt(fds: readonly number[]): void {
    for (const fd of fds) this.#fds.push(fd);
    if (this.#fds.length > this.limits.maxFds) {
      this.#error = badPeer('ERR_VFU_FDS', `a message with ${this.#fds.length} descriptors, the limit is ${this.limits.maxFds}`);
    }
  }

  #takeHeader(chunk: Uint8Array, at: number): number {
    const take = Math.min(HEADER_BYTES - this.#headerBytes, chunk.length - at);
    for (let i = 0; i < take; i++) this.#header[this.#headerBytes + i] = chunk[at + i]!;
    this.#headerBytes += take;
    if (this.#headerBytes < HEADER_BYTES) return at + take;
    // CLIENT: the size field decides how much is allocated and how far the stream is consumed.
    const size = getU32(this.#header, 4);
    if (size < HEADER_BYTES || size > this.limits.maxFrameBytes) {
      this.#error = badPeer('ERR_VFU_FRAME_SIZE', `message size ${size} is not within ${HEADER_BYTES}..${this.limits.maxFrameBytes}`);
      return at + take;
    }
    this.#size = size;
    this.#payload = size === HEADER_BYTES ? EMPTY : new Uint8Array(size - HEADER_BYTES);
    this.#payloadBytes = 0;
    return at + take;
  }

  #takePayload(chunk: Uint8Array, at: number): number {
    const take = Math.min(this.#payload.length - this.#payloadBytes, chunk.length - at);
    this.#payload.set(chunk.subarray(at, at + take), this.#payloadBytes);
    this.#payloadBytes += take;
    return at + take;
  }

  #finish(): Frame {
    const header = this.#header;
    const frame: Frame = {
      id: getU16(header, 0),
      command: getU16(header, 2),
      size: this.#size,
      flags: getU32(header, 8),
      error: getU32(header, 12),
      payload: this.#payload,
      fds: this.#fds.length === 0 ? NO_FDS : this.#fds,
    };
    this.#headerBytes = 0;
    this.#payload = EMPTY;
    this.#payloadBytes = 0;
    if (this.#fds.length > 0) this.#fds = [];
    return frame;
  }
}
