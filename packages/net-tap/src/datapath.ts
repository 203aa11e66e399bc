/** The data path of a TAP port: one read or write per frame, straight from and to the window. */
import {
  FRAME_DATA,
  FRAME_FLAGS,
  FRAME_L2_LENGTH,
  FRAME_L3_LENGTH,
  FRAME_L4_LENGTH,
  FRAME_LENGTH,
  FRAME_QUEUE,
  FRAME_RECORD_BYTES,
  FRAME_SEGMENT,
  QUEUE_COUNTERS_BYTES,
  RXQ_BYTES,
  RXQ_ERRORS,
  RXQ_PACKETS,
  TXQ_BYTES,
  TXQ_ERRORS,
  TXQ_PACKETS,
  addCounter,
  windowBytes,
  type Burst,
  type LcoreContext,
  type PortDatapath,
  type WindowBytes,
} from '@emudev/ethdev';
import { LinuxError, linux } from '@emudev/linux';
import { describeFrame, describeSegment, isSegmentable, isTso, payloadPerWrite, type Frame } from './datapath/offload.ts';
import { MAX_WRITE_BYTES, VNET_HEADER_BYTES } from './limits.ts';

export interface TapInit {
  readonly fds: readonly number[];
  /** Bytes of the virtio header in front of every frame, 0 without. */
  readonly headerBytes: 0 | typeof VNET_HEADER_BYTES;
  readonly maxFrameBytes: number;
  /** Window offsets, one per queue, where a frame is put behind its header for writing. */
  readonly stages: readonly number[];
  readonly rxCounters: number;
  readonly txCounters: number;
  /** Int32 index: set to 1 when the kernel says that the interface is gone. */
  readonly goneCell: number;
}

/** Outcomes of a system call on a TAP, besides a byte count. */
const WOULD_BLOCK = -1;
const FAILED = -2;

/** Reading a burst wants the address of each slot as a bigint; slots are at the same place every time. */
interface Slots {
  arena: number;
  addresses: bigint[];
}

class TapDatapath implements PortDatapath {
  readonly #context: LcoreContext;
  readonly #init: TapInit;
  readonly #bytes: WindowBytes;
  readonly #stride: number;
  readonly #readBytes: number;
  readonly #slots: Slots[];
  readonly #stageAddresses: bigint[];
  readonly #frame: Frame = { data: 0, length: 0, flags: 0, segment: 0, l2: 0, l3: 0, l4: 0 };

  constructor(context: LcoreContext, init: TapInit) {
    this.#context = context;
    this.#init = init;
    this.#bytes = windowBytes(context);
    // One byte more than allowed: a read that fills it was a frame too long, cut by the kernel.
    this.#readBytes = init.headerBytes + init.maxFrameBytes + 1;
    this.#stride = (this.#readBytes + 63) & ~63;
    this.#slots = init.fds.map(() => ({ arena: -1, addresses: [] }));
    this.#stageAddresses = init.stages.map((stage) => context.base + BigInt(stage + VNET_HEADER_BYTES - init.headerBytes));
  }

