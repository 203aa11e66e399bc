/** What the two roles of a control channel have in common: its time limit, its end, and what they tell their port. */
import type { OwnedFd, Sys } from '@emudev/linux';
import type { Window } from '@emudev/dma';
import type { Attachment } from './attachment.ts';
import { ControlChannel, type ChannelOwner } from './channel.ts';
import { MemifError } from './errors.ts';
import { HANDSHAKE_TIMEOUT_MS } from './limits.ts';
import type { MemifMessage } from './messages.ts';

/** What a session uses and tells: the port's side of it. */
export interface Interface {
  readonly name: string;
  readonly id: number;
  /** `SECRET_BYTES`; all zero where there is none. */
  readonly secret: Uint8Array;
  readonly dmaWindow: Window;
  readonly rxQueues: number;
  readonly txQueues: number;
  /** The rings are ready: throws ERR_MEMIF_PROTOCOL for one that is none. Lcores leave them alone until `up`. */
  prepare(attachment: Attachment): void;
  /** Lcores may use them. */
  up(session: Session, attachment: Attachment): void;
  /** Nobody uses the rings when this has resolved. */
  down(): Promise<void>;
  /** The session is over and everything of it given back. `error`: why; undefined if the peer just went. */
  over(session: Session, error: MemifError | undefined): void;
}

export abstract class Session implements ChannelOwner {
  protected readonly channel: ControlChannel;
  readonly #timer: NodeJS.Timeout;
  #ended: Promise<void> | undefined;

  constructor(sys: Sys, socket: number) {
    this.channel = new ControlChannel(sys, socket, this);
    this.#timer = setTimeout(() => {
      void this.end(new MemifError('ERR_MEMIF_TIMEOUT', `not connected after ${HANDSHAKE_TIMEOUT_MS} ms`));
    }, HANDSHAKE_TIMEOUT_MS);
    this.#timer.unref();
  }

  /** The peer has closed its end. */
  get hungUp(): boolean {
    return this.channel.hungUp;
  }

  protected get isOver(): boolean {
    return this.#ended !== undefined;
  }

  abstract receive(message: MemifMessage, fd: OwnedFd | undefined): void | Promise<void>;
  /** Gives back what the session owns besides its channel. */
  protected abstract release(error: MemifError | undefined): Promise<void>;

  /** CONNECTED: silence is fine from now on. */
  protected connected(): void {
    clearTimeout(this.#timer);
  }

  ended(error: MemifError | undefined): void {
    void this.end(error);
  }

  /** Tells the peer why, closes, and resolves when everything is given back. Later calls wait for the same end. */
  end(error: MemifError | undefined, tell = true): Promise<void> {
    this.#ended ??= this.#end(error, tell);
    return this.#ended;
  }

  async #end(error: MemifError | undefined, tell: boolean): Promise<void> {
    clearTimeout(this.#timer);
    if (error !== undefined && tell) this.channel.sendDisconnect(error);
    this.channel[Symbol.dispose]();
    await this.release(error);
  }
}

/** What a peer says in DISCONNECT. */
export function disconnectedBy(message: { readonly code: number; readonly reason: string }): MemifError {
  return new MemifError('ERR_MEMIF_PROTOCOL', `disconnected by the peer: ${message.reason === '' ? 'no reason given' : message.reason} (code ${message.code})`);
}

export function unexpected(message: MemifMessage): MemifError {
  return new MemifError('ERR_MEMIF_PROTOCOL', `unexpected message ${message.type}`);
}

/** Refuses a descriptor where there is to be none. */
export function withoutFd(fd: OwnedFd | undefined, message: MemifMessage): void {
  if (fd !== undefined) throw new MemifError('ERR_MEMIF_PROTOCOL', `descriptor with ${message.type}`);
}
