import type { EngineSpec } from './engines/engine.ts';
import { EthdevError } from './errors.ts';
import type { Lcore, LcoreEvent } from './lcore.ts';
import type { Stream, StreamStats } from './stream.ts';
import type { LcorePool } from './lcore-pool.ts';
import type { Port } from './port.ts';

/** Two ports that forward to each other; `a === b` loops a port back to itself. */
export interface Pair {
  readonly a: Port;
  readonly b: Port;
}

/** An engine for every stream, or one chosen per stream (`icmpecho` wants the MAC of the port that answers). */
export type EngineChoice = EngineSpec | ((rx: Port, tx: Port) => EngineSpec);

/** How streams are made; `io`, which forwards frames as they are, is the default engine. */
export interface ForwardingOptions {
  readonly engine?: EngineChoice;
  /** Frames per burst. */
  readonly burst?: number;
  readonly arenaBytes?: number;
  /** Rx queues used per port; default: all a port has, because a guest chooses by itself which of its queues it sends on. */
  readonly rxQueues?: number;
}

export interface StreamReport extends StreamStats {
  readonly lcore: number;
  readonly rxPort: string;
  readonly rxQueue: number;
  readonly txPort: string;
  readonly txQueue: number;
  readonly engine: string;
  readonly state: Stream['state'];
  readonly error: EthdevError | undefined;
}

interface Connection {
  readonly pair: Pair;
  readonly streams: { readonly lcore: Lcore; readonly stream: Stream }[];
  readonly links: Disposable[];
}

/**
 * Reads `net0=tap0,net1` against the ports there are: `A=B` connects both ways, `A` alone (or `A=A`) loops A back to itself.
 * Throws ERR_ETHDEV_CONFIG for an unknown port and for a port that occurs twice.
 */
export function parsePairs(text: string, ports: ReadonlyMap<string, Port>): Pair[] {
  const seen = new Set<string>();
  const find = (name: string): Port => {
    const port = ports.get(name);
    if (port === undefined) throw new EthdevError('ERR_ETHDEV_CONFIG', `no port "${name}": there are ${[...ports.keys()].join(', ') || 'none'}`);
    if (seen.has(name)) throw new EthdevError('ERR_ETHDEV_CONFIG', `port "${name}" is in two pairs: a port forwards to one other`);
    seen.add(name);
    return port;
  };
  return text
    .split(',')
    .map((pair) => pair.trim())
    .filter((pair) => pair !== '')
    .map((pair) => {
      const [left = '', right = left, ...more] = pair.split('=').map((name) => name.trim());
      if (left === '' || right === '' || more.length > 0) throw new EthdevError('ERR_ETHDEV_CONFIG', `"${pair}": want A=B, or A to loop A back to itself`);
      const a = find(left);
      return { a, b: right === left ? a : find(right) };
    });
}

/**
 * Connects ports in pairs and spreads their queues over the lcores of a pool.
 *
 * Rule of ownership, for a direction from port A to port B: at most min(lcores, A's Rx queues, B's Tx queues) lcores take part.
 * The n-th of them polls the A queues q with q mod n-count = n and sends on B's Tx queue n only. So an Rx queue is polled by one
 * lcore, a Tx queue is filled by one lcore, and a port with a single Tx queue is always sent to from one lcore.
 */
export class Forwarding {
  readonly #pool: LcorePool;
  readonly #options: ForwardingOptions;
  readonly #connections = new Map<Port, Connection>();
  readonly #busy = new Set<Port>();
  /** Where the next direction begins, so that directions spread over the pool. */
  #nextLcore = 0;

  constructor(pool: LcorePool, options: ForwardingOptions = {}) {
    this.#pool = pool;
    this.#options = options;
  }

