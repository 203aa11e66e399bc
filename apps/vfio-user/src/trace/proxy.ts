/**
 * A listening socket whose clients are joined to a server, and watched.
 *
 * | client connects | server                       | then                                              |
 * | --------------- | ---------------------------- | ------------------------------------------------- |
 * | accepted        | accepts                      | a session                                         |
 * | accepted        | its backlog is full          | tried again for 5 s, then the client is hung up on |
 * | accepted        | nobody listens               | the client is hung up on                          |
 * | beyond 64       | –                            | waits in our backlog until a session ends          |
 */
import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { linux, type Sys } from '@emudev/linux';
import { Descriptors } from './descriptors.ts';
import { ACCEPT_RETRY_MS, CONNECT_PATIENCE_MS, CONNECT_RETRY_MS, LISTEN_BACKLOG, MAX_SESSIONS } from '../limits.ts';
import type { TraceObserver } from './observed.ts';
import { Session } from './session.ts';

export interface ProxyOptions {
  /** The socket for clients: made with mode 0600; a stale file is replaced, a live one is EADDRINUSE. */
  readonly listen: string;
  /** The server's socket. */
  readonly connect: string;
  readonly observer: TraceObserver;
  /** Longest time to look for the next message before the thread sleeps, microseconds; 0 never looks. 100 by default. */
  readonly spinUs?: number;
  readonly sys?: Sys;
}

export class TraceProxy implements Disposable {
  readonly #sys: Sys;
  readonly #options: ProxyOptions;
  readonly #descriptors: Descriptors;
  readonly #listener: number;
  readonly #inode: bigint;
  readonly #sessions = new Map<number, Session>();
  /** Clients whose server is not connected yet. */
  readonly #waiting = new Map<number, NodeJS.Timeout>();
  #watch: Disposable | undefined;
  #retry: NodeJS.Timeout | undefined;
  #count = 0;
  #closed = false;

  /** Listens. @throws LinuxError where the socket cannot be made */
  constructor(options: ProxyOptions) {
    this.#options = options;
    this.#sys = options.sys ?? linux;
    this.#descriptors = new Descriptors(this.#sys);
    const mask = process.umask(0o177);
    try {
      this.#listener = this.#sys.unixListen(options.listen, LISTEN_BACKLOG);
    } finally {
      process.umask(mask);
    }
    try {
      chmodSync(options.listen, 0o600);
      this.#inode = lstatSync(options.listen, { bigint: true }).ino;
      this.#acceptLater(0);
    } catch (error) {
      this.#sys.close(this.#listener);
      throw error;
    }
  }

  /** Sessions under way. */
  get sessions(): number {
    return this.#sessions.size;
  }

  /** Ends all sessions and removes the socket file, unless somebody has put another one there. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch?.[Symbol.dispose]();
    clearTimeout(this.#retry);
    for (const [client, timer] of this.#waiting) {
      clearTimeout(timer);
      this.#sys.close(client);
    }
    this.#waiting.clear();
    for (const session of this.#sessions.values()) session.close('the trace has ended');
    try {
      if (lstatSync(this.#options.listen, { bigint: true }).ino === this.#inode) unlinkSync(this.#options.listen);
    } catch {
      // Somebody has removed it already.
    }
    this.#sys.close(this.#listener);
  }

  #acceptLater(ms: number): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    if (this.#closed || this.#sessions.size + this.#waiting.size >= MAX_SESSIONS) return;
    if (ms === 0) this.#watch = this.#sys.watch(this.#listener, { readable: true }, () => { this.#accept(); });
    else this.#retry = setTimeout(() => { this.#acceptLater(0); }, ms);
  }

  #accept(): void {
    let client;
    try {
      client = this.#sys.unixAccept(this.#listener);
    } catch {
      // Out of descriptors: sessions that end give some back.
      this.#acceptLater(ACCEPT_RETRY_MS);
      return;
    }
    if (client === undefined) return;
    const id = ++this.#count;
    this.#options.observer.opened(id, performance.now());
    this.#join(id, client, performance.now() + CONNECT_PATIENCE_MS);
    if (this.#sessions.size + this.#waiting.size >= MAX_SESSIONS) this.#acceptLater(0);
  }

  #join(id: number, client: number, until: number): void {
    const { observer, connect } = this.#options;
    this.#waiting.delete(client);
    let server;
    try {
      server = this.#sys.unixTryConnect(connect);
      if (server === undefined && performance.now() > until) throw new Error(`the backlog of '${connect}' stayed full for ${CONNECT_PATIENCE_MS} ms`);
    } catch (error) {
      this.#sys.close(client);
      observer.closed(id, error instanceof Error ? error.message : String(error), performance.now());
      return;
    }
    if (server === undefined) {
      this.#waiting.set(client, setTimeout(() => { this.#join(id, client, until); }, CONNECT_RETRY_MS));
      return;
    }
    const session = new Session(client, server, {
      sys: this.#sys, id, descriptors: this.#descriptors, observer, spinUs: this.#options.spinUs ?? 100,
      onEnd: (why) => {
        this.#sessions.delete(id);
        observer.closed(id, why, performance.now());
        if (this.#watch === undefined) this.#acceptLater(0);
      },
    });
    this.#sessions.set(id, session);
  }
}
