/** The listening sockets of this process: one per name, for any number of server interfaces. */
import { channel } from 'node:diagnostics_channel';
import { unlinkSync } from 'node:fs';
import { LinuxError, OwnedFd, type Sys, type UnixSocketOptions } from '@emudev/linux';
import { MemifError } from './errors.ts';
import { MEMIF_CHANNEL, type MemifEvent } from './events.ts';
import { ACCEPT_PAUSE_MS, MAX_STRANGERS } from './limits.ts';
import { ServerSession, type Lobby, type ServerInterface } from './server-session.ts';

/** A UNIX socket: a file, or an abstract name. */
export interface SocketName {
  readonly path: string;
  readonly abstract: boolean;
}

/** For `Sys`: memif's sockets keep the boundaries of messages. */
export function socketOptions(name: SocketName): UnixSocketOptions {
  return { type: 'seqpacket', abstract: name.abstract };
}

const BACKLOG = 16;
/** How this end calls itself in HELLO and INIT. */
export const OUR_NAME = 'emudev';

const listeners = new Map<string, Listener>();
const keyOf = ({ path, abstract }: SocketName): string => `${abstract ? '@' : ''}${path}`;

export class Listener implements Lobby {
  readonly #sys: Sys;
  readonly #name: SocketName;
  readonly #socket: OwnedFd;
  readonly #interfaces = new Map<number, ServerInterface>();
  /** Oldest first. */
  readonly #strangers = new Set<ServerSession>();
  #watch: Disposable | undefined;
  #pause: NodeJS.Timeout | undefined;

  /** Makes `added` reachable by its id. LinuxError for a socket that cannot be, ERR_MEMIF_CONFIG for an id that is taken. */
  static add(sys: Sys, name: SocketName, added: ServerInterface): Listener {
    const known = listeners.get(keyOf(name));
    const owner = known?.find(added.id);
    if (owner !== undefined) throw new MemifError('ERR_MEMIF_CONFIG', `${added.name}: id ${added.id} on '${name.path}' belongs to ${owner.name}`);
    const listener = known ?? new Listener(sys, name);
    listener.#interfaces.set(added.id, added);
    return listener;
  }

  private constructor(sys: Sys, name: SocketName) {
    this.#sys = sys;
    this.#name = name;
    this.#socket = new OwnedFd(sys.unixListen(name.path, BACKLOG, socketOptions(name)), sys);
    this.#listen();
    listeners.set(keyOf(name), this);
  }

  find(id: number): ServerInterface | undefined {
    return this.#interfaces.get(id);
  }

  queues(): { rx: number; tx: number } {
    const all = [...this.#interfaces.values()].filter(({ accepting }) => accepting);
    return { rx: Math.max(1, ...all.map(({ rxQueues }) => rxQueues)), tx: Math.max(1, ...all.map(({ txQueues }) => txQueues)) };
  }

  left(session: ServerSession): void {
    this.#strangers.delete(session);
  }

  refused(session: ServerSession, error: MemifError | undefined): void {
    this.left(session);
    if (error !== undefined) channel(MEMIF_CHANNEL).publish({ kind: 'refused', socket: this.#name.path, reason: error.message } satisfies MemifEvent);
  }

  /** The last one closes the socket, and removes its file. */
  async remove(removed: ServerInterface): Promise<void> {
    if (this.#interfaces.get(removed.id) !== removed) return;
    this.#interfaces.delete(removed.id);
    if (this.#interfaces.size > 0) return;
    listeners.delete(keyOf(this.#name));
    clearTimeout(this.#pause);
    this.#watch?.[Symbol.dispose]();
    this.#socket.close();
    if (!this.#name.abstract) {
      try {
        unlinkSync(this.#name.path);
      } catch {
        // Somebody has removed it.
      }
    }
    await Promise.all([...this.#strangers].map((session) => session.end(new MemifError('ERR_MEMIF_REFUSED', 'the server is closing'))));
  }

  #listen(): void {
    this.#watch = this.#sys.watch(this.#socket.fd, { readable: true }, () => { this.#accept(); }, { ref: false });
  }

  #accept(): void {
    try {
      for (let n = 0; n < BACKLOG; n++) {
        const socket = this.#sys.unixAccept(this.#socket.fd);
        if (socket === undefined) return;
        this.#welcome(socket);
      }
    } catch (error) {
      // No descriptor is left, say. Looking again at once would find the same.
      this.#watch?.[Symbol.dispose]();
      this.#watch = undefined;
      this.#pause = setTimeout(() => { this.#listen(); }, ACCEPT_PAUSE_MS).unref();
      channel(MEMIF_CHANNEL).publish({ kind: 'accept-failed', socket: this.#name.path, reason: error instanceof Error ? error.message : String(error) } satisfies MemifEvent);
    }
  }

  #welcome(socket: number): void {
    // CLIENT: who connects and says nothing must not keep others out, nor a descriptor each for ever.
    const [oldest] = this.#strangers;
    if (this.#strangers.size >= MAX_STRANGERS) void oldest!.end(new MemifError('ERR_MEMIF_TIMEOUT', 'too many peers have not said what they want'));
    let session: ServerSession;
    try {
      session = new ServerSession(this.#sys, socket, this);
    } catch (error) {
      if (this.#sys.isValidFd(socket)) this.#sys.close(socket);
      throw error;
    }
    this.#strangers.add(session);
    try {
      session.greet(OUR_NAME);
    } catch (error) {
      if (!(error instanceof MemifError) && !(error instanceof LinuxError)) throw error;
      void session.end(undefined);
    }
  }
}
