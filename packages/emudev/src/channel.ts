import type { Channel } from './device.ts';
import { EmudevError } from './errors.ts';
import { DEFAULT_CHANNEL_LIMIT } from './limits.ts';

/** What a provider decides about a channel. */
export interface ChannelOptions<ToProvider> {
  /** What the back end sends, at once and in order. What it throws is thrown to the back end. */
  onSend(message: ToProvider): void;
  /** A handler of the back end threw; the next message is delivered all the same. */
  onHandlerError(error: unknown): void;
  /** Messages held while the handler is busy or absent. */
  limit?: number;
}

/** The provider's end of a channel. */
export interface ProviderChannel<ToProvider, ToBackEnd> {
  readonly channel: Channel<ToProvider, ToBackEnd>;
  /** Messages waiting, the one in the handler's hands included. */
  readonly pending: number;
  /**
   * Hands a message to the back end, after all earlier ones. Returns undefined when it is dealt with already, else a promise
   * that resolves (never rejects) when it is, or when `clear` has dropped it. Without a handler it waits for one.
   * Throws EMUDEV_RANGE when `limit` messages wait already.
   */
  deliver(message: ToBackEnd): Promise<void> | undefined;
  /** Forgets what waits; the message in the handler's hands stays there. Returns how many were dropped. */
  clear(): number;
  /** Resolves when no handler is running. */
  settled(): Promise<void>;
}

interface Waiting<M> {
  readonly message: M;
  readonly done: () => void;
}

/** A channel as a provider makes one: serial delivery to the back end, synchronous where the back end is. */
export function createChannel<ToProvider, ToBackEnd>(options: ChannelOptions<ToProvider>): ProviderChannel<ToProvider, ToBackEnd> {
  const limit = options.limit ?? DEFAULT_CHANNEL_LIMIT;
  const waiting: Waiting<ToBackEnd>[] = [];
  let handler: ((message: ToBackEnd) => void | Promise<void>) | undefined;
  let running: Promise<void> | undefined;

  /** Runs the handler; undefined when it finished synchronously. */
  function handle(take: (message: ToBackEnd) => void | Promise<void>, message: ToBackEnd): Promise<void> | undefined {
    try {
      const result = take(message);
      return result === undefined ? undefined : result.then(undefined, (error: unknown) => { options.onHandlerError(error); });
    } catch (error) {
      options.onHandlerError(error);
      return undefined;
    }
  }

  /** Delivers until the handler is busy, absent, or nothing waits. `busy` also covers a synchronous handler's own time. */
  let busy = false;
  function pump(): void {
    while (!busy && handler !== undefined) {
      const next = waiting.shift();
      if (next === undefined) return;
      busy = true;
      const result = handle(handler, next.message);
      if (result === undefined) {
        busy = false;
        next.done();
        continue;
      }
      running = result.then(() => {
        busy = false;
        running = undefined;
        next.done();
        pump();
      });
    }
  }

  return {
    channel: {
      send: (message) => { options.onSend(message); },
      onMessage(newHandler) {
        handler = newHandler;
        pump();
        return {
          [Symbol.dispose]: () => {
            if (handler === newHandler) handler = undefined;
          },
        };
      },
    },
    get pending() {
      return waiting.length + (busy ? 1 : 0);
    },
    deliver(message) {
      if (waiting.length >= limit) {
        throw new EmudevError('EMUDEV_RANGE', `the back end is ${waiting.length} messages behind, which is the limit`);
      }
      let dealtWith = false;
      const { promise, resolve } = Promise.withResolvers<undefined>();
      waiting.push({ message, done: () => { dealtWith = true; resolve(undefined); } });
      pump();
      return dealtWith ? undefined : promise;
    },
    clear() {
      const dropped = waiting.splice(0);
      for (const { done } of dropped) done();
      return dropped.length;
    },
    async settled() {
      // Asked from within a handler: let it come to its first await, so that `running` knows of it.
      await undefined;
      await running;
    },
  };
}
