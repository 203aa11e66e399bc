import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { LCORE_EVENTS_CHANNEL, type DatapathSpec, type LcoreEvent, type LinkStatus, type PortConfig, type PortInfo, type PortStats, SoftwarePort, basicXstats } from '@emudev/ethdev';
import type { BackEndHooks, Channel, Emudev } from '@emudev/emudev';
import { ATTR_LINK, ATTR_MAC, ATTR_QUEUE_PAIRS, IAVF_CONTRACT, MAILBOX, MAX_FRAME_BYTES, MAX_QUEUE_PAIRS, type LinkState, type MailboxReply, type MailboxRequest } from '@emudev/iavf-emu/contract';
import { Adapter } from './adapter.ts';
import { GuestLink } from './link.ts';
import { Mailbox, report } from './mailbox.ts';
import { FAULT_NAMES } from './ring.ts';

export const DRIVER_NAME = 'net_iavf_be';

/**
 * The back end of one emulated iavf card, as a port: what the guest transmits is received here, what is sent here the guest
 * receives. The port stays when guests come and go; its link is up while a guest has queues enabled.
 */
export class IavfBackEndPort extends SoftwarePort {
  readonly #adapter: Adapter;
  readonly #mailbox: Mailbox;
  readonly #link: GuestLink;
  readonly #attachment = new AsyncDisposableStack();

  /** Attaches to `emudev`. Throws EmudevError where it has a back end already or is of another family, DmaError where the window is full. */
  static async open(name: string, emudev: Emudev, mac?: Uint8Array): Promise<IavfBackEndPort> {
    const mailbox = emudev.channel(MAILBOX);
    if (mac !== undefined) emudev.setAttr(ATTR_MAC, mac);
    const port = new IavfBackEndPort(name, new Adapter(emudev), mailbox);
    try {
      port.#attach(mailbox);
      return port;
    } catch (error) {
      await port.close();
      throw error;
    }
  }

