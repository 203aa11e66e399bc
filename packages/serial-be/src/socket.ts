import { lstatSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { linux } from '@emudev/linux';
import type { FarEnd, FarEndEvents } from './far-end.ts';
import { CLOSE_LINGER_MS, LISTEN_BACKLOG, READ_BYTES, RECONNECT_FIRST_MS, RECONNECT_LAST_MS, SOCKET_BUFFER_BYTES } from './limits.ts';

/** Where a socket listens or connects to. */
export type SocketAddress = { readonly host: string; readonly port: number } | { readonly path: string };

/** How a socket is used. */
export interface SocketFarEndOptions {
  readonly mode: 'listen' | 'connect';
  readonly address: SocketAddress;
  /** Who is refused reads this name. */
  readonly name: string;
}

/** `127.0.0.1:5000`, `[::1]:5000`, `/run/serial0` */
export function addressText(address: SocketAddress): string {
  return 'path' in address ? address.path : `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
}

/** A stream socket, TCP or UNIX: as a server of one client at a time, or as a client that connects again and again. */
export class SocketFarEnd implements FarEnd {
  readonly #options: SocketFarEndOptions;
  readonly #events: FarEndEvents;
  #address: SocketAddress;
  #server: Server | undefined;
  /** Of the socket file that we have made. */
  #ino: bigint | undefined;
  #socket: Socket | undefined;
  /** Of a connection that is being made. */
  #attempt: Socket | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pauseMs = RECONNECT_FIRST_MS;
  #reading = false;
  #starved = false;
  #closed = false;

  /** Resolves when the server listens, or a client has begun to try. Rejects with the error of listen(2). */
  static async open(options: SocketFarEndOptions, events: FarEndEvents): Promise<SocketFarEnd> {
    const end = new SocketFarEnd(options, events);
    if (options.mode === 'listen') await end.#listen();
    else end.#connect();
    return end;
  }

  private constructor(options: SocketFarEndOptions, events: FarEndEvents) {
    this.#options = options;
    this.#address = options.address;
    this.#events = events;
  }

  get place(): string {
    return addressText(this.#address);
  }

  write(bytes: Uint8Array): number {
    const socket = this.#socket;
    if (socket === undefined) return 0;
    const count = Math.min(bytes.length, SOCKET_BUFFER_BYTES - socket.writableLength);
    if (count < bytes.length) this.#starved = true;
    if (count <= 0) return 0;
    socket.write(Buffer.from(bytes.subarray(0, count)), () => {
      if (!this.#starved || socket !== this.#socket) return;
      this.#starved = false;
      this.#events.writable();
    });
    return count;
  }

  setReading(on: boolean): void {
    this.#reading = on;
    if (on) this.#socket?.resume();
    else this.#socket?.pause();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#attempt?.destroy();
    const socket = this.#socket;
    if (socket !== undefined) {
      // What it has taken is sent, unless the other side takes nothing: that would keep the process from ending.
      socket.destroySoon();
      const linger = setTimeout(() => { socket.destroy(); }, CLOSE_LINGER_MS);
      socket.once('close', () => { clearTimeout(linger); });
    }
    this.#server?.close();
    if (this.#ino !== undefined && 'path' in this.#address) removeFile(this.#address.path, this.#ino);
  }

  async #listen(): Promise<void> {
    const server = createServer({ pauseOnConnect: true }, (socket) => {
      if (this.#socket === undefined) this.#adopt(socket);
      else this.#refuse(socket);
    });
    this.#server = server;
    const address = this.#address;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      const listening = (): void => {
        server.off('error', reject);
        resolve();
      };
      // A socket file that nobody listens on is replaced, which net does not do.
      if ('path' in address) server.listen({ fd: linux.unixListen(address.path, LISTEN_BACKLOG) }, listening);
      else server.listen({ host: address.host, port: address.port, backlog: LISTEN_BACKLOG }, listening);
    });
    server.on('error', (error) => { this.#events.report('failed', `${this.place}: ${error.message}`); });
    const bound = server.address();
    if ('path' in address) this.#ino = inodeOf(address.path);
    if ('host' in address && bound !== null && typeof bound === 'object') this.#address = { host: address.host, port: bound.port };
  }

  #connect(): void {
    const address = this.#address;
    const socket = 'path' in address ? connect({ path: address.path }) : connect({ host: address.host, port: address.port });
    this.#attempt = socket;
    socket.once('connect', () => {
      this.#attempt = undefined;
      this.#pauseMs = RECONNECT_FIRST_MS;
      socket.removeAllListeners('error');
      this.#adopt(socket);
    });
    socket.once('error', (error) => {
      // Once for every row of failures: the first says it all.
      if (this.#pauseMs === RECONNECT_FIRST_MS) this.#events.report('failed', `${this.place}: ${error.message}; trying again`);
      this.#attempt = undefined;
      this.#connectLater();
    });
  }

  #connectLater(): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => { this.#connect(); }, this.#pauseMs);
    this.#pauseMs = Math.min(this.#pauseMs * 2, RECONNECT_LAST_MS);
  }

  #adopt(socket: Socket): void {
    this.#socket = socket;
    this.#starved = false;
    socket.setNoDelay(true);
    socket.setKeepAlive(true);
    socket.on('data', (data) => {
      for (let at = 0; at < data.length; at += READ_BYTES) if (!this.#closed) this.#events.data(data.subarray(at, at + READ_BYTES));
    });
    socket.on('error', (error) => { if (!this.#closed) this.#events.report('failed', `${this.place}: ${error.message}`); });
    socket.once('close', () => {
      if (this.#socket !== socket) return;
      this.#socket = undefined;
      if (this.#closed) return;
      this.#events.present(false);
      if (this.#options.mode === 'connect') this.#connectLater();
    });
    this.#events.present(true);
    this.setReading(this.#reading);
  }

  #refuse(socket: Socket): void {
    this.#events.report('refused', `${this.place}: a second client, while the first is there`);
    socket.on('error', () => {});
    // resume: what it sends is not read, and must not keep its end from being seen.
    socket.resume();
    socket.end(`${this.#options.name} is in use by another client; try again later.\r\n`, () => { socket.destroySoon(); });
  }
}

function inodeOf(path: string): bigint | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
}

/** Somebody may have put their own into its place, and keeps it. */
function removeFile(path: string, ino: bigint): void {
  try {
    if (inodeOf(path) === ino) unlinkSync(path);
  } catch {
    // Gone already.
  }
}
