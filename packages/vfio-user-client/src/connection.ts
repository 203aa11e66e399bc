/**
 * The socket: whole messages in, whole messages out, descriptors with both. Knows the framing, not the meaning.
 *
 * | state  | readable             | writable       | send                       | close                         |
 * | ------ | -------------------- | -------------- | -------------------------- | ----------------------------- |
 * | open   | receive, hand frames | flush the queue| sendmsg, or queue          | → closed: fds closed, told once |
 * | closed | (not watched)        | (not watched)  | throws ERR_VFU_CLIENT_CLOSED | nothing                     |
 */
import { AdaptiveSpin } from '@emudev/linux';
import type { SpinOptions, Sys } from '@emudev/linux';
import { FrameReader } from '@emudev/vfio-user-protocol';
import type { Frame } from '@emudev/vfio-user-protocol';
import { badServer, ClientError } from './errors.ts';
import { MAX_QUEUED_BYTES, MAX_SERVER_FRAME_BYTES, RECEIVES_PER_WAKEUP, RECEIVE_BUFFER_BYTES } from './limits.ts';

/** How a connection ended. */
export type CloseReason =
  /** This side closed it. */
  | 'disposed'
  /** End of stream. */
  | 'server-closed'
  /** The server broke the protocol. */
  | 'bad-server'
  /** A system call on the socket failed. */
  | 'io-error'
  /** It was lost, and could not be made again: no server in time, another device, or one that refuses what it had. */
  | 'reconnect-failed';

/** The end of a connection; `error` is what ended it, if anything. */
export interface Closed {
  readonly reason: CloseReason;
  readonly error?: unknown;
  /** The stream ended inside a message: a lie, or a server that was killed while it wrote. */
  readonly truncated?: true;
}

export interface ConnectionEvents {
  /** Owns the frame's descriptors. Whatever it throws closes the connection as 'bad-server'. */
  frame(frame: Frame): void;
  closed(closed: Closed): void;
}

/** A message on its way out. */
interface Outgoing {
  readonly message: Uint8Array;
  sent: number;
  /** Borrowed until the first byte is out; they travel with it. */
  fds: readonly number[];
  readonly onSent: (() => void) | undefined;
}

const NO_FDS: readonly number[] = [];

export class Connection {
  readonly #sys: Sys;
  readonly #fd: number;
  readonly #events: ConnectionEvents;
  readonly #ref: boolean;
  readonly #maxFds: number;
  readonly #reader: FrameReader;
  readonly #buffer = new Uint8Array(new ArrayBuffer(RECEIVE_BUFFER_BYTES));
  readonly #queue: Outgoing[] = [];
  #queuedBytes = 0;
  readonly #waiting: (() => void)[] = [];
  #watch: Disposable | undefined;
  #watchesWritable = false;
  #closed = false;
  #receiving = false;
  readonly #spin: AdaptiveSpin | undefined;

