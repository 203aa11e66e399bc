/**
 * The data path of a TAP port: one read or write per frame, straight from and to the window. With a virtio header such a frame is up to
 * 64 KiB of TCP or UDP payload either way, so that a system call carries what would be some forty frames on a wire.
 */
import {
  FRAME_RECORD_BYTES,
  MAX_VIRTIO_FRAME_BYTES,
  QUEUE_COUNTERS_BYTES,
  RXQ_BYTES,
  RXQ_ERRORS,
  RXQ_PACKETS,
  TXQ_BYTES,
  TXQ_ERRORS,
  TXQ_PACKETS,
  VIRTIO_HEADER_BYTES,
  VirtioReceiver,
  addCounter,
  bytesToFinish,
  describeFrame,
  describeSegment,
  isSegmentable,
  isTso,
  loadFrame,
  payloadPerWrite,
  windowBytes,
  type Burst,
  type LcoreContext,
  type PortDatapath,
  type TxFrame,
  type WindowBytes,
} from '@emudev/ethdev';
import { LinuxError, linux } from '@emudev/linux';
import { MAX_TSO_HEADER_BYTES } from './limits.ts';

export interface TapInit {
  readonly fds: readonly number[];
  /** Bytes of the virtio header in front of every frame, 0 without. */
  readonly headerBytes: 0 | typeof VIRTIO_HEADER_BYTES;
  readonly maxFrameBytes: number;
  /** FRAME_TX_* that frames handed on may leave undone. */
  readonly peerTxCapabilities: number;
  /** Window offsets, one for each queue: a received frame behind its header; what a write is put together from (`TX_STAGE_BYTES`). */
  readonly rxStages: readonly number[];
  readonly txStages: readonly number[];
  readonly rxCounters: number;
  readonly txCounters: number;
  /** Int32 index: set to 1 when the kernel says that the interface is gone. */
  readonly goneCell: number;
}

/** A Tx stage: two struct iovec, then the virtio header, then what had to be changed of the frame. The rest of a frame is written from where it lies. */
const VECTOR_BYTES = 16;
const HEADER_AT: number = 2 * VECTOR_BYTES;
const HEADERS_AT: number = HEADER_AT + VIRTIO_HEADER_BYTES;
export const TX_STAGE_BYTES: number = HEADERS_AT + MAX_VIRTIO_FRAME_BYTES + 8;

/** Outcomes of a system call on a TAP, besides a byte count. */
const WOULD_BLOCK = -1;
const FAILED = -2;

class TapDatapath implements PortDatapath {
  readonly #context: LcoreContext;
  readonly #init: TapInit;
  readonly #bytes: WindowBytes;
  readonly #readBytes: number;
  readonly #receivers: readonly VirtioReceiver[];
  readonly #rxAddresses: readonly bigint[];
  readonly #txAddresses: readonly bigint[];
  readonly #baseLow: number;
  readonly #baseHigh: number;
  readonly #frame: TxFrame = { data: 0, length: 0, flags: 0, segment: 0, l2: 0, l3: 0, l4: 0 };

