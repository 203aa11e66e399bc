/**
 * A guest whose memory the device reaches in different ways, block by block: mapped, by messages to a scripted client, or not at all.
 * The guest itself sees all of it at `ram`.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { RemoteMemory } from '@emudev/dma';
import { allocateBurst, FRAME_DATA, FRAME_FLAGS, FRAME_LENGTH, FRAME_RECORD_BYTES, type Burst, type LcoreContext, type PortDatapath } from '@emudev/ethdev';
import { encodeConfigIrqMap, encodeRssLut, Opcode } from '@emudev/virtchnl';
import { createDatapath, type IavfDatapathInit } from '../src/datapath.ts';
import { DEV_RX_BLOCKS, Q_DOORBELL, Q_FAULT } from '../src/layout.ts';
import { Card, LINUX_CAPABILITIES, pair, RAM_BYTES, RAM_IOVA, RX_FORMATS_CAPABILITIES } from './card.ts';

export type BlockKind = 'mapped' | 'remote' | 'none';
export const BLOCK_BYTES = 0x1_0000;
export const BLOCKS: number = RAM_BYTES / BLOCK_BYTES;
const PATIENCE_MS = 20_000;

/** What the client does with one message; undefined: what a good one does. */
export type Script = (access: 'read' | 'write', iova: bigint, bytes: Uint8Array) => 'fail' | 'silence' | undefined;

/** A client that answers DMA messages in some later turn of the event loop. */
export class ScriptedClient implements RemoteMemory {
  script: Script = () => undefined;
  /** Not more than 0: forgotten. */
  readonly log: { readonly access: 'read' | 'write'; readonly iova: bigint; readonly bytes: Uint8Array }[] = [];
  outstanding = 0;
  mostOutstanding = 0;
  readonly #guest: () => Uint8Array;
  #silent: (() => void)[] = [];

  constructor(guest: () => Uint8Array) {
    this.#guest = guest;
  }

  read(iova: bigint, into: Uint8Array): Promise<void> {
    return this.#serve('read', iova, into, (memory) => { into.set(memory); });
  }

  write(iova: bigint, from: Uint8Array): Promise<void> {
    const sent = from.slice();
    return this.#serve('write', iova, sent, (memory) => { memory.set(sent); });
  }

