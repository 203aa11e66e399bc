/**
 * Requests in flight, matched to their replies by message id.
 *
 * | state     | reply with its id and command      | other command's reply | time-out                         | connection closes |
 * | --------- | ---------------------------------- | --------------------- | -------------------------------- | ----------------- |
 * | free id   | forbidden: closes                  | forbidden: closes     | -                                | -                 |
 * | pending   | settled → free                     | forbidden: closes     | rejected → abandoned, or free if it never left | rejected → free |
 * | abandoned | dropped, its descriptors too → free| forbidden: closes     | -                                | → free            |
 */
import { commandName, encodeMessage, replyErrno, VFIO_USER_F_NO_REPLY, VFIO_USER_F_TYPE_COMMAND } from '@emudev/vfio-user-protocol';
import type { Frame } from '@emudev/vfio-user-protocol';
import type { Connection } from './connection.ts';
import { ClientError } from './errors.ts';
import { MAX_ABANDONED_REQUESTS, MAX_PENDING_REQUESTS } from './limits.ts';

export interface RequestOptions<T> {
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
  readonly timer: NodeJS.Timeout;
  readonly maxReplyBytes: number;
  readonly accept: (payload: Uint8Array, takeFds: () => readonly number[]) => void;
  readonly reject: (error: unknown) => void;
}

const IDS = 0x10000;

export class Requests {
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #pending = new Map<number, Pending>();
  /** Id to command. */
  readonly #abandoned = new Map<number, number>();
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
      this.#checkRoom(command, payload.length, this.#pending.size >= MAX_PENDING_REQUESTS);
      const id = this.#freeId();
      const message = encodeMessage(id, command, VFIO_USER_F_TYPE_COMMAND, payload);
      const timer = setTimeout(() => this.#timeOut(id), this.#timeoutMs);
      const accept = (reply: Uint8Array, takeFds: () => readonly number[]): void => resolve(options.accept(reply, takeFds));
      this.#pending.set(id, { command, message, timer, maxReplyBytes: options.maxReplyBytes, accept, reject });
      try {
        this.#connection.send(message, options.fds);
      } catch (error) {
        this.#take(id);
        throw error;
      }
    });
  }

  /** Sends a command nobody answers; resolves when the kernel has taken it. */
  post(command: number, payload: Uint8Array): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      this.#checkRoom(command, payload.length, this.#posted.size >= MAX_PENDING_REQUESTS);
      const message = encodeMessage(this.#freeId(), command, VFIO_USER_F_TYPE_COMMAND | VFIO_USER_F_NO_REPLY, payload);
      this.#posted.add(reject);
      try {
        this.#connection.send(message, [], () => {
          this.#posted.delete(reject);
          resolve();
        });
      } catch (error) {
        this.#posted.delete(reject);
        throw error;
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
    for (const reject of this.#posted) reject(error);
    this.#posted.clear();
    this.#abandoned.clear();
  }

  #settle(frame: Frame, takeFds: () => readonly number[]): void {
    // CLIENT: id, command, size and error are the server's.
    if (this.#abandoned.get(frame.id) === frame.command) {
      this.#abandoned.delete(frame.id);
      return;
    }
    const pending = this.#pending.get(frame.id);
    if (pending?.command !== frame.command) {
      const expected = pending === undefined ? 'nothing' : commandName(pending.command);
      throw new ClientError('ERR_VFU_CLIENT_BAD_SERVER', `reply to ${commandName(frame.command)} with id ${frame.id}, which stands for ${expected}`);
    }
    const errno = replyErrno(frame);
    if (errno !== 0) {
      // Some servers append the success-shaped payload to an error: the framing has drained it.
      this.#take(frame.id);
      pending.reject(new ClientError('ERR_VFU_CLIENT_REFUSED', `the server refused ${commandName(frame.command)} with errno ${errno}`, { errno }));
      return;
    }
    if (frame.payload.length > pending.maxReplyBytes) {
      throw new ClientError('ERR_VFU_CLIENT_BAD_SERVER', `${commandName(frame.command)} reply with a payload of ${frame.payload.length} bytes, at most ${pending.maxReplyBytes} fit`);
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

  #timeOut(id: number): void {
    const pending = this.#take(id);
    if (pending === undefined) return;
    const name = commandName(pending.command);
    pending.reject(new ClientError('ERR_VFU_CLIENT_TIMEOUT', `no answer to ${name} within ${this.#timeoutMs} ms`));
    if (this.#connection.cancel(pending.message)) return;
    this.#abandoned.set(id, pending.command);
    if (this.#abandoned.size > MAX_ABANDONED_REQUESTS) {
      this.#connection.close({ reason: 'bad-server', error: new ClientError('ERR_VFU_CLIENT_BAD_SERVER', `${this.#abandoned.size} requests without an answer`) });
    }
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    if (pending === undefined) return undefined;
    clearTimeout(pending.timer);
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
