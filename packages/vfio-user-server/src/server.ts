/**
 * A device on a socket.
 *
 * | state     | listen, adoptListener | adoptConnection     | client connects            | session ends       | close     |
 * | --------- | --------------------- | ------------------- | -------------------------- | ------------------ | --------- |
 * | idle      | → listening           | → serving (once)    | –                          | –                  | → closed  |
 * | listening | forbidden: it does    | forbidden: listens  | accepted → serving         | –                  | → closed  |
 * | serving   | forbidden: it serves  | forbidden: it serves| waits in the kernel's queue| → listening / idle | → closed  |
 * | closed    | forbidden             | forbidden           | –                          | –                  | nothing   |
 */
import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { linux, type SpinOptions, type Sys } from '@emudev/linux';
import type { Truncation, Window } from '@emudev/dma';
import type { PciDevice } from '@emudev/pci';
import { PROFILES, type DmaDialect, type PeerName, type PeerProfile } from '@emudev/vfio-user-protocol';
import { inheritedSocketKind } from './activation.ts';
import { DmaTable } from './dma-table.ts';
import { VfioUserServerError, type DisconnectReason } from './errors.ts';
import { publish } from './events.ts';
import { ACCEPT_RETRY_MS, DEFAULT_LIMITS, LISTEN_BACKLOG, type ServerLimits } from './limits.ts';
import { DeviceMigration } from './migration.ts';
import { Regions } from './regions.ts';
import { Session, type SessionView } from './session.ts';

/** One match is enough. */
export interface AllowedPeers {
  readonly uids?: readonly number[];
  /** The primary group; others do not count. */
  readonly gids?: readonly number[];
}

/** How a device is served; only `window` has no default. */
export interface VfioUserServerOptions {
  /** Where the client's memory is mapped. */
  readonly window: Window;
  readonly limits?: Partial<ServerLimits>;
  /** What to do about memory files that their owner could truncate under us (see @emudev/dma); 'seal' by default. */
  readonly truncation?: Truncation;
  /** Serve every client by this profile (or the one of this name) instead of guessing from its VERSION message. */
  readonly peer?: PeerProfile | PeerName;
  /** Who may connect, by what the kernel says of the process at the other end (SO_PEERCRED). By default whoever can open the socket. */
  readonly credentials?: AllowedPeers;
  /** How memory without a descriptor is reached; 'auto' (the default) follows the peer profile. */
  readonly dmaDialect?: 'auto' | DmaDialect;
  /** False: no client gets a socket of its own for DMA messages. True by default: those get one that ask. */
  readonly twinSocket?: boolean;
  /**
   * How the thread looks for the next message of a busy client before it sleeps; false: it does not. By default for at most
   * 100 microseconds at a time, after messages in close succession; an idle client costs nothing.
   */
  readonly spin?: SpinOptions | false;
  /** Permissions of the socket file: who can open it owns the device. 0o600 by default. */
  readonly socketMode?: number;
  readonly sys?: Sys;
}

/** Both are called on the control thread; what they throw is published as a fault. */
export interface SessionObserver {
  /** A client has negotiated and the device is attached. */
  attached?(session: SessionView): void;
  /** The client has gone and everything of it is released. Also called for one that never negotiated. */
  detached?(session: SessionView, reason: DisconnectReason): void;
}

const EACCES = 13;
const EISCONN = 106;

/** Serves one device on one UNIX socket, to one client at a time: the server side of the vfio-user protocol. */
export class VfioUserServer implements AsyncDisposable {
  readonly device: PciDevice;
  readonly #sys: Sys;
  readonly #options: VfioUserServerOptions;
  readonly #limits: ServerLimits;
  readonly #regions: Regions;
  readonly #dma: DmaTable;
  readonly #migration: DeviceMigration | undefined;
  readonly #observers = new Set<SessionObserver>();
  #listener = -1;
  #watch: Disposable | undefined;
  #retry: NodeJS.Timeout | undefined;
  #path: { readonly path: string; readonly ino: bigint } | undefined;
  #session: Session | undefined;
  #sessions = 0;
  #closing: Promise<void> | undefined;

  /** @throws VfioUserServerError ERR_SERVER_DEVICE where the device's description contradicts itself */
  constructor(device: PciDevice, options: VfioUserServerOptions) {
    this.device = device;
    this.#options = options;
    this.#sys = options.sys ?? linux;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#regions = new Regions(device);
    this.#migration = device.migration === undefined ? undefined : new DeviceMigration(device.migration);
    this.#dma = new DmaTable(this.#sys, options.window, this.#limits, options.truncation);
  }

  /** The client being served, if any. */
  get session(): SessionView | undefined {
    return this.#session;
  }

