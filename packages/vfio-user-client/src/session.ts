/**
 * One connection from VERSION to its end: the main socket, the twin where the server granted one, and what is in flight.
 *
 * | event                                   | without twin                | with twin                   |
 * | --------------------------------------- | --------------------------- | --------------------------- |
 * | reply on the main socket                | to its request              | to its request              |
 * | command on the main socket              | served                      | forbidden: closes           |
 * | command on the twin                     | -                           | served, answered there      |
 * | reply on the twin                       | -                           | forbidden: closes           |
 * | either socket ends                      | everything ends             | everything ends             |
 */
import type { SpinOptions, Sys } from '@emudev/linux';
import { effectiveCapabilities, isCommand, isReply } from '@emudev/vfio-user-protocol';
import type { DeviceInfo, DmaDialect, EffectiveCapabilities, Frame } from '@emudev/vfio-user-protocol';
import { Connection } from './connection.ts';
import type { Closed } from './connection.ts';
import type { DmaMaps } from './dma-maps.ts';
import { DmaServer } from './dma-server.ts';
import type { DirtyTracker } from './dirty-tracker.ts';
import type { DmaHandler } from './dma-server.ts';
import { badServer, ClientError } from './errors.ts';
import { events, publish } from './events.ts';
import type { Requester } from './link.ts';
import { askDeviceInfo, negotiateVersion } from './negotiation.ts';
import type { Proposal } from './negotiation.ts';
import { Requests } from './requests.ts';
import type { CallOptions, RequestOptions } from './requests.ts';

export interface SessionOptions {
  readonly sys: Sys;
  readonly ref: boolean;
  readonly timeoutMs: number;
  readonly spin: SpinOptions | undefined;
  readonly proposal: Proposal;
  readonly maps: DmaMaps;
  readonly dirty: DirtyTracker;
  readonly dma: DmaHandler | undefined;
  readonly dmaDialect: DmaDialect;
  /** Called once, before anything in flight rejects; returns what it and all later requests reject with. */
  readonly onClosed: (closed: Closed) => ClientError;
}

export class Session implements Requester {
  /** Resolves, never rejects, when both sockets are closed. */
  readonly closed: Promise<Closed>;
  server: EffectiveCapabilities = effectiveCapabilities(undefined);
  info: DeviceInfo = { flags: 0, numRegions: 0, numIrqs: 0 };
  /** Protocol minor version agreed upon. */
  minor = 0;
  readonly #options: SessionOptions;
  readonly #main: Connection;
  #twin: Connection | undefined;
  readonly #requests: Requests;
  #dmaServer: DmaServer;
  #end: ClientError | undefined;
  #closedAs: Closed | undefined;
  readonly #resolveClosed: (closed: Closed) => void;

