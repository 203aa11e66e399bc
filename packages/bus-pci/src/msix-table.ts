/**
 * Where a function's MSI-X table is, and what of its BAR may be mapped: everything but the pages of the table. Software behind VFIO never
 * writes the table (interrupts are set by SET_IRQS), so nothing is lost.
 */
import { DMA_PAGE_BYTES } from './limits.ts';

/** A part of a region, bytes. */
export interface RegionArea {
  readonly offset: number;
  readonly sizeBytes: number;
}

/** The MSI-X table: in BAR `bar`. */
export interface MsixTable extends RegionArea {
  readonly bar: number;
}

const STATUS = 0x06;
const STATUS_CAPABILITIES = 0x10;
const CAPABILITIES_POINTER = 0x34;
const HEADER_BYTES = 0x40;
const CAPABILITY_MSIX = 0x11;
/** Message control, and the table's offset with its BAR in bits 0 to 2 (PCI Local Bus 3.0, 6.8.2). */
const MSIX_CONTROL = 2;
const MSIX_TABLE = 4;
const MSIX_BYTES = 12;
const ENTRY_BYTES = 16;

/** Reads the first 256 bytes of a configuration space (or as many as there are). A list in a circle, or one that leads out, ends there. */
export function findMsixTable(config: Uint8Array): MsixTable | undefined {
  const view = new DataView(config.buffer, config.byteOffset, config.length);
  if (config.length < HEADER_BYTES || (view.getUint16(STATUS, true) & STATUS_CAPABILITIES) === 0) return undefined;
  const seen = new Set<number>();
  for (let at = view.getUint8(CAPABILITIES_POINTER) & ~3; at >= HEADER_BYTES && at + MSIX_BYTES <= config.length && !seen.has(at); at = view.getUint8(at + 1) & ~3) {
    seen.add(at);
    if (view.getUint8(at) !== CAPABILITY_MSIX) continue;
    const table = view.getUint32(at + MSIX_TABLE, true);
    return { bar: table & 7, offset: (table & ~7) >>> 0, sizeBytes: ((view.getUint16(at + MSIX_CONTROL, true) & 0x7ff) + 1) * ENTRY_BYTES };
  }
  return undefined;
}

/** `areas` of region `index` without the pages of the table; ascending. Areas that overlap stay as they are. */
export function withoutMsixTable(index: number, areas: readonly RegionArea[], table: MsixTable | undefined): readonly RegionArea[] {
  const ascending = [...areas].sort((a, b) => a.offset - b.offset).filter((area) => area.sizeBytes > 0);
  if (table?.bar !== index) return ascending;
  const first = Math.floor(table.offset / DMA_PAGE_BYTES) * DMA_PAGE_BYTES;
  const end = Math.ceil((table.offset + table.sizeBytes) / DMA_PAGE_BYTES) * DMA_PAGE_BYTES;
  return ascending.flatMap(({ offset, sizeBytes }) => {
    const before = Math.min(first - offset, sizeBytes);
    const after = Math.min(offset + sizeBytes - end, sizeBytes);
    return [
      ...(before > 0 ? [{ offset, sizeBytes: before }] : []),
      ...(after > 0 ? [{ offset: offset + sizeBytes - after, sizeBytes: after }] : []),
    ];
  });
}
