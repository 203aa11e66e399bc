/**
 * The connection of a client, made again when it is lost.
 *
 * | state      | request            | connection lost        | connected, same device       | another device, refused replay | deadline, abort, close |
 * | ---------- | ------------------ | ---------------------- | ---------------------------- | ------------------------------ | ---------------------- |
 * | up         | sent               | → down; or → ended     | -                            | -                              | → ended                |
 * | down       | waits              | the next attempt       | replay, → up; who waits goes | → ended                        | → ended                |
 * | ended      | rejects            | -                      | -                            | -                              | -                      |
 *
 * A server that breaks the protocol is not connected to again: it is not lost but not to be trusted.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { OwnedFd, Sys } from '@emudev/linux';
import type { DeviceInfo, EffectiveCapabilities, IrqInfo } from '@emudev/vfio-user-protocol';
import { VFIO_DEVICE_FLAGS_RESET, VFIO_USER_DEVICE_RESET } from '@emudev/vfio-user-protocol';
import type { Closed } from './connection.ts';
import { badArgument, ClientError } from './errors.ts';
import { publish, events } from './events.ts';
import { MAX_PENDING_REQUESTS, MAX_TIMEOUT_MS, RECONNECT_DEADLINE_MS, RECONNECT_FIRST_DELAY_MS, RECONNECT_MAX_DELAY_MS } from './limits.ts';
import { HEADER_ONLY } from './link.ts';
import type { Link } from './link.ts';
import type { Region } from './region.ts';
import type { CallOptions, RequestOptions } from './requests.ts';
import { endOf } from './session.ts';
import type { Session } from './session.ts';

/** What becomes of a lost connection. */
export type ReconnectEvent =
  | { readonly type: 'lost'; readonly closed: Closed }
  /** An attempt has failed; the next one follows after `delayMs`. */
  | { readonly type: 'retry'; readonly attempt: number; readonly error: unknown; readonly delayMs: number }
  /** Everything is as it was; the requests that waited have gone. */
  | { readonly type: 'reconnected'; readonly attempts: number };

/** How a lost connection is made again: what the server was told (DMA maps, eventfds, the dirty log) is told to the next one, if it is the same device. */
export interface ReconnectOptions {
  /** Pause before the second attempt, doubled before each further one; 50 ms by default. */
  readonly firstDelayMs?: number;
  /** Longest pause; 2 s by default. */
  readonly maxDelayMs?: number;
  /** Time from the loss until the client gives up; a minute by default, Infinity: never. */
  readonly deadlineMs?: number;
  /** Ends the attempts, and with them the client. */
  readonly signal?: AbortSignal;
  /** Resets the device before anything is replayed: a server that was not restarted keeps the registers as they were. */
  readonly resetDevice?: boolean;
  /** Called from the event loop. */
  readonly onEvent?: (event: ReconnectEvent) => void;
}

/** What a device is recognised by. */
export interface Identity {
  readonly info: DeviceInfo;
  readonly regions: readonly Region[];
  readonly irqs: readonly IrqInfo[];
}

/** What the client does with a new connection. */
export interface Restorer {
  /** Asks what device answers. The files of its regions are put into `files`. */
  identify(session: Session, files: Map<number, OwnedFd>): Promise<Identity>;
  /** Tells it everything the last one knew. */
  replay(session: Session): Promise<void>;
  /** From now on `files` belong to the regions. */
  adopt(files: ReadonlyMap<number, OwnedFd>): void;
}

interface Waiting {
  readonly go: (session: Session) => void;
  readonly reject: (error: unknown) => void;
}

export interface ReconnectingLinkOptions {
  readonly sys: Sys;
  readonly ref: boolean;
  readonly own: Link['own'];
  /** undefined: a lost connection is the end. */
  readonly reconnect: ReconnectOptions | undefined;
  /** Opens a connection; its end is told to `onClosed`, which returns what requests reject with. */
  readonly dial: (onClosed: (closed: Closed) => ClientError, call: CallOptions) => Promise<Session>;
  /** Everything the client holds is to be released. */
  readonly onEnd: (closed: Closed) => void;
}

