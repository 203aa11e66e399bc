/**
 * A bounced Rx ring: the kernel is shown empty buffers. Of each whole frame that it has put there, the guest gets the data, then the
 * descriptors without DD, then each descriptor's DD in ring order, and when all of that has arrived the interrupt: what it would
 * have seen a card's DMA do.
 */
import type { MemTable } from '@emudev/emudev';
import { BouncedRing, bytesOf, inTurns, reach } from './bounced-ring.ts';
import { Q_STATS, QS_BROADCAST, QS_BYTES, QS_DISCARDS, QS_MULTICAST, QS_PACKETS, QS_UNICAST } from './layout.ts';
import { BOUNCE_BATCH } from './limits.ts';

/* qw1 */
const DD = 1n;
const EOP = 1n << 1n;
const UMBCAST_SHIFT = 9n;
const UMBCAST_MASK = 3n;
const RXE = 1n << 19n;
const LENGTH_SHIFT = 38n;
const LENGTH_MASK = 0x3fffn;
/** What every driver drops: an error, and a length that makes sense. */
const REFUSED = DD | EOP | RXE | (60n << LENGTH_SHIFT);
const CASTS: readonly number[] = [QS_UNICAST, QS_MULTICAST, QS_BROADCAST];

/** A descriptor as the guest gets it. */
interface WriteBack {
  readonly slot: number;
  readonly qw0: bigint;
  readonly qw1: bigint;
  /** The frame that ends here, as the kernel has counted it. */
  readonly frame: Frame | undefined;
  /** It will be counted as lost. */
  readonly isLost: boolean;
}

interface Frame {
  readonly cast: number;
  readonly bytes: number;
}

export class BouncedRxRing extends BouncedRing {
  /** The frame whose last word is on its way to the guest. */
  #underWay: Frame | undefined;

  protected get canGiveBack(): boolean {
    return this.returned !== this.fetched && (this.word(this.returned, 1) & DD) !== 0n;
  }

  protected show(raw: BigUint64Array, count: number): boolean {
    const memory = this.parts.host.memory();
    const { bufferBytes, descriptorBytes } = this.parts;
    let n = 0;
    for (; n < count; n++) {
      const address = raw[(n * descriptorBytes) / 8]!; // GUEST: fetched once
      // A buffer that is not there to its end may still take a frame that ends before: that shows when it comes.
      const how = reach(memory, address, bufferBytes, 'write') ?? reach(memory, address, 1, 'write');
      const piece = how === 'messages' ? this.takePiece(bufferBytes) : undefined;
      if (how === 'messages' && piece === undefined) break;
      this.guest[2 * this.fetched] = address;
      this.showNext(how === 'window' ? address : (piece?.address ?? this.nowhere), 0n);
    }
    this.showTail(this.fetched);
    return n > 0;
  }

  protected async giveBack(epoch: number): Promise<boolean> {
    const slots = this.#wholeFrames();
    if (slots.length === 0) return false;
    const memory = this.parts.host.memory();
    const unwritten = await this.#writeData(memory, slots, epoch);
    if (epoch !== this.epoch) return true;
    const writeBacks = this.#writeBacks(slots, unwritten);
    const rest = new Array<bigint>(this.parts.descriptorBytes / 8 - 1).fill(0n);
    for (const run of runsOf(writeBacks)) {
      await memory.write(this.addressOf(run[0]!.slot), bytesOf(run.flatMap(({ qw0 }) => [qw0, ...rest])));
      if (epoch !== this.epoch) return true;
    }
    await this.#publish(memory, writeBacks, epoch);
    return true;
  }

