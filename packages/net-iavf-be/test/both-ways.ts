/** Runs something on the kernels and on the twins from the same state, and tells where results or memory differ. */
import { loadKernels } from '@emudev/dma';
import { KERNELS_WASM_BASE64 } from '../src/kernels.gen.ts';
import { DEV_BYTES, DEV_SCRATCH, Q_BYTES, Q_RX_ADDRESSES, Q_STAGE, STAGE_CRC_TABLE, STAGE_DESCRIPTORS } from '../src/layout.ts';
import { createTwins, TwinMemory, type Kernels } from '../src/twins/index.ts';
import { RIG_BYTES, type Rig } from './rig.ts';

export interface Implementations {
  readonly wasm: Kernels;
  readonly twins: Kernels;
}
export function implementations(rig: Rig): Implementations {
  return { wasm: loadKernels<Kernels>(KERNELS_WASM_BASE64, rig.memory), twins: createTwins(new TwinMemory(rig.view, rig.i32)) };
}

export interface Comparison {
  readonly results: number[];
  readonly before: Buffer;
  readonly after: Buffer;
}

/** Throws when the two differ in what they return or in one byte of memory; leaves the state after the twins. */
export function bothWays(rig: Rig, { wasm, twins }: Implementations, run: (kernels: Kernels) => number[]): Comparison {
  const before = rig.bytes(0, RIG_BYTES);
  const wasmResults = run(wasm);
  const wasmMemory = rig.bytes(0, RIG_BYTES);
  rig.write(0, before);
  const results = run(twins);
  const after = rig.bytes(0, RIG_BYTES);
  if (JSON.stringify(results) !== JSON.stringify(wasmResults)) throw new Error(`kernels returned ${wasmResults.join()}, twins ${results.join()}`);
  // What is scratch of the kernels alone
  wasmMemory.fill(0, rig.device + DEV_SCRATCH, rig.device + DEV_BYTES);
  for (let q = 0; q < 16; q++) {
    wasmMemory.fill(0, rig.rxBlock(0) + q * Q_BYTES + Q_RX_ADDRESSES, rig.rxBlock(0) + q * Q_BYTES + Q_RX_ADDRESSES + 40);
    const stage = rig.get(rig.txBlock(0) + q * Q_BYTES + Q_STAGE);
    if (stage !== 0) wasmMemory.fill(0, stage + STAGE_DESCRIPTORS, stage + STAGE_CRC_TABLE);
  }
  if (wasmMemory.compare(after) !== 0) {
    const at = wasmMemory.findIndex((byte, n) => byte !== after[n]);
    throw new Error(`memory differs at 0x${at.toString(16)}: kernels ${wasmMemory.subarray(at & ~7, (at & ~7) + 16).toString('hex')}, twins ${after.subarray(at & ~7, (at & ~7) + 16).toString('hex')}`);
  }
  return { results, before, after };
}
