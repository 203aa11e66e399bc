/** memif's kernels, as a server has them. */
import { loadKernels } from '@emudev/dma';
import * as ethdev from '@emudev/ethdev';
import type { Kernels } from '../../../../packages/net-memif/src/kernels-face.ts';
import { KERNELS_WASM_BASE64 } from '../../../../packages/net-memif/src/kernels.gen.ts';
import * as layout from '../../../../packages/net-memif/src/layout.ts';
import * as limits from '../../../../packages/net-memif/src/limits.ts';
import { BURST, BURSTS, type KernelCase } from './case.ts';

const ARENA_ALIGNMENT = 64;
export const MEMIF_CONSTANTS: Readonly<Record<string, unknown>> = { ...ethdev, ...limits, ...layout, ARENA_ALIGNMENT };

const SIZE = 512;
const BUFFER_BYTES = 2048;
const CELLS = 0x1000;
const QUEUE = CELLS + layout.CELL_QUEUES;
const RECORDS = 0x4000;
const REGION = 0x10000;
const REGION_BYTES = 0x180000;
const BUFFERS_OFFSET = 0x4000;
const ARENA = 0x200000;
const ARENA_BYTES = 0x20000;
const IMAGE_BYTES = 4 << 20;

class MemifCases {
  readonly #memory = new WebAssembly.Memory({ initial: 65536, maximum: 65536, shared: true });
  readonly #u8 = new Uint8Array(this.#memory.buffer);
  readonly #view = new DataView(this.#memory.buffer);
  readonly #kernels = loadKernels<Kernels>(KERNELS_WASM_BASE64, this.#memory);

  /** The client has supplied all but the last buffers: full ones, or room. */
  #reset(lengthOfBuffers: number): void {
    const view = this.#view;
    this.#u8.fill(0, 0, IMAGE_BYTES);
    const fields: readonly (readonly [number, number])[] = [
      [CELLS + layout.CELL_REGIONS, 1], [CELLS + layout.CELL_REGION_TABLE, REGION], [CELLS + layout.CELL_REGION_TABLE + 4, REGION_BYTES],
      [QUEUE + layout.QUEUE_STATE, layout.QUEUE_UP], [QUEUE + layout.QUEUE_RING, REGION], [QUEUE + layout.QUEUE_MASK, SIZE - 1],
      [QUEUE + layout.QUEUE_SERVER, 1], [QUEUE + layout.QUEUE_NUMBER, 5],
    ];
    for (const [at, value] of fields) view.setUint32(at, value, true);
    view.setUint16(REGION + layout.RING_HEAD, BURST * BURSTS, true);
    for (let n = 0; n < SIZE; n++) {
      const descriptor = REGION + layout.RING_DESCRIPTORS + n * layout.DESCRIPTOR_BYTES;
      const offset = BUFFERS_OFFSET + n * BUFFER_BYTES;
      view.setUint32(descriptor + layout.DESCRIPTOR_LENGTH, lengthOfBuffers, true);
      view.setUint32(descriptor + layout.DESCRIPTOR_OFFSET, offset, true);
      this.#u8.fill(n, REGION + offset, REGION + offset + BUFFER_BYTES);
    }
  }

  case(who: string, way: 'rx' | 'tx', bytes: number): KernelCase {
    return {
      who, program: 'memif', kernel: `memif-${way}`, calls: BURSTS, frames: BURST, copies: bytes >= 1024, memory: this.#u8, imageBytes: IMAGE_BYTES,
      prepare: () => {
        this.#reset(way === 'rx' ? bytes : BUFFER_BYTES);
        for (let n = 0; way === 'tx' && n < BURST; n++) {
          this.#view.setUint32(RECORDS + n * ethdev.FRAME_RECORD_BYTES, ARENA + n * BUFFER_BYTES, true);
          this.#view.setUint32(RECORDS + n * ethdev.FRAME_RECORD_BYTES + 4, bytes, true);
          this.#u8.fill(n, ARENA + n * BUFFER_BYTES, ARENA + n * BUFFER_BYTES + bytes);
        }
        return {
          state: [{ at: QUEUE, bytes: layout.QUEUE_BYTES }, { at: REGION, bytes: layout.RING_DESCRIPTORS + SIZE * layout.DESCRIPTOR_BYTES }],
          scratch: [],
          arguments: [CELLS, QUEUE, RECORDS, BURST, ARENA, ARENA_BYTES],
          call: way === 'rx'
            ? () => this.#kernels.rxBurst(CELLS, QUEUE, RECORDS, BURST, ARENA, ARENA_BYTES)
            : () => this.#kernels.txBurst(CELLS, QUEUE, RECORDS, BURST),
        };
      },
    };
  }
}

export function memifCases(): readonly KernelCase[] {
  const memif = new MemifCases();
  return [
    memif.case('memif Rx 64', 'rx', 64),
    memif.case('memif Rx 1500', 'rx', 1500),
    memif.case('memif Tx 64', 'tx', 64),
    memif.case('memif Tx 1500', 'tx', 1500),
  ];
}
