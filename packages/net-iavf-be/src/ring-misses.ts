/** What rings miss in the window: the questions of one lcore about one device, and the answers. */
import { IOTLB_READ, IOTLB_WRITE, iotlbTranslate, MissCell, type MissCells } from '@emudev/dma';
import type { LcoreContext } from '@emudev/ethdev';
import {
  DEV_IOTLB, DEV_QUEUE_PAIRS, DEV_RX_BLOCKS, DEV_TX_BLOCKS, Q_BYTES, Q_DOORBELL, Q_ENABLED, Q_HEAD, Q_LENGTH, Q_RING, Q_SHORT, RX_DESCRIPTOR_BYTES, SHORT_RX_DESCRIPTOR_BYTES, TX_DESCRIPTOR_BYTES,
} from './layout.ts';
import { MISS_LOOKAHEAD } from './limits.ts';
import type { Kernels } from './twins/index.ts';

const DTYPE_MASK = 0xf;
const DTYPE_DATA = 0;

/** All cards of an lcore share their kernels. Those that still take an address for a fault: the burst that was to heed it has ended with an error. */
let denying: Kernels | undefined;

/** Every question takes along what the same ring will need next: bringing in a whole ring's buffers costs one pause, not one for each. */
export class RingMisses {
  readonly #u32: Uint32Array;
  readonly #i32: Int32Array;
  readonly #kernels: Kernels;
  readonly #device: number;
  readonly #tx: readonly MissCell[];
  readonly #send: MissCell;
  #isCut = false;

  constructor(context: LcoreContext, kernels: Kernels, device: number, cells: MissCells) {
    this.#u32 = context.u32;
    this.#i32 = context.i32;
    this.#kernels = kernels;
    this.#device = device;
    const all = Array.from({ length: cells.count }, (_, n) => new MissCell(context, cells, n));
    this.#send = all.pop()!;
    this.#tx = all;
    kernels.setAsking(1);
  }

  /** The Tx ring has a question on its way. If the answer was no, the next burst takes the address for a fault; then `heeded`. */
  mustWait(queue: number): boolean {
    return this.#mustWait(this.#tx[queue]!);
  }
  heeded(queue: number): void {
    this.#heeded(this.#tx[queue]!);
  }
  /** Several lcores that send to the guest share the cell: the question may be another one's. */
  mustWaitToSend(): boolean {
    const must = this.#mustWait(this.#send);
    if (must) this.#isCut = true;
    return must;
  }
  /** The last burst to the guest was cut short by a miss, or kept away: what is left of it can be sent when there is an answer. */
  get sendPending(): boolean {
    return this.#isCut;
  }
  heededToSend(): void {
    this.#isCut = false;
    this.#heeded(this.#send);
  }
  /** Sleeps so long at most; true: the answer is there. */
  waitToSend(timeoutMs: number): boolean {
    return timeoutMs > 0 && this.#send.wait(timeoutMs);
  }

  #mustWait(cell: MissCell): boolean {
    if (denying !== undefined) {
      denying.deny(0, 0, 0);
      denying = undefined;
    }
    if (cell.idle) return false;
    if (cell.pending) return true;
    if (cell.denied) {
      this.#kernels.deny(cell.high, cell.low, 1);
      denying = this.#kernels;
    }
    return false;
  }

  #heeded(cell: MissCell): void {
    if (cell.idle) return;
    this.#kernels.deny(0, 0, 0);
    denying = undefined;
    cell.settle();
  }

  /** The burst of this Tx ring has ended with a miss. */
  askForTx(queue: number): void {
    const u32 = this.#u32;
    const cell = this.#begin(this.#tx[queue]!, IOTLB_READ);
    this.#lookAhead(cell, u32[(this.#device + DEV_TX_BLOCKS) >>> 2]! + queue * Q_BYTES, IOTLB_READ, TX_DESCRIPTOR_BYTES);
    cell.ask();
  }

  /** A burst to the guest has ended with a miss: some Rx ring's, so all of them are looked at. */
  askForRx(): void {
    this.#isCut = true;
    const u32 = this.#u32;
    const cell = this.#begin(this.#send, IOTLB_WRITE);
    const pairs = u32[(this.#device + DEV_QUEUE_PAIRS) >>> 2]!;
    const blocks = u32[(this.#device + DEV_RX_BLOCKS) >>> 2]!;
    for (let queue = 0; queue < pairs; queue++) {
      const block = blocks + queue * Q_BYTES;
      this.#lookAhead(cell, block, IOTLB_WRITE, u32[(block + Q_SHORT) >>> 2] === 0 ? RX_DESCRIPTOR_BYTES : SHORT_RX_DESCRIPTOR_BYTES);
    }
    cell.ask();
  }

  #begin(cell: MissCell, access: number): MissCell {
    cell.begin(this.#u32[(this.#device + DEV_IOTLB) >>> 2]!, access, this.#kernels.missHigh() >>> 0, this.#kernels.missLow() >>> 0);
    return cell;
  }

  /** GUEST: what descriptors say is only a guess at what will be asked for. */
  #lookAhead(cell: MissCell, block: number, access: number, descriptorBytes: number): void {
    const u32 = this.#u32;
    const word = block >>> 2;
    const ring = u32[word + Q_RING / 4]!;
    const length = u32[word + Q_LENGTH / 4]!;
    if (u32[word + Q_ENABLED / 4] === 0 || ring === 0 || length === 0) return;
    const iotlb = u32[(this.#device + DEV_IOTLB) >>> 2]!;
    const tail = Atomics.load(this.#i32, u32[word + Q_DOORBELL / 4]! >>> 2) >>> 0;
    let at = u32[word + Q_HEAD / 4]!;
    for (let n = 0; n < MISS_LOOKAHEAD && at !== tail && at < length; n++) {
      const descriptor = (ring + at * descriptorBytes) >>> 2;
      const isBuffer = access === IOTLB_WRITE || (u32[descriptor + 2]! & DTYPE_MASK) === DTYPE_DATA;
      const low = u32[descriptor]!;
      const high = u32[descriptor + 1]!;
      if (isBuffer && iotlbTranslate(u32, iotlb, high, low, 1, access) === 0 && !cell.add(high, low)) return;
      at = at + 1 === length ? 0 : at + 1;
    }
  }
}
