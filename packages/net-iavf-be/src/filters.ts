/** What the guest wants to receive: its MAC set and its VLAN set, here as JavaScript sets and in the window as the kernels read them. */
import type { Window } from '@emudev/dma';
import { DEV_FLAGS, DEV_MAC_TABLE, DEV_VLAN_BITMAP, DEVF_VLAN_PRUNING, MAC_SLOTS } from './layout.ts';
import { PublishedTable } from './published-table.ts';

const MAC_SLOT_BYTES = 8;
const VLAN_BITMAP_BYTES = 512;
const VLAN_IDS = 4096;

/** Bytes of an address as one number, first byte lowest: the low 48 bits of its key. */
export function macNumber(address: Uint8Array): bigint {
  let n = 0n;
  for (let i = 5; i >= 0; i--) n = (n << 8n) | BigInt(address[i]!);
  return n;
}

export class MacFilter implements Disposable {
  readonly #window: Window;
  readonly #table: PublishedTable;
  #addresses: ReadonlySet<bigint> = new Set();

  constructor(window: Window, device: number) {
    this.#window = window;
    this.#table = new PublishedTable(window, device + DEV_MAC_TABLE, MAC_SLOTS * MAC_SLOT_BYTES);
  }

  get addresses(): ReadonlySet<bigint> {
    return this.#addresses;
  }

  /** In force from the next burst on. Await the quiescence before the next `set`. */
  set(addresses: ReadonlySet<bigint>): void {
    this.#addresses = new Set(addresses);
    this.#table.publish((table) => {
      const { u32 } = this.#window;
      const base = table >>> 2;
      u32.fill(0, base, base + MAC_SLOTS * 2);
      for (const address of this.#addresses) {
        const low = Number(address & 0xffff_ffffn);
        const high = (Number(address >> 32n) | 0x8000_0000) >>> 0;
        let slot = (Math.imul(low ^ high, 0x9e3779b1) >>> 20) & (MAC_SLOTS - 1);
        while (u32[base + slot * 2 + 1] !== 0) slot = (slot + 1) & (MAC_SLOTS - 1);
        u32[base + slot * 2] = low;
        u32[base + slot * 2 + 1] = high;
      }
    });
  }

  [Symbol.dispose](): void {
    this.#table[Symbol.dispose]();
  }
}

/** One bit per VLAN: bytes and flags change one at a time, so lcores may read meanwhile. */
export class VlanFilter implements Disposable {
  readonly #window: Window;
  readonly #device: number;
  readonly #bitmap: number;
  readonly #ids = new Set<number>();

  constructor(window: Window, device: number) {
    this.#window = window;
    this.#device = device;
    this.#bitmap = window.alloc(VLAN_BITMAP_BYTES);
    window.u32[(device + DEV_VLAN_BITMAP) >>> 2] = this.#bitmap;
  }

  get ids(): ReadonlySet<number> {
    return this.#ids;
  }

  /** VLAN 0 is priority-tagged traffic, which is never pruned: it is no filter. */
  add(vlanIds: Iterable<number>): void {
    for (const id of vlanIds) {
      if (id === 0) continue;
      this.#ids.add(id);
      Atomics.or(this.#window.u8, this.#bitmap + (id >>> 3), 1 << (id & 7));
    }
    this.#prune();
  }

  delete(vlanIds: Iterable<number>): void {
    for (const id of vlanIds) {
      if (!this.#ids.delete(id)) continue;
      Atomics.and(this.#window.u8, this.#bitmap + (id >>> 3), ~(1 << (id & 7)));
    }
    this.#prune();
  }

  clear(): void {
    this.delete([...this.#ids]);
  }

  /** How many filters there would be with these. */
  sizeWith(vlanIds: readonly number[]): number {
    return new Set([...this.#ids, ...vlanIds.filter((id) => id !== 0 && id < VLAN_IDS)]).size;
  }

  #prune(): void {
    const flags = (this.#device + DEV_FLAGS) >>> 2;
    if (this.#ids.size > 0) Atomics.or(this.#window.u32, flags, DEVF_VLAN_PRUNING);
    else Atomics.and(this.#window.u32, flags, ~DEVF_VLAN_PRUNING);
  }

  [Symbol.dispose](): void {
    this.#window.free(this.#bitmap);
  }
}
