/**
 * The emulated-device class. A *provider* (emudev driver) owns the PCI side: configuration space, BARs, registers, admin-queue
 * transport, interrupts, resets. A *back end* (for a NIC: an ethdev driver) owns the data path. They are written by different
 * people and meet only here, through descriptions (queues, doorbells, interrupts, memory), attributes, channels and hooks.
 *
 * Readers of DPDK's rte_emudev proposal find its calls by name; where that proposal returned pointers into provider memory,
 * these return snapshots.
 */

import type { AttrType } from './attr-type.ts';

/** Where a device is in the life its application leads; see lifecycle.ts. */
export type EmudevState = 'allocated' | 'configured' | 'started' | 'stopped' | 'closed';
/** Is a consumer there, and has it mapped memory ("ready": at least one DMA mapping)? */
export type ConsumerState = 'absent' | 'connected' | 'ready';

/** What a device is; the same for as long as it lives. */
export interface EmudevInfo {
  /** Family name; provider and back end must agree on it (e.g. 'iavf'). */
  readonly devType: string;
  /** Version of the family contract; checked at attach. */
  readonly contractVersion: number;
  readonly name: string;
  readonly id: number;
  readonly maxQueuePairs: number;
  readonly numVectors: number;
}

/** What an application decides before it starts a device. */
export interface EmudevConfig {
  /** 1..maxQueuePairs; the provider's choice by default. */
  readonly queuePairs?: number;
}

/** A queue as the family numbers them; base and size are zero where only the back end's own protocol knows them. */
export interface QueueInfo {
  readonly base: bigint;
  readonly size: number;
  readonly doorbellId: number;
  readonly irqVector: number;
}

/** An interrupt vector. Any thread raises it through its cells (see vector.ts); `fd` is -1 while the consumer has assigned none. */
export interface IrqInfo {
  readonly vector: number;
  readonly fd: number;
  /** Window offset of the vector's cells. */
  readonly cells: number;
}

/**
 * `mem`: the consumer stores into a word that lies in the DMA window at `offset`; poll it. `trapped` tells whether the provider
 * hears of stores as well (and wakes sleepers) or whether only polling finds them.
 * `fd`: an eventfd is signalled. `trap`: the provider calls back with the value written.
 */
export type DoorbellInfo =
  | { readonly kind: 'mem'; readonly id: number; readonly offset: number; readonly trapped: boolean }
  | { readonly kind: 'fd'; readonly id: number; readonly fd: number }
  | {
    readonly kind: 'trap'; readonly id: number;
    /** Calls back on the control thread with every value the guest stores, until disposed. */
    subscribe(callback: (value: number) => void): Disposable;
  };

/** Guest memory; structurally GuestMemory of @emudev/pci (the class knows no transport and no bus). */
export interface MemTable {
  readonly generation: number;
  readonly iotlb: number;
  /** Copies `into.length` bytes of the guest's memory from `iova`. A promise where they have to be asked for by message; fails where the range is not mapped for reading. */
  read(iova: bigint, into: Uint8Array): void | Promise<void>;
  /** Copies `from` to the guest's memory at `iova`. A promise where it goes by message; fails where the range is not mapped for writing. */
  write(iova: bigint, from: Uint8Array): void | Promise<void>;
  /**
   * Window offset of a range that is contiguous there and may be accessed so; undefined otherwise, and for memory reached by message.
   * Holds until the thread does something else: for longer, `pin`.
   */
  translate(iova: bigint, lengthBytes: number, access: 'read' | 'write'): number | undefined;
  /**
   * A range of one mapping that stays where it is in the window: for rings. undefined as for `translate`, or where there is no room.
   * Until it is disposed of, or the mapping ends, which shows as a change of `generation`.
   */
  pin(iova: bigint, lengthBytes: number, access: 'read' | 'write'): (Disposable & { readonly offset: number }) | undefined;
  /** By the window alone, or also by messages; undefined where not all of the range can be reached. As `GuestMemory.reach` of @emudev/pci. */
  reach?(iova: bigint, lengthBytes: number, access: 'read' | 'write'): 'window' | 'messages' | undefined;
  /** Memory in the window for copies of what comes by messages. As `GuestMemory.bounce` of @emudev/pci. */
  bounce?(lengthBytes: number): (Disposable & { readonly iova: bigint; readonly offset: number; readonly sizeBytes: number }) | undefined;
}

