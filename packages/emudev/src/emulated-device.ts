import type { Ask } from './back-end-seat.ts';
import { BackEndSlot } from './back-end-slot.ts';
import type { Deadlines } from './clock.ts';
import type { AttrType } from './attr-type.ts';
import type {
  AttrKey, Attribute, BackEndHooks, Channel, ChannelKey, ConsumerState, DoorbellInfo, Emudev, EmudevConfig, EmudevEvents, EmudevInfo, EmudevProvider, EmudevState,
  EventRingHandle, EventsKey, IrqInfo, MemTable, ProviderPort, QueueChange, QueueInfo, RegionKey, ResetKind, SelfTestReport, SharedRegion, Update,
} from './device.ts';
import { EmudevError } from './errors.ts';
import { nextState } from './lifecycle.ts';
import { suggestion } from './nearest.ts';
import { Observers } from './observers.ts';
import { Sections } from './sections.ts';

/** What there is instead of a name that is unknown. */
function listed(names: readonly string[]): string {
  return names.length === 0 ? '; it has none' : `; it has ${names.join(', ')}`;
}

/** A provider's device with the class around it; the two faces of it are `Emudev` and `ProviderPort`. */
export class EmulatedDevice implements Emudev {
  readonly info: EmudevInfo;
  readonly port: ProviderPort;
  readonly #provider: EmudevProvider;
  readonly #observers: Observers;
  readonly #slot: BackEndSlot;
  /** configure, start, stop and close: one at a time. */
  readonly #operations = new Sections();
  #state: EmudevState = 'allocated';
  #consumer: ConsumerState = 'absent';

