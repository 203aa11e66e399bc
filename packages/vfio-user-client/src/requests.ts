/**
 * Requests in flight, matched to their replies by message id.
 *
 * | state     | reply with its id and command      | other command's reply | time-out, abort                  | connection closes |
 * | --------- | ---------------------------------- | --------------------- | -------------------------------- | ----------------- |
 * | free id   | forbidden: closes                  | forbidden: closes     | -                                | -                 |
 * | pending   | settled → free                     | forbidden: closes     | rejected → abandoned, or free if it never left | rejected → free |
 * | abandoned | dropped, its descriptors too → free| forbidden: closes     | -                                | → free            |
 */
import { commandName, encodeMessage, errnoName, replyErrno, VFIO_USER_F_NO_REPLY, VFIO_USER_F_TYPE_COMMAND } from '@emudev/vfio-user-protocol';
import type { Frame } from '@emudev/vfio-user-protocol';
import type { Connection } from './connection.ts';
import { badArgument, badServer, ClientError } from './errors.ts';
import { MAX_ABANDONED_REQUESTS, MAX_PENDING_REQUESTS, MAX_TIMEOUT_MS } from './limits.ts';

/** How long the caller waits for one request. */
export interface CallOptions {
  /** Milliseconds; the client's `timeoutMs` by default. */
  readonly timeoutMs?: number;
  /** Rejects with ERR_VFU_CLIENT_ABORTED. A command that has left is not undone. */
  readonly signal?: AbortSignal;
}

export interface RequestOptions<T> extends CallOptions {
  /** Borrowed: must stay open until the promise settles. */
  readonly fds?: readonly number[];
  /** Longest payload a success reply may have; 0 for header-only replies. */
  readonly maxReplyBytes: number;
  /**
   * Called as the reply arrives, before any later message. `takeFds()` hands its descriptors over; those not taken are closed.
   * Throwing a ProtocolError ends the connection; throwing a ClientError rejects only this request.
   */
  readonly accept: (payload: Uint8Array, takeFds: () => readonly number[]) => T;
}

interface Pending {
  readonly command: number;
  readonly message: Uint8Array;
  /** Ends the timer and forgets the signal. */
  readonly disarm: () => void;
  readonly maxReplyBytes: number;
  readonly accept: (payload: Uint8Array, takeFds: () => readonly number[]) => void;
  readonly reject: (error: unknown) => void;
}

const IDS = 0x10000;

export class Requests {
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #pending = new Map<number, Pending>();
  readonly #abandoned = new Map<number, { readonly command: number; readonly timedOut: boolean }>();
  #timedOut = 0;
  /** Posted commands the kernel has not taken yet: how to reject them. */
  readonly #posted = new Set<(error: unknown) => void>();
  #nextId = 0;

  constructor(connection: Connection, timeoutMs: number) {
    this.#connection = connection;
    this.#timeoutMs = timeoutMs;
  }

