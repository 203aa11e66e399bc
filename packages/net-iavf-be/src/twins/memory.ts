/**
 * The window as the twins see it. Accessors are methods so that a test can count what is fetched from guest memory, and IOVAs are
 * pairs of 32-bit halves: no BigInt per frame.
 */
export class TwinMemory {
  readonly view: DataView;
  readonly i32: Int32Array;

  constructor(view: DataView, i32: Int32Array) {
    this.view = view;
    this.i32 = i32;
  }
  u8(offset: number): number {
    return this.view.getUint8(offset);
  }
  /** Little-endian, as everything is but what lies in frames. */
  u16(offset: number): number {
    return this.view.getUint16(offset, true);
  }
  u32(offset: number): number {
    return this.view.getUint32(offset, true);
  }
  /** Network order: fields of frames. */
  be16(offset: number): number {
    return this.view.getUint16(offset);
  }
  be32(offset: number): number {
    return this.view.getUint32(offset);
  }
  setU8(offset: number, value: number): void {
    this.view.setUint8(offset, value);
  }
  setU16(offset: number, value: number): void {
    this.view.setUint16(offset, value, true);
  }
  setU32(offset: number, value: number): void {
    this.view.setUint32(offset, value, true);
  }
  setBe16(offset: number, value: number): void {
    this.view.setUint16(offset, value);
  }
  setBe32(offset: number, value: number): void {
    this.view.setUint32(offset, value);
  }
  /** Aligned; ordered before everything that follows. */
  acquire(offset: number): number {
    return Atomics.load(this.i32, offset >>> 2) >>> 0;
  }
  /** Publishes a quadword after everything that precedes: the half with the ownership bit last (iavf.md pitfall 22). */
  publish(offset: number, low: number, high: number): void {
    Atomics.store(this.i32, (offset + 4) >>> 2, high | 0);
    Atomics.store(this.i32, offset >>> 2, low | 0);
  }
  copy(to: number, from: number, bytes: number): void {
    for (let n = 0; n < bytes; n++) this.setU8(to + n, this.u8(from + n));
  }
  zero(to: number, bytes: number): void {
    for (let n = 0; n < bytes; n++) this.setU8(to + n, 0);
  }
  /** Adds to a u64 counter. */
  count(counter: number, n = 1): void {
    const low = this.u32(counter) + n;
    this.setU32(counter, low);
    if (low > 0xffffffff) this.setU32(counter + 4, this.u32(counter + 4) + 1);
  }
}