  constructor(name: string, id: number, provider: EmudevProvider, deadlines: Deadlines) {
    this.#provider = provider;
    this.#observers = new Observers(name);
    this.#slot = new BackEndSlot(name, deadlines, (error) => { this.#observers.emit('error', error); });
    this.info = Object.freeze({
      name,
      id,
      devType: provider.devType,
      contractVersion: provider.contractVersion,
      maxQueuePairs: provider.maxQueuePairs,
      numVectors: provider.numVectors,
    });
    this.port = {
      device: this,
      connected: () => {
        if (this.#consumer === 'absent' && this.#state !== 'closed') this.#consumer = 'connected';
      },
      ready: () => this.#ready(),
      destroyed: (reason) => this.#destroyed(reason),
      updated: (what) => { this.#updated(what); },
      reset: (kind) => this.#reset(kind),
      lock: (reason) => this.#slot.lock(reason),
      unlock: () => { this.#slot.unlock(); },
      suspend: (reason) => this.#slot.suspend(reason),
      resume: () => this.#slot.resume(),
      queueChanged: (queue, change) => this.#queueChanged(queue, change),
      doorbellChanged: (id) => this.#doorbellChanged(id),
      attributeChanged: (attribute) => { this.#observers.emit('attributeChanged', attribute); },
      error: (error) => { this.#observers.emit('error', error); },
    };
  }

  get state(): EmudevState {
    return this.#state;
  }

  get consumer(): ConsumerState {
    return this.#consumer;
  }

  configure(config: EmudevConfig): Promise<void> {
    return this.#operations.run(async () => {
      const next = nextState(this.info.name, 'configure', this.#state);
      const pairs = config.queuePairs;
      if (pairs !== undefined && !(Number.isInteger(pairs) && pairs >= 1 && pairs <= this.info.maxQueuePairs)) {
        throw new EmudevError('EMUDEV_BAD_ARG', `${this.info.name}: queuePairs is 1..${this.info.maxQueuePairs}, not ${pairs}`);
      }
      await this.#provider.configure?.({ ...config });
      this.#state = next;
    });
  }

  start(): Promise<void> {
    return this.#operations.run(async () => {
      const next = nextState(this.info.name, 'start', this.#state);
      await this.#provider.start?.();
      try {
        await this.#slot.call(async (ask) => {
          await ask('start', (hooks) => hooks.start?.(), () => { void this.#stopLate(); });
          // In the section: a back end that joins from here on is told of the start when it joins.
          this.#state = next;
        });
      } catch (error) {
        await this.#provider.stop?.();
        throw error;
      }
      this.#observers.emit('started');
    });
  }

  stop(): Promise<void> {
    return this.#operations.run(() => this.#stop());
  }

  async #stop(): Promise<void> {
    const next = nextState(this.info.name, 'stop', this.#state);
    if (this.#state === next) return;
    const failures: unknown[] = [];
    const attempt = async (body: () => void | Promise<void>): Promise<void> => {
      try {
        await body();
      } catch (error) {
        failures.push(error);
      }
    };
    await attempt(() => this.#slot.call(async (ask) => {
      this.#state = next;
      await ask('stop', (hooks) => hooks.stop?.());
    }));
    await attempt(() => this.#provider.stop?.());
    this.#observers.emit('stopped');
    if (failures.length > 0) throw failures[0];
  }

  /** A back end whose `start` was given up has come to its end after all: the device it started is not running. */
  #stopLate(): Promise<void> {
    return this.#slot.tell(async (ask) => {
      if (this.#state !== 'started') await ask('stop', (hooks) => hooks.stop?.());
    });
  }

  close(): Promise<void> {
    return this.#operations.run(async () => {
      const next = nextState(this.info.name, 'close', this.#state);
      try {
        if (this.#state === 'started') await this.#stop();
      } finally {
        if (this.#consumer === 'ready') await this.#destroyed('device closed');
        this.#consumer = 'absent';
        this.#state = next;
        await this.#provider.close?.();
      }
    });
  }

  attach(hooks: BackEndHooks, contract: { readonly devType: string; readonly version: number }): AsyncDisposable {
    const { name, devType, contractVersion } = this.info;
    this.#assertOpen('attach');
    if (contract.devType !== devType || contract.version !== contractVersion) {
      throw new EmudevError('EMUDEV_BAD_ARG', `${name} speaks the contract ${devType} version ${contractVersion}, the back end ${contract.devType} version ${contract.version}`);
    }
    if (this.#slot.taken) throw new EmudevError('EMUDEV_EXISTS', `${name} has a back end already; dispose of that attachment first`);
    const leave = this.#slot.take(hooks, async (ask) => {
      if (this.#state === 'started') await ask('start', () => hooks.start?.());
      if (this.#consumer === 'ready') await ask('ready', () => hooks.ready?.());
    });
    return { [Symbol.asyncDispose]: () => leave(() => this.#consumer === 'ready') };
  }

  on<K extends keyof EmudevEvents>(event: K, observer: (...args: EmudevEvents[K]) => void): Disposable {
    return this.#observers.on(event, observer);
  }

  memTable(): MemTable {
    this.#assertReady('memTable');
    return this.#provider.memTable();
  }

  queueInfo(queue: number): QueueInfo {
    this.#assertReady('queueInfo');
    return { ...this.#inRange('queue', queue, this.#provider.queueInfo(queue)) };
  }

  irqInfo(vector: number): IrqInfo {
    this.#assertReady('irqInfo');
    return { ...this.#inRange('vector', vector, this.#provider.irqInfo(vector)) };
  }

  doorbell(id: number): DoorbellInfo {
    this.#assertReady('doorbell');
    return { ...this.#inRange('doorbell', id, this.#provider.doorbell(id)) };
  }

  getAttr<T>(key: AttrKey<T>): T {
    return structuredClone(this.#attribute(key.name).get()) as T;
  }

  setAttr<T>(key: AttrKey<T>, value: T): void {
    const attribute = this.#attribute(key.name);
    if (attribute.set === undefined) throw new EmudevError('EMUDEV_UNSUPPORTED', `${this.info.name}: attribute ${key.name} is read-only`);
    // The provider knows its limits better than the family does.
    const type: AttrType<unknown> | undefined = attribute.type ?? (key.type as AttrType<unknown> | undefined);
    this.#badArg(key.name, () => {
      const copy: unknown = structuredClone(value);
      type?.check(copy);
      attribute.set!(copy);
    });
    this.#observers.emit('attributeChanged', key.name);
  }

  attrNames(): readonly string[] {
    return [...this.#provider.attributes.keys()];
  }

  getAttrText(name: string): string {
    const attribute = this.#attribute(name);
    return this.#textForm(name, attribute).format(attribute.get());
  }

  setAttrText(name: string, text: string): void {
    const type = this.#textForm(name, this.#attribute(name));
    const value = this.#badArg(name, () => type.parse(text));
    this.setAttr({ name }, value);
  }

  mapRegion(key: RegionKey, minBytes = 0): SharedRegion {
    this.#assertOpen('mapRegion');
    const region = this.#provider.region(key.name);
    if (region === undefined) {
      const names = this.regionNames();
      throw new EmudevError('EMUDEV_NO_REGION', `${this.info.name} shares no region '${key.name}'${suggestion(key.name, names)}${listed(names)}`);
    }
    if (region.sizeBytes < minBytes) {
      throw new EmudevError('EMUDEV_RANGE', `${this.info.name}: region ${key.name} has ${region.sizeBytes} bytes, not ${minBytes}`);
    }
    return { ...region };
  }

  regionNames(): readonly string[] {
    return [...(this.#provider.regionNames?.() ?? [])];
  }

  channel<S, R>(key: ChannelKey<S, R>): Channel<S, R> {
    this.#assertOpen('channel');
    const channel = this.#provider.channel(key.name);
    if (channel === undefined) throw new EmudevError('EMUDEV_NO_CHANNEL', `${this.info.name} is of the family ${this.info.devType} and has no channel '${key.name}'`);
    return channel as Channel<S, R>;
  }

  events(key: EventsKey): EventRingHandle {
    this.#assertOpen('events');
    const handle = this.#provider.events?.(key.name);
    if (handle === undefined) throw new EmudevError('EMUDEV_NO_CHANNEL', `${this.info.name} has no event ring '${key.name}'`);
    return { ...handle };
  }

  selfTest(): Promise<SelfTestReport> {
    return this.#operations.run(async () => {
      this.#assertOpen('selfTest');
      if (this.#provider.selfTest === undefined) throw new EmudevError('EMUDEV_UNSUPPORTED', `${this.info.name} has no self-test`);
      const checks = await this.#provider.selfTest();
      return { passed: checks.every((check) => check.passed), checks: checks.map((check) => ({ ...check })) };
    });
  }

  reset(): Promise<void> {
    return this.#operations.run(async () => {
      this.#assertOpen('reset');
      if (this.#provider.familyReset === undefined) throw new EmudevError('EMUDEV_UNSUPPORTED', `${this.info.name} has no reset of its own`);
      await this.#provider.familyReset();
    });
  }

  #ready(): Promise<void> {
    return this.#slot.tell(async (ask) => {
      if (this.#consumer === 'ready' || this.#state === 'closed') return;
      this.#consumer = 'ready';
      try {
        await ask('ready', (hooks) => hooks.ready?.());
      } finally {
        this.#observers.emit('ready');
      }
    });
  }

  #destroyed(reason: string): Promise<void> {
    return this.#slot.tellLocked(reason, true, async (ask) => {
      const wasReady = this.#consumer === 'ready';
      try {
        if (wasReady) await this.#resetHook(ask, 'consumer-left');
        if (wasReady) await ask('destroyed', (hooks) => hooks.destroyed?.(reason));
      } finally {
        this.#consumer = 'absent';
        if (wasReady) this.#observers.emit('destroyed', reason);
      }
    });
  }

  #updated(what: Update): void {
    this.#slot.tellNow((hooks) => hooks.updated?.(what));
    this.#observers.emit('updated', what);
  }

  /** A family reset is the guest's doing and may meet the transport's section at any time: it waits for it. */
  #reset(kind: ResetKind): Promise<void> {
    return this.#slot.tellLocked(`${kind} reset`, kind !== 'family', (ask) => this.#resetHook(ask, kind));
  }

  async #resetHook(ask: Ask, kind: ResetKind): Promise<void> {
    try {
      await ask('reset', (hooks) => hooks.reset?.(kind));
    } catch (error) {
      this.#observers.emit('error', error);
    }
    this.#observers.emit('reset', kind);
  }