  /** The queue's slots in this burst's arena. A queue belongs to one stream, so this happens once. */
  #slotsOf(queue: number, burst: Burst): bigint[] {
    const slots = this.#slots[queue]!;
    if (slots.arena !== burst.arena) {
      slots.arena = burst.arena;
      slots.addresses = Array.from({ length: Math.min(burst.capacity, Math.floor(burst.arenaBytes / this.#stride)) }, (_, i) => this.#context.base + BigInt(burst.arena + i * this.#stride));
    }
    return slots.addresses;
  }

  #failed(error: unknown): number {
    // EBADFD (77): tun.c has no device behind the descriptor any more; EBADF, ENODEV for good measure.
    if (error instanceof LinuxError && (error.errno === 77 || error.code === 'EBADF' || error.code === 'ENODEV')) Atomics.store(this.#context.i32, this.#init.goneCell, 1);
    return FAILED;
  }

  #read(fd: number, address: bigint): number {
    try {
      return linux.readAt(fd, address, this.#readBytes) ?? WOULD_BLOCK;
    } catch (error) {
      return this.#failed(error);
    }
  }

  #write(fd: number, address: bigint, length: number): number {
    try {
      return linux.writeAt(fd, address, length) ?? WOULD_BLOCK;
    } catch (error) {
      return this.#failed(error);
    }
  }

  rxBurst(queue: number, burst: Burst, max: number): number {
    const { u32, i32 } = this.#context;
    if (i32[this.#init.goneCell] !== 0) return 0;
    const fd = this.#init.fds[queue]!;
    const header = this.#init.headerBytes;
    const addresses = this.#slotsOf(queue, burst);
    const counters = (this.#init.rxCounters + queue * QUEUE_COUNTERS_BYTES) >>> 2;
    const most = max < addresses.length ? max : addresses.length;
    let count = 0;
    let bytes = 0;
    while (count < most) {
      const read = this.#read(fd, addresses[count]!);
      if (read === WOULD_BLOCK) break;
      if (read === FAILED || read <= header || read === this.#readBytes) {
        addCounter(u32, counters + RXQ_ERRORS / 4, 1);
        break;
      }
      const record = (burst.records + count * FRAME_RECORD_BYTES) >>> 2;
      for (let i = 0; i < FRAME_RECORD_BYTES / 4; i++) u32[record + i] = 0;
      u32[record + FRAME_DATA / 4] = burst.arena + count * this.#stride + header;
      u32[record + FRAME_LENGTH / 4] = read - header;
      u32[record + FRAME_QUEUE / 4] = queue;
      bytes += read - header;
      count++;
    }
    if (count !== 0) {
      addCounter(u32, counters + RXQ_PACKETS / 4, count);
      addCounter(u32, counters + RXQ_BYTES / 4, bytes);
    }
    return count;
  }

  txBurst(queue: number, burst: Burst, count: number): number {
    const { u32, i32 } = this.#context;
    const counters = (this.#init.txCounters + queue * QUEUE_COUNTERS_BYTES) >>> 2;
    const frame = this.#frame;
    let packets = 0;
    let bytes = 0;
    let i = 0;
    for (; i < count; i++) {
      this.#load(frame, burst.records + i * FRAME_RECORD_BYTES);
      const result = i32[this.#init.goneCell] !== 0 ? FAILED : isTso(frame.flags) ? this.#sendTso(queue, frame) : this.#send(queue, frame);
      if (result === WOULD_BLOCK) break;
      if (result === FAILED) {
        addCounter(u32, counters + TXQ_ERRORS / 4, 1);
        continue;
      }
      packets++;
      bytes += frame.length;
    }
    addCounter(u32, counters + TXQ_PACKETS / 4, packets);
    addCounter(u32, counters + TXQ_BYTES / 4, bytes);
    return i;
  }

  #load(frame: Frame, record: number): void {
    const { u32, view } = this.#context;
    frame.data = u32[(record + FRAME_DATA) >>> 2]!;
    frame.length = u32[(record + FRAME_LENGTH) >>> 2]!;
    frame.flags = u32[(record + FRAME_FLAGS) >>> 2]!;
    frame.segment = view.getUint16(record + FRAME_SEGMENT, true);
    frame.l2 = view.getUint16(record + FRAME_L2_LENGTH, true);
    frame.l3 = view.getUint16(record + FRAME_L3_LENGTH, true);
    frame.l4 = view.getUint16(record + FRAME_L4_LENGTH, true);
  }

  #send(queue: number, frame: Frame): number {
    if (frame.length > MAX_WRITE_BYTES) return FAILED;
    const stage = this.#init.stages[queue]!;
    this.#bytes.copy(stage + VNET_HEADER_BYTES, frame.data, frame.length);
    if (!describeFrame(this.#context, stage, frame)) return FAILED;
    return this.#write(this.#init.fds[queue]!, this.#stageAddresses[queue]!, this.#init.headerBytes + frame.length);
  }

  #sendTso(queue: number, frame: Frame): number {
    // Without a virtio header the port promised nothing; nobody can segment this.
    if (this.#init.headerBytes === 0 || !isSegmentable(frame)) return FAILED;
    const headers = frame.l2 + frame.l3 + frame.l4;
    const payload = frame.length - headers;
    const perWrite = payloadPerWrite(frame);
    const target = this.#init.stages[queue]! + VNET_HEADER_BYTES;
    for (let from = 0; from === 0 || from < payload; from += perWrite) {
      const bytes = payload - from < perWrite ? payload - from : perWrite;
      this.#bytes.copy(target, frame.data, headers);
      this.#bytes.copy(target + headers, frame.data + headers + from, bytes);
      describeSegment(this.#context, this.#init.stages[queue]!, frame, from, bytes, from + bytes >= payload);
      const result = this.#write(this.#init.fds[queue]!, this.#stageAddresses[queue]!, VNET_HEADER_BYTES + headers + bytes);
      // Once part of it is out the rest cannot be offered again: TCP sends it again.
      if (result < 0) return from === 0 ? result : FAILED;
    }
    return payload;
  }
}

export function createDatapath(context: LcoreContext, init: TapInit): PortDatapath {
  return new TapDatapath(context, init);
}
