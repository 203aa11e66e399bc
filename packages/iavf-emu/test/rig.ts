/** An in-memory consumer and a small guest driver for the tests: guest RAM is a memfd, vectors are eventfds, registers are the device's. */
import { IovaSpace, Window } from '@emudev/dma';
import { EmudevRegistry, type BackEndHooks, type Channel, type Emudev } from '@emudev/emudev';
import { linux, OwnedFd } from '@emudev/linux';
import { IRQ_MSIX, REGION_BAR0, REGION_CONFIG, type PciHost } from '@emudev/pci';
import { ADMIN_DESCRIPTOR_BYTES, decodeAdminDescriptor, encodeAdminDescriptor, receiveDescriptor, requestDescriptor, type AdminDescriptor } from '@emudev/virtchnl';
import { IAVF_CONTRACT, MAILBOX, type MailboxReply, type MailboxRequest } from '../src/contract.ts';
import { IavfDevice, type DoorbellMode } from '../src/device.ts';
import { REGISTERS, type RegisterName } from '../src/register-table.ts';

export const RAM_IOVA = 0x1_0000_0000n;
export const RAM_BYTES: number = 4 << 20;
export const MAC: Uint8Array = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);

export interface RigOptions {
  readonly doorbell?: DoorbellMode;
  readonly maxQueuePairs?: number;
  /** Wraps the consumer's memory, e.g. to answer by message. */
  readonly memory?: (space: IovaSpace) => PciHost['memory'];
  /** Leave bus mastering and memory as after power-on. */
  readonly bare?: boolean;
}

export class Rig implements AsyncDisposable {
  readonly window: Window = Window.open();
  readonly registry: EmudevRegistry = new EmudevRegistry();
  readonly device: IavfDevice;
  readonly space: IovaSpace;
  readonly ram: OwnedFd;
  readonly vectors: OwnedFd[];
  readonly assigned: number[];
  readonly emudev: Emudev;
  readonly errors: unknown[] = [];
  readonly #memory: PciHost['memory'];

  constructor(options: RigOptions = {}) {
    const maxQueuePairs = options.maxQueuePairs ?? 4;
    let emudev: Emudev | undefined;
    this.device = new IavfDevice({
      name: 'emu_iavf0', mac: MAC, maxQueuePairs, doorbell: options.doorbell ?? 'map', speedMbps: 10_000,
      register: (provider) => {
        const port = this.registry.allocate('emu_iavf0', provider);
        emudev = port.device;
        return port;
      },
    });
    this.emudev = emudev!;
    this.emudev.on('error', (error) => { this.errors.push(error); });
    this.space = new IovaSpace(this.window);
    this.#memory = options.memory?.(this.space) ?? this.space;
    this.ram = new OwnedFd(linux.memfdCreate('ram', { allowSealing: true }));
    linux.ftruncate(this.ram.fd, RAM_BYTES);
    this.vectors = Array.from({ length: maxQueuePairs + 1 }, () => new OwnedFd(linux.eventfd()));
    this.assigned = this.vectors.map((vector) => vector.fd);
  }

  static async create(options: RigOptions = {}): Promise<Rig> {
    const rig = new Rig(options);
    await rig.connect();
    if (options.bare !== true) {
      await rig.map();
      await rig.busMaster(true);
    }
    return rig;
  }

  async connect(): Promise<void> {
    const unused = (): never => { throw new Error('the device uses MSI-X descriptors only'); };
    await this.device.attach({
      memory: this.#memory, irqFd: (index, vector) => (index === IRQ_MSIX ? (this.assigned[vector] ?? -1) : -1),
      trigger: unused, setIntx: unused, functionLevelReset: unused,
    });
  }

  async change(reason: 'dma-map' | 'dma-unmap' | 'irqs', body: () => void): Promise<void> {
    await this.device.quiesce(reason);
    body();
    this.device.resume();
    await settle();
  }