  /** Tells `observer` of every session from now on, until what this returns is disposed of. */
  onSession(observer: SessionObserver): Disposable {
    this.#observers.add(observer);
    return { [Symbol.dispose]: () => void this.#observers.delete(observer) };
  }

  /**
   * Listens on a UNIX socket, one client at a time, again and again. Clients that come while another is served wait in the
   * kernel's queue: a virtual machine that restarts quickly meets the end of its predecessor's session, not a refusal.
   * @throws LinuxError EADDRINUSE where another process listens there; a socket file nobody listens on is replaced
   */
  async listen(path: string): Promise<void> {
    this.#requireIdle('listen');
    const mode = this.#options.socketMode ?? 0o600;
    const listener = this.#withUmask(0o777 & ~mode, () => this.#sys.unixListen(path, LISTEN_BACKLOG));
    try {
      chmodSync(path, mode);
      this.#path = { path, ino: lstatSync(path, { bigint: true }).ino };
      this.#startListening(listener);
    } catch (error) {
      this.#sys.close(listener);
      throw error;
    }
  }

  /** Serves on a socket that was inherited, listening or connected. Owns `fd` from now on, unless it throws (as `inheritedSocketKind`). */
  adopt(fd: number): void {
    if (inheritedSocketKind(fd, this.#sys) === 'listening') this.adoptListener(fd);
    else this.adoptConnection(fd);
  }

  /** As `listen`, on a listening socket that somebody else has made (systemd, a test). Owns `fd` from now on. */
  adoptListener(fd: number): void {
    this.#requireIdle('adoptListener');
    this.#sys.setNonBlocking(fd, true);
    this.#startListening(fd);
  }

  /**
   * Serves one connected socket (`--fd=N` of a management layer). Owns `fd` from now on, unless it throws.
   * @throws VfioUserServerError ERR_SERVER_CREDENTIALS, LinuxError
   */
  adoptConnection(fd: number): void {
    this.#requireIdle('adoptConnection');
    this.#sys.setNonBlocking(fd, true);
    if (this.#refused(fd)) throw new VfioUserServerError('ERR_SERVER_CREDENTIALS', EACCES, `${this.device.name}: the client at descriptor ${fd} is not allowed`);
    this.#serve(fd);
  }

  /** Ends the session (the device is detached first), removes the socket file. Later calls wait for the same end. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#stopWatching();
    if (this.#path !== undefined) this.#removeSocketFile(this.#path);
    if (this.#listener !== -1) this.#sys.close(this.#listener);
    this.#listener = -1;
    const quiescent = (await this.#session?.close()) ?? true;
    // What a thread may still be using stays, for as long as the process does.
    if (quiescent) this.#dma[Symbol.dispose]();
  }

  #requireIdle(what: string): void {
    const state = this.#closing !== undefined ? 'is closed' : this.#listener !== -1 ? 'is listening' : this.#session !== undefined ? 'serves a client' : undefined;
    if (state !== undefined) throw new VfioUserServerError('ERR_SERVER_STATE', EISCONN, `${what}: the server of ${this.device.name} ${state}`);
  }

  #startListening(listener: number): void {
    this.#listener = listener;
    this.#watchListener();
  }

  #watchListener(): void {
    if (this.#listener === -1 || this.#closing !== undefined || this.#session !== undefined) return;
    try {
      this.#watch ??= this.#sys.watch(this.#listener, { readable: true }, () => { this.#accept(); });
    } catch (error) {
      this.#retryLater('watching the listener', error);
    }
  }

  /** Out of descriptors or memory: others may give some back. */
  #retryLater(what: string, error: unknown): void {
    publish('fault', { device: this.device.name, what, error });
    this.#stopWatching();
    this.#retry = setTimeout(() => { this.#watchListener(); }, ACCEPT_RETRY_MS);
  }

  #stopWatching(): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    clearTimeout(this.#retry);
  }

  #accept(): void {
    let fd;
    try {
      fd = this.#sys.unixAccept(this.#listener);
    } catch (error) {
      this.#retryLater('accept', error);
      return;
    }
    if (fd === undefined) return;
    try {
      if (this.#refused(fd)) return this.#sys.close(fd);
      this.#stopWatching();
      this.#serve(fd);
    } catch (error) {
      this.#sys.close(fd);
      this.#retryLater('serving a connection', error);
    }
  }

  /** CLIENT: one who is not allowed is not told anything. */
  #refused(fd: number): boolean {
    const allowed = this.#options.credentials;
    if (allowed === undefined) return false;
    const { uid, gid, pid } = this.#sys.peerCredentials(fd);
    if ((allowed.uids ?? []).includes(uid) || (allowed.gids ?? []).includes(gid)) return false;
    publish('fault', { device: this.device.name, what: 'a client that is not allowed', error: new VfioUserServerError('ERR_SERVER_CREDENTIALS', EACCES, `process ${pid} of user ${uid}, group ${gid}`) });
    return true;
  }

  #serve(fd: number): void {
    const { peer } = this.#options;
    const session: Session = new Session(fd, {
      id: ++this.#sessions,
      sys: this.#sys,
      device: this.device,
      regions: this.#regions,
      dma: this.#dma,
      migration: this.#migration,
      limits: this.#limits,
      peer: typeof peer === 'string' ? PROFILES[peer] : peer,
      dmaDialect: this.#options.dmaDialect ?? 'auto',
      twinSocket: this.#options.twinSocket ?? true,
      spin: this.#options.spin === false ? undefined : (this.#options.spin ?? {}),
      onReady: () => { this.#observe((observer) => observer.attached?.(session)); },
      onEnded: (reason) => {
        this.#session = undefined;
        this.#observe((observer) => observer.detached?.(session, reason));
        this.#watchListener();
      },
    });
    this.#session = session;
  }

  #observe(call: (observer: SessionObserver) => void): void {
    for (const observer of this.#observers) {
      try {
        call(observer);
      } catch (error) {
        publish('fault', { device: this.device.name, what: 'session observer', error });
      }
    }
  }

  /** Between bind and chmod anybody could connect; the mask closes the gap. Worker threads cannot set it and live with chmod. */
  #withUmask<T>(mask: number, make: () => T): T {
    let before: number | undefined;
    try {
      before = process.umask(mask);
    } catch {
      // ERR_WORKER_UNSUPPORTED_OPERATION
    }
    try {
      return make();
    } finally {
      if (before !== undefined) process.umask(before);
    }
  }

  #removeSocketFile({ path, ino }: { path: string; ino: bigint }): void {
    try {
      // Somebody may have replaced it by their own.
      if (lstatSync(path, { bigint: true }).ino === ino) unlinkSync(path);
    } catch (error) {
      publish('fault', { device: this.device.name, what: `removing ${path}`, error });
    }
  }
}
