/** The card as a PCI device: what a consumer does to it, put together from the parts beside this file. */
import { Window } from '@emudev/dma';
import { createChannel, EmudevError, type Emudev, type EmudevProvider, type MemTable, type ProviderChannel, type ProviderPort, type ResetKind } from '@emudev/emudev';
import { IRQ_INFO_EVENTFD, IRQ_ERR, IRQ_MSIX, REGION_BAR0, REGION_BAR3, REGION_CONFIG, type ConfigSpace, type DetachReason, type IrqDescription, type MsixRegion, type PciDevice, type PciHost, type QuiesceReason, type RegionDescription } from '@emudev/pci';
import { AdminQueue, type AdminCounters } from './admin-queue.ts';
import { IavfAttributes } from './attributes.ts';
import { BAR3_BYTES, iavfConfigSpace, iavfMsixRegion } from './config-space.ts';
import { ATTR_RESET_STATE, type MailboxReply, type MailboxRequest } from './contract.ts';
import { DmaGate } from './dma-gate.ts';
import { DoorbellPages } from './doorbells.ts';
import { Interrupts } from './interrupts.ts';
import { RESET_SETTLE_MS } from './limits.ts';
import { iavfProvider } from './provider.ts';
import { BAR0_BYTES, RSTAT_ACTIVE, RSTAT_IN_PROGRESS } from './register-table.ts';
import { RegisterFile } from './registers.ts';
import { ResetSequence } from './reset.ts';

/** `map`: a consumer may map the doorbell pages, a doorbell is a store. `trap`: a doorbell is a message. */
export type DoorbellMode = 'map' | 'trap';

/** What an `IavfDevice` is made of: speed in Mb/s, MAC address in 6 bytes. */
export interface IavfDeviceOptions {
  readonly name: string;
  readonly mac: Uint8Array;
  readonly maxQueuePairs: number;
  readonly doorbell: DoorbellMode;
  readonly speedMbps: number;
  /** Makes the emudev of the device's provider. */
  register(provider: EmudevProvider): ProviderPort;
}

/** Owned by its emudev: `Emudev.close` ends it. After that reads answer all ones and writes are ignored. */
export class IavfDevice implements PciDevice {
  readonly name: string;
  readonly regions: readonly RegionDescription[];
  readonly irqs: readonly IrqDescription[];
  readonly resettable = true;
  readonly #port: ProviderPort;
  readonly #config: ConfigSpace;
  readonly #msix: MsixRegion;
  readonly #doorbells: DoorbellPages;
  readonly #interrupts: Interrupts;
  readonly #registers: RegisterFile;
  readonly #admin: AdminQueue;
  readonly #mailbox: ProviderChannel<MailboxReply, MailboxRequest>;
  readonly #gate = new DmaGate();
  readonly #resets: ResetSequence = new ResetSequence((kind) => this.#reset(kind));
  /** What `close` gives back, first made first. */
  readonly #resources: Disposable[] = [];
  #host: PciHost | undefined;
  #departure: DetachReason = 'closed';
  /** The consumer has mapped memory; the back end hears of it when the change is over. */
  #mapped = false;
  #ready = false;
  #quiesced = false;
  #closed = false;
  #busMaster = false;
  /** The back end is locked because bus mastering went off while a guest was using it. */
  #suspended = false;
  /** What the last configuration write began, if it changed bus mastering. */
  #busMasterChange: Promise<void> | undefined;
  /** A request that a reset gave up waiting for is still being worked on: whatever the back end sends now may belong to it. */
  #disowned = false;