  /** The pairs connected now. */
  get pairs(): readonly Pair[] {
    return [...new Set(this.#connections.values())].map((connection) => connection.pair);
  }

  /** `connect` for each; what has been connected is disconnected again if one fails. */
  async start(pairs: readonly Pair[]): Promise<void> {
    try {
      for (const pair of pairs) await this.connect(pair);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Configures both ports (each learns what the other does for it), starts them, and polls them. Undone as a whole on failure. */
  async connect(pair: Pair): Promise<void> {
    const { a, b } = pair;
    for (const port of [a, b]) {
      if (this.#connections.has(port) || this.#busy.has(port)) throw new EthdevError('ERR_ETHDEV_STATE', `port "${port.name}" is in a pair already`);
    }
    this.#busy.add(a).add(b);
    const connection: Connection = { pair, streams: [], links: [] };
    try {
      const ports = a === b ? [a] : [a, b];
      for (const port of ports) {
        const peer = port === a ? b : a;
        await port.configure({
          rxQueues: this.#rxQueues(port),
          txQueues: this.#width(peer, port),
          peerTxCapabilities: peer.info.txCapabilities,
        });
      }
      // From here on `disconnect` knows how to undo it.
      for (const port of ports) this.#connections.set(port, connection);
      for (const port of ports) await port.start();
      await this.#addStreams(connection, a, b);
      if (a !== b) await this.#addStreams(connection, b, a);
      this.#followLinks(connection);
    } catch (error) {
      await this.#undo(connection).catch(() => {
        // The first error is the one that tells what went wrong.
      });
      throw error;
    } finally {
      this.#busy.delete(a);
      this.#busy.delete(b);
    }
  }

  /** Stops polling the two ports, then stops them. They stay configured and open; not connected: nothing happens. */
  async disconnect(pair: Pair): Promise<void> {
    const connection = this.#connections.get(pair.a);
    if (connection === undefined || connection.pair.b !== pair.b) return;
    await this.#undo(connection);
  }

  /** Disconnects everything. Ports and pool stay open: they are their owners' to close. */
  async stop(): Promise<void> {
    const results = await Promise.allSettled(this.pairs.map((pair) => this.disconnect(pair)));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  /** A failed stream, a dead lcore: what is left goes on. */
  onEvent(observer: (event: LcoreEvent) => void): Disposable {
    return this.#pool.onEvent(observer);
  }

  /** Every stream with its counters. */
  report(): StreamReport[] {
    return [...new Set(this.#connections.values())].flatMap((connection) =>
      connection.streams.map(({ stream }) => ({
        lcore: stream.lcore,
        rxPort: stream.spec.rxPort.name,
        rxQueue: stream.spec.rxQueue,
        txPort: stream.spec.txPort.name,
        txQueue: stream.spec.txQueue,
        engine: stream.spec.engine.name,
        state: stream.state,
        error: stream.error,
        ...stream.stats(),
      })),
    );
  }

  #rxQueues(port: Port): number {
    return Math.min(port.info.maxRxQueues, this.#options.rxQueues ?? port.info.maxRxQueues);
  }

  /** How many lcores (and Tx queues of `tx`) the direction from `rx` to `tx` uses. */
  #width(rx: Port, tx: Port): number {
    return Math.max(1, Math.min(this.#pool.lcores.length, this.#rxQueues(rx), tx.info.maxTxQueues));
  }

  async #addStreams(connection: Connection, rxPort: Port, txPort: Port): Promise<void> {
    const { engine = { name: 'io' }, burst, arenaBytes } = this.#options;
    const width = this.#width(rxPort, txPort);
    const first = this.#nextLcore;
    this.#nextLcore = (first + width) % this.#pool.lcores.length;
    for (let rxQueue = 0; rxQueue < this.#rxQueues(rxPort); rxQueue++) {
      const txQueue = rxQueue % width;
      const lcore = this.#pool.lcores[(first + txQueue) % this.#pool.lcores.length]!;
      const stream = await lcore.addStream({
        rxPort,
        rxQueue,
        txPort,
        txQueue,
        engine: typeof engine === 'function' ? engine(rxPort, txPort) : engine,
        ...(burst === undefined ? {} : { burst }),
        ...(arenaBytes === undefined ? {} : { arenaBytes }),
      });
      connection.streams.push({ lcore, stream });
    }
  }

  /** Each port learns of the other's link, now and on every change. */
  #followLinks(connection: Connection): void {
    const { a, b } = connection.pair;
    const follow = (from: Port, to: Port): void => {
      if (to.setPeerLink === undefined) return;
      connection.links.push(
        from.onLink((link) => {
          to.setPeerLink?.(link);
        }),
      );
      to.setPeerLink(from.link());
    };
    follow(a, b);
    if (a !== b) follow(b, a);
  }

  async #undo(connection: Connection): Promise<void> {
    const { a, b } = connection.pair;
    for (const link of connection.links.splice(0)) link[Symbol.dispose]();
    // A guest sees its carrier go before its frames do.
    for (const port of new Set([a, b])) port.setPeerLink?.({ up: false, speedMbps: 0 });
    for (const { lcore, stream } of connection.streams) await lcore.removeStream(stream);
    for (const port of new Set([a, b])) {
      this.#connections.delete(port);
      await port.stop();
    }
  }
}
