/**
 * A ring that kernels cannot work on where it is: it, or a buffer it names, lies in memory that came without a descriptor, and is
 * reached by DMA messages only. The control thread keeps a shadow of the ring in the window, and copies of the buffers in a bounce
 * area; kernels work on those exactly as on guest memory.
 *
 * ```
 * guest's ring   … done  | to be given back | the kernel's | to be fetched |
 *                        ^ returned         ^ Q_HEAD       ^ fetched       ^ the guest's tail
 * ```
 * bounced-tx.ts and bounced-rx.ts have what is fetched and given back each way. Buffers that are in the window keep their addresses:
 * the kernel finds them by the IOTLB. One that cannot be reached gets an address that no device has (`nowhere`), so that the kernel
 * refuses and counts it as it does elsewhere.
 *
 * One step is under way at a time. It reads and writes copies of its own, so that it can be given up at any await: whoever halts the
 * ring waits for the messages that are on their way, but not for ever, and what comes later finds another epoch and is dropped.
 */
import type { Window } from '@emudev/dma';
import type { MemTable } from '@emudev/emudev';
import { FifoPool } from './fifo-pool.ts';
import { Q_FAULT, Q_HEAD, QFAULT_NONE } from './layout.ts';
import { BOUNCE_BATCH, BOUNCE_BLAME_MS, BOUNCE_BYTES, BOUNCE_HALT_MS, BOUNCE_IDLE_MS, BOUNCE_MESSAGES } from './limits.ts';

/** QFAULT_* of the control half alone: the consumer does not answer for the ring's memory. Kernels leave a ring with any fault alone. */
export const QFAULT_UNREACHABLE = 5;

/** What a bounced ring needs of its card. */
export interface BounceHost {
  memory(): MemTable;
  /** Descriptors have been written back. */
  raise(): void;
  /** It has nothing to do, and will look again in BOUNCE_IDLE_MS. */
  idle(): void;
  /** The consumer refused, or did not answer, a message about the ring itself: it stands still. */
  unreachable(error: unknown): void;
}

/** Where a bounced ring's state lies, as window offsets. */
export interface BounceCells {
  /** The queue block. */
  readonly block: number;
  /** A block of the same layout for what the control thread counts: frames that a kernel has delivered and the guest has not got. */
  readonly aside: number;
  /** The guest's tail word. */
  readonly doorbell: number;
}

export type BounceArea = NonNullable<ReturnType<NonNullable<MemTable['bounce']>>>;

/** What a bounced ring is made of. */
export interface BounceParts {
  readonly window: Window;
  /** Of the guest's ring. */
  readonly address: bigint;
  readonly descriptors: number;
  readonly descriptorBytes: number;
  /** Rx: bytes of every buffer. */
  readonly bufferBytes: number;
  readonly host: BounceHost;
  /** SHADOW_TAIL_BYTES and the descriptors. */
  readonly shadow: Disposable & { readonly offset: number };
  /** BOUNCE_BYTES. */
  readonly area: BounceArea;
}

/** Before the shadow ring: its tail, in cache lines of its own, and what keeps the ring aligned as the guest's has to be. */
export const SHADOW_TAIL_BYTES = 128;

/**
 * | state   | go                                    | halt                   | the consumer fails | dispose |
 * | ------- | ------------------------------------- | ---------------------- | ------------------ | ------- |
 * | halted  | → running, when the last step is over | –                      | → failed           | → ended |
 * | running | –                                     | → halted (with a wait) | → failed           | → ended |
 * | failed  | –: until the ring is disabled         | –                      | –                  | → ended |
 * | ended   | –                                     | –                      | –                  | –       |
 */
export abstract class BouncedRing implements Disposable {
  protected readonly parts: BounceParts;
  protected readonly u64: BigUint64Array;
  protected readonly pool: FifoPool = new FifoPool(BOUNCE_BYTES);
  /** The guest's descriptors as they were fetched: two words of each. */
  protected readonly guest: BigUint64Array;
  /** By slot: the piece of the pool that the shadow descriptor names, -1 = none. */
  protected readonly pieceAt: Int32Array;
  protected readonly pieceBytes: Uint32Array;
  protected cells: BounceCells = { block: 0, aside: 0, doorbell: 0 };
  protected fetched = 0;
  protected returned = 0;
  /** Grows when what is under way is given up. */
  protected epoch = 0;
  #state: 'halted' | 'running' | 'failed' | 'ended' = 'halted';
  #step: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #turn: NodeJS.Immediate | undefined;
  #blame: NodeJS.Timeout | undefined;
  #onCaughtUp: (() => void)[] = [];

  constructor(parts: BounceParts) {
    this.parts = parts;
    this.u64 = new BigUint64Array(parts.window.memory.buffer);
    this.guest = new BigUint64Array(2 * parts.descriptors);
    this.pieceAt = new Int32Array(parts.descriptors).fill(-1);
    this.pieceBytes = new Uint32Array(parts.descriptors);
  }

