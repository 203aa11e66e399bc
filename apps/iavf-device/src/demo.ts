/** The driver process of `pnpm start`: our iavf driver on a socket, connected to a port that asks and checks. */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { Quiescence, Window } from '@emudev/dma';
import { VdevBus } from '@emudev/emudev';
import { Forwarding, LcorePool, type LinkStatus, type Port } from '@emudev/ethdev';
import { driver as netIavf } from '@emudev/iavf-pmd';
import { driver as netPktgen, type PktgenPort } from '@emudev/net-pktgen';

export interface DemoResult {
  readonly link: boolean;
  readonly pings: { readonly sent: number; readonly answered: number };
  readonly tx: { readonly packets: number; readonly pps: number };
  readonly rx: { readonly packets: number; readonly pps: number };
  /** Questions lost, answers wrong, and whatever either port counted as an error. */
  readonly errors: number;
}

export interface TrafficLine {
  readonly seconds: number;
  readonly tx: number;
  readonly rx: number;
  readonly txBytes: number;
  readonly rxBytes: number;
  readonly errors: number;
}

const LINK_TIMEOUT_MS = 10_000;
/** Looks at shared counters; the data path itself is not polled from here. */
const LOOK_INTERVAL_MS = 10;
const DRAIN_TIMEOUT_MS = 5000;

const hex = (mac: Uint8Array): string => [...mac].map((b) => b.toString(16).padStart(2, '0')).join(':');

export class Demo implements AsyncDisposable {
  readonly #nic: Port;
  readonly #pktgen: PktgenPort;
  readonly #undo: AsyncDisposableStack;
  #seconds = 0;

  private constructor(nic: Port, pktgen: PktgenPort, undo: AsyncDisposableStack) {
    this.#nic = nic;
    this.#pktgen = pktgen;
    this.#undo = undo;
  }

  static async start(socket: string, frameBytes: number): Promise<Demo> {
    await using undo = new AsyncDisposableStack();
    const window = undo.use(Window.open());
    const bus = undo.use(new VdevBus().register(netIavf).register(netPktgen));
    const nic = (await bus.probe(`net_iavf0,path=${socket},queues=1`)).device as Port;
    // The card filters by destination: whoever sends through it uses its address.
    const pktgen = (await bus.probe(`net_pktgen0,mac=${hex(nic.info.mac!)},size=${frameBytes}`)).device as PktgenPort;
    const pool = undo.use(await LcorePool.start(1, { window, quiescence: Quiescence.of(window) }));
    const forwarding = new Forwarding(pool);
    undo.defer(() => forwarding.stop());
    await forwarding.start([{ a: nic, b: pktgen }]);
    return new Demo(nic, pktgen, undo.move());
  }

  get mac(): string {
    return hex(this.#nic.info.mac ?? new Uint8Array(6));
  }

  /** The link as it is once it is up, or after 10 seconds. */
  async linkUp(): Promise<LinkStatus> {
    if (this.#nic.link().up) return this.#nic.link();
    const deadline = new AbortController();
    const timer = setTimeout(() => { deadline.abort(); }, LINK_TIMEOUT_MS);
    const up = new EventTarget();
    using _link = this.#nic.onLink((link) => {
      if (link.up) up.dispatchEvent(new Event('up'));
    });
    await once(up, 'up', { signal: deadline.signal }).catch(() => undefined);
    clearTimeout(timer);
    return this.#nic.link();
  }

  /** Pings so often and reports each with its round-trip time in microseconds, undefined if nobody answered. */
  async ping(count: number, report: (number: number, microseconds: number | undefined) => void): Promise<void> {
    this.#pktgen.setPhase('ping', count);
    const deadline = performance.now() + count * 2500;
    let reported = 0;
    while (reported < count && performance.now() < deadline) {
      await delay(LOOK_INTERVAL_MS);
      const { sent, answered } = this.#pktgen.report().pings;
      // All but the last one sent are settled; the last one is when every one is answered.
      const settled = answered === sent ? sent : sent - 1;
      for (; reported < settled; reported++) {
        const rtt = this.#pktgen.rttMicroseconds(reported + 1);
        report(reported + 1, rtt > 0 ? rtt : undefined);
      }
    }
    for (; reported < count; reported++) report(reported + 1, undefined);
  }

  #line(seconds: number, before: ReturnType<PktgenPort['report']>): TrafficLine {
    const now = this.#pktgen.report();
    return {
      seconds,
      tx: now.tx.packets - before.tx.packets,
      rx: now.rx.packets - before.rx.packets,
      txBytes: now.tx.bytes - before.tx.bytes,
      rxBytes: now.rx.bytes - before.rx.bytes,
      errors: this.#errors(),
    };
  }

  /** Traffic for `seconds`, or until `stop`; one report a second. */
  async traffic(seconds: number | undefined, stop: AbortSignal, report: (line: TrafficLine) => void): Promise<void> {
    const begin = performance.now();
    this.#pktgen.setPhase('traffic');
    let before = this.#pktgen.report();
    let at = begin;
    while (!stop.aborted && (seconds === undefined || performance.now() - begin < seconds * 1000)) {
      const left = seconds === undefined ? Infinity : begin + seconds * 1000 - performance.now();
      await delay(Math.min(1000, Math.max(1, left)), undefined, { signal: stop }).catch(() => undefined);
      const now = performance.now();
      if (now - at < 100) continue;
      report(this.#line((now - at) / 1000, before));
      before = this.#pktgen.report();
      at = now;
    }
    this.#seconds = (performance.now() - begin) / 1000;
    if (stop.reason instanceof Error && stop.reason.name !== 'AbortError') throw stop.reason;
  }

  #errors(): number {
    const { lost, wrong } = this.#pktgen.report();
    const { ierrors, oerrors, imissed } = this.#nic.stats();
    return lost + wrong + Number(ierrors + oerrors + imissed);
  }

  /** Waits for the answers under way and sums up. */
  async finish(): Promise<DemoResult> {
    this.#pktgen.setPhase('drain');
    const deadline = performance.now() + DRAIN_TIMEOUT_MS;
    for (;;) {
      const { tx, rx, lost } = this.#pktgen.report();
      if (rx.packets + lost >= tx.packets || performance.now() > deadline) break;
      await delay(LOOK_INTERVAL_MS);
    }
    const { pings, tx, rx } = this.#pktgen.report();
    const rate = (n: number): number => Math.round(n / Math.max(this.#seconds, 1e-9));
    return {
      link: this.#nic.link().up,
      pings,
      tx: { packets: tx.packets, pps: rate(tx.packets) },
      rx: { packets: rx.packets, pps: rate(rx.packets) },
      errors: this.#errors() + Math.max(0, tx.packets - rx.packets - this.#pktgen.report().lost - this.#pktgen.report().wrong),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#undo.disposeAsync();
  }
}
