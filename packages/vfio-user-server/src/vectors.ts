/** The interrupt descriptors of one session: a table per interrupt index, every eventfd owned here and closed exactly once. */
import { readlinkSync } from 'node:fs';
import type { Sys } from '@emudev/linux';
import type { IrqDescription } from '@emudev/pci';
import { VFIO_PCI_NUM_IRQS, type SetIrqs } from '@emudev/vfio-user-protocol';
import { VfioUserServerError } from './errors.ts';

/** Vectors [start, start + count) of `index` get the descriptors `fds[i]`; without `fds` they lose theirs. */
export interface VectorChange {
  readonly index: number;
  readonly start: number;
  readonly count: number;
  readonly fds: readonly number[] | undefined;
}

export class Vectors {
  readonly #sys: Sys;
  readonly #tables: readonly Int32Array[];

  constructor(sys: Sys, irqs: readonly IrqDescription[]) {
    this.#sys = sys;
    this.#tables = Array.from({ length: VFIO_PCI_NUM_IRQS }, (_, index) => new Int32Array(irqs.find((irq) => irq.index === index)?.count ?? 0).fill(-1));
  }

  /** Number of vectors; 0 for an index the device has not described, undefined for one that does not exist. */
  countOf(index: number): number | undefined {
    return this.#tables[index]?.length;
  }

  /** -1 while the client has assigned none. */
  fd(index: number, vector: number): number {
    return this.#tables[index]?.[vector] ?? -1;
  }

  /**
   * What a request changes; undefined where nothing does: MASK and UNMASK (no device here keeps a level that they could act
   * on), loopback triggers, and taking away descriptors that are not there.
   */
  change(request: SetIrqs, fds: readonly number[]): VectorChange | undefined {
    const table = this.#tables[request.index]!;
    if (request.action !== 'trigger') return undefined;
    const { index, start } = request;
    if (request.data === 'eventfd' && fds.length > 0) {
      for (const fd of fds) this.#checkEventfd(fd);
      return { index, start, count: request.count, fds };
    }
    const disableAll = request.data === 'none' && request.count === 0;
    if (request.data !== 'eventfd' && !disableAll) return undefined;
    const count = disableAll ? table.length : request.count;
    return table.subarray(start, start + count).some((fd) => fd !== -1) ? { index, start, count, fds: undefined } : undefined;
  }

  /** Takes the descriptors over; returns those that were replaced, to be closed when the device no longer uses them. */
  apply(change: VectorChange): number[] {
    const table = this.#tables[change.index]!;
    const replaced: number[] = [];
    for (let i = 0; i < change.count; i++) {
      const old = table[change.start + i]!;
      if (old !== -1) replaced.push(old);
      table[change.start + i] = change.fds?.[i] ?? -1;
    }
    return replaced;
  }

  /** TRIGGER with DATA_NONE or DATA_BOOL: the client asks for interrupts itself (a loopback test). */
  fire(request: SetIrqs): void {
    if (request.action !== 'trigger' || request.data === 'eventfd') return;
    for (let i = 0; i < request.count; i++) {
      if (typeof request.data !== 'string' && request.data[i] === 0) continue;
      const fd = this.fd(request.index, request.start + i);
      if (fd !== -1) this.#sys.eventfdSignal(fd);
    }
  }

  close(): void {
    for (const table of this.#tables) {
      for (const fd of table) if (fd !== -1) this.#sys.close(fd);
      table.fill(-1);
    }
  }

  /**
   * CLIENT: whichever thread raises an interrupt must not wait. Writing to a pipe or a socket could, so nothing but an eventfd is
   * taken, which `eventfdSignal` never waits for; it is made non-blocking for kernels where that takes a write.
   */
  #checkEventfd(fd: number): void {
    const target = readlinkSync(`/proc/self/fd/${fd}`);
    if (target !== 'anon_inode:[eventfd]') throw new VfioUserServerError('ERR_SERVER_NOT_EVENTFD', 22, `an interrupt needs an eventfd, got ${target}`);
    this.#sys.setNonBlocking(fd, true);
  }
}
