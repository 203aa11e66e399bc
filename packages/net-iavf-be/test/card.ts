/** A card without a PCI side: the provider half that the back end meets, over a real window and the real device class. */
import { IovaSpace, Quiescence, Window } from '@emudev/dma';
import { createChannel, EmudevRegistry, VECTOR_CELLS_BYTES, type EmudevProvider, type ProviderPort } from '@emudev/emudev';
import { linux } from '@emudev/linux';
import { IAVF_CONTRACT_VERSION, IAVF_DEV_TYPE, MAILBOX, type LinkState, type MailboxReply, type MailboxRequest } from '@emudev/iavf-emu/contract';
import { encodeConfigVsiQueues, encodeGetVfResources, encodeQueueSelect, Opcode, type QueuePairConfig } from '@emudev/virtchnl';
import { IavfBackEndPort } from '../src/port.ts';

export type Message = Extract<MailboxReply, { kind: 'message' }>;

export const MAC: Uint8Array = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
/** Where guest memory begins, and how much there is. */
export const RAM_IOVA = 0x1_0000_0000n;
export const RAM_BYTES: number = 1 << 20;
/** What Linux 6.12 asks for. */
export const LINUX_CAPABILITIES = 0x1abd_8cf9;
export const FREEBSD_CAPABILITIES = 0x0009_0081;
/** RX_FLEX_DESC granted. */
export const RX_FORMATS_CAPABILITIES = 0x040e_80a1;

export class Card implements AsyncDisposable {
  readonly window: Window = Window.open();
  readonly vectors: number;
  readonly doorbells: number;
  readonly cells: number;
  readonly ram: number;
  readonly space: IovaSpace | undefined;
  /** The file of guest memory; -1 without. */
  readonly fd: number = -1;
  /** All that the back end has sent, oldest first. */
  readonly sent: MailboxReply[] = [];
  readonly errors: unknown[] = [];
  /** What `translate` permits. */
  access: { read: boolean; write: boolean; moved: number } = { read: true, write: true, moved: 0 };
  link: LinkState = { up: false, speedMbps: 10_000 };
  mac: Uint8Array = MAC;
  queuePairs: number;
  /** Allocated in the window before the back end came. */
  ownBytes = 0;
  provider!: ProviderPort;
  port!: IavfBackEndPort;
  readonly #channel: ReturnType<typeof createChannel<MailboxReply, MailboxRequest>>;

