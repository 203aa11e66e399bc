/**
 * A driver of one card by hand: it says what it likes to the mailbox and puts what it likes into rings, buffers and tails. Guest
 * memory is one memfd; other regions are for whoever uses it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Window, type WindowMapping } from '@emudev/dma';
import { linux } from '@emudev/linux';
import { VfioUserClient, type RegionMapping } from '@emudev/vfio-user-client';
import {
  ADMIN_DESCRIPTOR_BYTES, Opcode, decodeAdminDescriptor, decodeVfResources, encodeAdminDescriptor, encodeConfigIrqMap, encodeConfigVsiQueues, encodeEtherAddrList, encodeGetVfResources,
  encodeQueueSelect, encodeRssLut, encodeVersion, receiveDescriptor, requestDescriptor, sriovVsi, type QueuePairConfig,
} from '@emudev/virtchnl';

const BAR0 = 0;
const CONFIG_SPACE = 7;
const MSIX = 2;
const [VF_ARQBAH1, VF_ATQH1, VF_ATQLEN1, VF_ARQBAL1, VF_ARQT1, VF_ARQH1, VF_ATQBAH1, VF_ATQBAL1, VF_ARQLEN1, VF_ATQT1, VFGEN_RSTAT] =
  [0x6000, 0x6400, 0x6800, 0x6c00, 0x7000, 0x7400, 0x7800, 0x7c00, 0x8000, 0x8400, 0x8800] as const;
const VFINT_DYN_CTLN1 = 0x3800;
const AQ_LENGTH = 32;
const AQ_BUFFER = 4096;
const VECTORS = 5;

/** Where the device sees memory: RAM for rings and buffers, a region of its own for the mailbox. */
export const RAM_IOVA = 0x1_0000_0000n;
export const RAM_BYTES: number = 4 << 20;
const ADMIN_IOVA = 0x9_0000_0000n;
const ADMIN_BYTES: number = 1 << 20;

export interface Memory extends Disposable {
  readonly fd: number;
  /** Window offset of its first byte. */
  readonly offset: number;
  readonly bytes: number;
}

/** A memfd and its mapping in this process. */
export function memory(window: Window, bytes: number): Memory {
  const fd = linux.memfdCreate('hostile-guest', { allowSealing: true });
  linux.ftruncate(fd, bytes);
  const mapping: WindowMapping = window.map({ fd, fdOffset: 0, lengthBytes: bytes, write: true });
  return {
    fd,
    offset: mapping.offset,
    bytes,
    [Symbol.dispose]: () => {
      mapping[Symbol.dispose]();
      linux.close(fd);
    },
  };
}

/** What of its memory a driver gives without a descriptor; the first half of RAM is for rings, if it lies apart from the rest. */
export type Unshared = 'nothing' | 'everything' | 'rings' | 'buffers';

export interface Reply {
  readonly status: number;
  readonly payload: Uint8Array;
}

export class HandDriver implements AsyncDisposable {
  readonly window: Window;
  readonly client: VfioUserClient;
  readonly ram: Memory;
  mac: Uint8Array = new Uint8Array(6);
  readonly #admin: Memory;
  readonly #doorbells: RegionMapping;
  readonly #irqs: readonly number[];
  #toSend = 0;
  #toReceive = 0;