  #queueChanged(queue: number, change: QueueChange): Promise<void> {
    return this.#slot.tell(async (ask) => {
      try {
        await ask('queue', (hooks) => hooks.queue?.(queue, change));
      } finally {
        this.#observers.emit('queue', queue, change);
      }
    });
  }

  #doorbellChanged(id: number): Promise<void> {
    return this.#slot.tell(async (ask) => {
      try {
        await ask('doorbell', (hooks) => hooks.doorbell?.(id));
      } finally {
        this.#observers.emit('doorbell', id);
      }
    });
  }

  #attribute(name: string): Attribute {
    this.#assertOpen('attributes');
    const attribute = this.#provider.attributes.get(name);
    if (attribute === undefined) {
      const names = this.attrNames();
      throw new EmudevError('EMUDEV_NO_ATTR', `${this.info.name} has no attribute '${name}'${suggestion(name, names)}${listed(names)}`);
    }
    return attribute;
  }

  #textForm(name: string, attribute: Attribute): AttrType<unknown> {
    if (attribute.type === undefined) throw new EmudevError('EMUDEV_UNSUPPORTED', `${this.info.name}: attribute ${name} has no text form`);
    return attribute.type;
  }

  #badArg<T>(name: string, body: () => T): T {
    try {
      return body();
    } catch (error) {
      if (error instanceof EmudevError) throw error;
      throw new EmudevError('EMUDEV_BAD_ARG', `${this.info.name}: attribute ${name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }

  #inRange<T>(what: string, index: number, found: T | undefined): T {
    if (found === undefined) throw new EmudevError('EMUDEV_RANGE', `${this.info.name} has no ${what} ${index}`);
    return found;
  }

  #assertOpen(operation: string): void {
    if (this.#state === 'closed') throw new EmudevError('EMUDEV_BAD_STATE', `${this.info.name}: ${operation} after close`);
  }

  #assertReady(operation: string): void {
    this.#assertOpen(operation);
    if (this.#consumer !== 'ready') {
      throw new EmudevError('EMUDEV_NOT_READY', `${this.info.name}: ${operation} needs a consumer that has mapped memory; it is ${this.#consumer}`);
    }
  }
}
