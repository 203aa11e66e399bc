import { DEFAULT_LEASE_SECONDS, OFFER_SECONDS } from '../limits.ts';
import type { DhcpInit, Host } from './host.ts';

/**
 * Leases in the window, one per address of the range, so that they outlive a restart of the port:
 *
 * ```
 * 0   6 bytes  MAC of the client; zero: never used
 * 6   u8       state
 * 8   u32      end, seconds of the monotonic clock (big-endian, as everything DataView writes here)
 * ```
 *
 * | state    | DISCOVER                | REQUEST (its own)  | RELEASE        | DECLINE  | end passes     |
 * | -------- | ----------------------- | ------------------ | -------------- | -------- | -------------- |
 * | free     | offered, if chosen      | leased, if asked for | -            | -        | -              |
 * | offered  | offered again, new end  | leased             | free           | declined | free           |
 * | leased   | offered again, same end | leased, new end    | free           | declined | free           |
 * | declined | -                       | refused            | - (not the client's any more) | - | free   |
 *
 * A freed lease keeps its MAC: the client gets the same address again as long as nobody else needs it.
 */
export const LEASE_BYTES = 16;
const STATE = 6;
const END = 8;
export const FREE = 0;
export const OFFERED = 1;
export const LEASED = 2;
export const DECLINED = 3;
export const NONE = -1;

const now = (): number => Math.floor(process.hrtime()[0]);

export class Leases {
  readonly #host: Host;
  readonly #init: DhcpInit;

  constructor(host: Host, init: DhcpInit) {
    this.#host = host;
    this.#init = init;
  }

  #at(slot: number): number {
    return this.#init.leases + slot * LEASE_BYTES;
  }

  addressOf(slot: number): number {
    return this.#init.first + slot;
  }

  /** NONE outside of the range. */
  slotOf(address: number): number {
    const slot = address - this.#init.first;
    return slot >= 0 && slot < this.#init.count ? slot : NONE;
  }

  state(slot: number): number {
    const { view } = this.#host;
    const at = this.#at(slot);
    const state = view.getUint8(at + STATE);
    return state !== FREE && view.getUint32(at + END) <= now() ? FREE : state;
  }

  #isOf(slot: number, mac: number): boolean {
    const { u8 } = this.#host;
    const at = this.#at(slot);
    for (let i = 0; i < 6; i++) if (u8[at + i] !== u8[mac + i]) return false;
    return true;
  }

  /** The slot that belongs, or belonged last, to the MAC at window offset `mac`. */
  find(mac: number): number {
    for (let slot = 0; slot < this.#init.count; slot++) if (this.#isOf(slot, mac) && this.state(slot) !== DECLINED) return slot;
    return NONE;
  }

  /** Its own slot, else the wanted one if that is free, else one that nobody has had, else any free one. */
  choose(mac: number, wanted: number): number {
    const own = this.find(mac);
    if (own !== NONE) return own;
    const slot = this.slotOf(wanted);
    if (slot !== NONE && this.state(slot) === FREE) return slot;
    let free = NONE;
    for (let candidate = 0; candidate < this.#init.count; candidate++) {
      if (this.state(candidate) !== FREE) continue;
      if (this.#neverUsed(candidate)) return candidate;
      if (free === NONE) free = candidate;
    }
    return free;
  }

  #neverUsed(slot: number): boolean {
    const { u8 } = this.#host;
    const at = this.#at(slot);
    for (let i = 0; i < 6; i++) if (u8[at + i] !== 0) return false;
    return true;
  }

  offer(slot: number, mac: number): void {
    if (this.state(slot) === LEASED) return;
    this.#set(slot, mac, OFFERED, OFFER_SECONDS);
  }

  lease(slot: number, mac: number): void {
    this.#set(slot, mac, LEASED, this.#init.leaseSeconds);
  }

  free(slot: number): void {
    this.#host.view.setUint8(this.#at(slot) + STATE, FREE);
  }

  /** Somebody else uses the address; leave it alone for a while. */
  decline(slot: number): void {
    this.#host.zero(this.#at(slot), LEASE_BYTES);
    this.#host.view.setUint8(this.#at(slot) + STATE, DECLINED);
    this.#host.view.setUint32(this.#at(slot) + END, now() + DEFAULT_LEASE_SECONDS);
  }

  #set(slot: number, mac: number, state: number, seconds: number): void {
    const { u8, view } = this.#host;
    const at = this.#at(slot);
    u8.copyWithin(at, mac, mac + 6);
    view.setUint8(at + STATE, state);
    view.setUint32(at + END, Math.min(now() + seconds, 0xffffffff));
  }
}