  map(): Promise<void> {
    return this.change('dma-map', () => {
      this.space.map({ iova: RAM_IOVA, sizeBytes: RAM_BYTES, readable: true, writable: true, fd: this.ram.fd });
      this.device.memoryChanged();
    });
  }

  assign(vector: number, fd: number): Promise<void> {
    return this.change('irqs', () => {
      this.assigned[vector] = fd;
      this.device.irqsChanged(IRQ_MSIX, vector, 1);
    });
  }

  async busMaster(on: boolean): Promise<void> {
    await this.device.write(REGION_CONFIG, 0x04, Uint8Array.of(on ? 0x06 : 0x02, 0));
    await settle();
  }

  async disconnect(): Promise<void> {
    await this.device.quiesce('detach');
    await this.device.detach('closed');
    this.device.resume();
    for (const entry of [...this.space.entries()]) this.space.unmap(entry.iova, entry.sizeBytes);
  }

  readBytes(region: number, offset: number, length: number): Uint8Array {
    const into = new Uint8Array(length);
    this.device.read(region, offset, into);
    return into;
  }

  read(name: RegisterName, index = 0): number {
    return new DataView(this.readBytes(REGION_BAR0, offsetOf(name, index), 4).buffer).getUint32(0, true);
  }

  write(name: RegisterName, value: number, index = 0): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value >>> 0, true);
    void this.device.write(REGION_BAR0, offsetOf(name, index), bytes);
  }

  /** Guest RAM by offset. */
  ramBytes(offset: number, length: number): Uint8Array {
    const into = new Uint8Array(length);
    linux.pread(this.ram.fd, into, offset);
    return into;
  }

  setRam(offset: number, bytes: Uint8Array): void {
    linux.pwrite(this.ram.fd, bytes, offset);
  }

  /** Interrupts of a vector since the last look. */
  interrupts(vector = 0): number {
    return linux.eventfdDrain(this.vectors[vector]!.fd);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.disconnect();
    if (this.emudev.state !== 'closed') await this.emudev.close();
    this.space[Symbol.dispose]();
    this.ram.close();
    for (const vector of this.vectors) vector.close();
    this.window[Symbol.dispose]();
  }
}

export const offsetOf = (name: RegisterName, index = 0): number => REGISTERS.find((spec) => spec.name === name)!.offset + 4 * index;

/** Lets everything that needs no outside event come to rest. */
export const settle = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

export interface Message {
  readonly opcode: number;
  readonly status: number;
  readonly payload: Uint8Array;
  readonly descriptor: AdminDescriptor;
}

const BUFFER_BYTES = 4096;
const ENABLE = 0x8000_0000;

/** The mailbox half of a driver: rings of `length`, laid out from `at` in guest RAM. */
export class Mailbox {
  readonly rig: Rig;
  readonly length: number;
  readonly #atq: number;
  readonly #arq: number;
  readonly #sendBuffer: number;
  readonly #buffers: number;
  next = 0;
  clean = 0;

  constructor(rig: Rig, length = 32, at = 0) {
    this.rig = rig;
    this.length = length;
    this.#atq = at;
    this.#arq = at + 0x8000;
    this.#sendBuffer = at + 0x10000;
    this.#buffers = at + 0x12000;
  }

