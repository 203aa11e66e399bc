/**
 * Sending on one packet socket: a burst is one sendmmsg, each message a virtio-net header and the frame where it lies in the window.
 *
 * Not a ring (PACKET_TX_RING), though it would save the kernel a copy: its slots are said to be free as soon as the frame has no owner any
 * more, which veth, bridges and the loopback see to at once, while the frame's pages still wait in some socket's queue to be read.
 * Used again they would change under the reader.
 */
import {
  FRAME_L4_SCTP, FRAME_RECORD_BYTES, VIRTIO_HEADER_BYTES, bytesToFinish, describeFrame, describeSegment, isSegmentable, isTso, loadFrame, payloadPerWrite, type Burst, type LcoreContext,
  type TxFrame, type WindowBytes,
} from '@emudev/ethdev';
import { LinuxError, linux } from '@emudev/linux';
import { MAX_TSO_HEADER_BYTES, TX_BATCH } from '../limits.ts';
import type { AfPacketInit } from './init.ts';
import { HEADER_BYTES } from './rx-ring.ts';

/** struct mmsghdr: a struct msghdr of 56 bytes (iov at 16, iovlen at 24) and a u32. */
const MESSAGE_BYTES = 64;
const MSG_IOV = 16;
const MSG_IOVLEN = 24;
/** struct iovec. */
const VECTOR_BYTES = 16;
const PARTS = 2;
/** A virtio-net header at 2, so that the headers of a TSO frame behind it are aligned. */
const HEADER_STRIDE: number = VIRTIO_HEADER_BYTES + MAX_TSO_HEADER_BYTES + 8;
const HEADER_AT: number = VIRTIO_HEADER_BYTES - HEADER_BYTES;

const VECTORS: number = TX_BATCH * MESSAGE_BYTES;
const HEADERS: number = VECTORS + TX_BATCH * PARTS * VECTOR_BYTES;
export const TX_AREA_BYTES: number = HEADERS + TX_BATCH * HEADER_STRIDE;

const BLOCKED = -1;
const FAILED = -2;
const GONE: ReadonlySet<string> = new Set(['ENXIO', 'ENODEV', 'EBADF']);

export class TxBatch {
  /** Of the last `send`. */
  packets = 0;
  bytes = 0;
  errors = 0;
  readonly #context: LcoreContext;
  readonly #copier: WindowBytes;
  readonly #fd: number;
  readonly #area: number;
  readonly #goneCell: number;
  readonly #baseLow: number;
  readonly #baseHigh: number;
  /** Where the array of messages begins from the n-th one on. */
  readonly #addresses: readonly bigint[];
  readonly #frame: TxFrame = { data: 0, length: 0, flags: 0, segment: 0, l2: 0, l3: 0, l4: 0 };
  /** Of each message: the frame it is part of, and that frame's bytes if it is the last part, else -1. */
  readonly #frameOf: Int32Array = new Int32Array(TX_BATCH);
  readonly #lengthOf: Int32Array = new Int32Array(TX_BATCH);
  #staged = 0;
  /** Frame whose rest is not sent because a part of it failed. */
  #broken = -1;
  /** Frame of the message that was sent last. */
  #begun = -1;

  constructor(context: LcoreContext, bytes: WindowBytes, init: AfPacketInit, queue: number) {
    this.#context = context;
    this.#copier = bytes;
    this.#fd = init.fds[queue]!;
    this.#area = init.txAreas[queue]!;
    this.#goneCell = init.goneCell;
    this.#baseLow = Number(context.base & 0xffffffffn);
    this.#baseHigh = Number(context.base >> 32n);
    this.#addresses = Array.from({ length: TX_BATCH }, (_, i) => context.base + BigInt(this.#area + i * MESSAGE_BYTES));
    for (let i = 0; i < TX_BATCH; i++) {
      this.#pointer(this.#area + i * MESSAGE_BYTES + MSG_IOV, this.#vector(i));
      context.view.setUint32(this.#area + i * MESSAGE_BYTES + MSG_IOVLEN, PARTS, true);
      this.#pointer(this.#vector(i), this.#header(i) + HEADER_AT);
    }
  }

  #vector(message: number): number {
    return this.#area + VECTORS + message * PARTS * VECTOR_BYTES;
  }

