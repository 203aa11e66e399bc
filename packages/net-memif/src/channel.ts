/** A control channel: a sequenced-packet socket to one peer, one message per packet, at most one descriptor with it. */
import { LinuxError, OwnedFd, type Sys } from '@emudev/linux';
import { MemifError } from './errors.ts';
import { MESSAGES_PER_TURN } from './limits.ts';
import { MESSAGE_BYTES, decodeMessage, encodeMessage, type MemifMessage } from './messages.ts';

/** Whoever speaks over a channel. */
export interface ChannelOwner {
  /** One message. The descriptor is closed afterwards unless it has been taken. Messages wait while it has not settled. A throw ends the channel. */
  receive(message: MemifMessage, fd: OwnedFd | undefined): void | Promise<void>;
  /** Once: the peer is gone (undefined), or something was wrong with it. The channel is still open for a last word. */
  ended(error: MemifError | undefined): void;
}

/**
 * | state   | readable          | receive() settles    | peer gone, error | close  |
 * | ------- | ----------------- | -------------------- | ---------------- | ------ |
 * | reading | → busy, if it has to wait | –            | → over, ended()  | → over |
 * | busy    | not looked at     | → reading            | found later      | → over |
 * | over    | –                 | nothing              | –                | no-op  |
 */
export class ControlChannel implements Disposable {
  readonly #sys: Sys;
  readonly #socket: OwnedFd;
  /** One byte more than a message has: a longer one is seen to be longer. */
  readonly #into = new Uint8Array(new ArrayBuffer(MESSAGE_BYTES + 1));
  readonly #owner: ChannelOwner;
  #watch: Disposable | undefined;
  #over = false;

  /** Owns the socket from now on. */
  constructor(sys: Sys, socket: number, owner: ChannelOwner) {
    this.#sys = sys;
    this.#owner = owner;
    this.#socket = new OwnedFd(socket, sys);
    this.#listen();
  }

  /** The peer has closed its end, whatever is still to be read. */
  get hungUp(): boolean {
    return this.#socket.closed || this.#sys.isHungUp(this.#socket.fd);
  }

  /** Throws ERR_MEMIF_TIMEOUT for a peer that does not read what it is sent, ERR_MEMIF_PROTOCOL for one that is gone. */
  send(message: MemifMessage, fd?: number): void {
    let sent: number | undefined;
    try {
      sent = this.#sys.sendmsg(this.#socket.fd, encodeMessage(message), fd === undefined ? [] : [fd]);
    } catch (error) {
      if (!(error instanceof LinuxError)) throw error;
      throw new MemifError('ERR_MEMIF_PROTOCOL', `cannot send (${error.code})`, { cause: error });
    }
    if (sent === undefined) throw new MemifError('ERR_MEMIF_TIMEOUT', 'messages are not being read');
  }

  /** Best effort: the peer is told why, where it still listens. */
  sendDisconnect(error: MemifError): void {
    try {
      this.send({ type: 'disconnect', code: error.errno, reason: error.message });
    } catch {
      // It is gone, or does not read: then it learns from the end of the stream.
    }
  }

  #listen(): void {
    this.#watch = this.#sys.watch(this.#socket.fd, { readable: true }, () => { this.#read(); }, { ref: false });
  }

  #pause(): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
  }

  #read(): void {
    for (let n = 0; n < MESSAGES_PER_TURN && !this.#over; n++) {
      try {
        const waits = this.#one();
        if (waits === undefined) return;
        if (waits === true) continue;
        this.#pause();
        waits.then(() => { if (!this.#over) this.#listen(); }, (error: unknown) => { this.#end(error); });
        return;
      } catch (error) {
        this.#end(error);
      }
    }
  }

  /** undefined: nothing more to read now. true: a message has been dealt with. */
  #one(): true | undefined | Promise<void> {
    const got = this.#sys.recvmsg(this.#socket.fd, this.#into, 1);
    if (got === undefined) return undefined;
    const fd = got.fds[0] === undefined ? undefined : new OwnedFd(got.fds[0], this.#sys);
    try {
      if (got.fdsTruncated) throw new MemifError('ERR_MEMIF_PROTOCOL', 'more than one descriptor in a message');
      if (got.bytes === 0) {
        this.#end(undefined);
        return undefined;
      }
      // CLIENT: whatever has come.
      const message = decodeMessage(this.#into.subarray(0, got.bytes));
      const done = this.#owner.receive(message, fd);
      if (done !== undefined) return done.finally(() => { fd?.close(); });
    } catch (error) {
      fd?.close();
      throw error;
    }
    fd?.close();
    return true;
  }

  #end(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#pause();
    // ECONNRESET: it went with messages of ours unread.
    if (error instanceof LinuxError) this.#owner.ended(undefined);
    else if (error === undefined || error instanceof MemifError) this.#owner.ended(error);
    else this.#owner.ended(new MemifError('ERR_MEMIF_PROTOCOL', 'internal error', { cause: error }));
  }

  /** Nothing is received or sent any more. */
  [Symbol.dispose](): void {
    this.#over = true;
    this.#pause();
    this.#socket.close();
  }
}
