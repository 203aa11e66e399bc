/**
 * The interrupts of one session: a table of vectors per interrupt index, every descriptor owned here and closed exactly once.
 *
 * | vector    | device signals `fd()` or `trigger` | mask                    | unmask                                     |
 * | --------- | ---------------------------------- | ----------------------- | ------------------------------------------ |
 * | no fd     | nowhere: fd() is -1                | remembered              | remembered                                 |
 * | assigned  | the client's eventfd               | → parked                | nothing                                    |
 * | parked    | an eventfd of ours, which collects | nothing                 | → assigned, one signal if any was collected|
 *
 * INTx has a level besides (`setIntx`): it is signalled when it is asserted, once, and then again after every unmask for as long as it
 * stays asserted ("automasked": not a mask of the client's, so nothing is parked).
 */
import type { Sys } from '@emudev/linux';
import { IRQ_INTX, type IrqDescription } from '@emudev/pci';
import { VFIO_PCI_NUM_IRQS } from '@emudev/vfio-user-protocol';

/** Vectors [start, start + count) of `index` get the descriptors `fds[i]`; without `fds` they lose theirs. */
export interface VectorChange {
  readonly index: number;
  readonly start: number;
  readonly count: number;
  readonly fds: readonly number[] | undefined;
}

interface Table {
  /** The client's eventfds, -1 without. */
  readonly assigned: Int32Array;
  /** Ours, for vectors that are masked and have one of the client's. */
  readonly parked: Int32Array;
  readonly masked: Uint8Array;
}

export class Vectors {
  readonly #sys: Sys;
  readonly #tables: readonly Table[];
  #level = false;
  /** The level has been signalled and not unmasked since. */
  #automasked = false;

  constructor(sys: Sys, irqs: readonly IrqDescription[]) {
    this.#sys = sys;
    this.#tables = Array.from({ length: VFIO_PCI_NUM_IRQS }, (_, index) => {
      const count = irqs.find((irq) => irq.index === index)?.count ?? 0;
      return { assigned: new Int32Array(count).fill(-1), parked: new Int32Array(count).fill(-1), masked: new Uint8Array(count) };
    });
  }

  /** Number of vectors; 0 for an index the device has not described, undefined for one that does not exist. */
  countOf(index: number): number | undefined {
    return this.#tables[index]?.masked.length;
  }

  /** What the device signals: -1 while the client has assigned nothing. */
  fd(index: number, vector: number): number {
    const table = this.#tables[index];
    const parked = table?.parked[vector] ?? -1;
    return parked !== -1 ? parked : (table?.assigned[vector] ?? -1);
  }

  masked(index: number, vector: number): boolean {
    return this.#tables[index]?.masked[vector] === 1;
  }

  /** False where the client has assigned no descriptor: the interrupt is lost, as on a bus where it is disabled. */
  trigger(index: number, vector: number): boolean {
    const fd = this.fd(index, vector);
    return fd !== -1 && this.#sys.eventfdSignal(fd);
  }

  setIntx(asserted: boolean): void {
    this.#level = asserted;
    this.#signalLevel();
  }

  /** A reset leaves nothing pending: the level is low and masked vectors have collected nothing. */
  clearPending(): void {
    this.#level = false;
    for (const { parked } of this.#tables) for (const fd of parked) if (fd !== -1) this.#sys.eventfdDrain(fd);
  }

  /** Any of them has a descriptor of the client's. */
  assigned({ index, start, count }: Omit<VectorChange, 'fds'>): boolean {
    return this.#tables[index]!.assigned.subarray(start, start + count).some((fd) => fd !== -1);
  }

  /**
   * Takes the descriptors over; returns those that nobody is to use any more, to be closed once the device has heard of it.
   * @throws LinuxError EMFILE, and nothing has changed
   */
  apply({ index, start, count, fds }: VectorChange): number[] {
    const table = this.#tables[index]!;
    const vectors = Array.from({ length: count }, (_, i) => start + i);
    const parking = this.#park(fds === undefined ? [] : vectors.filter((vector) => table.masked[vector] === 1 && table.parked[vector] === -1));
    const wasAssigned = index === IRQ_INTX && table.assigned[0] !== -1;
    const replaced: number[] = [];
    vectors.forEach((vector, i) => {
      const old = table.assigned[vector]!;
      if (old !== -1) replaced.push(old);
      table.assigned[vector] = fds?.[i] ?? -1;
      if (fds === undefined && table.parked[vector] !== -1) {
        replaced.push(table.parked[vector]!);
        table.parked[vector] = -1;
      }
    });
    for (const [vector, fd] of parking) table.parked[vector] = fd;
    if (index === IRQ_INTX && !wasAssigned) {
      // Whoever takes the pin over learns of a level that was asserted before.
      this.#automasked = false;
      this.#signalLevel();
    }
    return replaced;
  }

  /** Masking (or unmasking) these changes what `fd` says of one of them. */
  maskMoves(index: number, vectors: readonly number[], masked: boolean): boolean {
    const table = this.#tables[index]!;
    return vectors.some((vector) => table.assigned[vector] !== -1 && (table.masked[vector] === 1) !== masked);
  }

  /** Delivers what was held back when it unmasks. Returns descriptors to be closed, as `apply`. @throws LinuxError EMFILE, and nothing has changed */
  setMasked(index: number, vectors: readonly number[], masked: boolean): number[] {
    const table = this.#tables[index]!;
    const parking = this.#park(masked ? vectors.filter((vector) => table.assigned[vector] !== -1 && table.parked[vector] === -1) : []);
    const unused: number[] = [];
    for (const [vector, fd] of parking) table.parked[vector] = fd;
    for (const vector of vectors) {
      table.masked[vector] = masked ? 1 : 0;
      const parked = table.parked[vector]!;
      if (masked || parked === -1) continue;
      table.parked[vector] = -1;
      unused.push(parked);
      if (this.#sys.eventfdDrain(parked) > 0) this.#sys.eventfdSignal(table.assigned[vector]!);
    }
    if (!masked && index === IRQ_INTX && vectors.length > 0) this.unmaskLevel();
    return unused;
  }

  /** The client is done with the last INTx: signals again if the level is still (or again) asserted. */
  unmaskLevel(): void {
    this.#automasked = false;
    this.#signalLevel();
  }

  close(): void {
    for (const { assigned, parked, masked } of this.#tables) {
      for (const fd of [...assigned, ...parked]) if (fd !== -1) this.#sys.close(fd);
      assigned.fill(-1);
      parked.fill(-1);
      masked.fill(0);
    }
  }

  #signalLevel(): void {
    const { assigned, masked } = this.#tables[IRQ_INTX]!;
    const fd = assigned[0] ?? -1;
    if (!this.#level || this.#automasked || masked[0] === 1 || fd === -1) return;
    this.#automasked = true;
    this.#sys.eventfdSignal(fd);
  }

  /** An eventfd for each, or an exception and none. */
  #park(vectors: readonly number[]): [vector: number, fd: number][] {
    const parking: [number, number][] = [];
    try {
      for (const vector of vectors) parking.push([vector, this.#sys.eventfd()]);
    } catch (error) {
      for (const [, fd] of parking) this.#sys.close(fd);
      throw error;
    }
    return parking;
  }
}
