/**
 * An event ring: records of bytes from one producer to one consumer, each in any thread of the process, through the DMA window. No
 * record is lost: one that does not fit is refused and counted. Nothing is allocated per record, and a consumer that polls costs its
 * producer no system call.
 *
 * Memory, in Int32 cells from the ring's offset (a multiple of 64); each line of 64 bytes has one writer:
 *
 * | cell | name       | written by | meaning                                                                          |
 * | ---- | ---------- | ---------- | -------------------------------------------------------------------------------- |
 * | 0    | magic      | creator    | 'EVR1'; 0 once the ring is disposed                                               |
 * | 1    | capacity   | creator    | bytes of record space, a power of two                                            |
 * | 2    | max record | creator    | most bytes of one record; it and its length word always fit                      |
 * | 16   | tail       | producer   | bytes ever written, modulo 2³²; a multiple of 4                                   |
 * | 17   | refused    | producer   | records refused for want of room, modulo 2³²                                     |
 * | 32   | head       | consumer   | bytes ever taken, modulo 2³²; a multiple of 4                                     |
 * | 48   | sleep      | both       | 0 the consumer polls; 1 a thread waits on this cell; 2 an event loop waits on the eventfd |
 * | 64 … | records    | producer   | at tail: length in bytes (Int32), the bytes, up to 3 bytes of padding; wraps at capacity |
 *
 * | producer: post                                  | consumer: take                               | consumer: go to sleep                       |
 * | ----------------------------------------------- | -------------------------------------------- | ------------------------------------------- |
 * | 1. reads head: is there room?                   | 1. reads tail: is there anything?            | 1. stores 1 or 2 into sleep                 |
 * | 2. writes length and bytes (plain stores)       | 2. reads length, then bytes (plain loads)    | 2. reads tail: came something meanwhile? then awake |
 * | 3. stores tail (releases 2 to the consumer)     | 3. stores head (gives the space back)        | 3. waits                                    |
 * | 4. reads sleep; not 0: swaps it to 0 and wakes  |                                              |                                             |
 *
 * tail, head and sleep are only touched with Atomics, which are sequentially consistent: either the consumer's step 2 sees the tail of
 * the producer's step 3, or the producer's step 4 sees the sleep of the consumer's step 1. A wake-up is never lost; it may come when the
 * consumer has long found the record and sleeps again, so a consumer that is woken looks whether there is anything.
 */
import type { Window, WindowView } from '@emudev/dma';
import { linux, OwnedFd, type Sys } from '@emudev/linux';
import type { EventRingHandle } from './device.ts';
import { EmudevError } from './errors.ts';
import { MAX_EVENT_RECORD_BYTES, MAX_EVENT_RING_BYTES, MIN_EVENT_RING_BYTES } from './limits.ts';

const MAGIC = 0x31525645;
const CELL_MAGIC = 0;
const CELL_CAPACITY = 1;
const CELL_MAX_RECORD = 2;
const CELL_TAIL = 16;
const CELL_REFUSED = 17;
const CELL_HEAD = 32;
const CELL_SLEEP = 48;
const HEADER_BYTES = 256;
const LENGTH_BYTES = 4;

const AWAKE = 0;
const THREAD_WAITS = 1;
const LOOP_WAITS = 2;

const padded = (bytes: number): number => LENGTH_BYTES + ((bytes + 3) & ~3);

/** How large a ring is. */
export interface EventRingOptions {
  /** Bytes of record space, a power of two; each record takes four bytes more than it has, rounded up to four. */
  readonly capacityBytes: number;
  /** Most bytes of one record; what fits by default, at most `MAX_EVENT_RECORD_BYTES`. */
  readonly maxRecordBytes?: number;
}

/** Owns the memory of a ring and its eventfd. Whoever makes it (usually the provider) disposes of it when both ends have stopped. */
export class EventRing implements Disposable {
  /** What a thread needs to open an end; plain data, so that it can be posted beside the window's memory. */
  readonly handle: EventRingHandle;
  readonly #window: Window;
  readonly #epoch: number;
  readonly #fd: OwnedFd;
  #disposed = false;