  /** What was met with silence fails at last, as it does when the client leaves or the transport loses patience. */
  breakSilence(): void {
    for (const end of this.#silent.splice(0)) end();
  }

  async #serve(access: 'read' | 'write', iova: bigint, bytes: Uint8Array, copy: (memory: Uint8Array) => void): Promise<void> {
    this.mostOutstanding = Math.max(this.mostOutstanding, ++this.outstanding);
    try {
      const answer = this.script(access, iova, bytes);
      if (answer === 'silence') await new Promise<void>((resolve) => this.#silent.push(resolve));
      await turn();
      if (answer !== undefined) throw new Error(`the client answers ${answer}`);
      const at = Number(iova - RAM_IOVA);
      copy(this.#guest().subarray(at, at + bytes.length));
      this.log.push({ access, iova, bytes: bytes.slice() });
    } finally {
      this.outstanding--;
    }
  }
}

export interface Received {
  readonly slot: number;
  readonly bytes: Uint8Array;
  /** RXE. */
  readonly isError: boolean;
}

const DD = 1n;
const EOP = 2n;
const RXE = 1n << 19n;

export class MixedGuest implements AsyncDisposable {
  readonly card: Card;
  readonly client: ScriptedClient;
  readonly path: PortDatapath;
  readonly burst: Burst & Disposable;
  readonly kinds: BlockKind[];
  readonly ringLength = 64;
  readonly bufferBytes: number;
  /** Of the Rx ring: 32, or 16. */
  readonly descriptorBytes: number;
  /** Block numbers. */
  readonly txRing: number;
  readonly rxRing: number;
  txTail = 0;
  rxTail = 0;
  #txDone = 0;
  #rxDone = 0;
  /** Addresses of the buffers in the Rx ring. */
  readonly #buffers: number[] = [];

  static async start({ kinds, kernels = 'wasm', txRing = 0, rxRing = 0, bufferBytes = 2048, descriptorBytes = 32 }: {
    kinds: readonly BlockKind[]; kernels?: 'wasm' | 'ts'; txRing?: number; rxRing?: number; bufferBytes?: number; descriptorBytes?: number;
  }): Promise<MixedGuest> {
    const card = await Card.plug({ pairs: 1, dma: 'by hand' });
    const guest = new MixedGuest(card, kinds, kernels, { txRing, rxRing, bufferBytes, descriptorBytes });
    await card.changeMemory(() => { for (const block of kinds.keys()) guest.#map(block); });
    await card.negotiate(descriptorBytes === 16 ? RX_FORMATS_CAPABILITIES : LINUX_CAPABILITIES);
    await card.status(Opcode.CONFIG_RSS_LUT, encodeRssLut({ vsiId: 1, lut: new Uint8Array(64) }));
    return guest;
  }

  private constructor(card: Card, kinds: readonly BlockKind[], kernels: 'wasm' | 'ts', options: { txRing: number; rxRing: number; bufferBytes: number; descriptorBytes: number }) {
    this.card = card;
    this.kinds = [...kinds];
    this.txRing = options.txRing * BLOCK_BYTES;
    this.rxRing = options.rxRing * BLOCK_BYTES + 0x2000;
    this.bufferBytes = options.bufferBytes;
    this.descriptorBytes = options.descriptorBytes;
    const { window } = card;
    this.client = new ScriptedClient(() => window.u8.subarray(card.ram, card.ram + RAM_BYTES));
    this.burst = allocateBurst(window, 64, 1 << 20);
    const context: LcoreContext = { lcore: 0, memory: window.memory, base: window.base, u8: window.u8, i32: window.i32, u32: window.u32, view: window.view };
    this.path = createDatapath(context, { ...(card.port.datapath().init as IavfDatapathInit), kernels }, () => true);
  }

  #map(block: number): void {
    const kind = this.kinds[block]!;
    const common = { iova: RAM_IOVA + BigInt(block * BLOCK_BYTES), sizeBytes: BLOCK_BYTES, readable: true, writable: true };
    if (kind === 'mapped') this.card.space!.map({ ...common, fd: this.card.fd, fdOffset: block * BLOCK_BYTES });
    if (kind === 'remote') this.card.space!.map({ ...common, remote: this.client });
  }

  /** DMA_UNMAP, then DMA_MAP in another way. */
  async remap(block: number, kind: BlockKind): Promise<void> {
    if (this.kinds[block] !== 'none') await this.card.changeMemory(() => { this.card.space!.unmap(RAM_IOVA + BigInt(block * BLOCK_BYTES), BLOCK_BYTES); });
    this.kinds[block] = kind;
    if (kind !== 'none') await this.card.changeMemory(() => { this.#map(block); });
  }

  /** Configures and enables both queues of pair 0, and gives the device all buffers but one. */
  async up(buffers: readonly number[]): Promise<number> {
    const { card } = this;
    this.txTail = this.rxTail = this.#txDone = this.#rxDone = 0;
    await card.configure(pair(0, {
      tx: { ringAddress: RAM_IOVA + BigInt(this.txRing), ringLength: this.ringLength },
      rx: { ringAddress: RAM_IOVA + BigInt(this.rxRing), ringLength: this.ringLength, bufferBytes: this.bufferBytes, maxPacketBytes: 9728 },
    }));
    await card.status(Opcode.CONFIG_IRQ_MAP, encodeConfigIrqMap([{ vsiId: 1, vectorId: 1, rxQueues: 1, txQueues: 1, rxItr: 3, txItr: 3 }]));
    card.window.u32[card.rxTail(0) >>> 2] = 0;
    const status = await card.enable(1, 1);
    if (status !== 0) return status;
    this.giveBuffers(buffers);
    await this.buffersShown();
    return status;
  }

  /** The lcore finds the buffers that the guest has given, so that a frame that comes now is not discarded. */
  async buffersShown(): Promise<void> {
    const { card } = this;
    const block = card.deviceWord(DEV_RX_BLOCKS);
    await this.until('the buffers are shown', () => card.word(card.word(block + Q_DOORBELL)) === this.rxTail || card.word(block + Q_FAULT) !== 0);
  }

  giveBuffers(buffers: readonly number[]): void {
    const { view, u32 } = this.card.window;
    for (const at of buffers) {
      const descriptor = this.card.ram + this.rxRing + this.descriptorBytes * this.rxTail;
      view.setBigUint64(descriptor, RAM_IOVA + BigInt(at), true);
      for (let word = 8; word < this.descriptorBytes; word += 8) view.setBigUint64(descriptor + word, 0n, true);
      this.#buffers[this.rxTail] = at;
      this.rxTail = (this.rxTail + 1) % this.ringLength;
    }
    Atomics.store(u32, this.card.rxTail(0) >>> 2, this.rxTail);
  }

  /** One packet in buffers at these places of RAM; EOP and RS on the last. Returns its first slot. */
  post(buffers: readonly { readonly at: number; readonly bytes: number }[]): number {
    const { view, u32 } = this.card.window;
    const first = this.txTail;
    buffers.forEach(({ at, bytes }, n) => {
      const descriptor = this.card.ram + this.txRing + 16 * this.txTail;
      view.setBigUint64(descriptor, RAM_IOVA + BigInt(at), true);
      view.setBigUint64(descriptor + 8, (n + 1 === buffers.length ? 0x30n : 0n) | (BigInt(bytes) << 34n), true);
      this.txTail = (this.txTail + 1) % this.ringLength;
    });
    Atomics.store(u32, this.card.txTail(0) >>> 2, this.txTail);
    return first;
  }

  write(at: number, bytes: Uint8Array): void {
    this.card.window.u8.set(bytes, this.card.ram + at);
  }

  read(at: number, bytes: number): Uint8Array {
    return this.card.window.u8.slice(this.card.ram + at, this.card.ram + at + bytes);
  }

  /** Frames that the lcore has got from the guest with this burst. */
  poll(): Uint8Array[] {
    const { u8, u32 } = this.card.window;
    const count = this.path.rxBurst(0, this.burst, 32);
    return Array.from({ length: count }, (_, n) => {
      const record = (this.burst.records + n * FRAME_RECORD_BYTES) >>> 2;
      const at = u32[record + FRAME_DATA / 4]!;
      return u8.slice(at, at + u32[record + FRAME_LENGTH / 4]!);
    });
  }

  /** Returns how many the lcore took. */
  send(...frames: readonly Uint8Array[]): number {
    const { u8, u32 } = this.card.window;
    let at = this.burst.arena;
    frames.forEach((bytes, n) => {
      const record = (this.burst.records + n * FRAME_RECORD_BYTES) >>> 2;
      u8.set(bytes, at);
      u32[record + FRAME_DATA / 4] = at;
      u32[record + FRAME_LENGTH / 4] = bytes.length;
      u32[record + FRAME_FLAGS / 4] = 0;
      at += (bytes.length + 63) & ~63;
    });
    return this.path.txBurst(0, this.burst, frames.length);
  }

  /** Sends all of them, however often it takes. */
  async sendAll(frames: readonly Uint8Array[]): Promise<void> {
    for (let done = 0; done < frames.length;) {
      await this.until('frames are taken', () => { done += this.send(...frames.slice(done, done + 32)); return done >= frames.length || this.path.holding?.(0) === true; });
      await turn();
    }
  }

  /** What the guest finds in its Rx ring, in order; frames of several buffers whole. */
  receive(): Received[] {
    const received: Received[] = [];
    const parts: Uint8Array[] = [];
    for (let slot = this.#rxDone; slot !== this.rxTail; slot = (slot + 1) % this.ringLength) {
      const qw1 = this.card.window.view.getBigUint64(this.card.ram + this.rxRing + this.descriptorBytes * slot + 8, true);
      if ((qw1 & DD) === 0n) break;
      parts.push(this.read(this.#buffers[slot]!, Math.min(this.bufferBytes, Number((qw1 >> 38n) & 0x3fffn))));
      if ((qw1 & EOP) === 0n) continue;
      received.push({ slot, bytes: new Uint8Array(Buffer.concat(parts.splice(0))), isError: (qw1 & RXE) !== 0n });
      this.#rxDone = (slot + 1) % this.ringLength;
    }
    return received;
  }

  /** The guest has its Tx descriptors back up to the last one posted; it looks for DD on those with RS. */
  txDone(): boolean {
    for (; this.#txDone !== this.txTail; this.#txDone = (this.#txDone + 1) % this.ringLength) {
      const word = this.card.window.view.getBigUint64(this.card.ram + this.txRing + 16 * this.#txDone + 8, true);
      if ((word & 0x20n) !== 0n && (word & 0xfn) !== 0xfn) return false;
    }
    return true;
  }

  stat(name: string): number {
    return Number(this.card.port.xstats().get(name)!);
  }

  async until(what: string, isSo: () => boolean): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    while (!isSo()) {
      if (performance.now() > deadline) throw new Error(`in vain: ${what}`);
      await turn();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.breakSilence();
    this.path.close?.();
    this.burst[Symbol.dispose]();
    await this.card[Symbol.asyncDispose]();
  }
}