declare const valueType: unique symbol;
/** A typed name: constants exported by a family's contract; the string form serves telemetry and the command line. */
export interface AttrKey<T> {
  readonly name: string;
  /** What values look like, here and as text. A provider may declare a narrower one; see attr-type.ts. */
  readonly type?: AttrType<T>;
  readonly [valueType]?: T;
}
/** The name of memory that provider and back end share. */
export interface RegionKey {
  readonly name: string;
}
/** The name of a channel, and what travels each way. */
export interface ChannelKey<ToProvider, ToBackEnd> {
  readonly name: string;
  readonly [valueType]?: [ToProvider, ToBackEnd];
}
/** The name of an event ring; what its records mean is the family's contract. */
export interface EventsKey {
  readonly name: string;
}
/** Names an attribute; without a `type` it has no text form and its values are checked by the provider alone. */
export const attrKey = <T>(name: string, type?: AttrType<T>): AttrKey<T> => (type === undefined ? { name } : { name, type });
/** Names a region. */
export const regionKey = (name: string): RegionKey => ({ name });
/** Names a channel. */
export const channelKey = <ToProvider, ToBackEnd>(name: string): ChannelKey<ToProvider, ToBackEnd> => ({ name });
/** Names an event ring. */
export const eventsKey = (name: string): EventsKey => ({ name });

/** An attribute as its provider offers it; made with `attribute` of attr-type.ts. Without `set` it is read only. */
export interface Attribute {
  /** Checked before `set` is called; absent: `set` checks by itself, and there is no text form. */
  readonly type?: AttrType<unknown>;
  /** The value now; whoever asks through `Emudev.getAttr` receives a copy. */
  get(): unknown;
  /** Throws an Error that says what a good value is. */
  set?(value: unknown): void;
}

/** One thing that a self-test looked at. */
export interface SelfTestCheck {
  readonly name: string;
  readonly passed: boolean;
  /** What was seen, or what is wrong. */
  readonly text: string;
}
/** What a self-test has found. */
export interface SelfTestReport {
  /** Every check has passed. */
  readonly passed: boolean;
  readonly checks: readonly SelfTestCheck[];
}

/**
 * An event ring for whoever opens an end of it, in any thread of this process (see event-ring.ts): where it lies in the window, and the
 * eventfd that wakes an event loop.
 */
export interface EventRingHandle {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly fd: number;
}

/** Memory that provider and back end share: its place in the window, and the file behind it where there is one. */
export interface SharedRegion {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly backing?: { readonly fd: number; readonly offset: number };
}

/**
 * Ordered messages between back end and provider. Messages to the back end are delivered one at a time: the next waits until the
 * handler's promise is settled. A handler that throws is reported as an event, never to the consumer.
 */
export interface Channel<Send, Receive> {
  /** Hands a message to the provider, at once and in order. A message that the provider does not accept makes it throw here. */
  send(message: Send): void;
  /** One handler; a second call replaces the first. */
  onMessage(handler: (message: Receive) => void | Promise<void>): Disposable;
}

/** What a guest did to one queue. `reset`: everything it had configured for it is void. */
export type QueueChange = 'start' | 'stop' | 'reset';
/** Why everything is void; see `BackEndHooks.reset`. */
export type ResetKind = 'function' | 'consumer-left' | 'family';
/** What of a consumer's has changed. */
export interface Update {
  /** Its memory: translate again. */
  readonly dma: boolean;
  /** Descriptors of vectors: ask `irqInfo` again. */
  readonly irqs: boolean;
}

/** What the back end hands over. Awaited in order; the reply to the consumer waits for them. Never two at a time. */
export interface BackEndHooks {
  /** The device is started; a back end that attaches to a started device is told at once. Throwing makes `Emudev.start` reject. */
  start?(): void | Promise<void>;
  /** The device is stopped, also before it is closed: serve nothing until the next `start`. */
  stop?(): void | Promise<void>;
  /** The consumer has mapped memory: memTable, irqInfo and doorbell answer from now on. */
  ready?(): void | Promise<void>;
  /** The consumer has gone. Memory is still mapped; when this resolves it will be unmapped. */
  destroyed?(reason: string): void | Promise<void>;
  /** Between lock and unlock: what changed. Take a new snapshot of it. */
  updated?(what: Update): void;
  /**
   * Everything the guest configured is void. 'function': FLR or device reset; 'family': the family's own reset (for iavf:
   * RESET_VF); 'consumer-left': see destroyed, called before it.
   */
  reset?(kind: ResetKind): void | Promise<void>;
  /** The guest has started, stopped or reset one queue. For providers that hear of it; others leave it to the family's channel. */
  queue?(queue: number, change: QueueChange): void | Promise<void>;
  /** Doorbell `id` is of another kind, or elsewhere, from now on: take a new `DoorbellInfo` before the old one is forgotten. */
  doorbell?(id: number): void | Promise<void>;
  /** When it resolves no thread of the back end touches guest memory or raises a vector, until unlock. */
  lock(reason: string): Promise<void>;
  /** Ends what `lock` began: guest memory and vectors may be used again. */
  unlock(): void;
}