  /** Owns `fd`, also when it rejects. */
  static async open(fd: number, options: SessionOptions, call: CallOptions = {}): Promise<Session> {
    const session = new Session(fd, options);
    try {
      const { minor, server } = await negotiateVersion(session, options.sys, options.proposal, (twin) => { session.#addTwin(twin); }, call);
      session.minor = minor;
      session.server = server;
      session.info = await askDeviceInfo(session, call);
    } catch (error) {
      session.close({ reason: 'disposed', error });
      throw error;
    }
    return session;
  }

  private constructor(fd: number, options: SessionOptions) {
    const { promise, resolve } = Promise.withResolvers<Closed>();
    this.closed = promise;
    this.#resolveClosed = resolve;
    this.#options = options;
    this.#main = this.#connect(fd, (frame) => { this.#onMain(frame); });
    this.#requests = new Requests(this.#main, options.timeoutMs);
    this.#dmaServer = this.#serveDma(this.#main);
  }

  /** The server's commands have a socket of their own. */
  get hasTwin(): boolean {
    return this.#twin !== undefined;
  }

  /** How it ended; undefined while it is open. */
  get closedAs(): Closed | undefined {
    return this.#closedAs;
  }

  close(closed: Closed): void {
    this.#main.close(closed);
  }

  async request<T>(command: number, payload: Uint8Array, options: RequestOptions<T>): Promise<T> {
    if (this.#end !== undefined) throw this.#end;
    if (options.fds !== undefined) this.#checkDescriptors(options.fds);
    if (events.hasSubscribers) publish({ type: 'request', command, payloadBytes: payload.length, fds: options.fds?.length ?? 0, posted: false });
    return this.#requests.request(command, payload, options);
  }

  async post(command: number, payload: Uint8Array, call: CallOptions = {}): Promise<void> {
    if (this.#end !== undefined) throw this.#end;
    if (events.hasSubscribers) publish({ type: 'request', command, payloadBytes: payload.length, fds: 0, posted: true });
    return this.#requests.post(command, payload, call);
  }

  /** A number that is none is the caller's mistake; sendmsg would refuse it, too, but in the middle of everybody's messages. */
  #checkDescriptors(fds: readonly number[]): void {
    for (const fd of fds) {
      try {
        this.#options.sys.fstat(fd);
      } catch (cause) {
        throw new ClientError('ERR_VFU_CLIENT_ARGUMENT', `${fd} is no open descriptor`, { cause });
      }
    }
  }

  #connect(fd: number, frame: (frame: Frame) => void): Connection {
    const { sys, ref, proposal, spin } = this.#options;
    const tell = (message: Frame): void => {
      if (events.hasSubscribers) {
        const { id, command, flags, error, payload, fds } = message;
        publish({ type: 'frame', id, command, flags, error, payloadBytes: payload.length, fds: fds.length });
      }
      frame(message);
    };
    try {
      return new Connection(sys, fd, { frame: tell, closed: (why) => { this.#onClosed(why); } }, { ref, maxFds: proposal.capabilities.maxMsgFds, spin });
    } catch (cause) {
      throw new ClientError('ERR_VFU_CLIENT_ARGUMENT', `descriptor ${fd} is no socket`, { cause });
    }
  }

  #serveDma(connection: Connection): DmaServer {
    const { maps, dirty, dma, dmaDialect, proposal } = this.#options;
    return new DmaServer(connection, maps, dirty, { handler: dma, dialect: dmaDialect, maxBytes: proposal.capabilities.maxDataXferSize });
  }

  #addTwin(fd: number): void {
    this.#twin = this.#connect(fd, (frame) => {
      if (isCommand(frame.flags)) return this.#dmaServer.command(frame);
      this.#main.closeFds(frame.fds);
      throw badServer('a message on the twin socket that is no command');
    });
    this.#dmaServer = this.#serveDma(this.#twin);
  }

  #onMain(frame: Frame): void {
    if (isReply(frame.flags)) return this.#requests.reply(frame);
    if (isCommand(frame.flags) && this.#twin === undefined) return this.#dmaServer.command(frame);
    this.#main.closeFds(frame.fds);
    throw badServer(isCommand(frame.flags) ? 'a command on the main socket although there is a twin for them' : `a message of type ${frame.flags & 15}`);
  }

  #onClosed(closed: Closed): void {
    if (this.#end !== undefined) return;
    this.#closedAs = closed;
    this.#end = this.#options.onClosed(closed);
    this.#dmaServer.close();
    // Whichever ended, the other has to; the second call finds #end set.
    this.#main.close(closed);
    this.#twin?.close(closed);
    this.#requests.close(this.#end);
    this.#resolveClosed(closed);
  }
}

/** What requests reject with after a connection that is not made again. */
export function endOf(closed: Closed): ClientError {
  const { reason, error } = closed;
  const text = error instanceof Error ? `: ${error.message}` : '';
  return reason === 'bad-server'
    ? new ClientError('ERR_VFU_CLIENT_BAD_SERVER', `the server broke the protocol${text}`, { cause: error })
    : new ClientError('ERR_VFU_CLIENT_CLOSED', `the connection is closed (${reason})${text}`, { cause: error });
}
