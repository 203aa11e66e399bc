/** One client and its connection to the server: the main channel, and the twin socket's once the server has handed one out. */
import { AdaptiveSpin, type Sys } from '@emudev/linux';
import { decodeHeader, decodeVersion, HEADER_BYTES, isReply, VFIO_USER_VERSION } from '@emudev/vfio-user-protocol';
import { Channel } from './channel.ts';
import type { DescriptorInfo, Descriptors } from './descriptors.ts';
import type { Forwarded, ForwarderEvents } from './forwarder.ts';
import { MAX_DESCRIBED_FDS, MESSAGES_PER_TURN, STALLED_MESSAGE_MS } from '../limits.ts';
import type { ChannelName, Side, TraceObserver } from './observed.ts';

export interface SessionOptions {
  readonly sys: Sys;
  readonly id: number;
  readonly descriptors: Descriptors;
  readonly observer: TraceObserver;
  /** Longest time to look for the next message before the thread sleeps, microseconds; 0: it sleeps at once. */
  readonly spinUs: number;
  readonly onEnd: (why: string) => void;
}

const NO_DESCRIPTORS: readonly DescriptorInfo[] = [];

export class Session {
  readonly #options: SessionOptions;
  readonly #main: Channel;
  readonly #spin: AdaptiveSpin | undefined;
  #twin: Channel | undefined;
  #stall: NodeJS.Timeout | undefined;
  /** Counts what moved, so that a message that comes slowly is not taken for one that has stopped. */
  #moves = 0;
  #ended = false;

  /** Owns both sockets from now on. */
  constructor(client: number, server: number, options: SessionOptions) {
    this.#options = options;
    if (options.spinUs > 0) this.#spin = new AdaptiveSpin({ look: () => this.#round(), awaiting: false }, { maxUs: options.spinUs });
    this.#main = this.#channel('main', client, server);
    setImmediate(() => { this.#turn(); });
  }

  close(why: string): void {
    this.#main.close(why);
    this.#round();
  }

  #channel(name: ChannelName, client: number, server: number): Channel {
    return new Channel(this.#options.sys, client, server, {
      up: this.#events(name, 'client'),
      down: this.#events(name, 'server'),
      ready: () => { this.#turn(); },
    });
  }

  #turn(): void {
    let moved = 0;
    while (moved < MESSAGES_PER_TURN && this.#round()) moved++;
    if (this.#ended) return;
    this.#sleep();
    if (moved > 0) this.#spin?.arrived();
    if (moved < MESSAGES_PER_TURN) this.#spin?.dry();
    // There is more to move, after everybody else had a turn.
    else setImmediate(() => { this.#turn(); });
  }

  /** One message per direction and channel; false: there is nothing to move now. */
  #round(): boolean {
    if (this.#ended) return false;
    let moved = this.#main.pump();
    if (this.#twin?.pump() === true) moved = true;
    if (this.#main.over !== undefined) {
      this.#end(this.#main.over);
      return false;
    }
    if (moved) {
      this.#moves++;
    } else {
      this.#sleep();
    }
    return moved;
  }

  #sleep(): void {
    this.#main.sleep();
    this.#twin?.sleep();
    if (this.#stall === undefined && (this.#main.holding || this.#twin?.holding === true)) this.#awaitRest();
  }

  #awaitRest(): void {
    const moves = this.#moves;
    this.#stall = setTimeout(() => {
      this.#stall = undefined;
      if (this.#ended) return;
      if (moves === this.#moves) {
        this.#main.unhold();
        this.#twin?.unhold();
      }
      this.#turn();
    }, STALLED_MESSAGE_MS).unref();
  }

  #end(why: string): void {
    this.#ended = true;
    clearTimeout(this.#stall);
    this.#spin?.[Symbol.dispose]();
    // Both sockets of a session close together.
    this.#twin?.close(why);
    this.#options.onEnd(why);
  }

  #events(channel: ChannelName, from: Side): ForwarderEvents {
    const { id, observer, descriptors } = this.#options;
    let fds: DescriptorInfo[] = [];
    return {
      descriptors: (passed) => {
        const room = MAX_DESCRIBED_FDS - fds.length;
        for (const fd of passed.slice(0, room)) fds.push(descriptors.describe(fd));
        if (room > 0 && passed.length > room) observer.anomaly(id, channel, from, `more than ${MAX_DESCRIBED_FDS} descriptors with one message: the rest is passed on, but not shown`, performance.now());
      },
      exchange: (message, passed) => (channel === 'main' && from === 'server' ? this.#interceptTwin(message, passed) : passed),
      forwarded: ({ bytes, size, framing, atMs }: Forwarded) => {
        const came = fds.length === 0 ? NO_DESCRIPTORS : fds;
        fds = [];
        observer.message({ atMs, session: id, channel, from, bytes: bytes.slice(), size, framing, fds: came });
      },
      anomaly: (what) => { observer.anomaly(id, channel, from, what, performance.now()); },
    };
  }

  /** A twin socket would carry the server's commands past us: the client gets the end of a pair of ours instead. */
  #interceptTwin(message: Uint8Array, fds: readonly number[]): readonly number[] {
    const { sys, id, observer } = this.#options;
    const index = twinIndex(message);
    const server = index === undefined ? undefined : fds[index];
    if (server === undefined || this.#twin !== undefined) return fds;
    let pair;
    try {
      if (!isSocket(sys, server)) return fds;
      pair = sys.unixSocketPair();
    } catch (error) {
      observer.anomaly(id, 'main', 'server', `the twin socket is not traced: ${error instanceof Error ? error.message : String(error)}`, performance.now());
      return fds;
    }
    this.#twin = this.#channel('twin', pair[0], server);
    return fds.with(index!, pair[1]);
  }
}

const S_IFMT = 0o170000;
const S_IFSOCK = 0o140000;

function isSocket(sys: Sys, fd: number): boolean {
  return (sys.fstat(fd).mode & S_IFMT) === S_IFSOCK;
}

/** Which of a VERSION reply's descriptors is the twin socket. */
function twinIndex(message: Uint8Array): number | undefined {
  try {
    const header = decodeHeader(message);
    if (header.command !== VFIO_USER_VERSION || !isReply(header.flags)) return undefined;
    const twin = decodeVersion(message.subarray(HEADER_BYTES)).capabilities?.twinSocket;
    return twin?.supported === true ? twin.fdIndex : undefined;
  } catch {
    // Not for us to judge: it is passed on as it is.
    return undefined;
  }
}