/** What observers hear (`Emudev.on`), by name, with its arguments: after the back end's hook, not awaited. */
export interface EmudevEvents {
  ready: [];
  destroyed: [reason: string];
  updated: [what: Update];
  reset: [kind: ResetKind];
  queue: [queue: number, change: QueueChange];
  doorbell: [id: number];
  started: [];
  stopped: [];
  attributeChanged: [name: string];
  error: [error: unknown];
}

/** The device as back ends, applications and observers see it. */
export interface Emudev {
  readonly info: EmudevInfo;
  readonly state: EmudevState;
  readonly consumer: ConsumerState;
  /** allocated or stopped → configured. EMUDEV_BAD_STATE in any other state; EMUDEV_BAD_ARG: `queuePairs` is not 1..maxQueuePairs. */
  configure(config: EmudevConfig): Promise<void>;
  /** configured or stopped → started: the provider first, then the back end. EMUDEV_BAD_STATE; EMUDEV_TIMEOUT: the back end's `start` has not ended in time. A failed start leaves the state as it was. */
  start(): Promise<void>;
  /** started → stopped: the back end first, then the provider; harmless when stopped. EMUDEV_BAD_STATE while allocated, configured or closed; EMUDEV_TIMEOUT: the back end has not stopped in time, the device has. */
  stop(): Promise<void>;
  /** Any state → closed, for good: stops the device if it runs, takes leave of the consumer, ends the provider. EMUDEV_BAD_STATE when closed already; EMUDEV_TIMEOUT as `stop`. */
  close(): Promise<void>;
  /** Exactly one back end at a time; dispose to leave. `contractVersion` must match the provider's. */
  attach(hooks: BackEndHooks, contract: { readonly devType: string; readonly version: number }): AsyncDisposable;
  /** Calls `observer` after each event of this name until disposed, in any state. What an observer throws is an `error` event. */
  on<K extends keyof EmudevEvents>(event: K, observer: (...args: EmudevEvents[K]) => void): Disposable;
  /** The consumer's memory. EMUDEV_NOT_READY while it has mapped none; EMUDEV_BAD_STATE after close. */
  memTable(): MemTable;
  /** A snapshot of a queue. EMUDEV_RANGE: there is no such queue; otherwise as `memTable`. */
  queueInfo(queue: number): QueueInfo;
  /** A snapshot of a vector; take a new one after `updated` with `irqs`. EMUDEV_RANGE: there is no such vector; otherwise as `memTable`. */
  irqInfo(vector: number): IrqInfo;
  /** How the guest rings doorbell `id`; `watchDoorbell` listens to any kind. EMUDEV_RANGE: there is no such doorbell; otherwise as `memTable`. */
  doorbell(id: number): DoorbellInfo;
  /** EMUDEV_NO_ATTR for an unknown name. */
  getAttr<T>(key: AttrKey<T>): T;
  /** EMUDEV_NO_ATTR; EMUDEV_UNSUPPORTED: read only; EMUDEV_BAD_ARG: no such value, and the provider has not seen it. */
  setAttr<T>(key: AttrKey<T>, value: T): void;
  /** The names of all attributes, in the provider's order; also after close. */
  attrNames(): readonly string[];
  /** For telemetry and command lines. EMUDEV_NO_ATTR; EMUDEV_UNSUPPORTED where the provider has declared no type. */
  getAttrText(name: string): string;
  /** As `setAttr`, from text; EMUDEV_UNSUPPORTED as `getAttrText`. */
  setAttrText(name: string, text: string): void;
  /** EMUDEV_NO_REGION for an unknown name; EMUDEV_RANGE where the region has fewer than `minBytes`. */
  mapRegion(key: RegionKey, minBytes?: number): SharedRegion;
  /** The names of the regions that the provider lists; also after close. */
  regionNames(): readonly string[];
  /** EMUDEV_NO_CHANNEL for an unknown name. */
  channel<S, R>(key: ChannelKey<S, R>): Channel<S, R>;
  /** An event ring of the provider; open an end with `EventConsumer` or `EventProducer`. EMUDEV_NO_CHANNEL for an unknown name. */
  events(key: EventsKey): EventRingHandle;
  /**
   * What the provider thinks of itself. In any state but closed, one at a time with configure, start, stop and close.
   * EMUDEV_UNSUPPORTED where the provider has no self-test; EMUDEV_BAD_STATE where it would disturb a consumer that is there.
   */
  selfTest(): Promise<SelfTestReport>;
  /**
   * The device resets itself, as hardware that fails does, or a host that resets a virtual function: what the guest has set up in the
   * device is void, its configuration space stays, and its driver has to find out. In any state but closed, one at a time with
   * configure, start, stop, close and selfTest. EMUDEV_UNSUPPORTED where the provider has no reset of its own.
   */
  reset(): Promise<void>;
}

