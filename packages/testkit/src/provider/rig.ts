/** What the cases of the provider suite have in common. */
import { fail, ok } from 'node:assert/strict';
import { EmudevRegistry, parseArgs, parseVdev, type AnyVdevDriver, type ArgSchema, type Emudev, type VdevContext } from '@emudev/emudev';
import { IRQ_INTX, IRQ_MSI, IRQ_MSIX, type PciDevice } from '@emudev/pci';
import { FakeClock } from '../fakes/clock.ts';
import { RecordingBackEnd } from '../fakes/back-end.ts';
import { TEST_RAM_BYTES, TEST_RAM_IOVA, TestHost } from '../fakes/host.ts';
import { quietTurns, turn, within } from '../suite.ts';

/** What probing an emulated device makes: its two faces and the end of both. */
export interface ProviderUnderTest {
  readonly pci: PciDevice;
  readonly emudev: Emudev;
  /** Closes the device (if it is not closed) and frees its name. */
  close(): Promise<void>;
}

/** Makes a device of this name in `context.registry`. */
export type ProviderFactory = (name: string, context: VdevContext) => ProviderUnderTest | Promise<ProviderUnderTest>;

/** A vdev driver of class emudev, with arguments as on the command line: 'queues=2,doorbell=trap'. */
export interface ProviderDriver {
  readonly driver: AnyVdevDriver;
  readonly args?: string;
}

/** What the provider cases know of the device under test. */
export interface ProviderConformanceOptions {
  /** Bytes that a reset need not restore: counters that run by themselves. */
  isVolatile?(region: number, offset: number): boolean;
}

export const DEVICE_NAME = 'emu_conformance0';
/** A second place for guest memory. */
export const MORE_RAM_IOVA: bigint = TEST_RAM_IOVA + BigInt(4 * TEST_RAM_BYTES);

/** A device under test, its consumer, and a clock for its deadlines. */
export class ProviderRig {
  readonly registry: EmudevRegistry;
  readonly clock: FakeClock;
  readonly subject: ProviderUnderTest;
  readonly options: ProviderConformanceOptions;
  readonly host: TestHost;
  /** What was reported as `error` events. */
  readonly errors: unknown[] = [];
  readonly #backEnds: RecordingBackEnd[] = [];

  constructor(subject: ProviderUnderTest, registry: EmudevRegistry, clock: FakeClock, options: ProviderConformanceOptions) {
    this.subject = subject;
    this.registry = registry;
    this.clock = clock;
    this.options = options;
    this.host = new TestHost(subject.pci);
    subject.emudev.on('error', (error) => { this.errors.push(error); });
  }

  get emudev(): Emudev {
    return this.subject.emudev;
  }

  get contract(): { readonly devType: string; readonly version: number } {
    const { devType, contractVersion } = this.emudev.info;
    return { devType, version: contractVersion };
  }

  /** Attaches a back end that notes what it is told. */
  attach(): RecordingBackEnd & { readonly attachment: AsyncDisposable } {
    const backEnd = new RecordingBackEnd();
    this.#backEnds.push(backEnd);
    return Object.assign(backEnd, { attachment: this.emudev.attach(backEnd, this.contract) });
  }

  async start(): Promise<void> {
    await this.emudev.configure({});
    await this.emudev.start();
  }

  /** Connects and maps memory; resolves when the device says it is ready. */
  async ready(): Promise<void> {
    if (!this.host.connected) await this.host.connect();
    const told = new Promise<void>((resolve) => { this.emudev.on('ready', resolve); });
    await this.host.map();
    await within('the device is ready once memory is mapped', told);
    await quietTurns(2);
  }

  /** The interrupts a guest would use; undefined for a device without any. */
  get irq(): number | undefined {
    return [IRQ_MSIX, IRQ_MSI, IRQ_INTX].find((index) => this.subject.pci.irqs.some((irq) => irq.index === index && irq.count > 0));
  }

  /** Turns the clock until `work` settles; as it then settles. */
  async overdue<T>(what: string, work: Promise<T>): Promise<T> {
    let settled = false;
    const done = work.then(() => { settled = true; }, () => { settled = true; });
    for (let i = 0; i < 60 && !settled; i++) {
      await quietTurns(5);
      if (!this.#settled(settled)) await this.clock.advance(1000);
    }
    await within(what, done);
    return await work;
  }

  /** Nothing is left of the case but the device, closed. What goes wrong here is the business of the cases about closing. */
  async end(): Promise<void> {
    for (const backEnd of this.#backEnds) backEnd.heal();
    const quietly = async (body: () => Promise<unknown>): Promise<void> => {
      await this.overdue('clearing up', body()).catch(() => undefined);
    };
    await quietly(() => this.host[Symbol.asyncDispose]());
    await quietly(() => this.subject.close());
  }

  #settled(now: boolean): boolean {
    return now;
  }
}

export type ProviderCase = (body: (rig: ProviderRig) => void | Promise<void>) => Promise<void>;

/** One factory out of either form. */
export function factoryOf(subject: ProviderFactory | ProviderDriver): ProviderFactory {
  if (typeof subject === 'function') return subject;
  const { driver, args } = subject;
  return async (name, context) => {
    const { pairs } = parseVdev(args === undefined || args === '' ? name : `${name},${args}`);
    const made = await driver.probe(name, parseArgs(driver.args as ArgSchema<unknown>, pairs, name) as never, context);
    ok('pci' in made && 'emudev' in made, `probe of ${driver.name} makes an object with pci and emudev`);
    return made as unknown as ProviderUnderTest;
  };
}

export const contextOf = (registry: EmudevRegistry): VdevContext => ({ registry, findEmudev: (name) => registry.byName(name) });

export async function withProvider(factory: ProviderFactory, options: ProviderConformanceOptions, body: (rig: ProviderRig) => void | Promise<void>): Promise<void> {
  using clock = new FakeClock();
  const registry = new EmudevRegistry({ clock });
  const rig = new ProviderRig(await factory(DEVICE_NAME, contextOf(registry)), registry, clock, options);
  try {
    await body(rig);
  } finally {
    await rig.end();
  }
}

/** Fails where `work` settles before something that it has to wait for. */
export async function stillWaiting(what: string, work: Promise<unknown>): Promise<void> {
  let settled = false;
  const note = (): void => { settled = true; };
  void work.then(note, note);
  await quietTurns();
  await turn();
  if (settled) fail(what);
}
