/**
 * One connected socket: bytes to messages and back. Never blocks; knows headers, not commands.
 *
 * | state  | readable                        | send                         | end of stream, error | close  |
 * | ------ | ------------------------------- | ---------------------------- | -------------------- | ------ |
 * | open   | frames to `onFrame`             | sent, or queued in order     | → closed, `onEnd`    | → closed |
 * | paused | nothing is read                 | sent, or queued in order     | not seen yet         | → closed |
 * | closed | forbidden: the watch is gone    | dropped: nobody is there     | forbidden            | nothing |
 */
import { AdaptiveSpin, type SpinOptions, type Sys } from '@emudev/linux';
import { encodeErrorReply, FrameReader, isCommand, isPosted, type Frame, type FrameLimits } from '@emudev/vfio-user-protocol';
import type { DisconnectReason } from './errors.ts';
import { VfioUserServerError } from './errors.ts';
import { MAX_FDS_PER_MESSAGE, MAX_OUTPUT_BYTES, RECEIVE_BYTES, RECEIVES_PER_TURN, TURN_MS } from './limits.ts';

export interface ConnectionOptions {
  /** Longest time between the first byte of a message and its last. */
  readonly messageTimeoutMs: number;
  /** How to look for the next message before the thread sleeps; undefined: not at all. */
  readonly spin: SpinOptions | undefined;
}

export interface ConnectionHandler {
  /** An answer waits for a promise: this thread has to return to its event loop. */
  readonly awaiting: boolean;
  /** The event loop has come to this connection; frames may follow. */
  onTurn(): void;
  /** One message; its descriptors now belong to the handler. */
  onFrame(frame: Frame): void;
  /** Queued output has become less. */
  onDrained(): void;
  /** Once, unless `close` came first. The socket is closed already. */
  onEnd(reason: Extract<DisconnectReason, 'closed' | 'connection-lost' | 'protocol-error'>, error?: unknown): void;
}

interface Outgoing {
  bytes: Uint8Array;
  /** Own duplicates: the originals may be closed before the socket takes them. */
  fds: number[];
}

const ETIMEDOUT = 110;
const READABLE = 1;
const WRITABLE = 2;

// One per thread is enough: FrameReader copies out before anybody else can receive.
const received = new Uint8Array(new ArrayBuffer(RECEIVE_BYTES));

export class Connection {
  readonly #sys: Sys;
  readonly #fd: number;
  readonly #reader: FrameReader;
  readonly #handler: ConnectionHandler;
  readonly #messageTimeoutMs: number;
  readonly #spin: AdaptiveSpin | undefined;
  #messageTimer: NodeJS.Timeout | undefined;
  #output: Outgoing[] = [];
  #outputBytes = 0;
  #outputFds = 0;
  #watch: Disposable | undefined;
  #watching = 0;
  #paused = false;
  #closed = false;

  /** Owns `fd` from now on, unless it throws (LinuxError: it cannot be watched). */
  constructor(sys: Sys, fd: number, limits: FrameLimits, handler: ConnectionHandler, { messageTimeoutMs, spin }: ConnectionOptions) {
    this.#sys = sys;
    this.#fd = fd;
    this.#reader = new FrameReader(limits);
    this.#handler = handler;
    this.#messageTimeoutMs = messageTimeoutMs;
    this.#spin = spin === undefined ? undefined : new AdaptiveSpin({
      look: () => {
        if (this.#closed || this.#paused) return false;
        handler.onTurn();
        return this.#receiveOnce();
      },
      get awaiting() { return handler.awaiting; },
    }, spin);
    this.#watchFor(READABLE);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Bytes the peer has not taken yet. */
  get pendingOutputBytes(): number {
    return this.#outputBytes;
  }

  /** Descriptors that wait with them. */
  get pendingOutputFds(): number {
    return this.#outputFds;
  }

  set limits(limits: FrameLimits) {
    this.#reader.limits = limits;
  }

