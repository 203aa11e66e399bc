/**
 * Frames to a file, through a buffer. Two threads may be at it: the lcore that sends, and the control thread that now and then
 * writes what has gathered, since an lcore without frames to send is not called at all. A lock keeps them apart; whoever holds it
 * may write buffer, cells and counters. Waiting for it costs a burst no more than the write it would have to do itself.
 */
import { FRAME_DATA, FRAME_FLAGS, FRAME_LENGTH, FRAME_RECORD_BYTES, FRAME_RX_VLAN, FRAME_VLAN_TCI, TXQ_BYTES, TXQ_ERRORS, TXQ_PACKETS, addCounter, windowBytes, type Burst, type LcoreContext, type WindowBytes } from '@emudev/ethdev';
import type { Sys } from '@emudev/linux';
import { RECORD_HEADER_BYTES, RECORD_INCL_LENGTH, RECORD_MICROSECONDS, RECORD_ORIG_LENGTH, RECORD_SECONDS } from '../file-format.ts';
import { MAX_FRAME_BYTES, MIN_FRAME_BYTES, WRITE_BUFFER_BYTES, WRITE_WAIT_MS } from '../limits.ts';
import { WRITE_FILL, WRITE_LOCK, pcapCounter, type WriterInit } from '../port-memory.ts';

const ETHERTYPE_VLAN = 0x8100;
const MACS_BYTES = 12;
const TAG_BYTES = 4;
/** Behind the buffer: copies may write the rest of a word. */
const TAIL_BYTES = 64;
export const WRITE_MEMORY_BYTES: number = WRITE_BUFFER_BYTES + TAIL_BYTES;

export type WriterMemory = Pick<LcoreContext, 'memory' | 'base' | 'u8' | 'i32' | 'u32' | 'view'>;
export type WriterSys = Pick<Sys, 'writeAt' | 'fstat' | 'ftruncate'>;

export class CaptureWriter {
  readonly #memory: WriterMemory;
  readonly #init: WriterInit;
  readonly #sys: WriterSys;
  readonly #bytes: WindowBytes;
  readonly #lock: number;
  readonly #fill: number;

  constructor(memory: WriterMemory, init: WriterInit, sys: WriterSys) {
    this.#memory = memory;
    this.#init = init;
    this.#sys = sys;
    this.#bytes = windowBytes(memory);
    this.#lock = (init.cells + WRITE_LOCK) >>> 2;
    this.#fill = (init.cells + WRITE_FILL) >>> 2;
  }