  private constructor(name: string, adapter: Adapter, mailbox: Channel<MailboxReply, MailboxRequest>) {
    const { emudev } = adapter;
    const info: PortInfo = {
      name,
      driver: DRIVER_NAME,
      maxRxQueues: Math.min(MAX_QUEUE_PAIRS, emudev.info.maxQueuePairs),
      // Whatever queue a frame is sent on, RSS chooses the guest's ring; the lcores that send take turns, a burst each.
      maxTxQueues: MAX_QUEUE_PAIRS,
      // A frame for the guest must be complete: there is nobody behind us to finish it.
      txCapabilities: 0,
      takesLoans: true,
      maxFrameBytes: MAX_FRAME_BYTES,
      mac: emudev.getAttr(ATTR_MAC),
    };
    const { speedMbps } = emudev.getAttr(ATTR_LINK);
    super(info, speedMbps);
    this.#adapter = this.#attachment.use(adapter);
    adapter.onBounce = (ring, error) => {
      const which = `${ring.direction} ring ${ring.pair}`;
      if (error === undefined) report({ port: name, event: 'ring-bounced', message: `${which} uses memory that came without a descriptor: every frame costs messages` });
      else report({ port: name, event: 'ring-unreachable', message: `${which} stands still: ${error instanceof Error ? error.message : String(error)}` });
    };
    this.#link = new GuestLink(speedMbps, (link) => {
      this.#showLink(link);
    });
    this.#mailbox = new Mailbox(name, adapter, mailbox, () => this.#link.state, () => {
      this.setLink(adapter.running);
    });
  }

  #attach(mailbox: Channel<MailboxReply, MailboxRequest>): void {
    const { emudev } = this.#adapter;
    this.#attachment.use(emudev.attach(this.#hooks(), IAVF_CONTRACT));
    this.#attachment.use(mailbox.onMessage((request) => this.#mailbox.handle(request)));
    this.#attachment.use(
      emudev.on('attributeChanged', (attribute) => {
        if (attribute === ATTR_MAC.name || attribute === ATTR_QUEUE_PAIRS.name) this.#adapter.provisioned();
      }),
    );
    const onLcoreEvent = (event: unknown): void => {
      // Until its turn is free no other lcore sends to the guest. Where one of them hangs as well, it is freed with the next lock.
      if ((event as LcoreEvent).kind === 'lcore-died') void this.#adapter.freeTurn().catch(() => {});
    };
    subscribe(LCORE_EVENTS_CHANNEL, onLcoreEvent);
    this.#attachment.defer(() => { unsubscribe(LCORE_EVENTS_CHANNEL, onLcoreEvent); });
    emudev.setAttr(ATTR_LINK, this.#link.state);
  }

  #hooks(): BackEndHooks {
    const adapter = this.#adapter;
    return {
      ready: () => {
        adapter.ready();
      },
      destroyed: () => {
        adapter.gone();
      },
      updated: ({ dma }) => {
        // Descriptors of interrupts live in the vectors' cells: nothing to take over.
        if (!dma || adapter.emudev.consumer !== 'ready') return;
        for (const ring of adapter.memoryChanged()) {
          report({ port: this.name, event: 'ring-lost', message: `${ring.direction} ring ${ring.pair} is not in mapped memory any more` });
        }
      },
      reset: (kind) => {
        adapter.reset(kind);
        this.setLink(false);
      },
      lock: () => adapter.lock(),
      unlock: () => {
        adapter.unlock();
      },
    };
  }

  #showLink(link: LinkState): void {
    const { emudev } = this.#adapter;
    if (emudev.state === 'closed') return;
    emudev.setAttr(ATTR_LINK, link);
    this.#mailbox.linkChanged();
  }

  /** The far end of the forwarding stream came or went: the guest sees it as carrier, at the speed of its own card. */
  setPeerLink(link: LinkStatus): void {
    this.#link.setPeer(link.up);
  }

  /** The module that lcores load, and what it is started with. */
  datapath(): DatapathSpec {
    return { module: new URL('./datapath.js', import.meta.url).href, init: { device: this.#adapter.device, misses: this.#adapter.misses, shared: (this.config?.txQueues ?? 1) > 1 } };
  }

  protected override onConfigure(config: PortConfig): void {
    this.#adapter.served = config.rxQueues;
    this.#adapter.setPeerTxCapabilities(config.peerTxCapabilities);
    this.#adapter.setLends(config.peerTakesLoans ?? false);
    this.#adapter.provisioned();
  }

  /** The guest's link goes up with the peer's. */
  protected override onStart(): void {
    this.#link.setServing(true);
  }

  protected override linkWhenStarted(): boolean {
    return this.#adapter.running;
  }

  /** The guest's link goes down; its rings stay configured. */
  protected override onStop(): void {
    this.#link.setServing(false);
  }

  /** Detaches from the emulated device. */
  protected override async onClose(): Promise<void> {
    this.#link.setServing(false);
    await this.#attachment.disposeAsync();
  }

  /** The port's directions: rx is what the guest sends. */
  override stats(): PortStats {
    return this.#adapter.statistics.port();
  }

  /** Counts anew; what the guest sees by GET_STATS goes on. */
  override resetStats(): void {
    this.#adapter.statistics.restartPort();
  }

  /** Besides DPDK's names: faults of the guest's rings by reason, resets, virtchnl requests. */
  override xstats(): ReadonlyMap<string, bigint> {
    const adapter = this.#adapter;
    const all = new Map<string, bigint>([...basicXstats(this.stats()), ...adapter.statistics.named()]);
    for (const [reason, name] of FAULT_NAMES) {
      all.set(`rx_fault_${name}`, adapter.tx.reduce((sum, ring) => sum + ring.faults(reason), 0n));
      all.set(`tx_fault_${name}`, adapter.rx.reduce((sum, ring) => sum + ring.faults(reason), 0n));
    }
    all.set('bounced_rings', BigInt([...adapter.tx, ...adapter.rx].filter((ring) => ring.bounced).length));
    all.set('guest_resets', adapter.resets);
    all.set('virtchnl_requests', this.#mailbox.requests);
    all.set('virtchnl_refused', this.#mailbox.refused);
    all.set('virtchnl_failed', this.#mailbox.failed);
    return all;
  }
}
