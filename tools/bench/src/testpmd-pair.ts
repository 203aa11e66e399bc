/**
 * DPDK's testpmd against itself, over vhost-user or memif, as the peers to compare with.
 *
 * Without huge pages (few machines have them set up): `--no-huge` makes DPDK take its memory from one memfd, which vhost-user can
 * share. It implies legacy memory mode, so `--in-memory` cannot be given (hence a file prefix of its own for each process), and the
 * default of some 155 000 mbufs does not fit: `--total-num-mbufs`. Each process has both its lcores on one processor: the main one
 * waits for commands, the other one forwards.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { missingPeer } from './peers.ts';
import { Child, canPin, TemporaryFolder } from './processes.ts';
import type { LoopSettings, PairKind } from './pair.ts';

const PROGRAM = 'dpdk-testpmd';
const START_MS = 20_000;
const LINK_POLL_MS = 100;

function testpmd(end: 'a' | 'b', vdevs: readonly string[], settings: LoopSettings, keepsEarly: boolean): Child {
  const cpu = canPin && end === 'b' ? 1 : 0;
  return new Child(`testpmd ${end}`, [
    // Into a pipe it would say everything at its end.
    'stdbuf', '-oL', PROGRAM, '--lcores', `0@${cpu},1@${cpu}`, '--file-prefix', `emudev-bench-${process.pid}-${end}`, '--no-pci', '--no-huge', '-m', '1024', '--no-telemetry', ...vdevs.flatMap((vdev) => ['--vdev', vdev]),
    '--', '-i', ...(keepsEarly ? ['--no-flush-rx'] : []), '--no-mlockall', '--total-num-mbufs=8192', '--forward-mode=io', `--burst=${settings.burst}`, `--txpkts=${settings.frameBytes}`,
  ]);
}

/** `Rx-pps` of `show port stats`: frames per second since it was shown last. */
async function show(child: Child, port: number): Promise<number> {
  child.say(`show port stats ${port}`);
  const line = await child.line((text) => /Rx-pps:\s+\d+/.test(text), START_MS);
  return Number(/Rx-pps:\s+(\d+)/.exec(line)![1]);
}

async function started(child: Child): Promise<void> {
  // The prompt has no newline of its own; this answer has.
  child.say('show config fwd');
  await child.line((line) => line.includes('packet forwarding - ports='), START_MS);
}

/** What is sent before the two have found each other is lost, and there would be nothing to pass round. */
async function linkUp(child: Child, port: number): Promise<void> {
  const deadline = performance.now() + START_MS;
  for (;;) {
    child.say(`show port info ${port}`);
    if ((await child.line((line) => line.includes('Link status:'), START_MS)).includes('up')) return;
    if (performance.now() > deadline) throw new Error('no link');
    await sleep(LINK_POLL_MS);
  }
}

/** testpmd at one end of a loop. */
export class TestpmdEnd implements AsyncDisposable {
  readonly #child: Child;
  readonly #settings: LoopSettings;
  readonly #ports: readonly number[];

  private constructor(child: Child, ports: number, settings: LoopSettings) {
    this.#child = child;
    this.#ports = Array.from({ length: ports }, (_, port) => port);
    this.#settings = settings;
  }

  /**
   * `vdev`: its only port, or its two, which it forwards to each other. It has started, its links may be down yet. What comes before
   * it forwards is thrown away, unless `keepsEarly`: but a memif client offers no buffers before it has looked for frames once.
   */
  static async start(end: 'a' | 'b', vdev: string | readonly string[], settings: LoopSettings, keepsEarly = false): Promise<TestpmdEnd> {
    const vdevs = typeof vdev === 'string' ? [vdev] : vdev;
    const child = testpmd(end, vdevs, settings, keepsEarly);
    try {
      await started(child);
      return new TestpmdEnd(child, vdevs.length, settings);
    } catch (error) {
      await child[Symbol.asyncDispose]();
      throw error;
    }
  }

  async linkUp(): Promise<void> {
    for (const port of this.#ports) await linkUp(this.#child, port);
  }

  /** Everything that comes goes back, or out of the other port. */
  async forward(): Promise<void> {
    this.#child.say('start');
    await this.#child.line((line) => line.includes('packet forwarding - ports='), START_MS);
  }

  /** The same, and frames are on their way. */
  forwardFirst(): void {
    const { inFlight, burst, mix } = this.#settings;
    if (mix === undefined) {
      this.#child.say(`start tx_first ${Math.ceil(inFlight / burst)}`);
      return;
    }
    // It sends one size at a time: one burst of each, while those before wait in the ring
    const counts = new Map<number, number>();
    for (let n = 0; n < inFlight; n++) counts.set(mix[n % mix.length]!, (counts.get(mix[n % mix.length]!) ?? 0) + 1);
    for (const [bytes, count] of counts) this.#child.say(`set txpkts ${bytes}\nset burst ${count}\nstart tx_first 1\nstop`);
    this.#child.say(`set burst ${burst}\nstart`);
  }

  /** Frames received per second, by all ports, over the time that counts. */
  async rate(): Promise<number> {
    await sleep(this.#settings.warmupMs);
    for (const port of this.#ports) await show(this.#child, port);
    await sleep(this.#settings.windowMs);
    let pps = 0;
    for (const port of this.#ports) pps += await show(this.#child, port);
    if (pps === 0) throw new Error('no frame came back');
    return pps;
  }

  /** It removes its files when it is asked to quit. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.say('quit');
    await this.#child[Symbol.asyncDispose]();
  }
}

function pair(who: string, server: (socket: string) => string, client: (socket: string) => string): PairKind {
  return {
    who,
    missing: missingPeer(PROGRAM),
    async run(settings) {
      using folder = new TemporaryFolder();
      const socket = folder.file('peer.sock');
      await using a = await TestpmdEnd.start('a', server(socket), settings);
      // A mix is begun and stopped and begun again: what is on its way by then must not be thrown away.
      await using b = await TestpmdEnd.start('b', client(socket), settings, settings.mix !== undefined);
      await b.linkUp();
      await a.linkUp();
      await a.forward();
      b.forwardFirst();
      return await b.rate();
    },
  };
}

export const vhostUserPair: PairKind = pair(
  'vhost-user',
  (socket) => `net_vhost0,iface=${socket}`,
  (socket) => `net_virtio_user0,path=${socket},server=0`,
);
export const memifVdev = (role: 'server' | 'client', socket: string): string => `net_memif0,role=${role},socket=${socket},socket-abstract=no`;
export const memifPair: PairKind = pair('memif', (socket) => memifVdev('server', socket), (socket) => memifVdev('client', socket));
