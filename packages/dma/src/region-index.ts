/** Regions by where they begin, in a B+ tree: a consumer may map 65,535 of them, in any order. */
import sortedBTree from 'sorted-btree';
import { PAGE_SHIFT } from './iotlb.ts';
import { REGION_INDEX_NODE } from './limits.ts';

/** A CommonJS module: its class is the `default` of what Node.js imports, and what is imported where a bundler or test runner unwraps that. */
const BTree = ('default' in sortedBTree ? sortedBTree.default : sortedBTree) as typeof sortedBTree.default;

type CompareKeys = (a: number, b: number) => number;

/** Regions begin on pages: page numbers are exact as numbers, and compare several times faster than bigints. */
const pageOf = (iova: bigint): number => Number(iova >> BigInt(PAGE_SHIFT));

/** No two of the regions begin at the same address; that they do not overlap is the caller's business. */
export class RegionIndex<R extends { readonly iova: bigint }> {
  readonly #tree: InstanceType<typeof BTree<number, R | undefined>>;
  /** What the tree answers with; one for all look-ups, so that none allocates. */
  readonly #found: [number, R | undefined] = [0, undefined];

  constructor(compare: CompareKeys = (a, b) => a - b) {
    this.#tree = new BTree<number, R | undefined>(undefined, compare, REGION_INDEX_NODE);
  }

  get size(): number {
    return this.#tree.size;
  }

  insert(region: R): void {
    this.#tree.set(pageOf(region.iova), region);
  }

  remove(region: R): void {
    this.#tree.delete(pageOf(region.iova));
  }

  /** The last region that begins at `iova` or before. */
  atOrBefore(iova: bigint): R | undefined {
    return this.#tree.getPairOrNextLower(pageOf(iova), this.#found)?.[1];
  }

  /** The first region that begins on a later page than `iova`. */
  after(iova: bigint): R | undefined {
    return this.#tree.nextHigherPair(pageOf(iova), this.#found)?.[1];
  }

  /** In the order of addresses. The index must not change meanwhile. */
  *[Symbol.iterator](): Generator<R, void, void> {
    for (const region of this.#tree.values()) yield region!;
  }

  clear(): void {
    this.#tree.clear();
  }
}
