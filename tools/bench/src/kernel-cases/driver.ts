/** The driver's kernels: Tx of frames it copies and of those whose buffers it exchanges, Rx. */
import { loadKernels } from '@emudev/dma';
import * as ethdev from '@emudev/ethdev';
import { RXS_DD, RXS_EOP, RXS_FLTSTAT_RSS, RXS_L3L4P, RX_LENGTH_SHIFT, RX_PTYPE_SHIFT } from '../../../../packages/iavf-pmd/src/descriptors.ts';
import * as descriptors from '../../../../packages/iavf-pmd/src/descriptors.ts';
import type { Kernels } from '../../../../packages/iavf-pmd/src/kernels-face.ts';
import { KERNELS_WASM_BASE64 } from '../../../../packages/iavf-pmd/src/kernels.gen.ts';
import * as layout from '../../../../packages/iavf-pmd/src/layout.ts';
import { BURST, BURSTS, type KernelCase, type Setup } from './case.ts';

export const DRIVER_CONSTANTS: Readonly<Record<string, unknown>> = { ...ethdev, ...descriptors, ...layout };

const RING = 512;
const FRAMES = BURST * BURSTS;
const STRIDE = 2048 + 64;
const IOVA = 0x1_0000_0000n;
const TX = 0x1000;
const RX = 0x1100;
const DOORBELLS = 0x1200;
const RS_LIST = 0x2000;
const TX_SLOTS = 0x3000;
const RX_SLOTS = 0x4000;
const RECORDS = 0x5000;
const TX_RING = 0x10000;
const RX_RING = 0x14000;
const FOREIGN = 0x20000;
const POOL = 0x200000;
const IMAGE_BYTES = 8 << 20;
const PTYPE_IPV4_TCP = 26n;
/** Polls between two bursts: none waits for a fuller one. */
const POLLS = layout.RX_PATIENCE + 1;

class DriverCases {
  readonly #memory = new WebAssembly.Memory({ initial: 65536, maximum: 65536, shared: true });
  readonly #u8 = new Uint8Array(this.#memory.buffer);
  readonly #view = new DataView(this.#memory.buffer);
  readonly #kernels = loadKernels<Kernels>(KERNELS_WASM_BASE64, this.#memory);

  constructor() {
    this.#kernels.setStoreOrder(process.arch === 'x64' ? 1 : 0);
  }

  #set(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }

  /** A queue pair that shares one pool: the Rx slots own the first half of its buffers. */
  #reset(): void {
    this.#u8.fill(0, 0, IMAGE_BYTES);
    const fields: readonly (readonly [number, number, number])[] = [
      [layout.Q_ENABLED, 1, 1], [layout.Q_RING, TX_RING, RX_RING], [layout.Q_LENGTH, RING, RING], [layout.Q_DOORBELL, DOORBELLS, DOORBELLS + 64],
      [layout.Q_BUFFERS, POOL, POOL], [layout.Q_POOL_BYTES, 2 * RING * STRIDE, 2 * RING * STRIDE], [layout.Q_BUFFER_BYTES, 2048, 2048], [layout.Q_SLOTS, TX_SLOTS, RX_SLOTS],
    ];
    for (const [field, tx, rx] of fields) {
      this.#set(TX + field, tx);
      this.#set(RX + field, rx);
    }
    for (const queue of [TX, RX]) this.#view.setBigUint64(queue + layout.Q_IOVA, IOVA, true);
    for (let n = 0; n < RING; n++) {
      this.#set(RX_SLOTS + 4 * n, n * STRIDE);
      this.#set(TX_SLOTS + 4 * n, (RING + n) * STRIDE);
    }
    this.#set(TX + layout.TXQ_RS_LIST, RS_LIST);
    this.#set(TX + layout.TXQ_MAX_FRAME, 9728);
    this.#set(TX + layout.TXQ_PARTNER, RX);
  }

  #case(who: string, kernel: string, bytes: number, prepare: () => Setup): KernelCase {
    return { who, program: 'driver', kernel, calls: BURSTS, frames: BURST, copies: bytes >= 1024, memory: this.#u8, imageBytes: IMAGE_BYTES, prepare };
  }

  /** `held`: the frames lie in buffers of the partner's slots, as it has received them. */
  tx(who: string, bytes: number, held: boolean): KernelCase {
    return this.#case(who, 'driver-tx', held ? 0 : bytes, () => {
      this.#reset();
      if (held) this.#set(RX + layout.Q_HEAD, FRAMES);
      for (let n = 0; n < FRAMES; n++) {
        const data = held ? POOL + n * STRIDE : FOREIGN + n * 2048;
        this.#u8.fill(n, data, data + bytes);
        this.#set(RECORDS + n * ethdev.FRAME_RECORD_BYTES, data);
        this.#set(RECORDS + n * ethdev.FRAME_RECORD_BYTES + 4, bytes);
      }
      return {
        state: [{ at: TX, bytes: layout.Q_BYTES }, { at: RX, bytes: layout.Q_BYTES }, { at: TX_SLOTS, bytes: 4 * RING }, { at: RX_SLOTS, bytes: 4 * RING }],
        scratch: [],
        arguments: [TX, RECORDS, BURST, POLLS],
        call: (n) => {
          // In a loop a burst's frames are held no longer than until the next one: the Rx queue has posted those before
          this.#set(RX + layout.Q_TAIL, n * BURST);
          return this.#kernels.txBurst(TX, RECORDS + n * BURST * ethdev.FRAME_RECORD_BYTES, BURST);
        },
      };
    });
  }

  rx(who: string, bytes: number): KernelCase {
    return this.#case(who, 'driver-rx', 0, () => {
      this.#reset();
      this.#set(RX + layout.Q_TAIL, RING - 1);
      const status = BigInt(RXS_DD | RXS_EOP | RXS_L3L4P | RXS_FLTSTAT_RSS) | (PTYPE_IPV4_TCP << BigInt(RX_PTYPE_SHIFT)) | (BigInt(bytes) << BigInt(RX_LENGTH_SHIFT));
      for (let n = 0; n < FRAMES; n++) {
        this.#set(RX_RING + n * layout.RX_DESCRIPTOR_BYTES + 4, 0x9e3779b1 * n);
        this.#view.setBigUint64(RX_RING + n * layout.RX_DESCRIPTOR_BYTES + 8, status, true);
      }
      return {
        state: [{ at: RX, bytes: layout.Q_BYTES }, { at: RX_RING, bytes: RING * layout.RX_DESCRIPTOR_BYTES }],
        scratch: [],
        arguments: [RX, RECORDS, BURST, POLLS],
        call: (n) => this.#kernels.rxBurst(RX, RECORDS, BURST, 0, 0, (n + 1) * POLLS),
      };
    });
  }
}

export function driverCases(): readonly KernelCase[] {
  const driver = new DriverCases();
  return [
    driver.tx('driver Tx 64, exchanged', 64, true),
    driver.tx('driver Tx 64, copied', 64, false),
    driver.tx('driver Tx 1500, copied', 1500, false),
    driver.rx('driver Rx 64', 64),
  ];
}