  /** EMUDEV_BAD_ARG: no such size. DmaError ERR_WINDOW_FULL, LinuxError: no memory or descriptor for it. */
  constructor(window: Window, options: EventRingOptions) {
    const { capacityBytes } = options;
    if (!isCapacity(capacityBytes)) {
      throw new EmudevError('EMUDEV_BAD_ARG', `an event ring has ${MIN_EVENT_RING_BYTES}..${MAX_EVENT_RING_BYTES} bytes, a power of two, not ${capacityBytes}`);
    }
    const most = Math.min(capacityBytes - LENGTH_BYTES, MAX_EVENT_RECORD_BYTES);
    const maxRecordBytes = options.maxRecordBytes ?? most;
    if (!(Number.isInteger(maxRecordBytes) && maxRecordBytes >= 1 && maxRecordBytes <= most)) {
      throw new EmudevError('EMUDEV_BAD_ARG', `a record of this ring has 1..${most} bytes at most, not ${maxRecordBytes}`);
    }
    this.#window = window;
    this.#epoch = window.epoch;
    this.#fd = new OwnedFd(window.sys.eventfd(), window.sys);
    const sizeBytes = HEADER_BYTES + capacityBytes;
    let offset: number;
    try {
      offset = window.alloc(sizeBytes);
    } catch (error) {
      this.#fd.close();
      throw error;
    }
    this.handle = { offset, sizeBytes, fd: this.#fd.fd };
    window.i32[(offset >>> 2) + CELL_CAPACITY] = capacityBytes;
    window.i32[(offset >>> 2) + CELL_MAX_RECORD] = maxRecordBytes;
    Atomics.store(window.i32, (offset >>> 2) + CELL_MAGIC, MAGIC);
  }

  /** Wakes a consumer that sleeps, so that its thread can end; `wait` and `take` are EMUDEV_TRANSPORT from then on. */
  end(): void {
    if (this.#disposed) return;
    const cells = this.handle.offset >>> 2;
    Atomics.store(this.#window.i32, cells + CELL_MAGIC, 0);
    wake(this.#window.i32, cells, this.#fd.fd, this.#window.sys);
  }

  /** Ends the ring, gives its memory back and closes its eventfd. Harmless a second time. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.end();
    this.#disposed = true;
    // A window that was emptied meanwhile has taken the memory back already.
    if (this.#window.epoch === this.#epoch) this.#window.free(this.handle.offset);
    this.#fd.close();
  }
}

function isCapacity(bytes: number): boolean {
  return Number.isInteger(bytes) && bytes >= MIN_EVENT_RING_BYTES && bytes <= MAX_EVENT_RING_BYTES && (bytes & (bytes - 1)) === 0;
}

function wake(i32: Int32Array, cells: number, fd: number, sys: Sys): void {
  const sleeping = Atomics.exchange(i32, cells + CELL_SLEEP, AWAKE);
  if (sleeping === THREAD_WAITS) Atomics.notify(i32, cells + CELL_SLEEP, 1);
  else if (sleeping === LOOP_WAITS) sys.eventfdSignal(fd);
}

/** What both ends have checked when they open a ring. */
class RingEnd {
  readonly i32: Int32Array;
  readonly u8: Uint8Array;
  readonly cells: number;
  /** Byte offset of the first record. */
  readonly records: number;
  readonly capacity: number;
  readonly mask: number;
  /** Most bytes of one record. */
  readonly maxRecordBytes: number;
  readonly fd: number;
  readonly sys: Sys;

  constructor(window: WindowView, handle: EventRingHandle, sys: Sys) {
    const { offset, sizeBytes, fd } = handle;
    const inWindow = Number.isInteger(offset) && Number.isInteger(sizeBytes) && offset > 0 && offset % 64 === 0 && sizeBytes >= HEADER_BYTES && offset + sizeBytes <= window.u8.length;
    if (!inWindow) throw new EmudevError('EMUDEV_BAD_ARG', `no event ring can have ${sizeBytes} bytes at offset ${offset}`);
    this.i32 = window.i32;
    this.u8 = window.u8;
    this.cells = offset >>> 2;
    this.records = offset + HEADER_BYTES;
    this.fd = fd;
    this.sys = sys;
    if (Atomics.load(this.i32, this.cells + CELL_MAGIC) !== MAGIC) throw this.damaged('there is no event ring');
    this.capacity = this.i32[this.cells + CELL_CAPACITY]!;
    this.maxRecordBytes = this.i32[this.cells + CELL_MAX_RECORD]!;
    if (!isCapacity(this.capacity) || HEADER_BYTES + this.capacity > sizeBytes) throw this.damaged(`its capacity is ${this.capacity}`);
    if (this.maxRecordBytes < 1 || padded(this.maxRecordBytes) > this.capacity) throw this.damaged(`its largest record is ${this.maxRecordBytes}`);
    this.mask = this.capacity - 1;
    const used = this.used(this.load(CELL_TAIL), this.load(CELL_HEAD));
    if (used < 0) throw this.damaged('head and tail do not fit');
  }

  load(cell: number): number {
    return Atomics.load(this.i32, this.cells + cell) >>> 0;
  }

  /** Bytes between head and tail; -1 where no ring can be like that. */
  used(tail: number, head: number): number {
    const used = (tail - head) >>> 0;
    return used > this.capacity || ((tail | head) & 3) !== 0 ? -1 : used;
  }

  damaged(what: string): EmudevError {
    return new EmudevError('EMUDEV_TRANSPORT', `event ring at ${this.cells * 4}: ${what}`);
  }
}

/** The writing end. One at a time. */
export class EventProducer {
  readonly #ring: RingEnd;
  #tail: number;

  /** EMUDEV_BAD_ARG: not in the window; EMUDEV_TRANSPORT: no ring is there, or a damaged one. */
  constructor(window: WindowView, handle: EventRingHandle, sys: Sys = linux) {
    this.#ring = new RingEnd(window, handle, sys);
    this.#tail = this.#ring.load(CELL_TAIL);
  }

  /** Most bytes `post` takes. */
  get maxRecordBytes(): number {
    return this.#ring.maxRecordBytes;
  }

  /** Records refused so far because the consumer was behind, modulo 2³². */
  get refused(): number {
    return this.#ring.load(CELL_REFUSED);
  }

  /**
   * Posts the first `lengthBytes` of `record`. False, and counted, when there is no room for it. EMUDEV_RANGE: longer than the ring
   * allows, or than `record`; EMUDEV_TRANSPORT: the ring has ended or is damaged.
   */
  post(record: Uint8Array, lengthBytes: number = record.length): boolean {
    const ring = this.#ring;
    if (!(lengthBytes >= 0 && lengthBytes <= ring.maxRecordBytes && lengthBytes <= record.length && Number.isInteger(lengthBytes))) {
      throw new EmudevError('EMUDEV_RANGE', `a record of this ring has 0..${Math.min(ring.maxRecordBytes, record.length)} bytes, not ${lengthBytes}`);
    }
    if (ring.load(CELL_MAGIC) !== MAGIC) throw ring.damaged('it has ended');
    const tail = this.#tail;
    const used = ring.used(tail, ring.load(CELL_HEAD));
    if (used < 0) throw ring.damaged('its head is damaged');
    const need = padded(lengthBytes);
    if (need > ring.capacity - used) {
      Atomics.add(ring.i32, ring.cells + CELL_REFUSED, 1);
      return false;
    }
    const { u8, mask, records } = ring;
    ring.i32[(records + (tail & mask)) >>> 2] = lengthBytes;
    for (let i = 0, at = tail + LENGTH_BYTES; i < lengthBytes; i++, at++) u8[records + (at & mask)] = record[i]!;
    this.#tail = (tail + need) >>> 0;
    Atomics.store(ring.i32, ring.cells + CELL_TAIL, this.#tail | 0);
    if (Atomics.load(ring.i32, ring.cells + CELL_SLEEP) !== AWAKE) wake(ring.i32, ring.cells, ring.fd, ring.sys);
    return true;
  }
}

/** The reading end. One at a time; it polls with `take`, or sleeps with `wait` (a thread) or `watch` (an event loop). */
export class EventConsumer {
  readonly #ring: RingEnd;
  #head: number;

  /** As `EventProducer`. */
  constructor(window: WindowView, handle: EventRingHandle, sys: Sys = linux) {
    this.#ring = new RingEnd(window, handle, sys);
    this.#head = this.#ring.load(CELL_HEAD);
  }

  /** Most bytes `take` returns: room for any record. */
  get maxRecordBytes(): number {
    return this.#ring.maxRecordBytes;
  }

  /** Records its producer could not post so far, modulo 2³². */
  get refused(): number {
    return this.#ring.load(CELL_REFUSED);
  }

  /**
   * Takes the oldest record into `into`; returns its length in bytes, or -1 when there is none. EMUDEV_RANGE: it does not fit, and stays;
   * EMUDEV_TRANSPORT: the ring has ended (with nothing left in it) or is damaged.
   */
  take(into: Uint8Array): number {
    const ring = this.#ring;
    const used = this.#used();
    if (used === 0) {
      if (ring.load(CELL_MAGIC) !== MAGIC) throw ring.damaged('it has ended');
      return -1;
    }
    const { u8, mask, records } = ring;
    const head = this.#head;
    const length = ring.i32[(records + (head & mask)) >>> 2]!;
    if (length < 0 || length > ring.maxRecordBytes || padded(length) > used) throw ring.damaged(`a record of ${length} bytes`);
    if (length > into.length) throw new EmudevError('EMUDEV_RANGE', `the next record has ${length} bytes, more than the ${into.length} there is room for`);
    for (let i = 0, at = head + LENGTH_BYTES; i < length; i++, at++) into[i] = u8[records + (at & mask)]!;
    this.#head = (head + padded(length)) >>> 0;
    Atomics.store(ring.i32, ring.cells + CELL_HEAD, this.#head | 0);
    return length;
  }

  /** Blocks the thread until there is a record or `timeoutMs` has passed; is there one? EMUDEV_TRANSPORT as `take`. */
  wait(timeoutMs: number = Number.POSITIVE_INFINITY): boolean {
    const { i32, cells } = this.#ring;
    const deadline = performance.now() + timeoutMs;
    // Again and again: a producer that has swapped sleep to 0 may notify late, when this thread sleeps for the next record.
    for (let left = timeoutMs; this.#sleep(THREAD_WAITS); left = deadline - performance.now()) {
      const how = left > 0 ? Atomics.wait(i32, cells + CELL_SLEEP, THREAD_WAITS, left) : 'timed-out';
      Atomics.store(i32, cells + CELL_SLEEP, AWAKE);
      if (how === 'timed-out') break;
    }
    return this.#some();
  }

  /**
   * Calls `onRecords` on this thread's event loop whenever there are records: it takes as many as it likes, and is called again for the
   * rest. Until disposed; one at a time. What it throws, and a ring that has ended or is damaged, ends the watch and goes to `onEnd`.
   * Does not keep the process alive unless `ref` says so.
   */
  watch(onRecords: () => void, onEnd: (error: unknown) => void, options: { readonly ref?: boolean } = {}): Disposable {
    const { fd, sys, i32, cells } = this.#ring;
    let again: NodeJS.Immediate | undefined;
    let ended = false;
    const stop = (): void => {
      if (ended) return;
      ended = true;
      clearImmediate(again);
      watching[Symbol.dispose]();
      Atomics.compareExchange(i32, cells + CELL_SLEEP, LOOP_WAITS, AWAKE);
    };
    const run = (): void => {
      if (ended) return;
      try {
        if (this.#some()) onRecords();
        // Not from here at once: other work of the loop has its turn between two helpings.
        if (!ended && !this.#sleep(LOOP_WAITS)) again = setImmediate(run);
      } catch (error) {
        stop();
        onEnd(error);
      }
    };
    const watching = sys.watch(fd, { readable: true }, () => {
      sys.eventfdDrain(fd);
      run();
    }, { ref: options.ref ?? false });
    again = setImmediate(run);
    return { [Symbol.dispose]: stop };
  }

  /** Announces sleep; false, and awake again, when there is something to do already. */
  #sleep(how: number): boolean {
    const { i32, cells } = this.#ring;
    Atomics.store(i32, cells + CELL_SLEEP, how);
    if (this.#used() === 0 && this.#ring.load(CELL_MAGIC) === MAGIC) return true;
    Atomics.store(i32, cells + CELL_SLEEP, AWAKE);
    return false;
  }

  #some(): boolean {
    if (this.#used() > 0) return true;
    if (this.#ring.load(CELL_MAGIC) !== MAGIC) throw this.#ring.damaged('it has ended');
    return false;
  }

  #used(): number {
    const used = this.#ring.used(this.#ring.load(CELL_TAIL), this.#head);
    if (used < 0) throw this.#ring.damaged('its tail is damaged');
    return used;
  }
}