  /** iavf.md 3.5: length and enable before the base. */
  init(): this {
    const { rig, length } = this;
    this.next = 0;
    this.clean = 0;
    for (const [prefix, base] of [['VF_ATQ', this.#atq], ['VF_ARQ', this.#arq]] as const) {
      rig.write(`${prefix}H1`, 0);
      rig.write(`${prefix}T1`, 0);
      rig.write(`${prefix}LEN1`, (length | ENABLE) >>> 0);
      rig.write(`${prefix}BAL1`, Number((RAM_IOVA + BigInt(base)) & 0xffffffffn));
      rig.write(`${prefix}BAH1`, Number((RAM_IOVA + BigInt(base)) >> 32n));
    }
    for (let i = 0; i < length; i++) this.#post(i);
    rig.write('VF_ARQT1', length - 1);
    return this;
  }

  #post(index: number): void {
    this.rig.setRam(this.#arq + index * ADMIN_DESCRIPTOR_BYTES, encodeAdminDescriptor(receiveDescriptor(RAM_IOVA + BigInt(this.#buffers + index * BUFFER_BYTES))));
  }

  /** Puts a descriptor into the send ring without telling the device. */
  place(fields: AdminDescriptor): number {
    const index = this.next;
    this.rig.setRam(this.#atq + index * ADMIN_DESCRIPTOR_BYTES, encodeAdminDescriptor(fields));
    this.next = (index + 1) % this.length;
    return index;
  }

  ring(): void {
    this.rig.write('VF_ATQT1', this.next);
  }

  send(opcode: number, payload: Uint8Array = new Uint8Array(0)): number {
    this.rig.setRam(this.#sendBuffer, payload);
    const index = this.place(requestDescriptor(opcode, payload.length, RAM_IOVA + BigInt(this.#sendBuffer)));
    this.ring();
    return index;
  }

  sent(index: number): AdminDescriptor {
    return decodeAdminDescriptor(this.rig.ramBytes(this.#atq + index * ADMIN_DESCRIPTOR_BYTES, ADMIN_DESCRIPTOR_BYTES));
  }

  /** Overwrites a posted receive descriptor. */
  setPosted(index: number, fields: AdminDescriptor): void {
    this.rig.setRam(this.#arq + index * ADMIN_DESCRIPTOR_BYTES, encodeAdminDescriptor(fields));
  }

  get hasMessage(): boolean {
    return (this.rig.read('VF_ARQH1') & 0x3ff) !== this.clean;
  }

  /** Takes what is there, at most `max`; gives the buffers back unless told not to. */
  receive(max: number = Number.POSITIVE_INFINITY, giveBack = true): Message[] {
    const messages: Message[] = [];
    while (this.hasMessage && messages.length < max) {
      const index = this.clean;
      const descriptor = decodeAdminDescriptor(this.rig.ramBytes(this.#arq + index * ADMIN_DESCRIPTOR_BYTES, ADMIN_DESCRIPTOR_BYTES));
      const payload = this.rig.ramBytes(this.#buffers + index * BUFFER_BYTES, descriptor.dataLength);
      messages.push({ opcode: descriptor.cookieHigh, status: descriptor.cookieLow, payload, descriptor });
      this.clean = (index + 1) % this.length;
      if (!giveBack) continue;
      this.#post(index);
      this.rig.write('VF_ARQT1', index);
    }
    return messages;
  }
}

/** A back end that answers every request with its own opcode and payload, and notes what it is told. */
export class EchoBackEnd implements BackEndHooks {
  readonly log: string[] = [];
  readonly requests: MailboxRequest[] = [];
  readonly channel: Channel<MailboxReply, MailboxRequest>;
  readonly attachment: AsyncDisposable;
  /** Replaces the answer. */
  answer: (request: MailboxRequest) => void | Promise<void> = (request) => {
    if (request.opcode === 2) this.channel.send({ kind: 'reset' });
    else this.reply(request);
  };

  constructor(rig: Rig) {
    this.channel = rig.emudev.channel(MAILBOX);
    this.channel.onMessage((request) => {
      this.requests.push(request);
      return this.answer(request);
    });
    this.attachment = rig.emudev.attach(this, IAVF_CONTRACT);
  }

  reply(request: MailboxRequest, status = 0): void {
    this.channel.send({ kind: 'message', opcode: request.opcode, status, payload: request.payload });
  }

  ready(): void { this.log.push('ready'); }
  destroyed(): void { this.log.push('destroyed'); }
  updated(what: { dma: boolean; irqs: boolean }): void { this.log.push(what.dma ? 'updated dma' : 'updated irqs'); }
  reset(kind: string): void { this.log.push(`reset ${kind}`); }
  async lock(): Promise<void> { this.log.push('lock'); await Promise.resolve(); }
  unlock(): void { this.log.push('unlock'); }
}
