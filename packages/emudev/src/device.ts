/**
 * The emulated-device class. A *provider* (emudev driver) owns the PCI side: configuration space, BARs, registers, admin-queue
 * transport, interrupts, resets. A *back end* (for a NIC: an ethdev driver) owns the data path. They are written by different
 * people and meet only here, through descriptions (queues, doorbells, interrupts, memory), attributes, channels and hooks.
 *
 * Readers of DPDK's rte_emudev proposal find its calls by name; where that proposal returned pointers into provider memory,
 * these return snapshots.
 */

export type EmudevState = 'allocated' | 'configured' | 'started' | 'stopped' | 'closed';
/** Is a consumer there, and has it mapped memory ("ready": at least one DMA mapping)? */
export type ConsumerState = 'absent' | 'connected' | 'ready';

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

export interface EmudevConfig {
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
  | { readonly kind: 'trap'; readonly id: number; subscribe(callback: (value: number) => void): Disposable };

/** Guest memory; structurally GuestMemory of @emudev/pci (the class knows no transport and no bus). */
export interface MemTable {
  readonly generation: number;
  readonly iotlb: number;
  read(iova: bigint, into: Uint8Array): void | Promise<void>;
  write(iova: bigint, from: Uint8Array): void | Promise<void>;
  translate(iova: bigint, lengthBytes: number, access: 'read' | 'write'): number | undefined;
}

declare const valueType: unique symbol;
/** A typed name: constants exported by a family's contract; the string form serves telemetry and the command line. */
export interface AttrKey<T> {
  readonly name: string;
  readonly [valueType]?: T;
}
export interface RegionKey {
  readonly name: string;
}
export interface ChannelKey<ToProvider, ToBackEnd> {
  readonly name: string;
  readonly [valueType]?: [ToProvider, ToBackEnd];
}
export const attrKey = <T>(name: string): AttrKey<T> => ({ name });
export const regionKey = (name: string): RegionKey => ({ name });
export const channelKey = <ToProvider, ToBackEnd>(name: string): ChannelKey<ToProvider, ToBackEnd> => ({ name });

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
  send(message: Send): void;
  /** One handler; a second call replaces the first. */
  onMessage(handler: (message: Receive) => void | Promise<void>): Disposable;
}

export type ResetKind = 'function' | 'consumer-left' | 'family';
export interface Update {
  readonly dma: boolean;
  readonly irqs: boolean;
}

/** What the back end hands over. Awaited in order; the reply to the consumer waits for them. Never two at a time. */
export interface BackEndHooks {
  start?(): void | Promise<void>;
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
  /** When it resolves no thread of the back end touches guest memory or raises a vector, until unlock. */
  lock(reason: string): Promise<void>;
  unlock(): void;
}

export interface EmudevEvents {
  ready: [];
  destroyed: [reason: string];
  updated: [what: Update];
  reset: [kind: ResetKind];
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
  configure(config: EmudevConfig): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
  close(): Promise<void>;
  /** Exactly one back end at a time; dispose to leave. `contractVersion` must match the provider's. */
  attach(hooks: BackEndHooks, contract: { readonly devType: string; readonly version: number }): AsyncDisposable;
  on<K extends keyof EmudevEvents>(event: K, observer: (...args: EmudevEvents[K]) => void): Disposable;
  memTable(): MemTable;
  queueInfo(queue: number): QueueInfo;
  irqInfo(vector: number): IrqInfo;
  doorbell(id: number): DoorbellInfo;
  getAttr<T>(key: AttrKey<T>): T;
  setAttr<T>(key: AttrKey<T>, value: T): void;
  attrNames(): readonly string[];
  mapRegion(key: RegionKey): SharedRegion;
  channel<S, R>(key: ChannelKey<S, R>): Channel<S, R>;
}

/** What a provider (emudev driver) implements; the class adds state checks, naming, and the back end's side. */
export interface EmudevProvider {
  readonly devType: string;
  readonly contractVersion: number;
  readonly maxQueuePairs: number;
  readonly numVectors: number;
  configure?(config: EmudevConfig): void | Promise<void>;
  start?(): void | Promise<void>;
  stop?(): void | Promise<void>;
  close?(): void | Promise<void>;
  memTable(): MemTable;
  queueInfo(queue: number): QueueInfo | undefined;
  irqInfo(vector: number): IrqInfo | undefined;
  doorbell(id: number): DoorbellInfo | undefined;
  readonly attributes: ReadonlyMap<string, { get(): unknown; set?(value: unknown): void }>;
  region(name: string): SharedRegion | undefined;
  channel(name: string): Channel<unknown, unknown> | undefined;
}

/** The class's side towards its provider: how a provider reports what the consumer did. Returned by `EmudevRegistry.allocate`. */
export interface ProviderPort {
  readonly device: Emudev;
  /*
   * Each runs the back end's hooks (no-ops while none is attached) and then informs observers. What a hook throws is reported as
   * an `error` event; only `lock` and `suspend` reject, because what follows it would not be safe.
   */
  connected(): void;
  ready(): Promise<void>;
  /** Calls the back end's reset('consumer-left') and destroyed, locked; then the consumer is absent. */
  destroyed(reason: string): Promise<void>;
  updated(what: Update): void;
  /** Locked: within the provider's own lock … unlock where that is open, 'family' always in a bracket of its own. */
  reset(kind: ResetKind): Promise<void>;
  lock(reason: string): Promise<void>;
  /** Harmless when `lock` is not held, also after one that was rejected. */
  unlock(): void;
  /**
   * Keeps the back end locked for as long as the device may not use memory (bus mastering off), without a bracket: resets,
   * departures and applications go on. Nests with lock … unlock; the back end sees one lock. Rejects as `lock` does.
   */
  suspend(reason: string): Promise<void>;
  resume(): Promise<void>;
  attributeChanged(name: string): void;
  error(error: unknown): void;
}
