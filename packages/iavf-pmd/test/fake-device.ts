/**
 * An iavf function without a socket: registers, mailbox, and as much virtchnl as a driver needs, for tests of the driver's control
 * path. Each test replaces the answers it wants to be wrong. The real device is in the end-to-end tests.
 */
import type { Window, WindowMapping } from '@emudev/dma';
import { linux } from '@emudev/linux';
import {
  AdminFlag, AdminOpcode, Capability, Opcode, completedDescriptor, decodeAdminDescriptor, decodeConfigVsiQueues, decodeQueueSelect, encodeAdminDescriptor,
  encodeEvent, encodeVersion, encodeVfResources, replyDescriptor, type VfResources,
} from '@emudev/virtchnl';
import { DMA_BASE } from '../src/dma-memory.ts';
import {
  AQ_ENABLE, PCI_COMMAND, RSTAT_ACTIVE, VFGEN_RSTAT, VFINT_DYN_CTL01, VF_ARQBAH1, VF_ARQBAL1, VF_ARQH1, VF_ARQLEN1, VF_ARQT1, VF_ATQBAH1, VF_ATQBAL1, VF_ATQH1,
  VF_ATQLEN1, VF_ATQT1,
} from '../src/registers.ts';
import type { IavfMemory, IavfTransport } from '../src/transport.ts';

export interface Reply {
  readonly status?: number;
  readonly payload?: Uint8Array;
}

export const MAC: Uint8Array = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
export const RESOURCES: VfResources = {
  queuePairs: 4,
  maxVectors: 5,
  maxFrameBytes: 9728,
  capabilities: Capability.L2 | Capability.ADV_LINK_SPEED | Capability.RSS_PF,
  rssKeyBytes: 52,
  rssLutEntries: 64,
  vsis: [{ vsiId: 7, queuePairs: 4, type: 6, qsetHandle: 0, mac: MAC }],
};

export class FakeDevice implements IavfTransport {
  readonly requests: { readonly opcode: number; readonly payload: Uint8Array }[] = [];
  readonly registers: Map<number, number> = new Map<number, number>([[VFGEN_RSTAT, RSTAT_ACTIVE]]);
  readonly config: Map<number, number> = new Map<number, number>([[0, 0x8086], [2, 0x1889], [PCI_COMMAND, 0]]);
  /** Answer of an opcode instead of the usual one; undefined: none at all. */
  readonly answers: Map<number, () => Reply | undefined> = new Map<number, () => Reply | undefined>();
  readonly dmaMaps: Set<bigint> = new Set<bigint>();
  readonly posted: [register: number, value: number][] = [];
  /** What goes over the next delivered descriptor's datalen. */
  lieAboutLength: number | undefined;
  linkUp = true;
  vectorFd: number | undefined;
  isClosed = false;
  doorbells: { readonly tx: number; readonly rx: number } | undefined;
  readonly closed: Promise<unknown>;
  readonly #window: Window;
  #mapping: WindowMapping | undefined;
  #resolveClosed: (value: unknown) => void = () => {};

  constructor(window: Window, options: { mapped?: boolean } = {}) {
    this.#window = window;
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    if (options.mapped !== false) {
      const page = window.alloc(8192, 4096);
      this.doorbells = { tx: page, rx: page + 4096 };
    }
  }

  get window(): Window {
    return this.#window;
  }

  at(iova: bigint): number {
    return this.#mapping!.offset + Number(iova - DMA_BASE);
  }

  async readConfig16(offset: number): Promise<number> {
    return this.config.get(offset) ?? 0;
  }

  async writeConfig16(offset: number, value: number): Promise<void> {
    this.config.set(offset, value);
  }

  async read32(offset: number): Promise<number> {
    if (this.isClosed) throw new Error('closed');
    return this.registers.get(offset) ?? 0;
  }

  async write32(offset: number, value: number): Promise<void> {
    if (this.isClosed) throw new Error('closed');
    this.registers.set(offset, value);
    if (offset === VF_ATQT1) this.#run();
    if (offset === VFINT_DYN_CTL01 && (value & 1) !== 0 && this.#pending) this.#fire();
  }

  async post32(offset: number, value: number): Promise<void> {
    this.posted.push([offset, value]);
    await this.write32(offset, value);
  }

  async dmaMap({ iova, sizeBytes, fd }: IavfMemory): Promise<void> {
    this.dmaMaps.add(iova);
    // Rings and mailbox: buffers are not looked at here.
    if (iova !== DMA_BASE) return;
    this.#mapping = this.#window.map({ fd, fdOffset: 0, lengthBytes: sizeBytes, write: true });
  }

  async dmaUnmap(iova: bigint): Promise<void> {
    this.dmaMaps.delete(iova);
  }

  async setMiscVector(fd: number | undefined): Promise<void> {
    this.vectorFd = fd;
  }

  async close(): Promise<void> {
    this.vanish();
    if (this.doorbells !== undefined) this.#window.free(this.doorbells.tx);
    this.doorbells = undefined;
    this.#mapping?.[Symbol.dispose]();
    this.#mapping = undefined;
  }

  /** The process behind the socket dies. */
  vanish(): void {
    this.isClosed = true;
    this.#resolveClosed('gone');
  }

  #pending = false;
  #fire(): void {
    this.#pending = false;
    const armed = ((this.registers.get(VFINT_DYN_CTL01) ?? 0) & 1) !== 0;
    if (!armed || this.vectorFd === undefined) {
      this.#pending = true;
      return;
    }
    this.registers.set(VFINT_DYN_CTL01, 0);
    linux.eventfdSignal(this.vectorFd);
  }

