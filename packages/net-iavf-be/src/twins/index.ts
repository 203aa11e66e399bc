/**
 * The kernels in TypeScript: the same signatures over the same memory, written from the same specification but not from each
 * other. They are the oracle of the property tests and what runs where WebAssembly over guest memory does not work.
 */
import { MissState } from './iotlb.ts';
import type { TwinMemory } from './memory.ts';
import { txBurst } from './rx-ring.ts';
import { takeBack } from './tx-lent.ts';
import { rxBurst } from './tx-ring.ts';

/** What ../kernels exports and `createTwins` imitates. Numbers are window offsets and counts; see the kernels for the meaning. */
export interface Kernels {
  /**
   * Frames in bits 15:0; bit 16 = a descriptor with RS was completed, raise the queue's vector; bit 17 = the next packet needs memory
   * that has to be brought in first; bit 18 = some are lent (FRAME_LENT): the burst has ended with them, `takeBack` has to follow.
   */
  rxBurst(device: number, queue: number, records: number, max: number, arena: number, arenaBytes: number): number;
  /** Frames taken: all, or none while paused, or with bit 17 those before one that needs memory to be brought in. DEV_RX_KICK then has a bit for every queue whose vector is to be raised. */
  txBurst(device: number, records: number, count: number): number;
  /**
   * After a burst with bit 18, when its frames have been taken: makes those of `count` records whole, which are kept, and gives the lent
   * descriptors of this queue back. 1 = raise its vector, 0 = none wanted it.
   */
  takeBack(device: number, queue: number, records: number, count: number): number;
  /**
   * Asks for the lines that the next rxBurst of this queue, and what it sends to the same one, will need: see ../kernels/prefetch.ts. `sends`: 1 =
   * no other thread sends to the guest. 0 = that rxBurst would have nothing to do.
   */
  prefetch(device: number, queue: number, sends: number): number;
  /** 1 = the processor keeps the order of plain stores: see ../kernels/publish.ts. Once, before the first burst. */
  setStoreOrder(ordered: number): void;
  /** Whether a burst ends (bit 17) at an address that the IOTLB does not have; else such an address is a fault. Off at first. */
  setAsking(on: number): void;
  /** An address whose page is a fault where the IOTLB does not have it; `any` = 0: none is. */
  deny(high: number, low: number, any: number): void;
  /** The address that ended a burst; the halves may come as signed numbers. */
  missHigh(): number;
  missLow(): number;
}

export function createTwins(memory: TwinMemory): Kernels {
  const misses = new MissState();
  return {
    rxBurst: (device, queue, records, max, arena, arenaBytes) => rxBurst(memory, misses, device, queue, records, max, arena, arenaBytes),
    txBurst: (device, records, count) => txBurst(memory, misses, device, records, count),
    takeBack: (device, queue, records, count) => (takeBack(memory, device, queue, records, count) ? 1 : 0),
    setAsking: (on) => {
      misses.asking = on !== 0;
    },
    deny: (high, low, any) => {
      misses.deny(high >>> 0, low >>> 0, any !== 0);
    },
    missHigh: () => misses.high,
    missLow: () => misses.low,
    prefetch: () => 1,
    setStoreOrder: () => {},
  };
}
export { TwinMemory } from './memory.ts';