  /** Window offset of the shadow ring. */
  get offset(): number {
    return this.parts.shadow.offset + SHADOW_TAIL_BYTES;
  }

  /** Window offset of the tail that kernels look at. */
  get tail(): number {
    return this.parts.shadow.offset;
  }

  /** Once, before anything else: where it is, and the first descriptor that is the device's. */
  begin(cells: BounceCells, head: number): void {
    this.cells = cells;
    this.fetched = this.returned = head;
    this.showTail(head);
  }

  /** Whether its memory is mapped, for both reading and writing. */
  get isReachable(): boolean {
    const { host, address, descriptors, descriptorBytes } = this.parts;
    return isReachable(host.memory(), address, descriptors * descriptorBytes);
  }

  /* ---- the pump -------------------------------------------------------------------------------------------------------------- */

  go(): void {
    if (this.#state !== 'halted') return;
    this.#state = 'running';
    // A step that was given up still has messages on their way: they come first.
    if (this.#step === undefined) this.#schedule(true);
  }

  /** Resolves when the kernel has been shown all that the guest has given, or there is no prospect of that. */
  caughtUp(): Promise<void> {
    if (this.#state !== 'running') return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#onCaughtUp.push(() => { resolve(undefined); });
    return promise;
  }

  #waitNoLonger(): void {
    for (const resolve of this.#onCaughtUp.splice(0)) resolve();
  }

  /** Resolves when no message of it is on its way, or the consumer has not answered for BOUNCE_HALT_MS. */
  async halt(): Promise<void> {
    if (this.#state === 'running') this.#state = 'halted';
    this.epoch++;
    this.#unschedule();
    this.#waitNoLonger();
    if (this.#step === undefined) return;
    const { promise: late, resolve } = Promise.withResolvers<undefined>();
    const deadline = setTimeout(resolve, BOUNCE_HALT_MS, undefined);
    await Promise.race([this.#step, late]);
    clearTimeout(deadline);
  }

  /**
   * Halted, lcores quiescent: what the kernel has not consumed is fetched again, from whatever is mapped there now. (Descriptors and
   * buffers that were fetched ahead may be of memory that has gone, and the bounce area may have moved.)
   */
  forget(): void {
    const { head } = this;
    let pieces = 0;
    let bytes = 0;
    let first = 0;
    for (let slot = head; slot !== this.fetched; slot = this.after(slot)) {
      const at = this.pieceAt[slot]!;
      if (at < 0) continue;
      if (pieces++ === 0) first = at;
      bytes += this.pieceBytes[slot]!;
      this.pieceAt[slot] = -1;
    }
    if (pieces > 0) this.pool.rewind(first, pieces, bytes);
    this.fetched = head;
    this.showTail(head);
  }

  #unschedule(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#turn);
  }

  #schedule(soon: boolean): void {
    if (this.#state !== 'running') return;
    if (soon) {
      this.#turn = setImmediate(() => { this.#look(); });
      return;
    }
    this.#waitNoLonger();
    this.parts.host.idle();
    this.#timer = setTimeout(() => { this.#look(); }, BOUNCE_IDLE_MS);
  }

  #look(): void {
    if (this.#state !== 'running' || this.#step !== undefined) return;
    if (!this.#hasWork()) return this.#schedule(false);
    const { epoch } = this;
    let didSomething = false;
    this.#step = this.#work(epoch)
      .then((did) => { didSomething = did; }, (error: unknown) => {
        // What was given up may fail: nobody waits for it any more.
        if (epoch === this.epoch) this.fail(error);
      })
      .finally(() => {
        this.#step = undefined;
        this.#schedule(didSomething);
      });
  }

  #hasWork(): boolean {
    const tail = this.#guestTail;
    // GUEST: a tail outside of the ring is the kernel's to judge; when it has become a good one, the kernel has to see that, too.
    if (tail < this.parts.descriptors && tail !== this.fetched) return true;
    this.showTail(tail);
    return this.canGiveBack;
  }

  /** True: there may be more to do at once. */
  async #work(epoch: number): Promise<boolean> {
    const gaveBack = await this.giveBack(epoch);
    if (epoch !== this.epoch) return true;
    return (await this.#fetch(epoch)) || gaveBack;
  }

  async #fetch(epoch: number): Promise<boolean> {
    const { descriptors, descriptorBytes, host } = this.parts;
    const tail = this.#guestTail; // GUEST: any value
    const first = this.fetched;
    if (tail >= descriptors || tail === first) return false;
    // GUEST: a tail that runs over descriptors we have not given back does not overwrite what we know of them.
    const used = first >= this.returned ? first - this.returned : first + descriptors - this.returned;
    const count = Math.min(tail > first ? tail - first : descriptors - first, descriptors - 1 - used, BOUNCE_BATCH);
    if (count === 0) return false;
    const raw = new BigUint64Array(count * descriptorBytes / 8);
    await host.memory().read(this.addressOf(first), new Uint8Array(raw.buffer));
    if (epoch !== this.epoch) return true;
    return this.show(raw, count, epoch);
  }

  /** A card whose bus does not answer: of one buffer that costs a frame, of the ring all of it. */
  protected fail(error: unknown): void {
    if (this.#state === 'failed' || this.#state === 'ended') return;
    this.#state = 'failed';
    this.#waitNoLonger();
    this.#unschedule();
    this.#blame = setTimeout(() => {
      Atomics.compareExchange(this.parts.window.i32, (this.cells.block + Q_FAULT) >>> 2, QFAULT_NONE, QFAULT_UNREACHABLE);
      this.parts.host.unreachable(error);
    }, BOUNCE_BLAME_MS);
  }

  protected raise(): void {
    if (this.#state !== 'ended') this.parts.host.raise();
  }

  /** Whether the kernel has finished something. */
  protected abstract readonly canGiveBack: boolean;
  /** What the kernel has finished goes to the guest. False: it had not. */
  protected abstract giveBack(epoch: number): Promise<boolean>;
  /** `count` descriptors of the guest's, from `fetched` on, become the kernel's. False: none could. */
  protected abstract show(raw: BigUint64Array, count: number, epoch: number): boolean | Promise<boolean>;
  /** It is over: what the kernel has finished and the guest has not got is lost. */
  protected abstract countPending(): void;

  /* ---- cells ------------------------------------------------------------------------------------------------------------------ */

  get #guestTail(): number {
    return Atomics.load(this.parts.window.u32, this.cells.doorbell >>> 2);
  }

  /** The first descriptor that the kernel has not consumed. */
  protected get head(): number {
    return Atomics.load(this.parts.window.u32, (this.cells.block + Q_HEAD) >>> 2);
  }

  protected showTail(tail: number): void {
    Atomics.store(this.parts.window.u32, this.tail >>> 2, tail);
  }

  /** Of the shadow descriptor. */
  protected word(slot: number, word: number): bigint {
    return Atomics.load(this.u64, (this.offset + slot * this.parts.descriptorBytes) / 8 + word);
  }

  /** The next descriptor is the kernel's, with this in its first words. The tail says so later. */
  protected showNext(qw0: bigint, qw1: bigint): void {
    const at = (this.offset + this.fetched * this.parts.descriptorBytes) / 8;
    Atomics.store(this.u64, at, qw0);
    Atomics.store(this.u64, at + 1, qw1);
    this.fetched = this.after(this.fetched);
  }

  /** Room for the buffer of the next descriptor: the address the kernel is to use. undefined: not now. */
  protected takePiece(bytes: number): { readonly address: bigint; readonly offset: number } | undefined {
    const at = this.pool.take(bytes);
    if (at === undefined) return undefined;
    this.pieceAt[this.fetched] = at;
    this.pieceBytes[this.fetched] = bytes;
    return { address: this.parts.area.iova + BigInt(at), offset: this.parts.area.offset + at };
  }

  protected givePiece(slot: number): void {
    if (this.pieceAt[slot]! >= 0) this.pool.give(this.pieceAt[slot]!, this.pieceBytes[slot]!);
    this.pieceAt[slot] = -1;
  }

  /** An address that the device does not have. */
  protected get nowhere(): bigint {
    return this.parts.area.iova + BigInt(this.parts.area.sizeBytes);
  }

  /** Of the guest's descriptor. */
  protected addressOf(slot: number): bigint {
    return this.parts.address + BigInt(slot * this.parts.descriptorBytes);
  }

  protected after(slot: number): number {
    return slot + 1 === this.parts.descriptors ? 0 : slot + 1;
  }

  /** Halted, and no kernel uses it any more. */
  [Symbol.dispose](): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.epoch++;
    this.#unschedule();
    clearTimeout(this.#blame);
    this.#waitNoLonger();
    this.countPending();
    this.parts.area[Symbol.dispose]();
    this.parts.shadow[Symbol.dispose]();
  }
}

/** Whether a ring there could be bounced: the device may read and write all of it, in whatever way. */
export function isReachable(memory: MemTable, address: bigint, bytes: number): boolean {
  return memory.reach?.(address, bytes, 'read') !== undefined && memory.reach(address, bytes, 'write') !== undefined;
}

/** How the device comes by a buffer; undefined: not at all. */
export function reach(memory: MemTable, iova: bigint, bytes: number, access: 'read' | 'write'): 'window' | 'messages' | undefined {
  return memory.reach?.(iova, bytes, access);
}

export function bytesOf(words: readonly bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(words).buffer);
}

/** BOUNCE_MESSAGES at a time. No job rejects. None begins when `isGivenUp`: what it would read may be somebody else's memory by then. */
export async function inTurns(jobs: readonly (() => Promise<void>)[], isGivenUp: () => boolean): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < jobs.length && !isGivenUp()) await jobs[next++]!();
  };
  await Promise.all(Array.from({ length: Math.min(BOUNCE_MESSAGES, jobs.length) }, worker));
}
