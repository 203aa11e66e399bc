import { WINDOW_BYTES, loadKernels } from '@emudev/dma';
import { sumWindowWords } from './checksum.ts';
import { copyInWindow } from './frame-ring.ts';
import { KERNELS_WASM_BASE64 } from './kernels.gen.ts';
import type { LcoreContext } from './port.ts';

/** Bulk work on bytes of the window; offsets and lengths have been checked by whoever calls. */
export interface WindowBytes {
  /** Also between ranges that overlap. May write up to the next word behind the destination. */
  copy(to: number, from: number, length: number): void;
  /** `seed` plus the sum of the big-endian 16-bit words, to be folded (checksum.ts). */
  sum(offset: number, length: number, seed?: number): number;
}

interface Kernels {
  copy(to: number, from: number, bytes: number): void;
  sum(from: number, bytes: number): number;
}

/** Once per data path. The kernels, or over any memory that is not the window (a test's) their TypeScript twins. */
export function windowBytes(context: Pick<LcoreContext, 'memory' | 'u8' | 'u32'>): WindowBytes {
  if (context.memory.buffer.byteLength !== WINDOW_BYTES) {
    return {
      copy: (to, from, length) => {
        copyInWindow(context, to, from, length);
      },
      sum: (offset, length, seed = 0) => sumWindowWords(context.u32, context.u8, offset, length, seed),
    };
  }
  const kernels = loadKernels<Kernels>(KERNELS_WASM_BASE64, context.memory);
  return { copy: kernels.copy, sum: (offset, length, seed = 0) => seed + kernels.sum(offset, length) };
}