  pauseInput(paused: boolean): void {
    if (paused === this.#paused) return;
    this.#paused = paused;
    this.#updateWatch();
    // While nothing is read it is not the client who stops in the middle of a message.
    this.#timeMessage(true);
  }

  /** One sendmsg where the socket has room (the usual case), otherwise queued; descriptors go with the first byte. */
  send(message: Uint8Array, fds: readonly number[] = []): void {
    if (this.#closed) return;
    let sent = 0;
    if (this.#output.length === 0) {
      try {
        sent = this.#sys.sendmsg(this.#fd, message, fds) ?? 0;
      } catch (error) {
        this.#end('connection-lost', error);
        return;
      }
      if (sent === message.length) return;
    }
    if (this.#outputBytes + message.length > MAX_OUTPUT_BYTES) {
      this.#end('protocol-error', new VfioUserServerError('ERR_SERVER_DMA_MESSAGE', 5, `the client reads nothing: ${this.#outputBytes} bytes wait for it`));
      return;
    }
    const duplicates: number[] = [];
    this.#output.push({ bytes: message.subarray(sent), fds: duplicates });
    this.#outputBytes += message.length - sent;
    try {
      if (sent === 0) for (const fd of fds) duplicates.push(this.#sys.dup(fd));
    } catch (error) {
      // Too many open files. Without its descriptors the message would say something else.
      this.#end('protocol-error', error);
      return;
    }
    this.#outputFds += duplicates.length;
    this.#updateWatch();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    this.#spin?.[Symbol.dispose]();
    clearTimeout(this.#messageTimer);
    for (const fd of this.#reader.dispose()) this.#sys.close(fd);
    for (const { fds } of this.#output) for (const fd of fds) this.#sys.close(fd);
    this.#output = [];
    this.#outputBytes = 0;
    this.#sys.close(this.#fd);
  }

  #end(reason: 'closed' | 'connection-lost' | 'protocol-error', error?: unknown): void {
    if (this.#closed) return;
    this.close();
    this.#handler.onEnd(reason, error);
  }

  #updateWatch(): void {
    if (this.#closed) return;
    const wanted = (this.#paused ? 0 : READABLE) | (this.#output.length > 0 ? WRITABLE : 0);
    if (wanted === this.#watching) return;
    try {
      this.#watchFor(wanted);
    } catch (error) {
      this.#end('connection-lost', error);
    }
  }

  #watchFor(wanted: number): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    this.#watching = wanted;
    if (wanted === 0) return;
    this.#watch = this.#sys.watch(this.#fd, { readable: (wanted & READABLE) !== 0, writable: (wanted & WRITABLE) !== 0 }, ({ readable, writable, error }) => {
      if (writable || error) this.#flush();
      if (readable || error) this.#receive();
    });
  }

  #flush(): void {
    const before = this.#outputBytes;
    try {
      for (let head = this.#output[0]; head !== undefined; head = this.#output[0]) {
        const sent = this.#sys.sendmsg(this.#fd, head.bytes, head.fds);
        if (sent === undefined) break;
        this.#outputBytes -= sent;
        for (const fd of head.fds) this.#sys.close(fd);
        this.#outputFds -= head.fds.length;
        head.fds = [];
        head.bytes = head.bytes.subarray(sent);
        if (head.bytes.length === 0) this.#output.shift();
      }
    } catch (error) {
      this.#end('connection-lost', error);
      return;
    }
    this.#updateWatch();
    if (this.#outputBytes < before) this.#handler.onDrained();
  }

  /** Keeps receiving until the socket is dry: a client that answers at once is served without a trip through the event loop. */
  #receive(): void {
    const until = performance.now() + TURN_MS;
    this.#handler.onTurn();
    for (let n = 0; n < RECEIVES_PER_TURN && !this.#closed && !this.#paused; n++) {
      if (n > 0 && performance.now() > until) return;
      if (!this.#receiveOnce()) {
        this.#spin?.dry();
        return;
      }
      this.#spin?.arrived();
    }
  }

  /** False where nothing was there. */
  #receiveOnce(): boolean {
    let got;
    try {
      got = this.#sys.recvmsg(this.#fd, received, MAX_FDS_PER_MESSAGE);
    } catch (error) {
      this.#end('connection-lost', error);
      return true;
    }
    if (got === undefined) return false;
    if (got.bytes === 0) {
      this.#end(this.#reader.idle ? 'closed' : 'connection-lost');
      return true;
    }
    const { frames, error } = this.#reader.push(received.subarray(0, got.bytes), got.fds);
    for (const frame of frames) {
      if (!this.#closed) this.#handler.onFrame(frame);
      else for (const fd of frame.fds) this.#sys.close(fd);
    }
    if (error !== undefined) {
      const rejected = this.#reader.rejected;
      if (rejected !== undefined && isCommand(rejected.flags) && !isPosted(rejected.flags)) this.send(encodeErrorReply(rejected.id, rejected.command, error.errno));
      this.#end('protocol-error', error);
    }
    // Which message lost its descriptors cannot be told.
    else if (got.fdsTruncated) this.#end('protocol-error', new VfioUserServerError('ERR_SERVER_STATE', 24, 'descriptors were dropped by the kernel: too many open files'));
    else this.#timeMessage(frames.length > 0);
    return true;
  }

  /** CLIENT: half a message holds memory and descriptors. `anew`: the half that is there now is not the one of before. */
  #timeMessage(anew: boolean): void {
    if (this.#messageTimer !== undefined && (anew || this.#reader.idle)) {
      clearTimeout(this.#messageTimer);
      this.#messageTimer = undefined;
    }
    if (this.#messageTimer !== undefined || this.#reader.idle || this.#paused || this.#closed) return;
    this.#messageTimer = setTimeout(() => {
      this.#end('connection-lost', new VfioUserServerError('ERR_SERVER_TIMEOUT', ETIMEDOUT, `the client stopped in the middle of a message ${this.#messageTimeoutMs} ms ago`));
    }, this.#messageTimeoutMs);
  }
}
