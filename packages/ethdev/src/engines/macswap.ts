import { FRAME_DATA, FRAME_RECORD_BYTES, type Burst } from '../burst.ts';
import type { LcoreContext } from '../port.ts';
import type { Engine } from './engine.ts';

/** Exchanges the two addresses of the frame at `data`: a word and a half each, because frames are not aligned. */
export function swapMacs(view: DataView, data: number): void {
  const to = view.getUint32(data, true);
  const toRest = view.getUint16(data + 4, true);
  const from = view.getUint32(data + 6, true);
  const fromRest = view.getUint16(data + 10, true);
  view.setUint32(data, from, true);
  view.setUint16(data + 4, fromRest, true);
  view.setUint32(data + 6, to, true);
  view.setUint16(data + 10, toRest, true);
}

export class MacSwapEngine implements Engine {
  readonly receives = true;
  readonly keepsLengths = true;
  readonly #u32: Uint32Array;
  readonly #view: DataView;

  constructor(context: LcoreContext) {
    this.#u32 = context.u32;
    this.#view = context.view;
  }

  run(burst: Burst, count: number): number {
    for (let i = 0; i < count; i++) {
      swapMacs(this.#view, this.#u32[(burst.records + i * FRAME_RECORD_BYTES + FRAME_DATA) >>> 2]!);
    }
    return count;
  }
}
