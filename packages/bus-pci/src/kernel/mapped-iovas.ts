/** What is mapped in one IOMMU address space, by whichever of its devices: where there is room for more. */
import type { IovaRange } from '../vfio-abi/type1.ts';

const ALL: readonly IovaRange[] = [{ first: 0n, last: 0xffff_ffff_ffff_ffffn }];

export class MappedIovas {
  /** Ascending, apart. */
  readonly #mapped: { readonly iova: bigint; readonly end: bigint }[] = [];

  /** The kernel has mapped it, so nothing of it was mapped before. */
  add(iova: bigint, sizeBytes: bigint): void {
    const after = this.#mapped.findIndex((other) => other.iova > iova);
    this.#mapped.splice(after < 0 ? this.#mapped.length : after, 0, { iova, end: iova + sizeBytes });
  }

  /** The kernel has unmapped it. */
  remove(iova: bigint): void {
    const index = this.#mapped.findIndex((other) => other.iova === iova);
    if (index >= 0) this.#mapped.splice(index, 1);
  }

  /** The lowest multiple of `align` from `from` on where so much is free, within one of `reachable` (ascending; undefined: any). undefined: there is none. */
  free(sizeBytes: bigint, align: bigint, from: bigint, reachable: readonly IovaRange[] = ALL): bigint | undefined {
    const aligned = (iova: bigint): bigint => (iova + align - 1n) / align * align;
    for (const { first, last } of reachable) {
      let iova = aligned(first > from ? first : from);
      for (const other of this.#mapped) {
        if (other.iova >= iova + sizeBytes) break;
        if (other.end > iova) iova = aligned(other.end);
      }
      if (iova + sizeBytes - 1n <= last) return iova;
    }
    return undefined;
  }
}
