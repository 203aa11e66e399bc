/** One socket to the server under test: whole messages out, whole messages in, in order. */
import type { Sys } from '@emudev/linux';
import { FrameReader, HEADER_BYTES, MAX_FDS_PER_MESSAGE, type Frame } from '@emudev/vfio-user-protocol';
import { MAX_PLAUSIBLE_MESSAGE_BYTES, REPLAY_RECEIVES_PER_TURN } from '../limits.ts';

export interface LinkEvents {
  frame(frame: Frame): void;
  /** Once; the socket is closed. */
  ended(why: string): void;
}

const RECEIVE_BYTES = 65_536;

export class Link implements Disposable {
  readonly #sys: Sys;
  readonly #fd: number;
  readonly #events: LinkEvents;
  readonly #reader = new FrameReader({ maxFrameBytes: MAX_PLAUSIBLE_MESSAGE_BYTES, maxFds: MAX_FDS_PER_MESSAGE });
  readonly #buffer = new Uint8Array(new ArrayBuffer(RECEIVE_BYTES));
  readonly #queue: { bytes: Uint8Array; fds: readonly number[] }[] = [];
  #watch: Disposable | undefined;
  #watchesRoom = false;
  #again: NodeJS.Immediate | undefined;
  #open = true;

  /** Owns the socket from now on. */
  constructor(sys: Sys, fd: number, events: LinkEvents) {
    this.#sys = sys;
    this.#fd = fd;
    this.#events = events;
    this.#listen();
  }

  /** Owns the descriptors from now on. */
  send(bytes: Uint8Array, fds: readonly number[]): void {
    if (!this.#open) {
      for (const fd of fds) this.#sys.close(fd);
      return;
    }
    this.#queue.push({ bytes: Uint8Array.from(bytes), fds });
    if (this.#queue.length === 1) this.#flush();
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    this.#watch?.[Symbol.dispose]();
    clearImmediate(this.#again);
    for (const { fds } of this.#queue) for (const fd of fds) this.#sys.close(fd);
    for (const fd of this.#reader.dispose()) this.#sys.close(fd);
    this.#sys.close(this.#fd);
  }

  #listen(): void {
    this.#watch?.[Symbol.dispose]();
    if (!this.#open) return;
    this.#watchesRoom = this.#queue.length > 0;
    this.#watch = this.#sys.watch(this.#fd, { readable: true, writable: this.#watchesRoom }, ({ writable }) => {
      if (writable && this.#queue.length > 0) this.#flush();
      if (this.#again === undefined) this.#receive();
    });
  }

  #flush(): void {
    try {
      for (let head = this.#queue[0]; head !== undefined; head = this.#queue[0]) {
        const sent = this.#sys.sendmsg(this.#fd, head.bytes, head.fds);
        if (sent === undefined) break;
        for (const fd of head.fds) this.#sys.close(fd);
        head.fds = [];
        head.bytes = head.bytes.subarray(sent);
        if (head.bytes.length === 0) this.#queue.shift();
      }
    } catch {
      // What it still had to say comes first; then the end.
      for (const { fds } of this.#queue.splice(0)) for (const fd of fds) this.#sys.close(fd);
    }
    if (this.#queue.length > 0 !== this.#watchesRoom) this.#listen();
  }

  #receive(): void {
    for (let receives = 0; this.#open; receives++) {
      if (receives === REPLAY_RECEIVES_PER_TURN) {
        // A server that never stops talking must not keep time-outs from their turn.
        this.#again = setImmediate(() => {
          this.#again = undefined;
          this.#receive();
        });
        return;
      }
      let got;
      try {
        got = this.#sys.recvmsg(this.#fd, this.#buffer, MAX_FDS_PER_MESSAGE);
      } catch (error) {
        this.#end(error instanceof Error ? error.message : String(error));
        return;
      }
      if (got === undefined) return;
      if (got.bytes === 0) {
        this.#end('the server hung up');
        return;
      }
      const { frames, error } = this.#reader.push(this.#buffer.subarray(0, got.bytes), got.fds);
      for (const frame of frames) this.#events.frame(frame);
      if (error !== undefined) this.#end(`the server's stream is malformed: ${error.message}`);
    }
  }

  #end(why: string): void {
    if (!this.#open) return;
    this[Symbol.dispose]();
    this.#events.ended(why);
  }
}

/** The same message with another id. */
export function withId(message: Uint8Array, id: number): Uint8Array {
  const bytes = Uint8Array.from(message);
  if (bytes.length >= HEADER_BYTES) new DataView(bytes.buffer).setUint16(0, id, true);
  return bytes;
}