  /** Slots of the frames that the kernel has finished. */
  #wholeFrames(): number[] {
    const slots: number[] = [];
    let whole = 0;
    for (let slot = this.returned; slot !== this.fetched && whole < BOUNCE_BATCH; slot = this.after(slot)) {
      const qw1 = this.word(slot, 1);
      if ((qw1 & DD) === 0n) break;
      slots.push(slot);
      if ((qw1 & EOP) !== 0n) whole = slots.length;
    }
    slots.length = whole;
    return slots;
  }

  /** Returns the slots whose buffers could not be written. */
  async #writeData(memory: MemTable, slots: readonly number[], epoch: number): Promise<ReadonlySet<number>> {
    const unwritten = new Set<number>();
    const bounced = slots.filter((slot) => this.pieceAt[slot]! >= 0 && (this.word(slot, 1) & RXE) === 0n);
    await inTurns(bounced.map((slot) => async () => {
      const from = this.parts.area.offset + this.pieceAt[slot]!;
      const bytes = Math.min(lengthOf(this.word(slot, 1)), this.pieceBytes[slot]!);
      try {
        await memory.write(this.guest[2 * slot]!, this.parts.window.u8.slice(from, from + bytes));
      } catch {
        unwritten.add(slot);
      }
    }), () => epoch !== this.epoch);
    return unwritten;
  }

  /** A frame one of whose buffers could not be written goes back as one with an error. */
  #writeBacks(slots: readonly number[], unwritten: ReadonlySet<number>): WriteBack[] {
    const writeBacks: WriteBack[] = [];
    let ofFrame: number[] = [];
    for (const slot of slots) {
      ofFrame.push(slot);
      if ((this.word(slot, 1) & EOP) === 0n) continue;
      const frame = this.#frameOf(ofFrame);
      const isLost = ofFrame.some((one) => unwritten.has(one));
      for (const one of ofFrame) {
        const [qw0, qw1] = isLost ? [0n, REFUSED] : [this.word(one, 0), this.word(one, 1)];
        writeBacks.push({ slot: one, qw0, qw1, frame: one === slot ? frame : undefined, isLost });
      }
      ofFrame = [];
    }
    return writeBacks;
  }

  /** undefined: the kernel has refused a buffer, and counted that. */
  #frameOf(slots: readonly number[]): Frame | undefined {
    const last = this.word(slots.at(-1)!, 1);
    if ((last & RXE) !== 0n) return undefined;
    return { cast: Number((last >> UMBCAST_SHIFT) & UMBCAST_MASK), bytes: slots.reduce((sum, slot) => sum + lengthOf(this.word(slot, 1)), 0) };
  }

  async #publish(memory: MemTable, writeBacks: readonly WriteBack[], epoch: number): Promise<void> {
    let published = false;
    for (const { slot, qw1, frame, isLost } of writeBacks) {
      this.givePiece(slot);
      // Sent is given: if no answer comes nobody knows whether the guest has seen it, and once more would be worse.
      this.returned = this.after(slot);
      if (frame !== undefined && isLost) this.#countLost(frame);
      this.#underWay = isLost ? undefined : frame;
      try {
        await this.#store(memory, this.addressOf(slot) + 8n, qw1);
        published = true;
      } catch (error) {
        this.#countUnderWay();
        this.fail(error);
        break;
      }
      this.#underWay = undefined;
      if (epoch !== this.epoch) break;
    }
    if (published) this.raise();
  }

  /** In one store where the ring is in the window: the guest may look at any time. */
  #store(memory: MemTable, iova: bigint, word: bigint): void | Promise<void> {
    const at = memory.translate(iova, 8, 'write');
    if (at === undefined) return memory.write(iova, bytesOf([word]));
    Atomics.store(this.u64, at / 8, word);
  }

  /** Once: what comes late finds the counters perhaps in somebody else's memory. */
  #countUnderWay(): void {
    if (this.#underWay !== undefined) this.#countLost(this.#underWay);
    this.#underWay = undefined;
  }

  protected countPending(): void {
    this.#countUnderWay();
    let ofFrame: number[] = [];
    for (let slot = this.returned; slot !== this.fetched; slot = this.after(slot)) {
      const qw1 = this.word(slot, 1);
      if ((qw1 & DD) === 0n) return;
      ofFrame.push(slot);
      if ((qw1 & EOP) === 0n) continue;
      const frame = this.#frameOf(ofFrame);
      if (frame !== undefined) this.#countLost(frame);
      ofFrame = [];
    }
  }

  #countLost({ cast, bytes }: Frame): void {
    const add = (field: number, n: number): void => { Atomics.add(this.u64, (this.cells.aside + Q_STATS + 8 * field) / 8, BigInt(n)); };
    add(QS_PACKETS, 1);
    add(QS_BYTES, bytes);
    add(CASTS[cast] ?? QS_UNICAST, 1);
    add(QS_DISCARDS, 1);
  }
}

function lengthOf(qw1: bigint): number {
  return Number((qw1 >> LENGTH_SHIFT) & LENGTH_MASK);
}

/** Split where the ring begins anew. */
function runsOf(writeBacks: readonly WriteBack[]): readonly (readonly WriteBack[])[] {
  const wrap = writeBacks.findIndex(({ slot }, n) => n > 0 && slot === 0);
  return wrap < 0 ? [writeBacks] : [writeBacks.slice(0, wrap), writeBacks.slice(wrap)];
}