  constructor(context: LcoreContext, init: TapInit) {
    this.#context = context;
    this.#init = init;
    this.#bytes = windowBytes(context);
    // One byte more than allowed: a read that fills it was a frame too long, cut by the kernel.
    this.#readBytes = init.headerBytes + (init.headerBytes === 0 ? init.maxFrameBytes : MAX_VIRTIO_FRAME_BYTES) + 1;
    this.#receivers = init.fds.map((_, queue) => new VirtioReceiver(context, this.#bytes, queue, init.peerTxCapabilities, init.maxFrameBytes));
    const address = (stage: number): bigint => context.base + BigInt(stage + VIRTIO_HEADER_BYTES - init.headerBytes);
    this.#rxAddresses = init.rxStages.map(address);
    this.#txAddresses = init.txStages.map((stage) => context.base + BigInt(stage));
    this.#baseLow = Number(context.base & 0xffffffffn);
    this.#baseHigh = Number(context.base >> 32n);
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

  /** An absolute address and a length, without a bigint. */
  #vector(at: number, offset: number, length: number): void {
    const { view } = this.#context;
    const low = this.#baseLow + offset;
    view.setUint32(at, low >>> 0, true);
    view.setUint32(at + 4, this.#baseHigh + (low > 0xffffffff ? 1 : 0), true);
    view.setUint32(at + 8, length, true);
    view.setUint32(at + 12, 0, true);
  }

  /** `headerBytes` of the stage (the virtio header, and what follows it there), then `length` bytes at `data`. */
  #write(queue: number, headerBytes: number, data: number, length: number): number {
    const stage = this.#init.txStages[queue]!;
    this.#vector(stage, stage + HEADERS_AT - this.#init.headerBytes, headerBytes);
    this.#vector(stage + VECTOR_BYTES, data, length);
    try {
      return linux.writevAt(this.#init.fds[queue]!, this.#txAddresses[queue]!, 2) ?? WOULD_BLOCK;
    } catch (error) {
      return this.#failed(error);
    }
  }

  rxBurst(queue: number, burst: Burst, max: number): number {
    const { u32, i32 } = this.#context;
    if (i32[this.#init.goneCell] !== 0) return 0;
    const receiver = this.#receivers[queue]!;
    const counters = (this.#init.rxCounters + queue * QUEUE_COUNTERS_BYTES) >>> 2;
    const most = max < burst.capacity ? max : burst.capacity;
    receiver.begin(burst);
    // What is in hand goes first; the stage it lies in is free for another only then.
    while (receiver.count < most) {
      if (!receiver.pending && !this.#next(queue, receiver, counters)) break;
      if (!receiver.emit(most)) {
        if (!receiver.pending) addCounter(u32, counters + RXQ_ERRORS / 4, 1);
        break;
      }
    }
    const count = receiver.count;
    if (count !== 0) {
      addCounter(u32, counters + RXQ_PACKETS / 4, count);
      addCounter(u32, counters + RXQ_BYTES / 4, receiver.total);
    }
    return count;
  }

  /** Reads a frame; false: there is none for now. */
  #next(queue: number, receiver: VirtioReceiver, counters: number): boolean {
    const header = this.#init.headerBytes;
    const stage = this.#init.rxStages[queue]!;
    const read = this.#read(this.#init.fds[queue]!, this.#rxAddresses[queue]!);
    if (read === WOULD_BLOCK) return false;
    if (read > header && read !== this.#readBytes && receiver.accept(header === 0 ? 0 : stage, stage + VIRTIO_HEADER_BYTES, read - header)) return true;
    addCounter(this.#context.u32, counters + RXQ_ERRORS / 4, 1);
    return false;
  }

  txBurst(queue: number, burst: Burst, count: number): number {
    const { u32, i32 } = this.#context;
    const counters = (this.#init.txCounters + queue * QUEUE_COUNTERS_BYTES) >>> 2;
    const frame = this.#frame;
    let packets = 0;
    let bytes = 0;
    let i = 0;
    for (; i < count; i++) {
      loadFrame(this.#context, burst.records + i * FRAME_RECORD_BYTES, frame);
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

  #send(queue: number, frame: TxFrame): number {
    if (frame.length > MAX_VIRTIO_FRAME_BYTES) return FAILED;
    const stage = this.#init.txStages[queue]!;
    // What is finished here is finished in a copy: a switch may send the frame to others, too.
    const copied = bytesToFinish(frame);
    if (copied > frame.length) return FAILED;
    if (copied !== 0) this.#bytes.copy(stage + HEADERS_AT, frame.data, copied);
    if (!describeFrame(this.#context, stage + HEADER_AT, stage + HEADERS_AT, frame)) return FAILED;
    return this.#write(queue, this.#init.headerBytes + copied, frame.data + copied, frame.length - copied);
  }

  #sendTso(queue: number, frame: TxFrame): number {
    const headers = frame.l2 + frame.l3 + frame.l4;
    // Without a virtio header the port promised nothing; nobody can segment this.
    if (this.#init.headerBytes === 0 || !isSegmentable(frame) || headers > MAX_TSO_HEADER_BYTES) return FAILED;
    const payload = frame.length - headers;
    const perWrite = payloadPerWrite(frame);
    const stage = this.#init.txStages[queue]!;
    for (let from = 0; from === 0 || from < payload; from += perWrite) {
      const bytes = payload - from < perWrite ? payload - from : perWrite;
      this.#bytes.copy(stage + HEADERS_AT, frame.data, headers);
      describeSegment(this.#context, stage + HEADER_AT, stage + HEADERS_AT, frame, from, bytes, from + bytes >= payload);
      const result = this.#write(queue, VIRTIO_HEADER_BYTES + headers, frame.data + headers + from, bytes);
      // Once part of it is out the rest cannot be offered again: TCP sends it again.
      if (result < 0) return from === 0 ? result : FAILED;
    }
    return payload;
  }
}

export function createDatapath(context: LcoreContext, init: TapInit): PortDatapath {
  return new TapDatapath(context, init);
}
