/** Well-formed commands of a client, as a real one would send them or nearly so: right structure, values from everywhere. */
import {
  encodeDeviceFeature, encodeDeviceGetInfo, encodeDmaLogging, encodeDmaLoggingReport, encodeDmaMap, encodeDmaUnmap, encodeDmaWrite, encodeGetIrqInfo, encodeGetRegionInfo,
  encodeGetRegionIoFds, encodeMigDataRead, encodeMigDataWrite, encodeMigDeviceState, encodeRegionData, encodeRegionRead, encodeRegionWriteMulti, encodeSetIrqs, encodeVersion,
  dirtyBitmapBytes, type IrqAction,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIGRATION, VFIO_DEVICE_FEATURE_PROBE, VFIO_DEVICE_FEATURE_SET,
  VFIO_USER_DEVICE_FEATURE, VFIO_USER_DEVICE_GET_INFO, VFIO_USER_DEVICE_GET_IRQ_INFO, VFIO_USER_DEVICE_GET_REGION_INFO, VFIO_USER_DEVICE_GET_REGION_IO_FDS, VFIO_USER_DEVICE_RESET,
  VFIO_USER_DEVICE_SET_IRQS, VFIO_USER_DMA_MAP, VFIO_USER_DMA_UNMAP, VFIO_USER_DMA_WRITE, VFIO_USER_F_NO_REPLY, VFIO_USER_F_TYPE_REPLY, VFIO_USER_MIG_DATA_READ,
  VFIO_USER_MIG_DATA_WRITE, VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE, VFIO_USER_REGION_WRITE_MULTI, VFIO_USER_VERSION,
} from '@emudev/vfio-user-protocol';
import { type Descriptors, MEMORY_BYTES } from '../descriptors.ts';
import { MAX_SMALL_DATA_BYTES } from '../limits.ts';
import type { Outgoing } from '../mutate.ts';
import { type Random, Weighted } from '../random.ts';
import { CONTROL, CONTROL_BYTES, SHARED_BYTES } from './fuzz-device.ts';

const NONE = new Uint8Array(0);
const PAGE = 4096n;
const REGION_SIZES = [CONTROL_BYTES, 0, SHARED_BYTES, 0, 0x10000, 64, 0, 4096, 0];
const CONTROLS = Object.values(CONTROL);
/** Ends sessions or slows them down: seldom. */
const RARE_CONTROLS: readonly number[] = [CONTROL.notQuiescent, CONTROL.slow, CONTROL.slowQuiesce, CONTROL.flr, CONTROL.ownReset, CONTROL.messageRead, CONTROL.messageWrite, CONTROL.background];

type Make = (requests: Requests, random: Random) => Outgoing;
const outgoing = (command: number, payload: Uint8Array, fds: number[] = [], flags = 0): Outgoing => ({ command, flags, payload, fds });

/** Remembers what it has mapped, so that some of what it unmaps exists. */
export class Requests {
  readonly #descriptors: Descriptors;
  readonly #random: Random;
  /** What comes next, whatever the dice say: a conversation that only makes sense as a whole. */
  #script: Outgoing[] = [];
  #maps: { readonly address: bigint; readonly size: bigint }[] = [];

  constructor(descriptors: Descriptors, random: Random) {
    this.#descriptors = descriptors;
    this.#random = random;
  }

  next(): Outgoing {
    return this.#script.shift() ?? TABLE.pick(this.#random)(this, this.#random);
  }

  /** A VERSION that is accepted, by one of the peers there are. */
  version(): Outgoing {
    const random = this.#random;
    const minor = random.below(4);
    const capabilities = {
      maxMsgFds: random.pick([0, 1, 2, 16, 253, 1024]), maxDataXferSize: random.pick([1000, 4096, 65_536, 1_048_576, Number.MAX_SAFE_INTEGER]),
      ...(random.oneIn(2) ? { migration: { pgsize: 4096 } } : {}), ...(random.oneIn(3) ? { twinSocket: { supported: true } } : {}),
      ...(random.oneIn(3) ? { writeMultiple: true } : {}),
    };
    return outgoing(VFIO_USER_VERSION, encodeVersion(minor === 1 && random.oneIn(2) ? { major: 0, minor } : { major: 0, minor, capabilities }));
  }

