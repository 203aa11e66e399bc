/**
 * The kernels in TypeScript: the same signatures over the same memory, written from the same specification but not from each
 * other. They are the oracle of the property tests and what runs where WebAssembly over guest memory does not work.
 */
import type { TwinMemory } from './memory.ts';
import { txBurst } from './rx-ring.ts';
import { rxBurst } from './tx-ring.ts';

/** What ../kernels exports and `createTwins` imitates. Numbers are window offsets and counts; see the kernels for the meaning. */
export interface Kernels {
  /** Frames in bits 15:0; bit 16 = a descriptor with RS was completed, raise the queue's vector. */
  rxBurst(device: number, queue: number, records: number, max: number, arena: number, arenaBytes: number): number;
  /** Frames taken: all, or none while paused. DEV_RX_KICK then has a bit for every queue whose vector is to be raised. */
  txBurst(device: number, records: number, count: number): number;
}

export function createTwins(memory: TwinMemory): Kernels {
  return {
    rxBurst: (device, queue, records, max, arena, arenaBytes) => rxBurst(memory, device, queue, records, max, arena, arenaBytes),
    txBurst: (device, records, count) => txBurst(memory, device, records, count),
  };
}
export { TwinMemory } from './memory.ts';
