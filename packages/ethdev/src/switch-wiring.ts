/**
 * Puts ports on a switch and the switch on lcores.
 *
 * A port is at home on one lcore: its Rx queues are polled there. All lcores that are home to a port send to all ports: on a Tx queue
 * of their own where the port has enough of them. A port that has not is sent to at home only; the others hand it their frames through
 * a ring each, a copy more, and whatever a frame's record says to do to it has to be done before. With one lcore there is none of this.
 */
import { Window } from '@emudev/dma';
import { EthdevError } from './errors.ts';
import { allocateFrameRing, type FrameRingCells } from './frame-ring.ts';
import type { RelayInit } from './datapath-relay.ts';
import type { Lcore } from './lcore.ts';
import { DEFAULT_BURST } from './burst.ts';
import { RELAY_RING_BYTES } from './limits.ts';
import type { DatapathSpec, Port } from './port.ts';
import { SoftwarePort } from './software-port.ts';
import type { StreamSpec } from './stream.ts';
import { LearningSwitch, type SwitchOptions } from './switch.ts';

/** What a switch's ports are shown as carrier: the switch is always there. */
const SWITCH_SPEED_MBPS = 100_000;

/** Frames for a port from one other lcore. */
class RelayPort extends SoftwarePort {
  readonly #ring: FrameRingCells;

  constructor(name: string) {
    super({ name, driver: 'relay', maxRxQueues: 1, maxTxQueues: 1, txCapabilities: 0, maxFrameBytes: RELAY_RING_BYTES / 4 }, 0);
    try {
      this.#ring = allocateFrameRing(this.window, RELAY_RING_BYTES);
      this.own(this.#ring.offset);
    } catch (error) {
      this.release();
      throw error;
    }
  }

  datapath(): DatapathSpec {
    const init: RelayInit = { ring: this.#ring };
    return { module: new URL('./datapath-relay.js', import.meta.url).href, init };
  }
}

/** Which lcore polls a stream. */
export interface PlacedStream {
  readonly lcore: Lcore;
  readonly spec: StreamSpec;
}

export interface WiringOptions {
  readonly burst?: number;
  readonly arenaBytes?: number;
  readonly rxQueues: (port: Port) => number;
  readonly switch?: SwitchOptions;
}

/** A switch, its ports configured and started, and the streams that lcores have to poll for it. */
export class SwitchWiring {
  readonly learning: LearningSwitch;
  readonly streams: readonly PlacedStream[];

  private constructor(learning: LearningSwitch, streams: readonly PlacedStream[]) {
    this.learning = learning;
    this.streams = streams;
  }

  /** Port n is at home on `lcores[n % lcores.length]`. What it makes goes onto `undo`, to be disposed of once no lcore polls its streams. */
  static async connect(ports: readonly Port[], lcores: readonly Lcore[], options: WiringOptions, undo: AsyncDisposableStack): Promise<SwitchWiring> {
    if (new Set(ports).size !== ports.length) throw new EthdevError('ERR_ETHDEV_CONFIG', 'a port is on a switch twice');
    const learning = undo.use(new LearningSwitch(undo.use(Window.open()), ports, options.switch));
    const homes = lcores.slice(0, ports.length);
    const homeOf = (port: number): Lcore => homes[port % homes.length]!;
    const isShared = ports.map((port) => port.info.maxTxQueues >= homes.length);
    const capabilities = ports.map((port, p) => (isShared[p] === true ? port.info.txCapabilities : 0));
    for (const [p, port] of ports.entries()) {
      await port.configure({
        rxQueues: options.rxQueues(port),
        txQueues: isShared[p] === true ? homes.length : 1,
        peerTxCapabilities: capabilities.reduce((all, mask, other) => (other === p ? all : all & mask), -1),
      });
    }
    for (const port of ports) await port.start();

    const { burst, arenaBytes } = options;
    const sizes = { ...(burst === undefined ? {} : { burst }), ...(arenaBytes === undefined ? {} : { arenaBytes }) };
    const streams: PlacedStream[] = [];
    const started = async <P extends Port>(port: P): Promise<P> => {
      undo.defer(() => port.close());
      await port.configure({ rxQueues: 1, txQueues: port.info.maxTxQueues, peerTxCapabilities: 0 });
      await port.start();
      return port;
    };
    for (const [n, lcore] of homes.entries()) {
      const targets: Port[] = [];
      for (const [p, port] of ports.entries()) {
        if (isShared[p] === true || homeOf(p) === lcore) {
          targets.push(port);
          continue;
        }
        const relay = await started(new RelayPort(`${port.name} from lcore ${String(lcore.id)}`));
        targets.push(relay);
        streams.push({ lcore: homeOf(p), spec: { rxPort: relay, rxQueue: 0, txPort: port, txQueue: 0, engine: { name: 'io' }, ...sizes } });
      }
      const side = await started(learning.side(`switch on lcore ${String(lcore.id)}`, targets, ports.map((_, p) => (isShared[p] === true ? n : 0)), burst ?? DEFAULT_BURST));
      for (const [p, rxPort] of ports.entries()) {
        if (homeOf(p) !== lcore) continue;
        for (let rxQueue = 0; rxQueue < options.rxQueues(rxPort); rxQueue++) {
          streams.push({ lcore, spec: { rxPort, rxQueue, txPort: side, txQueue: p, engine: { name: 'io' }, ...sizes } });
        }
      }
    }
    return new SwitchWiring(learning, streams);
  }

  /** Floods follow the ports' links; the ports see a far end that is there. */
  followLinks(): Disposable[] {
    const { learning } = this;
    return learning.ports.map((port, p) => {
      const following = port.onLink(({ up }) => {
        learning.setLink(p, up);
      });
      learning.setLink(p, port.link().up);
      port.setPeerLink?.({ up: true, speedMbps: SWITCH_SPEED_MBPS });
      return following;
    });
  }
}