  #base(low: number, high: number): number {
    return this.at((BigInt(this.registers.get(high) ?? 0) << 32n) | BigInt(this.registers.get(low) ?? 0));
  }

  #run(): void {
    const length = (this.registers.get(VF_ATQLEN1) ?? 0) & 0x3ff;
    while (((this.registers.get(VF_ATQLEN1) ?? 0) & AQ_ENABLE) !== 0 && this.registers.get(VF_ATQH1) !== this.registers.get(VF_ATQT1)) {
      const head = this.registers.get(VF_ATQH1) ?? 0;
      const slot = this.#base(VF_ATQBAL1, VF_ATQBAH1) + head * 32;
      const sent = decodeAdminDescriptor(this.#window.u8.slice(slot, slot + 32));
      const start = sent.dataLength > 0 ? this.at(sent.address) : 0;
      const payload = this.#window.u8.slice(start, start + sent.dataLength);
      this.#window.u8.set(encodeAdminDescriptor(completedDescriptor(sent, 0)), slot);
      this.registers.set(VF_ATQH1, (head + 1) % length);
      if (sent.opcode !== AdminOpcode.SEND_MSG_TO_PF) continue;
      this.requests.push({ opcode: sent.cookieHigh, payload });
      this.#answer(sent.cookieHigh, payload);
    }
  }

  #answer(opcode: number, payload: Uint8Array): void {
    if (opcode === Opcode.RESET_VF) {
      this.reset();
      return;
    }
    const special = this.answers.get(opcode);
    const reply = special === undefined ? this.#usual(opcode) : special();
    if (reply === undefined) return;
    this.deliver(opcode, reply.status ?? 0, reply.payload ?? new Uint8Array(0));
    if (opcode === Opcode.ENABLE_QUEUES && (reply.status ?? 0) === 0) {
      decodeQueueSelect(payload, opcode);
      this.sendLink();
    }
  }

  #usual(opcode: number): Reply {
    if (opcode === Opcode.VERSION) return { payload: encodeVersion() };
    if (opcode === Opcode.GET_VF_RESOURCES) return { payload: encodeVfResources(RESOURCES) };
    return {};
  }

  sendLink(): void {
    this.deliver(Opcode.EVENT, 0, encodeEvent({ kind: 'link-change', up: this.linkUp, speedMbps: 10_000 }, true));
  }

  reset(): void {
    for (const register of [VF_ATQH1, VF_ATQT1, VF_ATQLEN1, VF_ATQBAL1, VF_ATQBAH1, VF_ARQH1, VF_ARQT1, VF_ARQLEN1, VF_ARQBAL1, VF_ARQBAH1]) this.registers.set(register, 0);
    this.registers.set(VFGEN_RSTAT, RSTAT_ACTIVE);
  }

  deliver(opcode: number, status: number, payload: Uint8Array): void {
    const length = (this.registers.get(VF_ARQLEN1) ?? 0) & 0x3ff;
    const head = this.registers.get(VF_ARQH1) ?? 0;
    if (length === 0 || head === this.registers.get(VF_ARQT1)) throw new Error('no receive buffer posted');
    const slot = this.#base(VF_ARQBAL1, VF_ARQBAH1) + head * 32;
    const posted = decodeAdminDescriptor(this.#window.u8.slice(slot, slot + 32));
    if ((posted.flags & AdminFlag.BUF) === 0 || posted.dataLength < payload.length) throw new Error('the posted descriptor has no room');
    this.#window.u8.set(payload, this.at(posted.address));
    const reply = replyDescriptor(opcode, status, payload.length, posted.address);
    this.#window.u8.set(encodeAdminDescriptor({ ...reply, dataLength: this.lieAboutLength ?? reply.dataLength }), slot);
    this.registers.set(VF_ARQH1, (head + 1) % length);
    this.#fire();
  }

  /** Payload of the only request of its kind. */
  sent(opcode: number): Uint8Array {
    const found = this.requests.filter((r) => r.opcode === opcode);
    if (found.length !== 1) throw new Error(`${found.length} requests ${opcode}`);
    return found[0]!.payload;
  }

  queues(): ReturnType<typeof decodeConfigVsiQueues> {
    return decodeConfigVsiQueues(this.sent(Opcode.CONFIG_VSI_QUEUES));
  }
}
