/**
 * How a reader (an lcore) gets what it misses: it writes the addresses into a cell of its own, and the control thread brings them
 * into the window and answers. The lcore goes on with other work, or sleeps a moment; it never waits for the socket.
 *
 * A cell, in the window:
 * ```
 * 0   i32  state
 * 4   u32  handle of the IOTLB that was asked
 * 8   u32  access: IOTLB_READ or IOTLB_WRITE
 * 12  u32  number of addresses
 * 16  u32  generation of the IOTLB when the answer was no
 * 24  u64  the address whose miss ended the burst, and others that the same ring will need soon
 * ```
 *
 * | state  | lcore                                               | control thread                                               |
 * | ------ | --------------------------------------------------- | ------------------------------------------------------------ |
 * | idle   | may ask: writes the cell, → asked, rings the bell   | –                                                            |
 * | asked  | leaves the ring alone, or sleeps until it changes   | first address is in the window: → idle; may not be used: → denied; no room: → later, and evicts; without a descriptor: → later, and asks whose cell it is |
 * | later  | leaves the ring alone                               | after the eviction, as asked; MAX_MISS_ATTEMPTS in vain: → denied; the owner has found a way: → idle, else → denied |
 * | denied | repeats the burst, told that the address is a fault; → idle | –                                                    |
 *
 * `later` is there because an eviction waits until readers are quiescent: a reader that slept through it would make it wait.
 */
import { IOTLB_WRITE } from './iotlb.ts';
import { MAX_MISSES, MAX_MISS_ATTEMPTS } from './limits.ts';
import type { Window, WindowOffset } from './window.ts';

const STATE = 0;
const HANDLE = 1;
const ACCESS = 2;
const COUNT = 3;
const GENERATION = 4;
const ADDRESSES = 6;

const IDLE = 0;
const ASKED = 1;
const LATER = 2;
const DENIED = 3;

/** Bytes of a cell. */
export const MISS_CELL_BYTES: number = 64 * Math.ceil((ADDRESSES * 4 + MAX_MISSES * 8) / 64);

/** Where the cells of a device's rings are: plain numbers for a `DatapathSpec`. */
export interface MissCells {
  /** Window offset of the first of `count` cells, MISS_CELL_BYTES apart. */
  readonly offset: WindowOffset;
  readonly count: number;
  /** Window offset of the bell. */
  readonly bell: WindowOffset;
}

/** The lcore's side of one cell. One thread at a time. */
export class MissCell {
  readonly #i32: Int32Array;
  readonly #u32: Uint32Array;
  readonly #cell: number;
  readonly #bell: number;

  constructor(context: { readonly i32: Int32Array; readonly u32: Uint32Array }, cells: MissCells, index: number) {
    this.#i32 = context.i32;
    this.#u32 = context.u32;
    this.#cell = (cells.offset + index * MISS_CELL_BYTES) >>> 2;
    this.#bell = cells.bell >>> 2;
  }