  constructor(options: IavfDeviceOptions) {
    const vectors = options.maxQueuePairs + 1;
    this.name = options.name;
    // Power-on: nobody there, nothing mapped, bus mastering off.
    for (const reason of ['no consumer', 'not ready', 'bus master off'] as const) void this.#gate.shut(reason);
    this.#config = iavfConfigSpace(vectors, {
      onCommand: ({ busMaster }) => { this.#busMasterChange = busMaster === this.#busMaster ? undefined : this.#setBusMaster(busMaster); },
      onFlr: () => this.#resets.request('function'),
    });
    this.#msix = iavfMsixRegion(vectors);
    this.#mailbox = createChannel<MailboxReply, MailboxRequest>({
      onSend: (message) => { this.#fromBackEnd(message); },
      onHandlerError: (error) => { this.#port.error(error); },
    });
    this.#admin = new AdminQueue({
      gate: this.#gate,
      deliver: (request) => this.#mailbox.deliver(request),
      onDelivered: () => { this.#interrupts.adminEvent(); },
      onConsumed: () => { this.#interrupts.consumed(); },
      onError: (error) => { this.#port.error(error); },
    });
    const attributes = new IavfAttributes({ ...options, resetState: () => this.#registers.get('VFGEN_RSTAT') });
    try {
      const window = this.#owned(Window.open());
      this.#doorbells = this.#owned(new DoorbellPages(window, options.name));
      this.#interrupts = this.#owned(new Interrupts(window, vectors, this.#doorbells, { unconsumed: () => this.#admin.unconsumed }));
      this.#registers = new RegisterFile(this.#doorbells, { ...this.#interrupts.handlers, ...this.#admin.handlers });
      this.#interrupts.bind(this.#registers);
      this.#admin.bind(this.#registers);
      this.#port = options.register(iavfProvider({
        maxQueuePairs: options.maxQueuePairs,
        trapped: options.doorbell === 'trap',
        attributes,
        doorbells: this.#doorbells,
        interrupts: this.#interrupts,
        mailbox: this.#mailbox.channel,
        memTable: () => this.#memory(),
        close: () => { this.#close(); },
        familyReset: () => this.#resets.request('family'),
      }));
    } catch (error) {
      this.#close();
      throw error;
    }
    this.regions = [
      { index: REGION_BAR0, sizeBytes: BAR0_BYTES, readable: true, writable: true, ...(options.doorbell === 'map' ? { mmap: this.#doorbells.mmap } : {}) },
      { index: REGION_BAR3, sizeBytes: BAR3_BYTES, readable: true, writable: true },
      this.#config.region,
    ];
    // No NORESIZE: QEMU takes all descriptors away and gives more when a guest unmasks another vector.
    this.irqs = [
      { index: IRQ_MSIX, count: vectors, flags: IRQ_INFO_EVENTFD },
      // Never signalled: nothing goes wrong that a guest could recover. QEMU warns at every start about a device without it.
      { index: IRQ_ERR, count: 1, flags: IRQ_INFO_EVENTFD },
    ];
  }

  /** The device as back ends and applications see it. */
  get emudev(): Emudev {
    return this.#port.device;
  }

  /** What the admin queues have counted so far, as a copy. */
  get counters(): Readonly<AdminCounters> {
    return { ...this.#admin.counters };
  }

  attach(host: PciHost): void {
    if (this.#closed) throw new EmudevError('EMUDEV_BAD_STATE', `${this.name} is closed`);
    this.#host = host;
    this.#gate.memory = host.memory;
    this.#takeFds(0, this.#interrupts.vectors);
    this.#gate.open('no consumer');
    this.#port.connected();
  }

  async detach(reason: DetachReason): Promise<void> {
    if (this.#closed || this.#host === undefined) return;
    this.#departure = reason;
    await this.#gate.shut('no consumer');
    // Power-on state for the next consumer; in it the back end lets go of memory, so only now may it be forgotten.
    await this.#resets.request('consumer-left');
    this.#host = undefined;
    this.#gate.memory = undefined;
    this.#mapped = false;
    this.#ready = false;
    void this.#gate.shut('not ready');
    if (!this.#isClosed()) this.#takeFds(0, this.#interrupts.vectors);
    this.resume();
  }

  read(region: number, offset: number, into: Uint8Array): void {
    if (this.#closed) into.fill(0xff);
    else if (region === REGION_BAR0) this.#registers.read(offset, into);
    else if (region === REGION_BAR3) this.#msix.read(offset, into);
    else if (region === REGION_CONFIG) this.#config.read(offset, into);
    else into.fill(0xff);
  }

  /** Returns a promise only for what the consumer has to wait for: a function level reset, a change of bus mastering. */
  write(region: number, offset: number, from: Uint8Array): void | Promise<void> {
    if (this.#closed) return;
    if (region === REGION_BAR0) this.#registers.write(offset, from);
    else if (region === REGION_BAR3) this.#msix.write(offset, from);
    else if (region === REGION_CONFIG) return this.#writeConfig(offset, from);
  }

  async quiesce(reason: QuiesceReason): Promise<void> {
    if (this.#closed) return;
    await this.#resets.quiesce();
    this.#quiesced = true;
    try {
      await this.#gate.shut('quiesced');
      this.#interrupts.hold();
      await this.#port.lock(reason);
    } catch (error) {
      this.resume();
      throw error;
    }
  }

  resume(): void {
    if (!this.#quiesced) return;
    this.#quiesced = false;
    this.#port.unlock();
    // Before the gate opens: a RESET_VF that has waited comes first.
    this.#resets.resume();
    if (this.#closed) return;
    this.#interrupts.resume();
    this.#openGate('quiesced');
    this.#announceReady();
  }

  memoryChanged(): void {
    this.#mapped = true;
    if (this.#ready) this.#port.updated({ dma: true, irqs: false });
    if (!this.#quiesced) this.#announceReady();
  }

  irqsChanged(index: number, start: number, count: number): void {
    if (index !== IRQ_MSIX || this.#closed) return;
    this.#takeFds(start, Math.min(start + count, this.#interrupts.vectors));
    if (this.#ready) this.#port.updated({ dma: false, irqs: true });
    if (!this.#quiesced) this.#interrupts.resume();
  }

  async reset(): Promise<void> {
    if (!this.#closed) await this.#resets.request('function');
  }

  #owned<T extends Disposable>(resource: T): T {
    this.#resources.push(resource);
    return resource;
  }

  #memory(): MemTable {
    if (this.#host === undefined) throw new EmudevError('EMUDEV_NOT_READY', `${this.name} has no consumer`);
    return this.#host.memory;
  }

  #takeFds(start: number, end: number): void {
    for (let vector = start; vector < end; vector++) this.#interrupts.setFd(vector, this.#host?.irqFd(IRQ_MSIX, vector) ?? -1);
  }

  #openGate(reason: Parameters<DmaGate['open']>[0]): void {
    if (this.#gate.open(reason)) this.#admin.kick();
  }

  #announceReady(): void {
    const host = this.#host;
    if (!this.#mapped || this.#ready || host === undefined) return;
    this.#ready = true;
    // No request reaches the back end before it is ready for one.
    void this.#port.ready().then(() => {
      if (this.#host === host && !this.#closed) this.#openGate('not ready');
    });
  }

  #fromBackEnd(message: MailboxReply): void {
    if (this.#closed || this.#disowned) return;
    if (message.kind === 'message') this.#admin.send(message);
    else void this.#resets.request('family');
  }

  #writeConfig(offset: number, from: Uint8Array): void | Promise<void> {
    this.#busMasterChange = undefined;
    const flr = this.#config.write(offset, from);
    const change = this.#busMasterChange as Promise<void> | undefined;
    if (flr === undefined && change === undefined) return;
    return Promise.all([flr, change]).then(() => undefined);
  }

  async #setBusMaster(on: boolean): Promise<void> {
    this.#busMaster = on;
    if (on) {
      if (this.#suspended) await this.#port.resume();
      this.#suspended = false;
      if (this.#closed) return;
      this.#interrupts.setBusMaster(true);
      this.#openGate('bus master off');
      return;
    }
    await this.#gate.shut('bus master off');
    try {
      if (this.#ready) {
        await this.#port.suspend('bus master off');
        this.#suspended = true;
      }
    } catch (error) {
      this.#port.error(error);
    }
    if (!this.#isClosed()) this.#interrupts.setBusMaster(false);
  }

  /**
   * One reset (reset.ts has the states). 'family' is RESET_VF: configuration space, MSI-X and bus mastering stay. The registers go
   * first, because a driver that sees VF_ARQLEN1.ENABLE at 0 knows that the reset has begun; they go once more at the end,
   * for what lcores and mapped doorbells have left there meanwhile.
   */
  async #reset(kind: ResetKind): Promise<void> {
    const inFlight = this.#gate.shut('reset');
    this.#registers.frozen = true;
    this.#clearRegisters();
    this.#registers.set('VFGEN_RSTAT', RSTAT_IN_PROGRESS);
    this.#gate.abandonWaiting();
    this.#mailbox.clear();
    this.#port.attributeChanged(ATTR_RESET_STATE.name);
    try {
      await inFlight;
      await this.#backEndSettled();
      if (kind === 'consumer-left') await this.#port.destroyed(this.#departure);
      else await this.#port.reset(kind);
      if (kind !== 'family') await this.#powerOnFunction();
    } catch (error) {
      this.#port.error(error);
    }
    if (this.#closed) return;
    this.#clearRegisters();
    this.#registers.frozen = false;
    this.#registers.set('VFGEN_RSTAT', RSTAT_ACTIVE);
    this.#openGate('reset');
    this.#port.attributeChanged(ATTR_RESET_STATE.name);
  }

  #clearRegisters(): void {
    this.#registers.reset();
    this.#admin.clear();
    this.#interrupts.clear();
    this.#doorbells.clear();
  }

  async #powerOnFunction(): Promise<void> {
    this.#config.reset();
    this.#msix.reset();
    this.#busMaster = false;
    void this.#gate.shut('bus master off');
    if (!this.#closed) this.#interrupts.setBusMaster(false);
    // Bus mastering is off again, but by power-on: there is nothing of the guest's left to keep still.
    if (this.#suspended) await this.#port.resume();
    this.#suspended = false;
  }

  /** Waits for the request the back end is working on; its reply must not reach the guest after the reset. */
  async #backEndSettled(): Promise<void> {
    const { promise: late, resolve } = Promise.withResolvers<'late'>();
    const deadline = setTimeout(resolve, RESET_SETTLE_MS, 'late');
    const settled = this.#mailbox.settled();
    const outcome = await Promise.race([settled, late]);
    clearTimeout(deadline);
    if (outcome !== 'late') return;
    this.#disowned = true;
    void settled.then(() => { this.#disowned = false; });
    this.#port.error(new EmudevError('EMUDEV_TRANSPORT', `${this.name}: the back end is still at a request ${RESET_SETTLE_MS} ms after a reset began; its reply will be dropped`));
  }

  /** After an await the answer may have changed. */
  #isClosed(): boolean {
    return this.#closed;
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#gate.memory = undefined;
    void this.#gate.shut('no consumer');
    this.#gate.abandonWaiting();
    this.#mailbox.clear();
    for (const resource of this.#resources.splice(0).reverse()) resource[Symbol.dispose]();
  }
}
