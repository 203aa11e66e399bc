/**
 * The control socket: one JSON request a line, one JSON answer a line, in order.
 *
 * ```
 * {"command":"unplug","device":"emu_iavf1","force":true,"id":7}
 * {"id":7,"ok":true,"result":{}}
 * {"ok":false,"error":{"code":"EMUDEV_NOENT","message":"there is no device emu_iavf1; …"}}
 * ```
 */
import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { linux } from '@emudev/linux';
import type { Launcher } from '../launcher.ts';
import { execute } from './commands.ts';
import { ControlError } from './errors.ts';
import { BACKLOG, MAX_CLIENTS, MAX_ID, MAX_REQUEST_BYTES } from './limits.ts';

export type Answer = ({ readonly ok: true; readonly result: unknown } | { readonly ok: false; readonly error: { readonly code: string; readonly message: string } }) & { readonly id?: string | number };

const NEWLINE = 0x0a;

export class ControlServer implements AsyncDisposable {
  readonly path: string;
  readonly #ino: bigint;
  readonly #launcher: Launcher;
  readonly #server: Server;
  readonly #clients = new Map<Socket, Promise<void>>();

  /**
   * Listens. Whoever can open the socket file owns the process's devices, so it is its owner's only (mode 0600).
   * @throws LinuxError EADDRINUSE where another process listens there; a socket file nobody listens on is replaced
   */
  static async listen(path: string, launcher: Launcher): Promise<ControlServer> {
    // Between bind and chmod anybody could connect; the mask closes the gap.
    const before = process.umask(0o177);
    let fd: number;
    try {
      fd = linux.unixListen(path, BACKLOG);
    } finally {
      process.umask(before);
    }
    chmodSync(path, 0o600);
    // Half open: `echo … | nc -U` has said all it wants to say and still waits for the answer.
    const server = createServer({ allowHalfOpen: true });
    server.listen({ fd });
    await once(server, 'listening');
    return new ControlServer(path, launcher, server);
  }

  private constructor(path: string, launcher: Launcher, server: Server) {
    this.path = path;
    this.#ino = lstatSync(path, { bigint: true }).ino;
    this.#launcher = launcher;
    this.#server = server;
    server.on('connection', (socket) => { this.#welcome(socket); });
    // Out of descriptors: those who are connected go on, and the next connection is tried when it comes.
    server.on('error', () => {});
  }

  /** Ends every connection, after what is under way, and removes the socket file. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => { this.#server.close(() => { resolve(); }); });
    const ends = [...this.#clients.values()];
    for (const socket of this.#clients.keys()) socket.destroy();
    await Promise.allSettled([closed, ...ends]);
    // Somebody may have replaced it by their own.
    if (lstatSync(this.path, { bigint: true, throwIfNoEntry: false })?.ino === this.#ino) unlinkSync(this.path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #welcome(socket: Socket): void {
    // CLIENT: it may go at any time. The loop that reads it ends then.
    socket.on('error', () => {});
    if (this.#clients.size >= MAX_CLIENTS) {
      socket.end(lineOf(failure(new ControlError('ERR_CONTROL_CLIENTS', `there are ${MAX_CLIENTS} clients already, which is the limit`))), () => { socket.destroy(); });
      return;
    }
    this.#clients.set(socket, this.#serve(socket).catch(() => {}).finally(() => {
      this.#clients.delete(socket);
      socket.destroy();
    }));
  }

  /** Nothing is read while a request is carried out or its answer is not taken: what a client can make us hold is one line. */
  async #serve(socket: Socket): Promise<void> {
    let pending: Buffer = Buffer.alloc(0);
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      pending = Buffer.concat([pending, chunk]);
      for (let end = pending.indexOf(NEWLINE); end !== -1 && end <= MAX_REQUEST_BYTES; end = pending.indexOf(NEWLINE)) {
        const line = pending.subarray(0, end);
        pending = pending.subarray(end + 1);
        if (line.length > 0) await send(socket, await this.#answer(line));
        // It has gone: nobody wants to know any more.
        if (socket.destroyed) return;
      }
      if (pending.length > MAX_REQUEST_BYTES) {
        await send(socket, failure(new ControlError('ERR_CONTROL_LINE', `a request has at most ${MAX_REQUEST_BYTES} bytes`)));
        return;
      }
    }
    if (pending.length > 0) await send(socket, await this.#answer(pending));
    await new Promise<void>((resolve) => { socket.end(() => { resolve(); }); });
  }

  async #answer(line: Buffer): Promise<Answer> {
    let request: unknown;
    try {
      // CLIENT: anything.
      request = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(line));
    } catch (cause) {
      return failure(new ControlError('ERR_CONTROL_SYNTAX', `this is no JSON: ${cause instanceof Error ? cause.message : String(cause)}`, { cause }));
    }
    const id = idOf(request);
    try {
      return { ...id, ok: true, result: await execute(this.#launcher, request) };
    } catch (error) {
      return { ...id, ...failure(error) };
    }
  }
}

const lineOf = (answer: Answer): string => `${JSON.stringify(answer)}\n`;

/** Resolves when the client has taken it, or has gone. */
function send(socket: Socket, answer: Answer): Promise<void> {
  return new Promise((resolve) => {
    socket.once('close', resolve);
    socket.write(lineOf(answer), () => {
      socket.off('close', resolve);
      resolve();
    });
  });
}

function failure(error: unknown): Answer {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return { ok: false, error: { code: typeof code === 'string' ? code : 'ERR_INTERNAL', message: (typeof message === 'string' ? message : String(error)).split('\n')[0]! } };
}

/** Given back as it came, so that a program can tell its answers apart. */
function idOf(request: unknown): { readonly id?: string | number } {
  if (typeof request !== 'object' || request === null || !('id' in request)) return {};
  const { id } = request;
  return typeof id === 'number' || (typeof id === 'string' && id.length <= MAX_ID) ? { id } : {};
}
