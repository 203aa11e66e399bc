import { keepsPayload, type EngineSpec } from './engines/engine.ts';
import { EthdevError } from './errors.ts';
import type { Lcore, LcoreEvent } from './lcore.ts';
import type { Stream, StreamStats } from './stream.ts';
import type { LcorePool } from './lcore-pool.ts';
import type { Port } from './port.ts';
import { portsOf, type Pair, type Route } from './routes.ts';
import type { SwitchAddress, SwitchOptions, SwitchPortStats } from './switch.ts';
import { SwitchWiring } from './switch-wiring.ts';

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
  /** How switches learn and forget. Their frames pass as they are, whatever `engine` says. */
  readonly switch?: SwitchOptions;
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

/** A switch that is connected. */
export interface SwitchReport {
  readonly ports: readonly SwitchPortStats[];
  readonly addresses: readonly SwitchAddress[];
}

interface Connection {
  readonly route: Route;
  readonly streams: { readonly lcore: Lcore; readonly stream: Stream }[];
  readonly links: Disposable[];
  /** What is of use only while it is connected. */
  readonly resources: AsyncDisposableStack;
  wiring?: SwitchWiring;
}

/**
 * Connects ports, in pairs or on a switch, and spreads their queues over the lcores of a pool.
 *
 * Rule of ownership, for a direction from port A to port B: at most min(lcores, A's Rx queues, B's Tx queues) lcores take part.
 * The n-th of them polls the A queues q with q mod n-count = n and sends on B's Tx queue n only. So an Rx queue is polled by one
 * lcore, a Tx queue is filled by one lcore, and a port with a single Tx queue is always sent to from one lcore. On a switch the same
 * holds by other means (switch-wiring.ts).
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

  /** What is connected now. */
  get routes(): readonly Route[] {
    return [...new Set(this.#connections.values())].map((connection) => connection.route);
  }

  /** `connect` for each; what has been connected is disconnected again if one fails. */
  async start(routes: readonly Route[]): Promise<void> {
    try {
      for (const route of routes) await this.connect(route);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Configures the ports (each learns what the others do for it), starts them, and polls them. Undone as a whole on failure. */
  async connect(route: Route): Promise<void> {
    const ports = portsOf(route);
    for (const port of ports) {
      if (this.#connections.has(port) || this.#busy.has(port)) throw new EthdevError('ERR_ETHDEV_STATE', `port "${port.name}" is connected already`);
    }
    for (const port of ports) this.#busy.add(port);
    const connection: Connection = { route, streams: [], links: [], resources: new AsyncDisposableStack() };
    try {
      if ('switched' in route) await this.#connectSwitch(connection, route.switched);
      else await this.#connectPair(connection, route);
    } catch (error) {
      await this.#undo(connection).catch(() => {
        // The first error is the one that tells what went wrong.
      });
      throw error;
    } finally {
      for (const port of ports) this.#busy.delete(port);
    }
  }

  async #connectPair(connection: Connection, pair: Pair): Promise<void> {
    const { a, b } = pair;
    const ports = portsOf(pair);
    for (const port of ports) {
      const peer = port === a ? b : a;
      await port.configure({
        rxQueues: this.#rxQueues(port),
        txQueues: this.#width(peer, port),
        peerTxCapabilities: peer.info.txCapabilities,
        peerTakesLoans: peer.info.takesLoans === true && keepsPayload(this.#engine(port, peer)),
      });
    }
    // From here on `disconnect` knows how to undo it.
    for (const port of ports) this.#connections.set(port, connection);
    for (const port of ports) await port.start();
    await this.#addStreams(connection, a, b);
    if (a !== b) await this.#addStreams(connection, b, a);
    this.#followLinks(connection, pair);
  }

  async #connectSwitch(connection: Connection, ports: readonly Port[]): Promise<void> {
    const { lcores } = this.#pool;
    const first = this.#nextLcore;
    this.#nextLcore = (first + ports.length) % lcores.length;
    for (const port of ports) this.#connections.set(port, connection);
    const wiring = await SwitchWiring.connect(ports, [...lcores.slice(first), ...lcores.slice(0, first)], { ...this.#options, rxQueues: (port) => this.#rxQueues(port) }, connection.resources);
    connection.wiring = wiring;
    for (const { lcore, spec } of wiring.streams) connection.streams.push({ lcore, stream: await lcore.addStream(spec) });
    connection.links.push(...wiring.followLinks());
  }

  /** Stops polling the ports of a route, then stops them. They stay configured and open; not connected: nothing happens. */
  async disconnect(route: Route): Promise<void> {
    const [first] = portsOf(route);
    const connection = first === undefined ? undefined : this.#connections.get(first);
    if (connection === undefined || !isSame(connection.route, route)) return;
    await this.#undo(connection);
  }

  /** Disconnects everything. Ports and pool stay open: they are their owners' to close. */
  async stop(): Promise<void> {
    const results = await Promise.allSettled(this.routes.map((route) => this.disconnect(route)));
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

  /** Every switch with its counters and what it knows. */
  switches(): SwitchReport[] {
    return [...new Set(this.#connections.values())].flatMap(({ wiring }) => (wiring === undefined ? [] : [{ ports: wiring.learning.stats(), addresses: wiring.learning.addresses() }]));
  }

  #engine(rx: Port, tx: Port): EngineSpec {
    const { engine = { name: 'io' } } = this.#options;
    return typeof engine === 'function' ? engine(rx, tx) : engine;
  }

  #rxQueues(port: Port): number {
    return Math.min(port.info.maxRxQueues, this.#options.rxQueues ?? port.info.maxRxQueues);
  }

  /** How many lcores (and Tx queues of `tx`) the direction from `rx` to `tx` uses. */
  #width(rx: Port, tx: Port): number {
    return Math.max(1, Math.min(this.#pool.lcores.length, this.#rxQueues(rx), tx.info.maxTxQueues));
  }

  async #addStreams(connection: Connection, rxPort: Port, txPort: Port): Promise<void> {
    const { burst, arenaBytes } = this.#options;
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
        engine: this.#engine(rxPort, txPort),
        ...(burst === undefined ? {} : { burst }),
        ...(arenaBytes === undefined ? {} : { arenaBytes }),
      });
      connection.streams.push({ lcore, stream });
    }
  }

  /** Each port learns of the other's link, now and on every change. */
  #followLinks(connection: Connection, { a, b }: Pair): void {
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
    const ports = portsOf(connection.route);
    for (const link of connection.links.splice(0)) link[Symbol.dispose]();
    // A guest sees its carrier go before its frames do.
    for (const port of ports) port.setPeerLink?.({ up: false, speedMbps: 0 });
    for (const { lcore, stream } of connection.streams) await lcore.removeStream(stream);
    delete connection.wiring;
    for (const port of ports) this.#connections.delete(port);
    // One that cannot be stopped keeps nothing else from its end.
    const stopped = await Promise.allSettled(ports.map((port) => port.stop()));
    await connection.resources.disposeAsync();
    const failed = stopped.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }
}

const isSame = (left: Route, right: Route): boolean => {
  const [theirs, ours] = [portsOf(left), portsOf(right)];
  return 'switched' in left === 'switched' in right && theirs.length === ours.length && theirs.every((port, p) => port === ours[p]);
};
