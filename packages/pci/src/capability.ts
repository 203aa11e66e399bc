/**
 * Capabilities as plain data: the bytes at power-on and what a consumer may change in them. `ConfigSpace` places them and
 * links them into the list; nothing here knows an address.
 */
import { PciLayoutError } from './errors.ts';
import { MAX_MSI_VECTORS, MAX_MSIX_VECTORS } from './limits.ts';
import {
  EXP_BYTES, EXP_DEVCAP, EXP_DEVCAP2, EXP_DEVCAP_FLR, EXP_DEVCTL, EXP_DEVCTL2, EXP_DEVSTA, EXP_LNKCAP, EXP_LNKCAP2, EXP_LNKCTL, EXP_LNKCTL2, EXP_LNKSTA,
  MSI_ADDRESS, MSI_ADDRESS_HI, MSI_CONTROL, MSI_CONTROL_64, MSI_CONTROL_ENABLE, MSI_CONTROL_LOG_MASK, MSI_CONTROL_MASKING, MSI_CONTROL_MMC_SHIFT, MSI_CONTROL_MME_SHIFT, MSI_DATA_64, MSI_MASK_64,
  MSIX_CONTROL, MSIX_CONTROL_ENABLE, MSIX_CONTROL_MASKALL, MSIX_PBA, MSIX_TABLE,
  PCI_CAP_ID_EXP, PCI_CAP_ID_MSI, PCI_CAP_ID_MSIX, PCI_CAP_ID_PM, PCI_CAP_ID_VNDR, PCI_EXT_CAP_ID_DSN, PCI_EXT_CAP_ID_VNDR, PM_BYTES, PM_CONTROL,
} from './registers.ts';

/** A capability of configuration space: its bytes at power-on and what a write changes in them. The masks are as long as `bytes`. */
export interface Capability {
  readonly id: number;
  /** Lives in the extended space (from 0x100) and has a 4-byte header with this version; absent: an ordinary one with a 2-byte header. */
  readonly extendedVersion?: number;
  /** A fixed place in configuration space; absent: right behind the one before it in the list, rounded up to 4. */
  readonly offset?: number;
  /** Power-on bytes, the header included (its bytes are filled in by the layout). */
  readonly bytes: Uint8Array;
  /** Bits a consumer's write changes. */
  readonly writable: Uint8Array;
  /** Bits a consumer clears by writing one. */
  readonly writeOneToClear: Uint8Array;
}

/** Where a capability is put; leave it out for automatic placement. */
export interface Placement {
  readonly offset?: number;
}

/** A register inside a capability; values and masks are unsigned, little-endian on the wire. */
interface Field {
  readonly at: number;
  readonly bits: 16 | 32;
  readonly value?: number;
  readonly writable?: number;
  readonly writeOneToClear?: number;
}

function build(id: number, sizeBytes: number, placement: Placement, fields: readonly Field[], extendedVersion?: number): Capability {
  const put = (pick: (field: Field) => number | undefined): Uint8Array => {
    const bytes = new Uint8Array(sizeBytes);
    const view = new DataView(bytes.buffer);
    for (const field of fields) {
      const value = pick(field) ?? 0;
      if (field.bits === 16) view.setUint16(field.at, value, true);
      else view.setUint32(field.at, value, true);
    }
    return bytes;
  };
  return {
    id,
    ...(extendedVersion === undefined ? {} : { extendedVersion }),
    ...(placement.offset === undefined ? {} : { offset: placement.offset }),
    bytes: put((f) => f.value),
    writable: put((f) => f.writable),
    writeOneToClear: put((f) => f.writeOneToClear),
  };
}

/** What `msiCapability` offers a consumer. */
export interface MsiOptions extends Placement {
  /** A power of two from 1 to 32. */
  readonly vectors: number;
  /** 64-bit message address; true by default. */
  readonly address64?: boolean;
  /** Mask and pending bits per vector; true by default. */
  readonly masking?: boolean;
}

/**
 * MSI (PCI Local Bus 3.0, 6.8.1), 24 bytes with both options, 20, 14 or 10 with fewer. A consumer changes Enable, Multiple Message Enable (never above
 * what is capable: `ConfigSpace` sees to it), address, data and the mask bits of vectors that exist; pending bits are the device's.
 */
