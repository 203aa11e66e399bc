/**
 * A bounced Tx ring: descriptors are fetched, then their buffers, then the kernel is shown both; what it has consumed is written back
 * where the guest asked for it (RS), and the vector raised.
 */
import { BouncedRing, bytesOf, inTurns, reach } from './bounced-ring.ts';

/* qw1 */
const DTYPE_MASK = 0xfn;
const DTYPE_DATA = 0n;
const DTYPE_CONTEXT = 1n;
const DTYPE_DONE = 0xfn;
const EOP = 1n << 4n;
const RS = 1n << 5n;
const SIZE_SHIFT = 34n;
const SIZE_MASK = 0x3fffn;

export class BouncedTxRing extends BouncedRing {
  /** Of the packet whose beginning fills the pool the rest is not fetched: it is too long for any frame. */
  #swallowing = false;

  override forget(): void {
    super.forget();
    this.#swallowing = false;
  }

  protected get canGiveBack(): boolean {
    return this.head !== this.returned;
  }

  protected async giveBack(): Promise<boolean> {
    const first = this.returned;
    const { head } = this;
    const end = head >= first ? head : this.parts.descriptors;
    if (end === first) return false;
    const written: bigint[] = [];
    let due = 0;
    for (let slot = first; slot < end; slot++) {
      this.givePiece(slot);
      const qw1 = this.guest[2 * slot + 1]!;
      const isDue = asksForWriteBack(qw1);
      written.push(this.guest[2 * slot]!, isDue ? qw1 | DTYPE_DONE : qw1);
      if (isDue) due = slot + 1 - first;
    }
    this.returned = end === this.parts.descriptors ? 0 : end;
    if (due === 0) return true;
    try {
      await this.parts.host.memory().write(this.addressOf(first), bytesOf(written.slice(0, 2 * due)));
    } catch (error) {
      // Also if the step has been given up: the guest would wait for these for ever.
      this.fail(error);
      return true;
    }
    this.raise();
    return true;
  }

  protected async show(raw: BigUint64Array, count: number, epoch: number): Promise<boolean> {
    const { copies, attempted } = await this.#fetchBuffers(raw, count, epoch);
    if (epoch !== this.epoch) return true;
    const first = this.fetched;
    let n = 0;
    // GUEST: fetched once; the second look is at our copy
    while (n < attempted && this.#showDescriptor(raw[2 * n]!, raw[2 * n + 1]!, copies[n])) n++;
    this.showTail(this.fetched);
    // Nothing that the kernel could consume, so there never will be room: the packet is longer than any that it takes.
    if (n < count && this.fetched === first) this.#swallowing = !this.#holdsWholePacket();
    return n > 0 || this.#swallowing;
  }

  /** Copies of buffers that have to be asked for, by descriptor; no more than there is room for. One that cannot be had stays undefined. */
  async #fetchBuffers(raw: BigUint64Array, count: number, epoch: number): Promise<{ copies: readonly (Uint8Array | undefined)[]; attempted: number }> {
    const memory = this.parts.host.memory();
    const copies: (Uint8Array | undefined)[] = [];
    const jobs: (() => Promise<void>)[] = [];
    let room = this.pool.freeBytes;
    let swallowing = this.#swallowing;
    let attempted = 0;
    for (; attempted < count; attempted++) {
      const n = attempted;
      const address = raw[2 * n]!;
      const qw1 = raw[2 * n + 1]!;
      if ((qw1 & DTYPE_MASK) !== DTYPE_DATA) continue;
      const bytes = sizeOf(qw1);
      if (!swallowing && reach(memory, address, bytes, 'read') === 'messages') {
        if (bytes > room) break;
        room -= bytes;
        jobs.push(async () => {
          const copy = new Uint8Array(bytes);
          try {
            await memory.read(address, copy);
            copies[n] = copy;
          } catch {
            // Its packet goes nowhere, and the kernel counts it.
          }
        });
      }
      if ((qw1 & EOP) !== 0n) swallowing = false;
    }
    await inTurns(jobs, () => epoch !== this.epoch);
    return { copies, attempted };
  }

  /** False: there is no room for its buffer now. */
  #showDescriptor(address: bigint, qw1: bigint, copy: Uint8Array | undefined): boolean {
    let shown = address;
    if ((qw1 & DTYPE_MASK) === DTYPE_DATA) {
      const bytes = sizeOf(qw1);
      if (copy !== undefined && !this.#swallowing) {
        const piece = this.takePiece(bytes);
        if (piece === undefined) return false;
        this.parts.window.u8.set(copy, piece.offset);
        shown = piece.address;
      } else if (bytes !== 0 && (this.#swallowing || reach(this.parts.host.memory(), address, bytes, 'read') !== 'window')) {
        shown = this.nowhere;
      }
      if ((qw1 & EOP) !== 0n) this.#swallowing = false;
    }
    this.guest[2 * this.fetched] = address;
    this.guest[2 * this.fetched + 1] = qw1;
    // The write-back is ours: the kernel need not make one, nor raise the vector for it.
    this.showNext(shown, asksForWriteBack(qw1) ? qw1 & ~RS : qw1);
    return true;
  }

  #holdsWholePacket(): boolean {
    for (let slot = this.returned; slot !== this.fetched; slot = this.after(slot)) {
      const qw1 = this.guest[2 * slot + 1]!;
      if ((qw1 & DTYPE_MASK) === DTYPE_DATA && (qw1 & EOP) !== 0n) return true;
    }
    return false;
  }

  /** What the kernel has consumed has been sent. */
  protected countPending(): void {}
}

function sizeOf(qw1: bigint): number {
  return Number((qw1 >> SIZE_SHIFT) & SIZE_MASK);
}

/** As the kernels have it. */
function asksForWriteBack(qw1: bigint): boolean {
  const type = qw1 & DTYPE_MASK;
  return (qw1 & RS) !== 0n && type !== DTYPE_CONTEXT && type !== DTYPE_DONE;
}