/** What a provider (emudev driver) implements; the class adds state checks, naming, and the back end's side. */
export interface EmudevProvider {
  readonly devType: string;
  readonly contractVersion: number;
  readonly maxQueuePairs: number;
  readonly numVectors: number;
  /** Called by `Emudev.configure` once state and `queuePairs` are checked; throwing leaves the state as it was. */
  configure?(config: EmudevConfig): void | Promise<void>;
  /** Called before the back end's `start`; throwing leaves the state as it was. */
  start?(): void | Promise<void>;
  /** Called after the back end's `stop`, also to undo a start that the back end has failed. */
  stop?(): void | Promise<void>;
  /** Called once, when the device is stopped and its consumer is gone: give everything back. */
  close?(): void | Promise<void>;
  /** The consumer's memory; asked only between `ProviderPort.ready` and `destroyed`. */
  memTable(): MemTable;
  /** A queue's description now; undefined for a number it does not have. */
  queueInfo(queue: number): QueueInfo | undefined;
  /** A vector's description now; undefined for a number it does not have. */
  irqInfo(vector: number): IrqInfo | undefined;
  /** A doorbell's description now; undefined for a number it does not have. */
  doorbell(id: number): DoorbellInfo | undefined;
  readonly attributes: ReadonlyMap<string, Attribute>;
  /** The shared region of this name; undefined where there is none. */
  region(name: string): SharedRegion | undefined;
  /** The names `region` knows; absent: none that anybody should see listed. */
  regionNames?(): readonly string[];
  /** The back end's end of the channel of this name; undefined where there is none. */
  channel(name: string): Channel<unknown, unknown> | undefined;
  /** Where the event ring of this name lies; undefined where there is none. Absent: it has no rings. */
  events?(name: string): EventRingHandle | undefined;
  /** Throws EMUDEV_BAD_STATE rather than disturb a consumer. A check that fails is a result, not an error. */
  selfTest?(): readonly SelfTestCheck[] | Promise<readonly SelfTestCheck[]>;
  /** Resets the device and keeps its configuration space; calls `ProviderPort.reset('family')` on the way. */
  familyReset?(): void | Promise<void>;
}

/** The class's side towards its provider: how a provider reports what the consumer did. Returned by `EmudevRegistry.allocate`. */
export interface ProviderPort {
  readonly device: Emudev;
  /*
   * Each runs the back end's hooks (no-ops while none is attached) and then informs observers. What a hook throws is reported as
   * an `error` event; only `lock` and `suspend` reject, because what follows it would not be safe.
   */
  /** A consumer is there, without memory so far: `Emudev.consumer` is 'connected'. */
  connected(): void;
  /** The consumer has mapped memory. Runs the back end's `ready` once until `destroyed`; further calls do nothing. */
  ready(): Promise<void>;
  /** Calls the back end's reset('consumer-left') and destroyed, locked; then the consumer is absent. */
  destroyed(reason: string): Promise<void>;
  /** Memory or vectors have changed; call it between `lock` and `unlock`. Runs the back end's `updated` at once. */
  updated(what: Update): void;
  /** Locked: within the provider's own lock … unlock where that is open, 'family' always in a bracket of its own. */
  reset(kind: ResetKind): Promise<void>;
  /** In order with the other hooks, not locked. */
  queueChanged(queue: number, change: QueueChange): Promise<void>;
  /** As `queueChanged`. `doorbell(id)` answers with the new description already; the old one works until this resolves. */
  doorbellChanged(id: number): Promise<void>;
  /** Rejects with EMUDEV_TIMEOUT when the back end has not locked within the registry's deadline; then it is not held. */
  lock(reason: string): Promise<void>;
  /** Harmless when `lock` is not held, also after one that was rejected. */
  unlock(): void;
  /**
   * Keeps the back end locked for as long as the device may not use memory (bus mastering off), without a bracket: resets,
   * departures and applications go on. Nests with lock … unlock; the back end sees one lock. Rejects as `lock` does.
   */
  suspend(reason: string): Promise<void>;
  /** Ends what `suspend` began; the back end is unlocked when no other lock holds it. */
  resume(): Promise<void>;
  /** The provider has changed an attribute by itself: an `attributeChanged` event. `Emudev.setAttr` reports its own. */
  attributeChanged(name: string): void;
  /** Something went wrong that no caller waits for: an `error` event. */
  error(error: unknown): void;
}