  #acquire(timeoutMs: number): boolean {
    const { i32 } = this.#memory;
    while (Atomics.compareExchange(i32, this.#lock, 0, 1) !== 0) {
      if (Atomics.wait(i32, this.#lock, 1, timeoutMs) === 'timed-out') return false;
    }
    return true;
  }

  #release(): void {
    Atomics.store(this.#memory.i32, this.#lock, 0);
    Atomics.notify(this.#memory.i32, this.#lock, 1);
  }

  /** Takes every frame; only behind a write that hangs it takes none. */
  txBurst(burst: Burst, count: number): number {
    if (!this.#acquire(WRITE_WAIT_MS)) return 0;
    const { u32, view } = this.#memory;
    const { buffer, snaplen } = this.#init;
    // One clock for the burst: its frames were handed over at the same moment.
    const now = performance.timeOrigin + performance.now();
    const seconds = Math.floor(now / 1000);
    const microseconds = Math.floor((now - seconds * 1000) * 1000);
    let packets = 0;
    let errors = 0;
    let bytes = 0;
    let truncated = 0;
    // A frame may lie in memory that a guest has taken away meanwhile: then its copy throws, and the lock has to be given back.
    try {
      for (let i = 0; i < count; i++) {
        const record = (burst.records + i * FRAME_RECORD_BYTES) >>> 2;
        const length = u32[record + FRAME_LENGTH / 4]!;
        if (length > MAX_FRAME_BYTES) {
          errors++;
          continue;
        }
        const tagged = (u32[record + FRAME_FLAGS / 4]! & FRAME_RX_VLAN) !== 0 && length >= MIN_FRAME_BYTES;
        const origLength = tagged ? length + TAG_BYTES : length;
        if (u32[this.#fill]! + RECORD_HEADER_BYTES + origLength > WRITE_BUFFER_BYTES) this.#write();
        const inclLength = origLength < snaplen ? origLength : snaplen;
        const at = buffer + u32[this.#fill]!;
        view.setUint32(at + RECORD_SECONDS, seconds, true);
        view.setUint32(at + RECORD_MICROSECONDS, microseconds, true);
        view.setUint32(at + RECORD_INCL_LENGTH, inclLength, true);
        view.setUint32(at + RECORD_ORIG_LENGTH, origLength, true);
        this.#copy(at + RECORD_HEADER_BYTES, u32[record + FRAME_DATA / 4]!, length, tagged, record);
        u32[this.#fill] = u32[this.#fill]! + RECORD_HEADER_BYTES + inclLength;
        if (inclLength < origLength) truncated++;
        packets++;
        bytes += length;
      }
    } finally {
      addCounter(u32, (this.#init.counters + TXQ_PACKETS) >>> 2, packets);
      addCounter(u32, (this.#init.counters + TXQ_BYTES) >>> 2, bytes);
      if (errors !== 0) addCounter(u32, (this.#init.counters + TXQ_ERRORS) >>> 2, errors);
      if (truncated !== 0) addCounter(u32, pcapCounter(this.#init.pcapCounters, 'tx_truncated'), truncated);
      this.#release();
    }
    return count;
  }

  /** A tag that the sending port has taken off goes back: a capture shows what was on the wire. */
  #copy(to: number, from: number, length: number, tagged: boolean, record: number): void {
    // GUEST: each byte is read once, and none of them is looked at.
    if (!tagged) {
      this.#bytes.copy(to, from, length);
      return;
    }
    const { view } = this.#memory;
    // The first copy may write beyond its end, so it comes first.
    this.#bytes.copy(to, from, MACS_BYTES);
    view.setUint16(to + MACS_BYTES, ETHERTYPE_VLAN);
    view.setUint16(to + MACS_BYTES + 2, view.getUint16(record * 4 + FRAME_VLAN_TCI, true));
    this.#bytes.copy(to + MACS_BYTES + TAG_BYTES, from + MACS_BYTES, length - MACS_BYTES);
  }

  /** Writes what has gathered. `wait`: for who is at it; else leaves it to the next time. */
  flush(wait: boolean): void {
    if (Atomics.load(this.#memory.i32, this.#fill) === 0 || !this.#acquire(wait ? WRITE_WAIT_MS : 0)) return;
    this.#write();
    this.#release();
  }

  /** Writes what is left although nobody may have given the lock back: when no lcore uses the port any more. */
  flushLast(): void {
    this.#acquire(0);
    this.#write();
    this.#release();
  }

  /** Empties the buffer: into the file, or, where that fails, into the error counters. */
  #write(): void {
    const fill = this.#memory.u32[this.#fill]!;
    const written = this.#writeAll(fill);
    if (written < fill) this.#lose(written, fill);
    this.#memory.u32[this.#fill] = 0;
  }

  #writeAll(length: number): number {
    let done = 0;
    try {
      while (done < length) {
        const bytes = this.#sys.writeAt(this.#init.fd, this.#memory.base + BigInt(this.#init.buffer + done), length - done);
        if (bytes === undefined || bytes === 0) break;
        done += bytes;
      }
    } catch {
      // ENOSPC, EDQUOT, EIO: counted by the caller, and tried again with the next buffer.
    }
    return done;
  }

  /** Counts the records behind the first `written` bytes, and takes half a record off the file's end again: it stays readable. */
  #lose(written: number, fill: number): void {
    const { u32, view } = this.#memory;
    let at = 0;
    let whole = 0;
    let lost = 0;
    while (at < fill) {
      at += RECORD_HEADER_BYTES + view.getUint32(this.#init.buffer + at + RECORD_INCL_LENGTH, true);
      if (at <= written) whole = at;
      else lost++;
    }
    addCounter(u32, pcapCounter(this.#init.pcapCounters, 'tx_lost'), lost);
    addCounter(u32, (this.#init.counters + TXQ_ERRORS) >>> 2, lost);
    if (written === whole) return;
    try {
      this.#sys.ftruncate(this.#init.fd, this.#sys.fstat(this.#init.fd).sizeBytes - (written - whole));
    } catch {
      // A disk that takes neither bytes nor their removal: readers will see a record cut short.
    }
  }
}