  map(): Outgoing {
    const random = this.#random;
    const address = BigInt(random.below(64)) * 0x1_0000n + (random.oneIn(20) ? random.u64() & ((1n << 60n) - 1n) : 0n);
    const size = random.oneIn(20) ? BigInt(random.edge()) : PAGE * BigInt(1 + random.below(16));
    const fd = !random.oneIn(4);
    this.#maps.push({ address, size });
    if (this.#maps.length > 64) this.#maps.shift();
    const flags = random.below(4) | (random.oneIn(6) ? random.pick([4, 8, 12]) : 0);
    const fdOffset = fd ? BigInt(random.below(MEMORY_BYTES / 4096)) * (random.oneIn(20) ? 1n : PAGE) : 0n;
    return outgoing(VFIO_USER_DMA_MAP, encodeDmaMap({ flags, fdOffset, address, size }), fd ? [this.#descriptors.memory(random)] : []);
  }

  #mapped(): { readonly address: bigint; readonly size: bigint } {
    const random = this.#random;
    return this.#maps.length === 0 || random.oneIn(10) ? { address: PAGE * BigInt(random.below(1024)), size: PAGE * BigInt(1 + random.below(32)) } : random.pick(this.#maps);
  }

  unmap(): Outgoing {
    const random = this.#random;
    // SPDK's client attaches the descriptor here as well.
    const fds = random.oneIn(10) ? [this.#descriptors.memory(random)] : [];
    if (random.oneIn(30)) return outgoing(VFIO_USER_DMA_UNMAP, encodeDmaUnmap({ flags: 2, address: 0n, size: 0n }), fds);
    const { address, size } = this.#mapped();
    if (!random.oneIn(4)) return outgoing(VFIO_USER_DMA_UNMAP, encodeDmaUnmap({ flags: 0, address, size }), fds);
    const pageSize = random.pick([4096n, 8192n, 2048n, 1n << 21n]);
    const bytes = dirtyBitmapBytes(size, pageSize);
    return outgoing(VFIO_USER_DMA_UNMAP, encodeDmaUnmap({ flags: 1, address, size, bitmap: { pageSize, bytes: bytes < 0n ? 8n : bytes } }), fds);
  }

  /** An offset that is inside the region, mostly. */
  #place(bytes: number): { readonly region: number; readonly offset: number } {
    const random = this.#random;
    const region = random.pick([0, 0, 0, 2, 4, 7, 7, random.below(10)]);
    const room = (REGION_SIZES[region] ?? 0) - bytes;
    if (random.oneIn(20) || room <= 0) return { region, offset: random.oneIn(2) ? random.edge() : random.u32() * random.below(1 << 20) };
    return { region, offset: random.oneIn(3) ? random.below(Math.min(room, 512)) : random.below(room + 1) };
  }

  #length(): number {
    const random = this.#random;
    return random.oneIn(2000) ? random.edge() % 0x10_0000 : random.oneIn(10) ? random.below(MAX_SMALL_DATA_BYTES + 1) : random.pick([1, 2, 4, 4, 4, 8]);
  }

  read(): Outgoing {
    const count = this.#length();
    const { region, offset } = this.#place(count);
    return outgoing(VFIO_USER_REGION_READ, encodeRegionRead({ offset, region, count }));
  }

  write(): Outgoing {
    const data = this.#random.bytes(this.#length());
    const { region, offset } = this.#place(data.length);
    return outgoing(VFIO_USER_REGION_WRITE, encodeRegionData(offset, region, data), [], this.#random.oneIn(2) ? VFIO_USER_F_NO_REPLY : 0);
  }

  /** Something for the device to do. */
  control(): Outgoing {
    const random = this.#random;
    let offset = random.pick(CONTROLS);
    if (RARE_CONTROLS.includes(offset) && !random.oneIn(offset === CONTROL.notQuiescent ? 100 : 8)) offset = CONTROL.msix;
    const data = new Uint8Array(8);
    new DataView(data.buffer).setBigUint64(0, random.oneIn(3) ? random.u64() : this.#mapped().address, true);
    return outgoing(VFIO_USER_REGION_WRITE, encodeRegionData(offset, 0, data), [], random.oneIn(2) ? VFIO_USER_F_NO_REPLY : 0);
  }

  writeMulti(): Outgoing {
    const random = this.#random;
    const writes = Array.from({ length: random.oneIn(100) ? 200 : random.below(6) }, () => {
      const data = random.bytes(1 + random.below(8));
      return { ...this.#place(data.length), data };
    });
    return outgoing(VFIO_USER_REGION_WRITE_MULTI, encodeRegionWriteMulti(writes), [], random.oneIn(2) ? VFIO_USER_F_NO_REPLY : 0);
  }

  setIrqs(): Outgoing {
    const random = this.#random;
    const index = random.pick([0, 1, 2, 2, 2, 3, 4]);
    const vectors = [1, 32, 2048, 1, 1][index]!;
    if (random.oneIn(10)) return outgoing(VFIO_USER_DEVICE_SET_IRQS, encodeSetIrqs({ action: 'trigger', index, start: 0, count: 0, data: 'none' }));
    const start = random.below(Math.min(vectors, 64));
    const count = 1 + random.below(Math.min(random.oneIn(50) ? 253 : 4, vectors - start));
    const action = random.pick<IrqAction>(['trigger', 'trigger', 'trigger', 'mask', 'unmask']);
    switch (random.below(4)) {
      case 0: return outgoing(VFIO_USER_DEVICE_SET_IRQS, encodeSetIrqs({ action, index, start, count, data: 'none' }));
      case 1: return outgoing(VFIO_USER_DEVICE_SET_IRQS, encodeSetIrqs({ action, index, start, count, data: random.bytes(count) }));
      default: {
        const fds = random.oneIn(4) ? [] : Array.from({ length: count }, () => this.#descriptors.eventfd(random));
        return outgoing(VFIO_USER_DEVICE_SET_IRQS, encodeSetIrqs({ action, index, start, count, data: 'eventfd' }), fds);
      }
    }
  }

  feature(): Outgoing {
    const random = this.#random;
    const feature = (number: number, operations: number, data: Uint8Array = NONE, argsz?: number): Outgoing => outgoing(VFIO_USER_DEVICE_FEATURE, encodeDeviceFeature(number, operations, data, argsz));
    switch (random.below(9)) {
      case 0: return feature(random.below(12), VFIO_DEVICE_FEATURE_PROBE | random.pick([0, VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_SET, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET]));
      case 1: return feature(VFIO_DEVICE_FEATURE_MIGRATION, VFIO_DEVICE_FEATURE_GET, NONE, 16);
      case 2: return feature(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_GET, NONE, 16);
      // Back to running, mostly: a stopped device refuses nearly everything.
      case 3: case 4: return feature(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_SET, encodeMigDeviceState(random.oneIn(8) ? random.below(9) : 2));
      case 5: {
        const ranges = random.oneIn(2) ? [] : Array.from({ length: random.below(4) }, () => this.#mapped()).map(({ address, size }) => ({ iova: address, length: size }));
        return feature(VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_SET, encodeDmaLogging({ pageSize: random.pick([4096n, 4096n, 8192n, 1n << 21n, 512n]), ranges }));
      }
      case 6: return feature(VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, VFIO_DEVICE_FEATURE_SET, random.oneIn(2) ? NONE : encodeDmaLogging({ pageSize: PAGE, ranges: [] }));
      default: {
        const { address, size } = this.#mapped();
        const pageSize = random.pick([4096n, 4096n, 2048n, 16_384n, 1n]);
        const bytes = dirtyBitmapBytes(size, pageSize);
        return feature(VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_GET, encodeDmaLoggingReport({ iova: address, length: size, pageSize }), 32 + Number(bytes < 0n || bytes > 65_536n ? 8n : bytes));
      }
    }
  }

  /** A migration out of the device or into it, in order; then the device runs again. */
  migration(): Outgoing {
    const random = this.#random;
    const to = (state: number): Outgoing => outgoing(VFIO_USER_DEVICE_FEATURE, encodeDeviceFeature(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_SET, encodeMigDeviceState(state)));
    const some = (make: () => Outgoing): Outgoing[] => Array.from({ length: random.below(8) }, make);
    const read = (): Outgoing => outgoing(VFIO_USER_MIG_DATA_READ, encodeMigDataRead(random.pick([1, 1000, 1000, 4096, random.edge() % 0x10_0001])));
    const write = (): Outgoing => outgoing(VFIO_USER_MIG_DATA_WRITE, encodeMigDataWrite(random.bytes(random.below(random.oneIn(10) ? 20_000 : 1000))));
    const [stop, running, stopCopy, resuming, preCopy] = [1, 2, 3, 4, 6] as const;
    this.#script = random.oneIn(2)
      ? [...(random.oneIn(2) ? [to(preCopy), ...some(read), ...some(() => this.control())] : []), to(stopCopy), ...some(read), to(stop), to(running)]
      : [to(stop), to(resuming), ...some(write), to(stop), ...some(() => this.read()), to(running)];
    return this.#script.shift()!;
  }

  /** Nobody asked for it, or it is for the other side, or for nobody. */
  stray(): Outgoing {
    const random = this.#random;
    switch (random.below(4)) {
      case 0: return outgoing(random.below(20), random.bytes(random.below(40)), [], VFIO_USER_F_TYPE_REPLY);
      case 1: return outgoing(VFIO_USER_DMA_WRITE, encodeDmaWrite(random.u64(), random.bytes(8), random.pick(['lvu', 'qemu'])));
      case 2: return outgoing(random.u32() & 0xffff, random.bytes(random.below(64)));
      default: return this.version();
    }
  }
}

const TABLE: Weighted<Make> = new Weighted<Make>([
  [24, (requests) => requests.read()],
  [20, (requests) => requests.write()],
  [8, (requests) => requests.control()],
  [4, (requests) => requests.writeMulti()],
  [2, () => outgoing(VFIO_USER_DEVICE_GET_INFO, encodeDeviceGetInfo())],
  [5, (_, random) => outgoing(VFIO_USER_DEVICE_GET_REGION_INFO, encodeGetRegionInfo(random.below(10), random.pick([32, 80, 4096, random.edge()])))],
  [2, (_, random) => outgoing(VFIO_USER_DEVICE_GET_REGION_IO_FDS, encodeGetRegionIoFds(random.pick([0, 0, 2, 4, random.below(10)]), random.pick([16, 256, 4096, random.edge()])))],
  [3, (_, random) => outgoing(VFIO_USER_DEVICE_GET_IRQ_INFO, encodeGetIrqInfo(random.below(6)))],
  [8, (requests) => requests.setIrqs()],
  [6, (requests) => requests.map()],
  [5, (requests) => requests.unmap()],
  [7, (requests) => requests.feature()],
  [1, (requests) => requests.migration()],
  [1, (_, random) => outgoing(random.pick([VFIO_USER_MIG_DATA_READ, VFIO_USER_MIG_DATA_WRITE]), encodeMigDataWrite(random.bytes(random.below(2000))))],
  [1, () => outgoing(VFIO_USER_DEVICE_RESET, NONE)],
  [2, (requests) => requests.stray()],
]);