export function msiCapability(options: MsiOptions): Capability {
  const { vectors, address64 = true, masking = true } = options;
  const log = Math.log2(vectors);
  if (!Number.isInteger(log) || vectors < 1 || vectors > MAX_MSI_VECTORS) throw new PciLayoutError(`MSI with ${vectors} vectors: expected a power of two from 1 to ${MAX_MSI_VECTORS}`);
  const shift = address64 ? 0 : 4;
  const control = (log << MSI_CONTROL_MMC_SHIFT) | (address64 ? MSI_CONTROL_64 : 0) | (masking ? MSI_CONTROL_MASKING : 0);
  return build(PCI_CAP_ID_MSI, (masking ? 24 : 14) - shift, options, [
    { at: MSI_CONTROL, bits: 16, value: control, writable: MSI_CONTROL_ENABLE | (MSI_CONTROL_LOG_MASK << MSI_CONTROL_MME_SHIFT) },
    { at: MSI_ADDRESS, bits: 32, writable: 0xfffffffc },
    ...(address64 ? [{ at: MSI_ADDRESS_HI, bits: 32, writable: 0xffffffff } as const] : []),
    { at: MSI_DATA_64 - shift, bits: 16, writable: 0xffff },
    ...(masking ? [{ at: MSI_MASK_64 - shift, bits: 32, writable: 2 ** vectors - 1 } as const] : []),
  ]);
}

/** A place inside a BAR; `offset` is a multiple of 8 (its low three bits are the BAR number in the register). */
export interface BarPlace {
  readonly bar: number;
  readonly offset: number;
}

/** MSI-X (PCI Local Bus 3.0, 6.8.2): `vectors` from 1 to 2048. A consumer changes Enable and Function Mask only. */
export function msixCapability(options: { readonly vectors: number; readonly table: BarPlace; readonly pba: BarPlace } & Placement): Capability {
  const { vectors, table, pba } = options;
  if (!Number.isInteger(vectors) || vectors < 1 || vectors > MAX_MSIX_VECTORS) throw new PciLayoutError(`MSI-X with ${vectors} vectors: expected 1 to ${MAX_MSIX_VECTORS}`);
  for (const place of [table, pba]) {
    if (place.offset % 8 !== 0 || place.offset < 0 || place.bar < 0 || place.bar > 5) throw new PciLayoutError(`MSI-X structure at BAR ${place.bar} + ${place.offset}: expected BAR 0 to 5 and a multiple of 8`);
  }
  return build(PCI_CAP_ID_MSIX, 12, options, [
    { at: MSIX_CONTROL, bits: 16, value: vectors - 1, writable: MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASKALL },
    { at: MSIX_TABLE, bits: 32, value: table.offset + table.bar },
    { at: MSIX_PBA, bits: 32, value: pba.offset + pba.bar },
  ]);
}

/**
 * PCI Express endpoint, capability version 2 (PCI Express Base 7.5.3). `flr`: function level reset is announced and
 * Initiate-FLR reaches `ConfigSpaceHooks.onFlr`. The link is reported as 8 GT/s x16: bandwidth warnings of guests would be noise.
 */
export function pciExpressCapability(options: { readonly flr: boolean } & Placement): Capability {
  const version2Endpoint = 0x0002;
  const link = 0x0103; // speed 3 (8 GT/s), width 16
  return build(PCI_CAP_ID_EXP, EXP_BYTES, options, [
    { at: 0x02, bits: 16, value: version2Endpoint },
    // Role-based error reporting is mandatory since 1.1.
    { at: EXP_DEVCAP, bits: 32, value: 0x8000 + (options.flr ? EXP_DEVCAP_FLR : 0) },
    // Power-on: relaxed ordering, no snoop, 512-byte read requests. Initiate-FLR always reads as zero, so it is not writable here.
    { at: EXP_DEVCTL, bits: 16, value: 0x2810, writable: 0x78ff },
    { at: EXP_DEVSTA, bits: 16, writeOneToClear: 0x000f },
    { at: EXP_LNKCAP, bits: 32, value: link },
    { at: EXP_LNKCTL, bits: 16, writable: 0x00cb },
    { at: EXP_LNKSTA, bits: 16, value: link },
    { at: EXP_DEVCAP2, bits: 32, value: 0x001f }, // completion timeout ranges A to D, and disable
    { at: EXP_DEVCTL2, bits: 16, writable: 0x001f },
    { at: EXP_LNKCAP2, bits: 32, value: 0x000e },
    { at: EXP_LNKCTL2, bits: 16, value: 0x0003, writable: 0x000f },
  ]);
}