  /** Attached, mapped, GET_VF_RESOURCES done. */
  static async attach(socket: string, unshared: Unshared = 'nothing'): Promise<HandDriver> {
    const window = Window.open();
    const client = await VfioUserClient.connect(socket);
    const driver = new HandDriver(window, client, await client.mapRegion(BAR0, window));
    await client.write(CONFIG_SPACE, 4, Uint8Array.of(6, 0));
    if (unshared === 'nothing') await driver.map(0, RAM_BYTES, true);
    else for (const half of [0, 1]) await driver.map(half * RAM_BYTES / 2, RAM_BYTES / 2, unshared === (half === 0 ? 'buffers' : 'rings'));
    await client.dmaMap({
      iova: ADMIN_IOVA, sizeBytes: ADMIN_BYTES, readable: true, writable: true,
      ...(unshared === 'everything' ? { memory: window.u8.subarray(driver.#admin.offset, driver.#admin.offset + ADMIN_BYTES) } : { fd: driver.#admin.fd }),
    });
    await client.setIrqEventfds(MSIX, 0, driver.#irqs);
    await driver.#bringUp();
    return driver;
  }

  private constructor(window: Window, client: VfioUserClient, doorbells: RegionMapping) {
    this.window = window;
    this.client = client;
    this.#doorbells = doorbells;
    this.ram = memory(window, RAM_BYTES);
    this.#admin = memory(window, ADMIN_BYTES);
    this.#irqs = Array.from({ length: VECTORS }, () => linux.eventfd());
  }

  /** Gives the device a part of RAM: with its descriptor, or by messages. */
  map(at: number, bytes: number, shared: boolean): Promise<void> {
    const { window, ram } = this;
    return this.client.dmaMap({
      iova: RAM_IOVA + BigInt(at), sizeBytes: bytes, readable: true, writable: true,
      ...(shared ? { fd: ram.fd, fdOffset: at } : { memory: window.u8.subarray(ram.offset + at, ram.offset + at + bytes) }),
    });
  }

  /** Window offset of a tail word. */
  tail(direction: 'tx' | 'rx', queue: number): number {
    return this.#doorbells.at((direction === 'tx' ? 0 : 0x2000) + 4 * queue, 4)!;
  }

  setTail(direction: 'tx' | 'rx', queue: number, value: number): void {
    Atomics.store(this.window.u32, this.tail(direction, queue) >>> 2, value);
  }

  armVector(vector: number): Promise<void> {
    return this.client.write32(BAR0, VFINT_DYN_CTLN1 + 4 * (vector - 1), 0x19);
  }

  /** As a guest does it that has mapped the register: no message. */
  storeArm(vector: number): void {
    Atomics.store(this.window.u32, this.#doorbells.at(VFINT_DYN_CTLN1 + 4 * (vector - 1), 4)! >>> 2, 0x19);
  }

  /** Resolves when a vector is signalled. */
  async interrupted(vector: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    using _ = linux.watch(this.#irqs[vector]!, { readable: true }, () => { resolve(undefined); });
    await promise;
    this.interrupts(vector);
  }

  /** Signals of a vector since the last time. */
  interrupts(vector: number): number {
    return linux.eventfdDrain(this.#irqs[vector]!);
  }

  async #bringUp(): Promise<void> {
    const { client, window } = this;
    const set = (register: number, value: number): Promise<void> => client.write32(BAR0, register, value);
    const ring = (queue: number): bigint => ADMIN_IOVA + BigInt(queue * 4096);
    this.#toSend = 0;
    this.#toReceive = 0;
    window.u8.fill(0, this.#admin.offset, this.#admin.offset + 8192);
    for (let i = 0; i < AQ_LENGTH; i++) this.#post(i);
    for (const [head, tail, length, low, high, queue] of [[VF_ATQH1, VF_ATQT1, VF_ATQLEN1, VF_ATQBAL1, VF_ATQBAH1, 0], [VF_ARQH1, VF_ARQT1, VF_ARQLEN1, VF_ARQBAL1, VF_ARQBAH1, 1]] as const) {
      await set(head, 0);
      await set(tail, 0);
      await set(length, (AQ_LENGTH | 0x8000_0000) >>> 0);
      await set(low, Number(ring(queue) & 0xffff_ffffn));
      await set(high, Number(ring(queue) >> 32n));
    }
    await set(VF_ARQT1, AQ_LENGTH - 1);
    await this.request(Opcode.VERSION, encodeVersion());
    const { payload } = await this.request(Opcode.GET_VF_RESOURCES, encodeGetVfResources(0x1abd_8cf9));
    this.mac = Uint8Array.from(sriovVsi(decodeVfResources(payload)).mac);
  }

  #post(index: number): void {
    const at = this.#admin.offset + 4096 + index * ADMIN_DESCRIPTOR_BYTES;
    this.window.u8.set(encodeAdminDescriptor(receiveDescriptor(ADMIN_IOVA + BigInt(8192 + AQ_LENGTH * AQ_BUFFER + index * AQ_BUFFER), AQ_BUFFER)), at);
  }

  async #send(opcode: number, payload: Uint8Array): Promise<void> {
    const { window } = this;
    const buffer = 8192 + this.#toSend * AQ_BUFFER;
    window.u8.set(payload, this.#admin.offset + buffer);
    window.u8.set(encodeAdminDescriptor(requestDescriptor(opcode, payload.length, ADMIN_IOVA + BigInt(buffer))), this.#admin.offset + this.#toSend * ADMIN_DESCRIPTOR_BYTES);
    this.#toSend = (this.#toSend + 1) % AQ_LENGTH;
    await this.client.write32(BAR0, VF_ATQT1, this.#toSend);
  }

  /** Sends a request and resolves with its reply, whatever its status; events are skipped. */
  async request(opcode: number, payload: Uint8Array = new Uint8Array(0)): Promise<Reply> {
    const { client, window } = this;
    await this.#send(opcode, payload);
    const deadline = performance.now() + 5000;
    while (performance.now() < deadline) {
      const head = (await client.read32(BAR0, VF_ARQH1)) & 0x3ff;
      while (this.#toReceive !== head) {
        const slot = this.#toReceive;
        const at = this.#admin.offset + 4096 + slot * ADMIN_DESCRIPTOR_BYTES;
        const descriptor = decodeAdminDescriptor(window.u8.slice(at, at + ADMIN_DESCRIPTOR_BYTES));
        const from = this.#admin.offset + 8192 + AQ_LENGTH * AQ_BUFFER + slot * AQ_BUFFER;
        const body = window.u8.slice(from, from + descriptor.dataLength);
        this.#post(slot);
        this.#toReceive = (slot + 1) % AQ_LENGTH;
        await client.write32(BAR0, VF_ARQT1, slot);
        if (descriptor.cookieHigh === opcode) return { status: descriptor.cookieLow, payload: body };
      }
      await sleep(1);
    }
    throw new Error(`opcode ${opcode}: no reply`);
  }

  /** RESET_VF, and the mailbox up again. */
  async reset(): Promise<void> {
    await this.#send(Opcode.RESET_VF, new Uint8Array(0));
    const deadline = performance.now() + 5000;
    while (((await this.client.read32(BAR0, VF_ARQLEN1)) & 0x8000_0000) !== 0 || ((await this.client.read32(BAR0, VFGEN_RSTAT)) & 3) !== 2) {
      if (performance.now() > deadline) throw new Error('the reset does not end');
      await sleep(1);
    }
    await this.#bringUp();
  }

  configure(...pairs: QueuePairConfig[]): Promise<Reply> {
    return this.request(Opcode.CONFIG_VSI_QUEUES, encodeConfigVsiQueues({ vsiId: 1, pairs }));
  }

  enable(queues: number): Promise<Reply> {
    return this.request(Opcode.ENABLE_QUEUES, encodeQueueSelect({ vsiId: 1, rxQueues: queues, txQueues: queues }));
  }

  disable(queues: number): Promise<Reply> {
    return this.request(Opcode.DISABLE_QUEUES, encodeQueueSelect({ vsiId: 1, rxQueues: queues, txQueues: queues }));
  }

  async filters(): Promise<void> {
    await this.request(Opcode.ADD_ETH_ADDR, encodeEtherAddrList({ vsiId: 1, addresses: [{ address: this.mac, type: 1 }] }));
    await this.request(Opcode.CONFIG_IRQ_MAP, encodeConfigIrqMap([{ vsiId: 1, vectorId: 1, rxQueues: 3, txQueues: 3, rxItr: 0, txItr: 0 }, { vsiId: 1, vectorId: 0, rxQueues: 0, txQueues: 0, rxItr: 0, txItr: 0 }]));
    await this.request(Opcode.CONFIG_RSS_LUT, encodeRssLut({ vsiId: 1, lut: Uint8Array.from({ length: 64 }, (_, i) => i & 1) }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client[Symbol.asyncDispose]();
    for (const fd of this.#irqs) linux.close(fd);
    this.#doorbells[Symbol.dispose]();
    this.ram[Symbol.dispose]();
    this.#admin[Symbol.dispose]();
    this.window[Symbol.dispose]();
  }
}