  private constructor(pairs: number, dma: boolean | 'by hand') {
    const vectors = pairs + 1;
    this.queuePairs = pairs;
    this.vectors = vectors;
    this.doorbells = this.window.alloc(0x3000, 4096);
    this.cells = this.window.alloc(vectors * VECTOR_CELLS_BYTES);
    if (dma !== false) {
      this.space = new IovaSpace(this.window);
      this.fd = linux.memfdCreate('guest', { allowSealing: true });
      linux.ftruncate(this.fd, RAM_BYTES);
      if (dma === true) this.space.map({ iova: RAM_IOVA, sizeBytes: RAM_BYTES, readable: true, writable: true, fd: this.fd });
    }
    const byHand = dma === 'by hand' ? this.window.map({ fd: this.fd, fdOffset: 0, lengthBytes: RAM_BYTES, write: true }).offset : undefined;
    this.ram = byHand ?? this.space?.translate(RAM_IOVA, RAM_BYTES, 'read') ?? this.window.alloc(RAM_BYTES, 4096);
    for (let v = 0; v < vectors; v++) this.window.i32[this.cell(v) + 2] = -1;
    this.#channel = createChannel<MailboxReply, MailboxRequest>({
      onSend: (message) => {
        this.sent.push(message);
      },
      onHandlerError: (error) => {
        this.errors.push(error);
      },
    });
  }

  /**
   * A card of `pairs` queue pairs with its back end, and a consumer that has mapped its memory: for real with `dma`, so that a
   * data path can reach it, else as `access` says. 'by hand': there is memory, and the test maps what it likes of it in `space`.
   */
  static async plug({ pairs = 4, maxPairs = pairs, mac, dma = false }: { pairs?: number; maxPairs?: number; mac?: Uint8Array; dma?: boolean | 'by hand' } = {}): Promise<Card> {
    const card = new Card(pairs, dma);
    const provider: EmudevProvider = {
      devType: IAVF_DEV_TYPE,
      contractVersion: IAVF_CONTRACT_VERSION,
      maxQueuePairs: maxPairs,
      numVectors: card.vectors,
      memTable: () => card.space ?? ({
        generation: 1,
        iotlb: 64,
        read: () => {},
        write: () => {},
        translate: (iova, length, access) => {
          const at = Number(iova - RAM_IOVA);
          return card.access[access] && at >= 0 && at + length <= RAM_BYTES ? card.ram + card.access.moved + at : undefined;
        },
        pin(iova, length, access) {
          const offset = this.translate(iova, length, access);
          return offset === undefined ? undefined : { offset, [Symbol.dispose]: () => {} };
        },
      }),
      queueInfo: (queue) => ({ base: 0n, size: 0, doorbellId: queue, irqVector: 0 }),
      irqInfo: (vector) => (vector < card.vectors ? { vector, fd: -1, cells: card.cells + vector * VECTOR_CELLS_BYTES } : undefined),
      doorbell: (id) => ({ kind: 'mem', id, trapped: true, offset: (id & 1) === 0 ? card.txTail((id - 2) / 2) : card.rxTail((id - 3) / 2) }),
      attributes: new Map<string, { get(): unknown; set?(value: unknown): void }>([
        ['mac', { get: () => card.mac, set: (value) => { card.mac = value as Uint8Array; } }],
        ['link', { get: () => card.link, set: (value) => { card.link = value as LinkState; } }],
        ['queuePairs', { get: () => card.queuePairs, set: (value) => { card.queuePairs = value as number; } }],
        ['resetState', { get: () => 2 }],
      ]),
      region: () => undefined,
      channel: (name) => (name === MAILBOX.name ? card.#channel.channel : undefined),
    };
    card.provider = new EmudevRegistry().allocate('emu_iavf0', provider);
    card.provider.device.on('error', (error) => {
      card.errors.push(error);
    });
    Quiescence.of(card.window);
    card.ownBytes = card.window.allocatedBytes;
    card.port = await IavfBackEndPort.open('net_iavf_be0', card.provider.device, mac);
    card.provider.connected();
    await card.provider.ready();
    return card;
  }

  txTail(pair: number): number {
    return this.doorbells + 4 * pair;
  }
  rxTail(pair: number): number {
    return this.doorbells + 0x2000 + 4 * pair;
  }
  /** Int32 index of a vector's cells. */
  cell(vector: number): number {
    return (this.cells + vector * VECTOR_CELLS_BYTES) >>> 2;
  }
  word(offset: number): number {
    return this.window.u32[offset >>> 2]!;
  }

  /** The state block that the kernels read. */
  get device(): number {
    return (this.port.datapath().init as { device: number }).device;
  }
  deviceWord(field: number): number {
    return this.word(this.device + field);
  }

  /** Sends a request; returns what it made the back end send. */
  async request(opcode: number, payload: Uint8Array = new Uint8Array(0)): Promise<MailboxReply[]> {
    const before = this.sent.length;
    await this.#channel.deliver({ opcode, payload });
    return this.sent.slice(before);
  }

  /** Sends a request that must have exactly one reply; events aside. */
  async ask(opcode: number, payload?: Uint8Array): Promise<Message> {
    // An EVENT with a body is ours; without, it is the answer to one that the guest has sent.
    const replies = (await this.request(opcode, payload)).filter((m): m is Message => m.kind === 'message' && (m.opcode !== Opcode.EVENT || m.payload.length === 0));
    if (replies.length !== 1 || replies[0]!.opcode !== opcode) throw new Error(`opcode ${opcode}: ${replies.length} replies`);
    return replies[0]!;
  }

  async status(opcode: number, payload?: Uint8Array): Promise<number> {
    return (await this.ask(opcode, payload)).status;
  }

  /** GET_VF_RESOURCES. */
  negotiate(capabilities: number | undefined = LINUX_CAPABILITIES): Promise<Message> {
    return this.ask(Opcode.GET_VF_RESOURCES, encodeGetVfResources(capabilities));
  }

  async configure(...pairs: QueuePairConfig[]): Promise<number> {
    return await this.status(Opcode.CONFIG_VSI_QUEUES, encodeConfigVsiQueues({ vsiId: 1, pairs }));
  }

  enable(txQueues: number, rxQueues: number): Promise<number> {
    return this.status(Opcode.ENABLE_QUEUES, encodeQueueSelect({ vsiId: 1, txQueues, rxQueues }));
  }

  disable(txQueues: number, rxQueues: number): Promise<number> {
    return this.status(Opcode.DISABLE_QUEUES, encodeQueueSelect({ vsiId: 1, txQueues, rxQueues }));
  }

  /** What the transport does around a change of the DMA table. */
  async changeMemory(change: () => void): Promise<void> {
    await this.provider.lock('dma-unmap');
    change();
    this.provider.updated({ dma: true, irqs: false });
    this.provider.unlock();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.port.close();
    await this.provider.device.close();
    this.space?.[Symbol.dispose]();
    if (this.fd >= 0) linux.close(this.fd);
    this.window[Symbol.dispose]();
  }
}

/** A valid pair; its rings lie in guest memory. */
export function pair(queueId: number, overrides: { tx?: Partial<QueuePairConfig['tx']>; rx?: Partial<QueuePairConfig['rx']> } = {}): QueuePairConfig {
  return {
    tx: { vsiId: 1, queueId, ringLength: 64, ringAddress: RAM_IOVA + BigInt(queueId * 0x4000), ...overrides.tx },
    rx: { vsiId: 1, queueId, ringLength: 64, ringAddress: RAM_IOVA + BigInt(queueId * 0x4000 + 0x2000), bufferBytes: 2048, maxPacketBytes: 1536, ...overrides.rx },
  };
}