/** Power management 1.2, version 3: D0 and D3hot, No_Soft_Reset (state survives D3hot, so the device has nothing to do). */
export function powerManagementCapability(placement: Placement = {}): Capability {
  return build(PCI_CAP_ID_PM, PM_BYTES, placement, [
    { at: 0x02, bits: 16, value: 0x0003 },
    { at: PM_CONTROL, bits: 16, value: 0x0008, writable: 0x0003 },
  ]);
}

/** Vendor-specific: `payload` follows the 3-byte header, writable throughout if asked. At most 252 bytes. */
export function vendorCapability(options: { readonly payload: Uint8Array; readonly writable?: boolean } & Placement): Capability {
  const sizeBytes = 3 + options.payload.length;
  if (sizeBytes > 255) throw new PciLayoutError(`vendor capability of ${sizeBytes} bytes: its length is one byte`);
  const capability = build(PCI_CAP_ID_VNDR, sizeBytes, options, []);
  capability.bytes[2] = sizeBytes;
  capability.bytes.set(options.payload, 3);
  if (options.writable === true) capability.writable.fill(0xff, 3);
  return capability;
}

/** Extended: device serial number (PCI Express Base 7.9.3). */
export function serialNumberCapability(options: { readonly serial: bigint } & Placement): Capability {
  return build(PCI_EXT_CAP_ID_DSN, 12, options, [
    { at: 4, bits: 32, value: Number(options.serial & 0xffffffffn) },
    { at: 8, bits: 32, value: Number((options.serial >> 32n) & 0xffffffffn) },
  ], 1);
}

const MAX_VSEC_BYTES = 0xfff;

/** Extended: vendor-specific (PCI Express Base 7.9.5): `payload` follows the 8-byte header, writable throughout if asked. At most 4087 bytes. */
export function extendedVendorCapability(
  options: { readonly vsecId: number; readonly vsecRevision: number; readonly payload: Uint8Array; readonly writable?: boolean } & Placement,
): Capability {
  const { vsecId, vsecRevision, payload } = options;
  const sizeBytes = 8 + payload.length;
  if (sizeBytes > MAX_VSEC_BYTES) throw new PciLayoutError(`extended vendor capability of ${sizeBytes} bytes: its length has 12 bits`);
  if (!Number.isInteger(vsecId) || vsecId < 0 || vsecId > 0xffff || !Number.isInteger(vsecRevision) || vsecRevision < 0 || vsecRevision > 15) {
    throw new PciLayoutError(`extended vendor capability ${vsecId} revision ${vsecRevision}: expected 16 and 4 bits`);
  }
  const capability = build(PCI_EXT_CAP_ID_VNDR, sizeBytes, options, [{ at: 4, bits: 32, value: (vsecId | (vsecRevision << 16) | (sizeBytes << 20)) >>> 0 }], 1);
  capability.bytes.set(payload, 8);
  if (options.writable === true) capability.writable.fill(0xff, 8);
  return capability;
}

/**
 * Any capability, from the bytes behind its header (2 bytes, or 4 with `extendedVersion`). Masks are as long as `body` and default to
 * read-only. What lies in it is not checked.
 */
export function rawCapability(
  options: { readonly id: number; readonly extendedVersion?: number; readonly body: Uint8Array; readonly writable?: Uint8Array; readonly writeOneToClear?: Uint8Array } & Placement,
): Capability {
  const { id, extendedVersion, body, writable, writeOneToClear } = options;
  if (!Number.isInteger(id) || id < 0 || id > (extendedVersion === undefined ? 0xff : 0xffff)) throw new PciLayoutError(`capability id ${id}`);
  if (extendedVersion !== undefined && (!Number.isInteger(extendedVersion) || extendedVersion < 0 || extendedVersion > 15)) throw new PciLayoutError(`capability version ${extendedVersion}: expected 4 bits`);
  for (const mask of [writable, writeOneToClear]) if (mask !== undefined && mask.length !== body.length) throw new PciLayoutError(`capability 0x${id.toString(16)}: a mask of ${mask.length} bytes for a body of ${body.length}`);
  const headerBytes = extendedVersion === undefined ? 2 : 4;
  const capability = build(id, headerBytes + body.length, options, [], extendedVersion);
  capability.bytes.set(body, headerBytes);
  if (writable !== undefined) capability.writable.set(writable, headerBytes);
  if (writeOneToClear !== undefined) capability.writeOneToClear.set(writeOneToClear, headerBytes);
  return capability;
}