  /** Nothing was asked, or what was asked for is there. A plain read, four in every loop: who finds what was asked for not yet there asks again. */
  get idle(): boolean {
    return this.#i32[this.#cell + STATE] === IDLE;
  }
  /** A question is on its way: the ring cannot go on. */
  get pending(): boolean {
    const state = Atomics.load(this.#i32, this.#cell + STATE);
    return state === ASKED || state === LATER;
  }

  /** The answer was no, and still holds: the address (`high`, `low`) is a fault. Until `settle`. */
  get denied(): boolean {
    if (Atomics.load(this.#i32, this.#cell + STATE) !== DENIED) return false;
    // What is mapped has changed since: ask again.
    return this.#u32[this.#cell + GENERATION] === this.#u32[(this.#u32[this.#cell + HANDLE]! >>> 2) + 1];
  }
  /** Upper 32 bits of the address that is missed. */
  get high(): number {
    return this.#u32[this.#cell + ADDRESSES + 1]!;
  }
  /** Lower 32 bits of it. */
  get low(): number {
    return this.#u32[this.#cell + ADDRESSES]!;
  }

  /** A new question about (`high`, `low`); more addresses with `add`; then `ask`. */
  begin(iotlb: WindowOffset, access: number, high: number, low: number): void {
    this.#u32[this.#cell + HANDLE] = iotlb;
    this.#u32[this.#cell + ACCESS] = access;
    this.#u32[this.#cell + COUNT] = 0;
    this.add(high, low);
  }

  /** False: the question is full. */
  add(high: number, low: number): boolean {
    const count = this.#u32[this.#cell + COUNT]!;
    if (count >= MAX_MISSES) return false;
    this.#u32[this.#cell + ADDRESSES + 2 * count] = low;
    this.#u32[this.#cell + ADDRESSES + 2 * count + 1] = high;
    this.#u32[this.#cell + COUNT] = count + 1;
    return true;
  }

  /** Hands the question to the control thread. Never waits. */
  ask(): void {
    Atomics.store(this.#i32, this.#cell + STATE, ASKED);
    Atomics.add(this.#i32, this.#bell, 1);
    Atomics.notify(this.#i32, this.#bell);
  }

  /** Sleeps until there is an answer, or it will take longer; true: the burst can be repeated. */
  wait(timeoutMs: number): boolean {
    Atomics.wait(this.#i32, this.#cell + STATE, ASKED, timeoutMs);
    return !this.pending;
  }

  /** The answer has been heeded. */
  settle(): void {
    Atomics.store(this.#i32, this.#cell + STATE, IDLE);
  }
}

/** What an address is to a device: in the window now, forbidden, there is no room, or its memory has no descriptor to map. */
export type Brought = 'here' | 'never' | 'full' | 'remote';

/**
 * Somebody needs memory that no window can have, through cell `index` of those it was given. Resolves to true when the ring has
 * another way and can go on, to false where it has none.
 */
export type RemoteHandler = (index: number) => Promise<boolean>;

interface AllocatedCell {
  /** How often it has waited for room. */
  attempts: number;
  readonly index: number;
  readonly onRemote: RemoteHandler | undefined;
}

/** A device's memory as the desk sees it. */
export interface MissTarget {
  readonly generation: number;
  /** Brings the page of `iova` into the window, or says why it cannot be. */
  bring(iova: bigint, access: 'read' | 'write'): Brought;
  /** Room for it, by pushing others out. */
  makeRoom(): Promise<void>;
}

const ofWindow = new WeakMap<Window, { readonly epoch: number; readonly desk: MissDesk }>();

/** The control thread's side of all cells. */
export class MissDesk {
  /** The one of this window. */
  static of(window: Window): MissDesk {
    const known = ofWindow.get(window);
    if (known?.epoch === window.epoch) return known.desk;
    const desk = new MissDesk(window);
    ofWindow.set(window, { epoch: window.epoch, desk });
    return desk;
  }

  readonly #window: Window;
  readonly #epoch: number;
  readonly #targets = new Map<WindowOffset, MissTarget>();
  /** By word index. */
  readonly #cells = new Map<number, AllocatedCell>();
  #bell: WindowOffset = 0;
  /** Counts bells: a new one may be where the old one was. */
  #bells = 0;

  private constructor(window: Window) {
    this.#window = window;
    this.#epoch = window.epoch;
  }

  /** A device whose IOTLB misses can be asked about from now on. */
  serve(iotlb: WindowOffset, target: MissTarget): void {
    this.#targets.set(iotlb, target);
  }

  /** The device is gone. */
  forget(iotlb: WindowOffset): void {
    this.#targets.delete(iotlb);
  }

  /** Cells for a device's rings; ERR_WINDOW_FULL where there is no memory for them. Without `onRemote` memory that has no descriptor is a fault. */
  alloc(count: number, onRemote?: RemoteHandler): MissCells {
    const offset = this.#window.alloc(count * MISS_CELL_BYTES);
    if (this.#bell === 0) {
      this.#bell = this.#window.alloc(4);
      this.#bells++;
      void this.#listen();
    }
    for (let n = 0; n < count; n++) this.#cells.set((offset + n * MISS_CELL_BYTES) >>> 2, { attempts: 0, index: n, onRemote });
    return { offset, count, bell: this.#bell };
  }

  /** No lcore uses the cells any more. */
  free({ offset, count }: MissCells): void {
    if (this.#window.epoch !== this.#epoch) return;
    for (let n = 0; n < count; n++) this.#cells.delete((offset + n * MISS_CELL_BYTES) >>> 2);
    this.#window.free(offset);
    if (this.#cells.size > 0) return;
    const bell = this.#bell;
    this.#bell = 0;
    Atomics.add(this.#window.i32, bell >>> 2, 1);
    Atomics.notify(this.#window.i32, bell >>> 2);
    this.#window.free(bell);
  }

  async #listen(): Promise<void> {
    const { i32 } = this.#window;
    const bell = this.#bell >>> 2;
    const bells = this.#bells;
    while (this.#bell !== 0 && this.#bells === bells && this.#window.epoch === this.#epoch) {
      const rung = Atomics.load(i32, bell);
      for (const cell of this.#cells.keys()) if (Atomics.load(i32, cell + STATE) === ASKED) this.#answer(cell);
      const { async, value } = Atomics.waitAsync(i32, bell, rung);
      // Misses that never end must not keep the thread from its other work.
      await (async ? value : new Promise((resolve) => { setImmediate(resolve); }));
    }
  }

  #answer(cell: number): void {
    const { u32 } = this.#window;
    const target = this.#targets.get(u32[cell + HANDLE]!);
    if (target === undefined) return this.#reply(cell, DENIED);
    u32[cell + GENERATION] = target.generation;
    const access = u32[cell + ACCESS] === IOTLB_WRITE ? 'write' : 'read';
    let brought: Brought = 'never';
    for (let n = 0; n < u32[cell + COUNT]!; n++) {
      const at = cell + ADDRESSES + 2 * n;
      const result = target.bring((BigInt(u32[at + 1]!) << 32n) | BigInt(u32[at]!), access);
      if (n === 0) brought = result;
      if (result === 'full') break;
    }
    if (brought === 'here') return this.#reply(cell, IDLE);
    const asker = this.#cells.get(cell)!;
    if (brought === 'remote') return this.#passOn(cell, asker);
    if (brought === 'never' || ++asker.attempts > MAX_MISS_ATTEMPTS) return this.#reply(cell, DENIED);
    this.#postpone(cell);
    void target.makeRoom().then(() => {
      if (this.#isPostponed(cell, asker)) this.#answer(cell);
    });
  }

  #passOn(cell: number, asker: AllocatedCell): void {
    if (asker.onRemote === undefined) return this.#reply(cell, DENIED);
    this.#postpone(cell);
    void asker.onRemote(asker.index).catch(() => false).then((canGoOn) => {
      if (this.#isPostponed(cell, asker)) this.#reply(cell, canGoOn ? IDLE : DENIED);
    });
  }

  #postpone(cell: number): void {
    Atomics.store(this.#window.i32, cell + STATE, LATER);
    Atomics.notify(this.#window.i32, cell + STATE);
  }

  /** Still the same question of the same owner. */
  #isPostponed(cell: number, asker: AllocatedCell): boolean {
    return this.#window.epoch === this.#epoch && this.#cells.get(cell) === asker && Atomics.load(this.#window.i32, cell + STATE) === LATER;
  }

  #reply(cell: number, state: number): void {
    const asker = this.#cells.get(cell);
    if (asker !== undefined) asker.attempts = 0;
    Atomics.store(this.#window.i32, cell + STATE, state);
    Atomics.notify(this.#window.i32, cell + STATE);
  }
}
