/**
 * Is there room in the guest's Rx rings for what comes next? While there is not, frames had better stay where they come from, a TAP's queue
 * in the kernel, say: what is taken and finds no buffer is lost, and a guest's TCP pays for that dearly.
 */
import type { LcoreContext } from '@emudev/ethdev';
import { DEV_QUEUE_PAIRS, DEV_RX_BLOCKS, Q_BYTES, Q_DOORBELL, Q_ENABLED, Q_FAULT, Q_HEAD, Q_LENGTH } from './layout.ts';
import { ROOM_DESCRIPTORS, ROOM_PATIENCE_MS } from './limits.ts';

export class RxRoom {
  readonly #u32: Uint32Array;
  readonly #device: number;
  readonly #clock: () => number;
  /** When a ring was found to lack room; 0: none does. */
  #since = 0;

  /** `device`: window offset of the device block; `clock` tells milliseconds. */
  constructor(context: Pick<LcoreContext, 'u32'>, device: number, clock: () => number = () => performance.now()) {
    this.#u32 = context.u32;
    this.#device = device;
    this.#clock = clock;
  }

  /** RSS chooses the ring after the frame has been received, so the fullest decides. A guest that never makes room is waited for once. */
  isAwaited(): boolean {
    if (!this.#lacking()) {
      this.#since = 0;
      return false;
    }
    const now = this.#clock();
    if (this.#since === 0) this.#since = now;
    return now - this.#since < ROOM_PATIENCE_MS;
  }

  #lacking(): boolean {
    const u32 = this.#u32;
    const first = u32[(this.#device + DEV_RX_BLOCKS) >>> 2]!;
    const end = first + u32[(this.#device + DEV_QUEUE_PAIRS) >>> 2]! * Q_BYTES;
    for (let block = first; block < end; block += Q_BYTES) {
      if (u32[(block + Q_ENABLED) >>> 2] === 0 || u32[(block + Q_FAULT) >>> 2] !== 0) continue;
      const length = u32[(block + Q_LENGTH) >>> 2]!;
      const tail = u32[u32[(block + Q_DOORBELL) >>> 2]! >>> 2]!;
      // GUEST: such a tail is a fault, and the kernel's to find.
      if (tail >= length) continue;
      const ahead = tail - u32[(block + Q_HEAD) >>> 2]!;
      const room = ahead < 0 ? ahead + length : ahead;
      if (room < ROOM_DESCRIPTORS && room < length >>> 2) return true;
    }
    return false;
  }
}
