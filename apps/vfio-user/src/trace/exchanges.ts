/**
 * Requests and their replies, put together.
 *
 * | a message comes              | then                                                                     |
 * | ---------------------------- | ------------------------------------------------------------------------ |
 * | command                      | remembered by session, channel, sender and id (several may share an id)   |
 * | command, posted              | done: nobody answers it                                                  |
 * | reply, a request is open     | the oldest request with its id and command is done                       |
 * | reply, none is open          | done, unexpected                                                         |
 * | anything else                | done by itself                                                           |
 * | nothing, for a second        | the request is shown as unfinished; its reply, when it comes, is late     |
 * | nothing, and the session ends| the request is done, without a reply                                     |
 */
import { decodeHeader, HEADER_BYTES, isCommand, isPosted, isReply, replyErrno, type Header } from '@emudev/vfio-user-protocol';
import { MAX_OPEN_REQUEST_BYTES, MAX_OPEN_REQUESTS, UNFINISHED_MS } from '../limits.ts';
import type { ObservedMessage, Side } from './observed.ts';
import type { SessionFacts } from './session-facts.ts';

export interface Half {
  readonly message: ObservedMessage;
  readonly header: Header;
  /** As much of it as was kept. */
  readonly payload: Uint8Array;
}

export interface Exchange {
  readonly session: number;
  readonly facts: SessionFacts;
  readonly channel: ObservedMessage['channel'];
  /** Who sent the command. */
  readonly from: Side;
  readonly request?: Half;
  readonly reply?: Half;
  /** No message at all: bytes of a stream that is out of step. */
  readonly raw?: ObservedMessage;
  readonly posted: boolean;
  /** It was shown as unfinished before. */
  readonly late: boolean;
}

/** Of the half that is there. */
export function headerOf(exchange: Exchange): Header | undefined {
  return (exchange.request ?? exchange.reply)?.header;
}

/** 0 where it succeeded, or is not known to have failed. */
export function errnoOf(exchange: Exchange): number {
  return exchange.reply === undefined ? 0 : replyErrno(exchange.reply.header);
}

export function latencyMs(exchange: Exchange): number | undefined {
  const { request, reply } = exchange;
  return request === undefined || reply === undefined ? undefined : reply.message.atMs - request.message.atMs;
}

export interface ExchangeListener {
  done(exchange: Exchange): void;
  /** Its reply is not there yet. */
  unfinished(exchange: Exchange): void;
}

interface Open {
  readonly half: Half;
  shown: boolean;
}

/** The requests of one session that have no reply yet. */
export class Exchanges {
  readonly #session: number;
  readonly #facts: SessionFacts;
  readonly #listener: ExchangeListener;
  /** In order of their coming: all of them, and those with the same key. */
  readonly #inOrder = new Set<Open>();
  readonly #open = new Map<string, Open[]>();
  #bytes = 0;

  constructor(session: number, facts: SessionFacts, listener: ExchangeListener) {
    this.#session = session;
    this.#facts = facts;
    this.#listener = listener;
  }

  add(message: ObservedMessage): void {
    if (message.framing === 'raw' || message.bytes.length < HEADER_BYTES) {
      this.#listener.done({ ...this.#base(message.channel, message.from), raw: message, posted: false, late: false });
      return;
    }
    const half: Half = { message, header: decodeHeader(message.bytes), payload: message.bytes.subarray(HEADER_BYTES) };
    if (isReply(half.header.flags)) {
      this.#reply(half);
      return;
    }
    this.#facts.request(half);
    if (!isCommand(half.header.flags) || isPosted(half.header.flags)) {
      this.#listener.done({ ...this.#base(message.channel, message.from), request: half, posted: isPosted(half.header.flags), late: false });
      return;
    }
    const open: Open = { half, shown: false };
    const key = keyOf(open);
    const queue = this.#open.get(key);
    if (queue === undefined) this.#open.set(key, [open]);
    else queue.push(open);
    this.#inOrder.add(open);
    this.#bytes += message.bytes.length;
    while (this.#inOrder.size > MAX_OPEN_REQUESTS || this.#bytes > MAX_OPEN_REQUEST_BYTES) this.#giveUpOldest();
  }

  /** Shows what has waited long for its reply. */
  tick(nowMs: number): void {
    for (const open of this.#inOrder) {
      if (open.shown || nowMs - open.half.message.atMs < UNFINISHED_MS) continue;
      open.shown = true;
      this.#listener.unfinished(this.#exchange(open));
    }
  }

  /** The session has ended: nothing of this is answered any more. */
  end(): void {
    for (const open of this.#inOrder) this.#listener.done(this.#exchange(open));
    this.#open.clear();
    this.#inOrder.clear();
    this.#bytes = 0;
  }

  #reply(half: Half): void {
    const { channel, from } = half.message;
    const sender = from === 'client' ? 'server' : 'client';
    const open = this.#open.get(keyText(channel, sender, half.header.id))?.find((one) => one.half.header.command === half.header.command);
    if (open === undefined) {
      this.#listener.done({ ...this.#base(channel, sender), reply: half, posted: false, late: false });
      return;
    }
    this.#forget(open);
    this.#facts.reply(open.half, half);
    this.#listener.done({ ...this.#exchange(open), reply: half });
  }

  #giveUpOldest(): void {
    const [oldest] = this.#inOrder;
    this.#forget(oldest!);
    this.#listener.done(this.#exchange(oldest!));
  }

  #forget(open: Open): void {
    const key = keyOf(open);
    const queue = this.#open.get(key)!;
    queue.splice(queue.indexOf(open), 1);
    if (queue.length === 0) this.#open.delete(key);
    this.#inOrder.delete(open);
    this.#bytes -= open.half.message.bytes.length;
  }

  #exchange({ half, shown }: Open): Exchange {
    return { ...this.#base(half.message.channel, half.message.from), request: half, posted: false, late: shown };
  }

  #base(channel: ObservedMessage['channel'], from: Side): Pick<Exchange, 'session' | 'facts' | 'channel' | 'from'> {
    return { session: this.#session, facts: this.#facts, channel, from };
  }
}

function keyOf({ half: { header, message } }: Open): string {
  return keyText(message.channel, message.from, header.id);
}

function keyText(channel: string, sender: Side, id: number): string {
  return `${channel} ${sender} ${id}`;
}
