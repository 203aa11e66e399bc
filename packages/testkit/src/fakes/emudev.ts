/** An emulated device without a PCI side, for authors of back ends: a provider and a consumer in the hands of a test. */
import { fail } from 'node:assert/strict';
import { Window } from '@emudev/dma';
import {
  createChannel, EmudevRegistry, VECTOR_ARMED, VECTOR_CELLS_BYTES, VECTOR_FD, VECTOR_FIRED, VECTOR_PENDING, type Attribute, type BackEndHooks, type Emudev, type EmudevProvider,
  type ProviderChannel, type ProviderPort, type QueueInfo, type ResetKind, type SharedRegion,
} from '@emudev/emudev';
import { FakeClock } from './clock.ts';
import { FakeDoorbell, type DoorbellKind } from './doorbell.ts';
import { TEST_RAM_BYTES, TEST_RAM_IOVA } from './host.ts';
import { TestMemory } from './memory.ts';
import { RecordingVectors } from './vectors.ts';

/** A family as its back ends know it. */
export interface FakeEmudevSpec {
  readonly devType: string;
  readonly contractVersion: number;
  readonly maxQueuePairs?: number;
  readonly numVectors?: number;
  /** `attribute(KEY, { get, set })` of @emudev/emudev makes entries. */
  readonly attributes?: Iterable<readonly [string, Attribute]>;
  /** Channels by name: what happens when the back end sends. All messages are noted in `sent` besides. */
  readonly channels?: Readonly<Record<string, (message: unknown, fake: FakeEmudev) => void>>;
  /** Shared regions by name: bytes of zeroed window memory. */
  readonly regions?: Readonly<Record<string, number>>;
  /** Doorbells by number. */
  readonly doorbells?: Readonly<Record<number, DoorbellKind>>;
  /** Undefined: there is no such queue. Without this, every doorbell is a queue of its own on vector 0. */
  queue?(queue: number): QueueInfo | undefined;
}

/** A device name of the fake; back ends that find their device by name get it from `registry`. */
export const FAKE_EMUDEV_NAME = 'emu_fake0';

/**
 * The class is the real one (`EmudevRegistry`), so states, errors and the order of hooks are as in earnest; provider, memory, doorbells
 * and vectors are fakes that note what the back end does. Deadlines run on `clock`.
 */
export class FakeEmudev implements AsyncDisposable {
  readonly window: Window = Window.open();
  readonly clock: FakeClock = new FakeClock();
  readonly registry: EmudevRegistry = new EmudevRegistry({ clock: this.clock });
  readonly memory: TestMemory = new TestMemory();
  readonly vectors: RecordingVectors = new RecordingVectors();
  /** What the back end opens. Its `attach` is watched: see `hooks`. */
  readonly emudev: Emudev;
  /** The provider's side, to do anything that has no method here. */
  readonly provider: ProviderPort;
  /** Hooks that have ended, oldest first, as 'reset function'. */
  readonly hooks: string[] = [];
  /** Hooks that were called while another one had not ended. */
  readonly overlaps: string[] = [];
  /** `error` events: what hooks have thrown. */
  readonly errors: unknown[] = [];
  /** Messages from the back end, by channel. */
  readonly sent: Map<string, unknown[]> = new Map<string, unknown[]>();
  readonly #numVectors: number;
  readonly #cells: number;
  readonly #doorbells = new Map<number, FakeDoorbell>();
  readonly #channels = new Map<string, ProviderChannel<unknown, unknown>>();
  readonly #regions = new Map<string, SharedRegion>();
  #running: string | undefined;