  #header(message: number): number {
    return this.#area + HEADERS + message * HEADER_STRIDE;
  }

  /** An absolute address, without a bigint. */
  #pointer(at: number, offset: number): void {
    const { view } = this.#context;
    const low = this.#baseLow + offset;
    view.setUint32(at, low >>> 0, true);
    view.setUint32(at + 4, this.#baseHigh + (low > 0xffffffff ? 1 : 0), true);
  }

  /** Sends records [0, count): how many were taken. */
  send(burst: Burst, count: number): number {
    this.packets = 0;
    this.bytes = 0;
    this.errors = 0;
    this.#staged = 0;
    this.#broken = -1;
    this.#begun = -1;
    const frame = this.#frame;
    for (let i = 0; i < count; i++) {
      loadFrame(this.#context, burst.records + i * FRAME_RECORD_BYTES, frame);
      const blocked = isTso(frame.flags) ? this.#stageTso(frame, i) : this.#stagePlain(frame, i);
      if (blocked >= 0) return blocked;
    }
    const blocked = this.#flush();
    return blocked >= 0 ? blocked : count;
  }

  /** -1, or the frame that the kernel has no room for, when the batch before it had to go first. */
  #stagePlain(frame: TxFrame, index: number): number {
    const blocked = this.#staged === TX_BATCH ? this.#flush() : -1;
    if (blocked >= 0) return blocked;
    const header = this.#header(this.#staged);
    // What is finished here is finished in a copy: a switch may send the frame to others, too. Too long for that is only SCTP, whose
    // checksum is the same whoever writes it.
    const wanted = bytesToFinish(frame);
    const copied = wanted > MAX_TSO_HEADER_BYTES ? 0 : wanted;
    if (wanted > frame.length || (wanted !== copied && (frame.flags & FRAME_L4_SCTP) === 0)) {
      this.errors++;
      return -1;
    }
    if (copied !== 0) this.#copier.copy(header + VIRTIO_HEADER_BYTES, frame.data, copied);
    if (!describeFrame(this.#context, header + HEADER_AT, copied !== 0 ? header + VIRTIO_HEADER_BYTES : frame.data, frame)) this.errors++;
    else this.#stage(index, HEADER_BYTES + copied, frame.data + copied, frame.length - copied, frame.length);
    return -1;
  }

  #stageTso(frame: TxFrame, index: number): number {
    const headers = frame.l2 + frame.l3 + frame.l4;
    if (!isSegmentable(frame) || headers > MAX_TSO_HEADER_BYTES) {
      this.errors++;
      return -1;
    }
    const payload = frame.length - headers;
    const perWrite = payloadPerWrite(frame);
    for (let from = 0; from === 0 || from < payload; from += perWrite) {
      const bytes = payload - from < perWrite ? payload - from : perWrite;
      const last = from + bytes >= payload;
      const blocked = this.#staged === TX_BATCH ? this.#flush() : -1;
      if (blocked >= 0) return blocked;
      if (this.#broken === index) return -1;
      const header = this.#header(this.#staged);
      this.#copier.copy(header + VIRTIO_HEADER_BYTES, frame.data, headers);
      describeSegment(this.#context, header + HEADER_AT, header + VIRTIO_HEADER_BYTES, frame, from, bytes, last);
      this.#stage(index, HEADER_BYTES + headers, frame.data + headers + from, bytes, last ? payload : -1);
    }
    return -1;
  }

  #stage(index: number, headerBytes: number, data: number, bytes: number, frameBytes: number): void {
    const { view } = this.#context;
    const vector = this.#vector(this.#staged);
    view.setUint32(vector + 8, headerBytes, true);
    this.#pointer(vector + VECTOR_BYTES, data);
    view.setUint32(vector + VECTOR_BYTES + 8, bytes, true);
    this.#frameOf[this.#staged] = index;
    this.#lengthOf[this.#staged] = frameBytes;
    this.#staged++;
  }

  /** Sends what is staged: -1, or the first frame that the kernel has no room for. */
  #flush(): number {
    const staged = this.#staged;
    this.#staged = 0;
    for (let at = 0; at < staged; ) {
      if (this.#frameOf[at] === this.#broken) {
        at++;
        continue;
      }
      const sent = this.#context.i32[this.#goneCell] !== 0 ? FAILED : this.#call(at, staged - at);
      if (sent === BLOCKED) {
        // Once part of it is out the rest cannot be offered again: TCP sends it again.
        if (this.#frameOf[at] !== this.#begun) return this.#frameOf[at]!;
        this.#fail(at);
        return this.#frameOf[at]! + 1;
      }
      if (sent === FAILED) {
        this.#fail(at);
        continue;
      }
      this.#begun = this.#frameOf[at + sent - 1]!;
      for (const end = at + sent; at < end; at++) {
        if (this.#lengthOf[at]! < 0) continue;
        this.packets++;
        this.bytes += this.#lengthOf[at]!;
      }
    }
    return -1;
  }

  #fail(at: number): void {
    this.errors++;
    this.#broken = this.#frameOf[at]!;
  }

  /** Messages sent, at least one, or why the first one was not. */
  #call(at: number, count: number): number {
    try {
      return linux.sendMessagesAt(this.#fd, this.#addresses[at]!, count) ?? BLOCKED;
    } catch (error) {
      if (error instanceof LinuxError && GONE.has(error.code)) Atomics.store(this.#context.i32, this.#goneCell, 1);
      return FAILED;
    }
  }
}
