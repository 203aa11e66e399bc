/**
 * The MSI-X table and pending-bit array as a plain memory region (PCI Local Bus 3.0, 6.8.2.5 to 6.8.2.9). Virtual machine
 * monitors keep the table themselves and deliver interrupts through eventfds, so nothing here raises anything; but reads
 * and writes that do arrive behave as on hardware, and the pending bits are the device's.
 */
import { checkRange, PciLayoutError } from './errors.ts';
import { MAX_MSIX_VECTORS } from './limits.ts';

/** An entry of the MSI-X table: address u64, data u32, vector control u32 (PCI Local Bus 3.0, 6.8.2). */
export const MSIX_ENTRY_BYTES = 16;
const CONTROL = 12;
const MASK_BIT = 1;

/** Where table and pending bits lie: offsets in bytes, multiples of 8. */
export interface MsixRegionOptions {
  readonly vectors: number;
  /** Of the whole region (the BAR). What is neither table nor pending bits reads as zero. */
  readonly sizeBytes: number;
  readonly tableOffset: number;
  readonly pbaOffset: number;
}

/** The MSI-X table and pending-bit array of one function as a memory region; raises nothing by itself. */
export class MsixRegion {
  readonly vectors: number;
  readonly sizeBytes: number;
  readonly #tableOffset: number;
  readonly #pbaOffset: number;
  readonly #bytes: Uint8Array;
  readonly #writable: Uint8Array;

  /** @throws PciLayoutError if the structures overlap, are unaligned or do not fit */
  constructor(options: MsixRegionOptions) {
    const { vectors, sizeBytes, tableOffset, pbaOffset } = options;
    if (!Number.isInteger(vectors) || vectors < 1 || vectors > MAX_MSIX_VECTORS) throw new PciLayoutError(`MSI-X with ${vectors} vectors: expected 1 to ${MAX_MSIX_VECTORS}`);
    const tableEnd = tableOffset + vectors * MSIX_ENTRY_BYTES;
    const pbaEnd = pbaOffset + Math.ceil(vectors / 64) * 8;
    if (tableOffset % 8 !== 0 || pbaOffset % 8 !== 0 || tableOffset < 0 || pbaOffset < 0 || tableEnd > sizeBytes || pbaEnd > sizeBytes) throw new PciLayoutError(`MSI-X table [${tableOffset}, ${tableEnd}) and pending bits [${pbaOffset}, ${pbaEnd}) do not lie 8-byte aligned in ${sizeBytes} bytes`);
    if (tableOffset < pbaEnd && pbaOffset < tableEnd) throw new PciLayoutError('MSI-X table and pending bits overlap');
    this.vectors = vectors;
    this.sizeBytes = sizeBytes;
    this.#tableOffset = tableOffset;
    this.#pbaOffset = pbaOffset;
    this.#bytes = new Uint8Array(sizeBytes);
    this.#writable = new Uint8Array(sizeBytes);
    for (let entry = tableOffset; entry < tableEnd; entry += MSIX_ENTRY_BYTES) {
      this.#writable.fill(0xff, entry, entry + CONTROL);
      this.#writable[entry] = 0xfc; // a message address is a multiple of 4
      this.#writable[entry + CONTROL] = MASK_BIT;
    }
    this.reset();
  }

  /** @throws PciRangeError */
  read(offset: number, into: Uint8Array): void {
    checkRange('MSI-X region', offset, into.length, this.sizeBytes);
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  /** @throws PciRangeError */
  write(offset: number, from: Uint8Array): void {
    checkRange('MSI-X region', offset, from.length, this.sizeBytes);
    for (const [i, value] of from.entries()) {
      const writable = this.#writable[offset + i]!;
      this.#bytes[offset + i] = (this.#bytes[offset + i]! & ~writable) | (value & writable);
    }
  }

  /** True where a consumer that keeps the table here has the vector masked; power-on is masked. */
  isMasked(vector: number): boolean {
    this.#checkVector(vector);
    return (this.#bytes[this.#tableOffset + vector * MSIX_ENTRY_BYTES + CONTROL]! & MASK_BIT) !== 0;
  }

  /** Sets or clears a vector's pending bit. Throws RangeError for a vector that does not exist. */
  setPending(vector: number, pending: boolean): void {
    this.#checkVector(vector);
    const at = this.#pbaOffset + (vector >> 3);
    const bit = 1 << (vector & 7);
    this.#bytes[at] = pending ? this.#bytes[at]! | bit : this.#bytes[at]! & ~bit;
  }

  /** Power-on: every vector masked, nothing pending. */
  reset(): void {
    this.#bytes.fill(0);
    for (let vector = 0; vector < this.vectors; vector++) this.#bytes[this.#tableOffset + vector * MSIX_ENTRY_BYTES + CONTROL] = MASK_BIT;
  }

  #checkVector(vector: number): void {
    if (!Number.isInteger(vector) || vector < 0 || vector >= this.vectors) throw new RangeError(`vector ${vector} of ${this.vectors}`);
  }
}