  constructor(spec: FakeEmudevSpec) {
    this.#numVectors = spec.numVectors ?? 1;
    this.#cells = this.window.alloc(Math.max(1, this.#numVectors) * VECTOR_CELLS_BYTES, 64);
    for (let vector = 0; vector < this.#numVectors; vector++) this.window.i32[this.#cell(vector) + VECTOR_FD] = -1;
    for (const [id, kind] of Object.entries(spec.doorbells ?? {})) this.#doorbells.set(Number(id), new FakeDoorbell(this.window, Number(id), kind));
    for (const [name, sizeBytes] of Object.entries(spec.regions ?? {})) this.#regions.set(name, { offset: this.window.alloc(sizeBytes, 4096), sizeBytes });
    for (const [name, onSend] of Object.entries(spec.channels ?? {})) {
      this.sent.set(name, []);
      this.#channels.set(name, createChannel<unknown, unknown>({
        onSend: (message) => {
          this.sent.get(name)!.push(message);
          onSend(message, this);
        },
        onHandlerError: (error) => { this.errors.push(error); },
      }));
    }
    this.provider = this.registry.allocate(FAKE_EMUDEV_NAME, this.#provide(spec));
    const { device } = this.provider;
    device.on('error', (error) => { this.errors.push(error); });
    this.emudev = this.#watched(device);
  }

  /** Doorbell `id`, to ring it. */
  doorbell(id: number): FakeDoorbell {
    return this.#doorbells.get(id) ?? fail(`the fake has no doorbell ${id}`);
  }

  /** Hands a message to the back end; resolves when its handler has ended. */
  async deliver(channel: string, message: unknown): Promise<void> {
    await (this.#channels.get(channel) ?? fail(`the fake has no channel ${channel}`)).deliver(message);
  }

  /** How often the back end has raised a vector that was ready to fire, and whether one more is latched. */
  raised(vector: number): number {
    const cell = this.#cell(vector);
    const { i32 } = this.window;
    return Atomics.load(i32, cell + VECTOR_FIRED) + Atomics.load(i32, cell + VECTOR_PENDING);
  }

  /** The guest wants the next event of this vector. */
  arm(vector: number): void {
    Atomics.store(this.window.i32, this.#cell(vector) + VECTOR_ARMED, 1);
  }

  /** Reads and writes of guest memory and interrupts so far: it grows with everything a back end must not do while locked. */
  get touches(): number {
    let sum = this.memory.accesses.length;
    for (let vector = 0; vector < this.#numVectors; vector++) sum += this.raised(vector);
    return sum;
  }

  /** A consumer connects. */
  connect(): void {
    this.provider.connected();
  }

  /** It maps 1 MiB at `TEST_RAM_IOVA` and gives every vector an eventfd; the back end is ready when this resolves. */
  async ready(): Promise<void> {
    if (this.emudev.consumer === 'absent') this.connect();
    await this.provider.lock('dma-map');
    if (this.memory.regions().length === 0) this.memory.map(TEST_RAM_IOVA, TEST_RAM_BYTES);
    for (let vector = 0; vector < this.#numVectors; vector++) Atomics.store(this.window.i32, this.#cell(vector) + VECTOR_FD, this.vectors.assign(0, vector));
    if (this.emudev.consumer === 'ready') this.provider.updated({ dma: true, irqs: true });
    this.provider.unlock();
    await this.provider.ready();
  }

  /** What the transport does around a change of memory or interrupts. */
  async change(body: () => void | Promise<void>, what: { readonly dma: boolean; readonly irqs: boolean } = { dma: true, irqs: false }): Promise<void> {
    await this.provider.lock('change');
    try {
      await body();
      if (this.emudev.consumer === 'ready') this.provider.updated(what);
    } finally {
      this.provider.unlock();
    }
  }

  /** 'function' as a consumer's reset, in a bracket; 'family' as the guest's own. */
  async reset(kind: Exclude<ResetKind, 'consumer-left'>): Promise<void> {
    if (kind === 'family') return this.provider.reset(kind);
    await this.provider.lock('reset');
    try {
      await this.provider.reset(kind);
    } finally {
      this.provider.unlock();
    }
  }

  /** The consumer leaves; memory and descriptors go when the back end has let go of them. */
  async disconnect(reason = 'closed'): Promise<void> {
    await this.provider.lock('detach').catch((error: unknown) => { this.errors.push(error); });
    await this.provider.destroyed(reason);
    for (let vector = 0; vector < this.#numVectors; vector++) {
      for (const field of [VECTOR_ARMED, VECTOR_PENDING, VECTOR_FIRED]) Atomics.store(this.window.i32, this.#cell(vector) + field, 0);
      Atomics.store(this.window.i32, this.#cell(vector) + VECTOR_FD, -1);
    }
    this.memory.clear();
    this.vectors.clear();
    this.provider.unlock();
  }

  /** Closes the device if nobody has, and gives back everything that the fake owns. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.emudev.state !== 'closed') await this.emudev.close();
    for (const doorbell of this.#doorbells.values()) doorbell[Symbol.dispose]();
    for (const { offset } of this.#regions.values()) this.window.free(offset);
    this.window.free(this.#cells);
    this.vectors[Symbol.dispose]();
    this.memory[Symbol.dispose]();
    this.clock[Symbol.dispose]();
    this.window[Symbol.dispose]();
  }

  #cell(vector: number): number {
    return (this.#cells + vector * VECTOR_CELLS_BYTES) >>> 2;
  }

  #provide(spec: FakeEmudevSpec): EmudevProvider {
    const defaultQueue = (queue: number): QueueInfo | undefined => (this.#doorbells.has(queue) ? { base: 0n, size: 0, doorbellId: queue, irqVector: 0 } : undefined);
    return {
      devType: spec.devType,
      contractVersion: spec.contractVersion,
      maxQueuePairs: spec.maxQueuePairs ?? 0,
      numVectors: this.#numVectors,
      attributes: new Map(spec.attributes ?? []),
      memTable: () => this.memory,
      queueInfo: (queue) => (spec.queue ?? defaultQueue)(queue),
      irqInfo: (vector) => (Number.isInteger(vector) && vector >= 0 && vector < this.#numVectors ? { vector, fd: this.vectors.fd(0, vector), cells: this.#cells + vector * VECTOR_CELLS_BYTES } : undefined),
      doorbell: (id) => this.#doorbells.get(id)?.info,
      region: (name) => this.#regions.get(name),
      regionNames: () => [...this.#regions.keys()],
      channel: (name) => this.#channels.get(name)?.channel,
    };
  }

  /** The device as it is, but for `attach`: what is attached passes through `#watch`. */
  #watched(device: Emudev): Emudev {
    const attach: Emudev['attach'] = (hooks, contract) => device.attach(this.#watch(hooks), contract);
    return new Proxy(device, {
      get: (target, key) => {
        if (key === 'attach') return attach;
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  }

  #watch(hooks: BackEndHooks): BackEndHooks {
    const watched: Record<string, (...args: unknown[]) => unknown> = {};
    for (const name of ['start', 'stop', 'ready', 'destroyed', 'updated', 'reset', 'queue', 'doorbell', 'lock', 'unlock'] as const) {
      const hook = hooks[name] as ((...args: unknown[]) => unknown) | undefined;
      if (hook === undefined) continue;
      watched[name] = (...args) => {
        const line = typeof args[0] === 'string' ? `${name} ${args[0]}` : name;
        if (this.#running !== undefined) this.overlaps.push(`${line} during ${this.#running}`);
        const ended = (): void => {
          this.#running = undefined;
          this.hooks.push(line);
        };
        this.#running = line;
        let result: unknown;
        try {
          result = hook.apply(hooks, args);
        } finally {
          if (!(result instanceof Promise)) ended();
        }
        return result instanceof Promise ? result.finally(ended) : result;
      };
    }
    return watched as unknown as BackEndHooks;
  }
}