  /** Takes `fd` over, also when it throws. `maxFds`: descriptors accepted with one message. */
  constructor(sys: Sys, fd: number, events: ConnectionEvents, options: { readonly ref: boolean; readonly maxFds: number; readonly spin?: SpinOptions | undefined }) {
    this.#sys = sys;
    this.#fd = fd;
    this.#events = events;
    this.#ref = options.ref;
    this.#maxFds = options.maxFds;
    this.#reader = new FrameReader({ maxFrameBytes: MAX_SERVER_FRAME_BYTES, maxFds: options.maxFds });
    this.#spin = options.spin === undefined ? undefined : new AdaptiveSpin({
      look: () => {
        const came = !this.#closed && this.#receiveOnce();
        // Nothing more is expected until something is sent again.
        if (came) this.#spin?.[Symbol.dispose]();
        return came;
      },
      // Whoever gets an answer waits for a promise, and so does whoever sends.
      awaiting: true,
    }, options.spin);
    try {
      sys.setNonBlocking(fd, true);
      this.#rewatch(false);
    } catch (error) {
      sys.close(fd);
      throw error;
    }
  }

  /** True where the queue has no room for a message of `bytes`. */
  isFull(bytes: number): boolean {
    return this.#queuedBytes + bytes > MAX_QUEUED_BYTES;
  }

  /** Resolves when some of the queue has left, or the connection is closed. */
  progress(): Promise<void> {
    return new Promise((resolve) => (this.#closed ? resolve() : void this.#waiting.push(resolve)));
  }

  /**
   * Sends `message` (not copied: leave it alone) with `fds`, which must stay open until `onSent` or the answer; one sendmsg
   * where the kernel takes it whole. A broken socket is not reported here but through `closed`.
   */
  send(message: Uint8Array, fds: readonly number[] = NO_FDS, onSent?: () => void): void {
    if (this.#closed) throw new ClientError('ERR_VFU_CLIENT_CLOSED', 'the connection is closed');
    this.#queue.push({ message, sent: 0, fds, onSent });
    this.#queuedBytes += message.length;
    if (this.#queue.length === 1) this.#flush();
    if (!this.#closed) this.#spin?.dry();
  }

  /** Takes a message back that has not begun to leave; false if it has. */
  cancel(message: Uint8Array): boolean {
    const at = this.#queue.findIndex((out) => out.message === message && out.sent === 0);
    if (at === -1) return false;
    this.#queue.splice(at, 1);
    this.#queuedBytes -= message.length;
    return true;
  }

  close(closed: Closed): void {
    if (this.#closed) return;
    this.#closed = true;
    // The watch first: a descriptor must not be closed under it.
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    this.#spin?.[Symbol.dispose]();
    this.closeFds(this.#reader.dispose());
    this.closeFds([this.#fd]);
    this.#queue.length = 0;
    this.#queuedBytes = 0;
    this.#events.closed(closed);
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  closeFds(fds: readonly number[]): void {
    for (const fd of fds) {
      try {
        this.#sys.close(fd);
      } catch {
        // Linux has released the number whatever close() reports, and nobody could act on it.
      }
    }
  }

  #rewatch(writable: boolean): void {
    if (this.#watch !== undefined && writable === this.#watchesWritable) return;
    // One watch per descriptor: the old one goes first.
    this.#watch?.[Symbol.dispose]();
    this.#watchesWritable = writable;
    this.#watch = this.#sys.watch(
      this.#fd,
      { readable: true, writable },
      (events) => {
        if (events.writable) this.#flush();
        if (events.readable || events.error) this.#receive();
        // The last call of this watch: had the socket a reason, receiving has found it.
        if (events.error) this.close({ reason: 'io-error' });
      },
      { ref: this.#ref },
    );
  }

  #flush(): void {
    try {
      for (let out = this.#queue[0]; out !== undefined && !this.#closed; out = this.#queue[0]) {
        const bytes = out.sent === 0 ? out.message : out.message.subarray(out.sent);
        const n = this.#sys.sendmsg(this.#fd, bytes, out.fds);
        if (n === undefined) break;
        if (n > 0) out.fds = NO_FDS;
        out.sent += n;
        this.#queuedBytes -= n;
        if (out.sent < out.message.length) continue;
        this.#queue.shift();
        out.onSent?.();
        this.#wake();
      }
      if (!this.#closed) this.#rewatch(this.#queue.length > 0);
    } catch (error) {
      // The server may have answered before it left: what it said comes first.
      this.#receive();
      this.close({ reason: 'io-error', error });
    }
  }

  #receive(): void {
    if (this.#receiving) return;
    this.#receiving = true;
    try {
      for (let n = 0; n < RECEIVES_PER_WAKEUP && !this.#closed; n++) {
        if (!this.#receiveOnce()) break;
        this.#spin?.arrived();
      }
    } finally {
      this.#receiving = false;
    }
  }

  /** False: nothing more to receive now. */
  #receiveOnce(): boolean {
    let received;
    try {
      received = this.#sys.recvmsg(this.#fd, this.#buffer, this.#maxFds);
    } catch (error) {
      this.close({ reason: 'io-error', error });
      return false;
    }
    if (received === undefined) return false;
    if (received.bytes === 0) {
      const whole = this.#reader.idle;
      this.closeFds(received.fds);
      this.close(whole ? { reason: 'server-closed' } : { reason: 'bad-server', error: badServer('the stream ended inside a message'), truncated: true });
      return false;
    }
    if (received.fdsTruncated) {
      // Which descriptors the kernel dropped is unknown: nothing in this chunk can be trusted with those that are left.
      this.closeFds(received.fds);
      this.close({ reason: 'bad-server', error: badServer(`more than ${this.#maxFds} descriptors in one message`) });
      return false;
    }
    const { frames, error } = this.#reader.push(this.#buffer.subarray(0, received.bytes), received.fds);
    for (const frame of frames) this.#deliver(frame);
    if (error !== undefined) this.close({ reason: 'bad-server', error });
    return !this.#closed;
  }

  #deliver(frame: Frame): void {
    if (this.#closed) {
      this.closeFds(frame.fds);
      return;
    }
    try {
      this.#events.frame(frame);
    } catch (error) {
      this.close({ reason: 'bad-server', error });
    }
  }
}