  /** Sends a command and resolves with what `accept` makes of its reply. */
  request<T>(command: number, payload: Uint8Array, options: RequestOptions<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#checkRoom(command, payload.length, this.#pending.size + this.#abandoned.size >= MAX_PENDING_REQUESTS);
      const id = this.#freeId();
      const disarm = this.#arm(command, options, (error, timedOut) => { this.#abandon(id, error, timedOut); });
      const message = encodeMessage(id, command, VFIO_USER_F_TYPE_COMMAND, payload);
      const accept = (reply: Uint8Array, takeFds: () => readonly number[]): void => resolve(options.accept(reply, takeFds));
      this.#pending.set(id, { command, message, disarm, maxReplyBytes: options.maxReplyBytes, accept, reject });
      try {
        this.#connection.send(message, options.fds);
      } catch (error) {
        this.#take(id);
        throw error;
      }
    });
  }

  /** Sends a command nobody answers; resolves when the kernel has taken it. A time-out or abort takes it back if it has not begun to leave, and else comes too late. */
  post(command: number, payload: Uint8Array, call: CallOptions = {}): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      this.#checkRoom(command, payload.length, this.#posted.size >= MAX_PENDING_REQUESTS);
      const message = encodeMessage(this.#freeId(), command, VFIO_USER_F_TYPE_COMMAND | VFIO_USER_F_NO_REPLY, payload);
      const settle = (end: () => void): void => {
        if (!this.#posted.delete(fail)) return;
        disarm();
        end();
      };
      const fail = (error: unknown): void => { settle(() => { reject(error as Error); }); };
      const takeBack = (error: ClientError): void => { if (this.#connection.cancel(message)) fail(error); };
      // Only who says so: a posted write is otherwise on its way as long as the connection is.
      const disarm = call.timeoutMs === undefined && call.signal === undefined ? () => {} : this.#arm(command, call, takeBack);
      this.#posted.add(fail);
      try {
        this.#connection.send(message, [], () => { settle(resolve); });
      } catch (error) {
        fail(error);
      }
    });
  }

  /** Settles the request a reply belongs to. Throws a ClientError (bad server) when there is none; closes descriptors nobody wants. */
  reply(frame: Frame): void {
    let left = frame.fds;
    const takeFds = (): readonly number[] => {
      const fds = left;
      left = [];
      return fds;
    };
    try {
      this.#settle(frame, takeFds);
    } finally {
      this.#connection.closeFds(left);
    }
  }

  /** Rejects everything in flight. */
  close(error: ClientError): void {
    for (const id of [...this.#pending.keys()]) this.#take(id)!.reject(error);
    for (const fail of [...this.#posted]) fail(error);
    this.#abandoned.clear();
  }

  #settle(frame: Frame, takeFds: () => readonly number[]): void {
    // CLIENT: id, command, size and error are the server's.
    const abandoned = this.#abandoned.get(frame.id);
    if (abandoned?.command === frame.command) {
      this.#abandoned.delete(frame.id);
      if (abandoned.timedOut) this.#timedOut--;
      return;
    }
    const pending = this.#pending.get(frame.id);
    if (pending?.command !== frame.command) {
      const expected = pending === undefined ? 'nothing' : commandName(pending.command);
      throw badServer(`reply to ${commandName(frame.command)} with id ${frame.id}, which stands for ${expected}`);
    }
    const errno = replyErrno(frame);
    if (errno !== 0) {
      // Some servers append the success-shaped payload to an error: the framing has drained it.
      this.#take(frame.id);
      pending.reject(new ClientError('ERR_VFU_CLIENT_REFUSED', `the server refused ${commandName(frame.command)} with ${errnoName(errno)}`, { errno }));
      return;
    }
    if (frame.payload.length > pending.maxReplyBytes) {
      throw badServer(`${commandName(frame.command)} reply with a payload of ${frame.payload.length} bytes, at most ${pending.maxReplyBytes} fit`);
    }
    try {
      pending.accept(frame.payload, takeFds);
      this.#take(frame.id);
    } catch (error) {
      // Anything else leaves the request pending: closing the connection rejects it with the reason.
      if (!(error instanceof ClientError) || error.code === 'ERR_VFU_CLIENT_BAD_SERVER') throw error;
      this.#take(frame.id);
      pending.reject(error);
    }
  }

  /** Throws where the signal has fired already; returns what ends the wait. */
  #arm(command: number, { timeoutMs = this.#timeoutMs, signal }: CallOptions, giveUp: (error: ClientError, timedOut: boolean) => void): () => void {
    const name = commandName(command);
    if (!(timeoutMs > 0 && timeoutMs <= MAX_TIMEOUT_MS)) throw badArgument(`a time-out of ${timeoutMs} ms`);
    const aborted = (): ClientError => new ClientError('ERR_VFU_CLIENT_ABORTED', `${name} was given up`, { cause: signal?.reason });
    if (signal?.aborted === true) throw aborted();
    const onAbort = (): void => { giveUp(aborted(), false); };
    signal?.addEventListener('abort', onAbort, { once: true });
    const timer = setTimeout(() => { giveUp(new ClientError('ERR_VFU_CLIENT_TIMEOUT', `no answer to ${name} within ${timeoutMs} ms`), true); }, timeoutMs);
    return () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
  }

  #abandon(id: number, error: ClientError, timedOut: boolean): void {
    const pending = this.#take(id);
    if (pending === undefined) return;
    pending.reject(error);
    if (this.#connection.cancel(pending.message)) return;
    this.#abandoned.set(id, { command: pending.command, timedOut });
    if (timedOut && ++this.#timedOut > MAX_ABANDONED_REQUESTS) {
      this.#connection.close({ reason: 'bad-server', error: badServer(`${this.#timedOut} requests without an answer`) });
    }
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    if (pending === undefined) return undefined;
    pending.disarm();
    this.#pending.delete(id);
    return pending;
  }

  #checkRoom(command: number, bytes: number, full: boolean): void {
    if (full || this.#connection.isFull(bytes)) throw new ClientError('ERR_VFU_CLIENT_BUSY', `${commandName(command)}: too many requests are waiting for the server`);
  }

  #freeId(): number {
    // Ends: pending and abandoned together are far fewer than the ids.
    do this.#nextId = (this.#nextId + 1) % IDS;
    while (this.#pending.has(this.#nextId) || this.#abandoned.has(this.#nextId));
    return this.#nextId;
  }
}
