/**
 * One socket of a client and one of a server, joined: two forwarders, and what an end on one side means for the other.
 *
 * | what happens                              | then                                                                    |
 * | ----------------------------------------- | ----------------------------------------------------------------------- |
 * | a side shuts down writing, but still reads| the same is done to the other side; the other direction goes on          |
 * | a side is gone (closed, killed)           | what it had sent is delivered, then the channel is over: both are closed |
 * | a side takes no more bytes                | nothing is sent to it; what it still has to say is delivered             |
 * | descriptors are lost (EMFILE)             | over at once: passing on less would be a lie                             |
 */
import type { Sys } from '@emudev/linux';
import { Forwarder, type ForwarderEvents } from './forwarder.ts';
import { HALF_CLOSED_PROBE_MS } from '../limits.ts';
import type { Side } from './observed.ts';

export interface ChannelEvents {
  readonly up: ForwarderEvents;
  readonly down: ForwarderEvents;
  /** Something may be moved. */
  ready(): void;
}

const NOTHING = new Uint8Array(new ArrayBuffer(1)).subarray(0, 0);

interface End {
  readonly fd: number;
  watching: number;
  watch: Disposable | undefined;
}

export class Channel {
  readonly #sys: Sys;
  readonly #client: End;
  readonly #server: End;
  readonly #up: Forwarder;
  readonly #down: Forwarder;
  readonly #ready: () => void;
  #probe: NodeJS.Timeout | undefined;
  #passedOn = { client: false, server: false };
  #over: string | undefined;

  /** Owns both descriptors from now on. */
  constructor(sys: Sys, client: number, server: number, events: ChannelEvents) {
    this.#sys = sys;
    this.#client = { fd: client, watching: 0, watch: undefined };
    this.#server = { fd: server, watching: 0, watch: undefined };
    this.#up = new Forwarder(sys, client, server, events.up);
    this.#down = new Forwarder(sys, server, client, events.down);
    this.#ready = () => { events.ready(); };
    this.#interest();
  }

  /** Why it has ended; undefined while it has not. */
  get over(): string | undefined {
    return this.#over;
  }

  get holding(): boolean {
    return this.#up.holding || this.#down.holding;
  }

  /** Moves at most one message in each direction; false: nothing could be moved. */
  pump(): boolean {
    if (this.#over !== undefined) return false;
    let moved = false;
    try {
      if (this.#up.pump()) moved = true;
      if (this.#down.pump()) moved = true;
    } catch (error) {
      this.close(error instanceof Error ? error.message : String(error));
      return false;
    }
    if (this.#up.state !== 'open' || this.#down.state !== 'open') this.#settle();
    return moved;
  }

  /** The thread goes to sleep: what it is to be woken up for. */
  sleep(): void {
    if (this.#over === undefined) this.#interest();
  }

  /** Sends what is held back of messages that do not go on. */
  unhold(): void {
    this.#up.unhold();
    this.#down.unhold();
  }

  close(why: string): void {
    if (this.#over !== undefined) return;
    this.#over = why;
    clearInterval(this.#probe);
    this.#up.dispose();
    this.#down.dispose();
    for (const end of [this.#client, this.#server]) {
      end.watch?.[Symbol.dispose]();
      end.watch = undefined;
      this.#sys.close(end.fd);
    }
  }

  #settle(): void {
    if (this.#up.state === 'ended' && !this.#passedOn.client) this.#passOn('client', this.#client.fd, this.#server.fd);
    if (this.#down.state === 'ended' && !this.#passedOn.server) this.#passOn('server', this.#server.fd, this.#client.fd);
    if (this.#over !== undefined) return;
    if (this.#up.state !== 'open' && this.#down.state !== 'open') {
      this.close(`the ${this.#up.state === 'ended' ? 'client' : 'server'} hung up`);
      return;
    }
    // Nothing announces the death of somebody who is not read from any more.
    this.#probe ??= setInterval(() => {
      if (this.#up.state !== 'open' && this.#isGone(this.#client.fd)) this.close('the client hung up');
      else if (this.#down.state !== 'open' && this.#isGone(this.#server.fd)) this.close('the server hung up');
      this.#ready();
    }, HALF_CLOSED_PROBE_MS).unref();
  }

  /** The end of what one side sends. */
  #passOn(side: Side, from: number, to: number): void {
    this.#passedOn[side] = true;
    if (this.#isGone(from)) {
      this.close(`the ${side} hung up`);
      return;
    }
    try {
      this.#sys.shutdownWrite(to);
    } catch {
      // It is gone as well: its own direction says so.
    }
  }

  /** Sending no byte costs a live peer nothing and tells a closed one (EPIPE) from one that has only stopped sending. */
  #isGone(fd: number): boolean {
    try {
      this.#sys.sendmsg(fd, NOTHING, []);
      return false;
    } catch {
      return true;
    }
  }

  #interest(): void {
    try {
      this.#watch(this.#client, this.#up.reading, this.#down.blocked);
      this.#watch(this.#server, this.#down.reading, this.#up.blocked);
    } catch (error) {
      this.close(error instanceof Error ? error.message : String(error));
    }
  }

  #watch(end: End, readable: boolean, writable: boolean): void {
    const wanted = (readable ? 1 : 0) | (writable ? 2 : 0);
    if (wanted === end.watching) return;
    end.watch?.[Symbol.dispose]();
    end.watch = undefined;
    end.watching = wanted;
    if (wanted !== 0) end.watch = this.#sys.watch(end.fd, { readable, writable }, this.#ready);
  }
}
