import { FRAME_DATA, FRAME_RECORD_BYTES, type Burst } from '../burst.ts';
import type { LcoreContext } from '../port.ts';
import type { Engine } from './engine.ts';

/** Replaces both addresses; shorter frames than an Ethernet header do not get here (ports drop them), their bytes lie in the window all the same. */
export class MacEngine implements Engine {
  readonly receives = true;
  readonly keepsLengths = true;
  readonly #u32: Uint32Array;
  readonly #view: DataView;
  readonly #word0: number;
  readonly #word1: number;
  readonly #word2: number;

  constructor(context: LcoreContext, source: Uint8Array, destination: Uint8Array) {
    this.#u32 = context.u32;
    this.#view = context.view;
    const header = new DataView(new ArrayBuffer(12));
    for (let i = 0; i < 6; i++) {
      header.setUint8(i, destination[i]!);
      header.setUint8(6 + i, source[i]!);
    }
    this.#word0 = header.getUint32(0, true);
    this.#word1 = header.getUint32(4, true);
    this.#word2 = header.getUint32(8, true);
  }

  run(burst: Burst, count: number): number {
    const view = this.#view;
    for (let i = 0; i < count; i++) {
      const data = this.#u32[(burst.records + i * FRAME_RECORD_BYTES + FRAME_DATA) >>> 2]!;
      view.setUint32(data, this.#word0, true);
      view.setUint32(data + 4, this.#word1, true);
      view.setUint32(data + 8, this.#word2, true);
    }
    return count;
  }
}