export class ReconnectingLink implements Link {
  readonly ended: Promise<void>;
  readonly #options: ReconnectingLinkOptions;
  readonly #resolveEnded: () => void;
  readonly #waiting = new Set<Waiting>();
  readonly #stop = new AbortController();
  /** The last one that was up: what it said holds while the next is being made. */
  #last: Session | undefined;
  #up: Session | undefined;
  #end: ClientError | undefined;
  #restorer: Restorer | undefined;
  #identity: Identity | undefined;

  /** Connects for the first time: one attempt, which `signal` gives up. */
  static async open(options: ReconnectingLinkOptions, signal?: AbortSignal): Promise<ReconnectingLink> {
    const link = new ReconnectingLink(options);
    link.#rise(await link.#dial(signal === undefined ? {} : { signal }));
    return link;
  }

  private constructor(options: ReconnectingLinkOptions) {
    this.#options = options;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.ended = promise.then(() => {});
    this.#resolveEnded = () => { resolve(undefined); };
  }

  get sys(): Sys { return this.#options.sys; }
  get ref(): boolean { return this.#options.ref; }
  get own(): Link['own'] { return this.#options.own; }
  get reconnects(): boolean { return this.#options.reconnect !== undefined; }
  get server(): EffectiveCapabilities { return this.#last!.server; }
  get info(): DeviceInfo { return this.#last!.info; }
  get minor(): number { return this.#last!.minor; }
  get hasTwin(): boolean { return this.#last!.hasTwin; }
  /** false while a lost connection is being made again, and after the end. */
  get isUp(): boolean { return this.#up !== undefined; }

  /** Learns what device this is: from now on a lost connection is made again. */
  async arm(restorer: Restorer): Promise<void> {
    const files = new Map<number, OwnedFd>();
    try {
      this.#identity = await restorer.identify(this.#last!, files);
    } catch (error) {
      for (const file of files.values()) file.close();
      throw error;
    }
    restorer.adopt(files);
    this.#restorer = restorer;
  }

  request<T>(command: number, payload: Uint8Array, options: RequestOptions<T>): Promise<T> {
    return this.#up === undefined ? this.#later(options, (session) => session.request(command, payload, options)) : this.#up.request(command, payload, options);
  }

  post(command: number, payload: Uint8Array, call: CallOptions = {}): Promise<void> {
    return this.#up === undefined ? this.#later(call, (session) => session.post(command, payload, call)) : this.#up.post(command, payload, call);
  }

  checkOpen(): void {
    if (this.#end !== undefined) throw this.#end;
  }

  close(): void {
    const closed: Closed = { reason: 'disposed' };
    if (this.#up !== undefined) this.#up.close(closed);
    else this.#finish(closed, endOf(closed));
  }

  async #dial(call: CallOptions): Promise<Session> {
    const dialled: { session?: Session } = {};
    const session = await this.#options.dial((closed) => {
      if (dialled.session !== undefined && dialled.session === this.#up) return this.#onClosed(closed);
      return isLoss(closed) && this.reconnects ? lostBy(closed) : endOf(closed);
    }, call);
    dialled.session = session;
    return session;
  }

  #rise(session: Session): void {
    this.#last = this.#up = session;
    // It may have ended in the very wake-up that brought the last answer.
    if (session.closedAs !== undefined) this.#onClosed(session.closedAs);
  }

  #onClosed(closed: Closed): ClientError {
    this.#up = undefined;
    if (this.#restorer === undefined || !isLoss(closed)) return this.#finish(closed, endOf(closed));
    void this.#reconnect(this.#options.reconnect!, this.#restorer, closed);
    return lostBy(closed);
  }

  #finish(closed: Closed, end: ClientError): ClientError {
    if (this.#end !== undefined) return this.#end;
    this.#end = end;
    this.#stop.abort();
    for (const waiting of [...this.#waiting]) waiting.reject(end);
    this.#options.onEnd(closed);
    this.#resolveEnded();
    return end;
  }

  /** Never rejects. */
  async #reconnect(options: ReconnectOptions, restorer: Restorer, closed: Closed): Promise<void> {
    const { firstDelayMs = RECONNECT_FIRST_DELAY_MS, maxDelayMs = RECONNECT_MAX_DELAY_MS, deadlineMs = RECONNECT_DEADLINE_MS } = options;
    this.#tell({ type: 'lost', closed });
    const deadline = deadlineMs === Infinity ? new AbortController().signal : AbortSignal.timeout(deadlineMs);
    const signal = AbortSignal.any([this.#stop.signal, deadline, ...(options.signal === undefined ? [] : [options.signal])]);
    let pause = firstDelayMs;
    for (let attempt = 1; this.#end === undefined; attempt++) {
      try {
        signal.throwIfAborted();
        const session = await this.#attempt(restorer, options, signal);
        // Ended while this was on its way here: nobody else would close it.
        if (signal.aborted) return session.close({ reason: 'disposed' });
        this.#rise(session);
        if (this.#up !== session) return;
        // In the order they were made; nothing that comes later can overtake them.
        for (const waiting of [...this.#waiting]) waiting.go(session);
        return this.#tell({ type: 'reconnected', attempts: attempt });
      } catch (error) {
        if (signal.aborted) return void this.#giveUp(deadline.aborted ? new ClientError('ERR_VFU_CLIENT_CLOSED', `no connection to the device within ${deadlineMs} ms`, { cause: error }) : undefined);
        if (isFinal(error)) return void this.#giveUp(error);
        const delayMs = pause;
        this.#tell({ type: 'retry', attempt, error, delayMs });
        pause = Math.min(2 * pause, maxDelayMs);
        // Aborted: the next turn sees it.
        await delay(delayMs, undefined, { signal, ref: this.ref }).catch(() => {});
      }
    }
  }

  /** Without an error it was the caller's wish. */
  #giveUp(error: ClientError | undefined): void {
    const closed: Closed = error === undefined ? { reason: 'disposed' } : { reason: 'reconnect-failed', error };
    this.#finish(closed, error ?? endOf(closed));
  }

  async #attempt(restorer: Restorer, options: ReconnectOptions, signal: AbortSignal): Promise<Session> {
    const session = await this.#dial({ signal });
    const files = new Map<number, OwnedFd>();
    const close = (): void => { session.close({ reason: 'disposed' }); };
    signal.addEventListener('abort', close, { once: true });
    try {
      checkRoom(session.server, this.server);
      await asOtherDevice(async () => {
        const identity = await restorer.identify(session, files);
        for (const part of ['info', 'regions', 'irqs'] as const) if (!isDeepStrictEqual(identity[part], this.#identity![part])) throw otherDevice(`its ${part} are not the same`);
      });
      if (options.resetDevice === true && (session.info.flags & VFIO_DEVICE_FLAGS_RESET) !== 0) await session.request(VFIO_USER_DEVICE_RESET, new Uint8Array(0), HEADER_ONLY);
      await asReplay(() => restorer.replay(session));
      if (session.closedAs !== undefined) throw lostBy(session.closedAs);
      signal.throwIfAborted();
    } catch (error) {
      for (const file of files.values()) file.close();
      close();
      throw error;
    } finally {
      signal.removeEventListener('abort', close);
    }
    restorer.adopt(files);
    return session;
  }

  /** Waits for the next connection. A time-out counts from now only where the caller has named one; else the deadline of the reconnect bounds the wait. */
  #later<T>({ signal, timeoutMs }: CallOptions, send: (session: Session) => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.checkOpen();
      if (this.#waiting.size >= MAX_PENDING_REQUESTS) throw new ClientError('ERR_VFU_CLIENT_BUSY', 'too many requests are waiting for the connection');
      const onAbort = (): void => { waiting.reject(new ClientError('ERR_VFU_CLIENT_ABORTED', 'the request was given up while the connection was down', { cause: signal?.reason })); };
      const onTimeout = (): void => { waiting.reject(new ClientError('ERR_VFU_CLIENT_TIMEOUT', `no connection within ${timeoutMs} ms`)); };
      const timer = timeoutMs === undefined ? undefined : setTimeout(onTimeout, timeoutMs);
      const done = (): void => {
        this.#waiting.delete(waiting);
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      const waiting: Waiting = {
        go: (session) => { done(); resolve(send(session)); },
        reject: (error) => { done(); reject(error as Error); },
      };
      this.#waiting.add(waiting);
      if (signal?.aborted === true) onAbort();
      else signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  #tell(event: ReconnectEvent): void {
    if (events.hasSubscribers) publish({ type: 'reconnect', event });
    try {
      this.#options.reconnect?.onEvent?.(event);
    } catch (error) {
      // Its author's to see, and no reason to stop connecting.
      queueMicrotask(() => { throw error; });
    }
  }
}

/** The stream may have been cut anywhere, inside a message too: killed servers do not finish sentences. */
function isLoss({ reason, truncated }: Closed): boolean {
  return reason === 'server-closed' || reason === 'io-error' || truncated === true;
}

/** Throws ERR_VFU_CLIENT_ARGUMENT for times that no timer holds: found out when the connection is lost, it would be too late. */
export function checkReconnect({ firstDelayMs = 0, maxDelayMs = 0, deadlineMs = 0 }: ReconnectOptions): void {
  for (const [name, ms] of Object.entries({ firstDelayMs, maxDelayMs, deadlineMs })) {
    if (!(ms >= 0 && (ms <= MAX_TIMEOUT_MS || (name === 'deadlineMs' && ms === Infinity)))) throw badArgument(`reconnect: ${name} of ${ms} ms`);
  }
}

function lostBy({ reason, error }: Closed): ClientError {
  return new ClientError('ERR_VFU_CLIENT_LOST', `the connection was lost (${reason}); whether the server has executed this is unknown`, { cause: error });
}

function otherDevice(why: string, cause?: unknown): ClientError {
  return new ClientError('ERR_VFU_CLIENT_OTHER_DEVICE', `another device answers: ${why}`, { cause });
}

/** Whatever else fails may succeed the next time. */
function isFinal(error: unknown): error is ClientError {
  return error instanceof ClientError && ['ERR_VFU_CLIENT_BAD_SERVER', 'ERR_VFU_CLIENT_OTHER_DEVICE', 'ERR_VFU_CLIENT_REPLAY', 'ERR_VFU_CLIENT_ARGUMENT'].includes(error.code);
}

/** What waits has been cut to the sizes of the last server. */
function checkRoom(now: EffectiveCapabilities, before: EffectiveCapabilities): void {
  for (const what of ['maxMsgFds', 'maxDataXferSize', 'maxDmaMaps'] as const) {
    if (now[what] < before[what]) throw otherDevice(`its ${what} is ${now[what]}, it was ${before[what]}`);
  }
  if (before.writeMultiple && !now.writeMultiple) throw otherDevice('it takes no REGION_WRITE_MULTI any more');
}

async function asOtherDevice(ask: () => Promise<void>): Promise<void> {
  try {
    await ask();
  } catch (error) {
    if (error instanceof ClientError && error.code === 'ERR_VFU_CLIENT_REFUSED') throw otherDevice(error.message, error);
    throw error;
  }
}

async function asReplay(replay: () => Promise<void>): Promise<void> {
  try {
    await replay();
  } catch (error) {
    if (!(error instanceof ClientError) || error.code !== 'ERR_VFU_CLIENT_REFUSED') throw error;
    throw new ClientError('ERR_VFU_CLIENT_REPLAY', `the device does not take back what it had: ${error.message}`, { errno: error.errno, cause: error });
  }
}
