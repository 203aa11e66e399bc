/**
 * Configuration space as three byte arrays: current value, writable bits, write-one-to-clear bits. Every access of any width
 * is the same loop over bytes, so no combination of offset and length can reach a bit it must not; what a write *means*
 * (bus master, MSI-X enable, function level reset) is found afterwards by comparing the few registers that have a meaning.
 */
import type { RegionDescription } from './device.ts';
import { checkRange } from './errors.ts';
import { buildImage, type ConfigSpaceLayout, type Image } from './layout.ts';
import {
  EXP_DEVCAP, EXP_DEVCAP_FLR, EXP_DEVCTL, EXP_DEVCTL_INITIATE_FLR, MSI_ADDRESS, MSI_ADDRESS_HI, MSI_CONTROL, MSI_CONTROL_64, MSI_CONTROL_ENABLE, MSI_CONTROL_LOG_MASK,
  MSI_CONTROL_MASKING, MSI_CONTROL_MMC_SHIFT, MSI_CONTROL_MME_SHIFT, MSI_DATA_64, MSI_MASK_64, MSI_PENDING_64, MSIX_CONTROL, MSIX_CONTROL_ENABLE, MSIX_CONTROL_MASKALL, PCI_BAR_IO, PCI_BASE_ADDRESS_0,
  PCI_CAP_ID_EXP, PCI_CAP_ID_MSI, PCI_CAP_ID_MSIX, PCI_COMMAND, PCI_COMMAND_INTX_DISABLE, PCI_COMMAND_IO, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY, PCI_STATUS, PCI_STATUS_INTERRUPT,
} from './registers.ts';
import { REGION_CONFIG } from './vfio.ts';

/** The COMMAND register (PCI Local Bus 3.0, 6.2.2): I/O and memory decoding, bus mastering (DMA and MSI), INTx disable. */
export interface Command {
  readonly io: boolean;
  readonly memory: boolean;
  readonly busMaster: boolean;
  readonly intxDisabled: boolean;
}

/** MSI-X Message Control (PCI Local Bus 3.0, 6.8.2.3): `masked` is Function Mask, which holds all vectors back. */
export interface MsixControl {
  readonly enabled: boolean;
  readonly masked: boolean;
}

/** What a consumer programmed into the MSI capability. Informative: a virtual machine monitor delivers through eventfds. */
export interface MsiControl {
  readonly enabled: boolean;
  /** Vectors granted: 1 to what the capability offers. */
  readonly vectors: number;
  readonly address: bigint;
  readonly data: number;
  /** Bit n: vector n is masked. Always 0 without per-vector masking. */
  readonly mask: number;
}

/** Where a capability lies in configuration space, in bytes. */
export interface PlacedCapability {
  readonly id: number;
  /** In the extended list, from 0x100. */
  readonly extended: boolean;
  readonly offset: number;
  readonly lengthBytes: number;
}

/** Called after a write is complete, in this order, and only for what changed. Not called by `reset`. */
export interface ConfigSpaceHooks {
  /** COMMAND has changed: this is its new value. */
  onCommand?(command: Command): void;
  /** Anything in `MsiControl` has changed. Never called without an MSI capability. */
  onMsi?(control: MsiControl): void;
  /** MSI-X Message Control has changed. Never called without an MSI-X capability. */
  onMsix?(control: MsixControl): void;
  /**
   * Bytes [start, start + lengthBytes) of a capability were written, relative to it and without what the same write did to its neighbours. Also
   * when no bit changed: a vendor's register may act on the write itself.
   */
  onCapability?(capability: PlacedCapability, start: number, lengthBytes: number): void;
  /** Initiate-FLR was written (and FLR is announced). What it returns is what `write` returns. */
  onFlr?(): void | Promise<void>;
}

/** The configuration space of one function: power-on image, masks, and the consumer's writes to it. Answers region 7 of a device. */
export class ConfigSpace {
  readonly sizeBytes: number;
  /** What the device lists in `PciDevice.regions`. */
  readonly region: RegionDescription;
  readonly #image: Image;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #hooks: ConfigSpaceHooks;
  /** In list order, the extended list last. */
  readonly capabilities: readonly PlacedCapability[];
  /** Offset of the MSI capability, or -1. */
  readonly #msi: number;
  /** Offset of MSI-X' Message Control, or -1. */
  readonly #msixControl: number;
  /** Offset of Device Control where FLR is announced, or -1. */
  readonly #flrControl: number;

  /** @throws PciLayoutError */
  constructor(layout: ConfigSpaceLayout, hooks: ConfigSpaceHooks = {}) {
    this.#image = buildImage(layout);
    this.sizeBytes = layout.sizeBytes;
    this.region = { index: REGION_CONFIG, sizeBytes: layout.sizeBytes, readable: true, writable: true };
    this.#bytes = this.#image.powerOn.slice();
    this.#view = new DataView(this.#bytes.buffer);
    this.#hooks = hooks;
    this.capabilities = this.#image.placed.map(({ capability, offset }) => ({
      id: capability.id, extended: capability.extendedVersion !== undefined, offset, lengthBytes: capability.bytes.length,
    }));
    this.#msi = this.capabilityOffset(PCI_CAP_ID_MSI) ?? -1;
    const msix = this.capabilityOffset(PCI_CAP_ID_MSIX);
    const express = this.capabilityOffset(PCI_CAP_ID_EXP);
    this.#msixControl = msix === undefined ? -1 : msix + MSIX_CONTROL;
    this.#flrControl = express !== undefined && (this.#view.getUint32(express + EXP_DEVCAP, true) & EXP_DEVCAP_FLR) !== 0 ? express + EXP_DEVCTL : -1;
  }

  /** Where a capability was placed: the first of that id in list order. */
  capabilityOffset(id: number, extended = false): number | undefined {
    return this.capabilities.find((c) => c.id === id && c.extended === extended)?.offset;
  }

  /** What the consumer has enabled. */
  get command(): Command {
    const bits = this.#view.getUint16(PCI_COMMAND, true);
    return {
      io: (bits & PCI_COMMAND_IO) !== 0,
      memory: (bits & PCI_COMMAND_MEMORY) !== 0,
      busMaster: (bits & PCI_COMMAND_MASTER) !== 0,
      intxDisabled: (bits & PCI_COMMAND_INTX_DISABLE) !== 0,
    };
  }

  /** Undefined without the capability. */
  get msi(): MsiControl | undefined {
    if (this.#msi < 0) return undefined;
    const control = this.#view.getUint16(this.#msi + MSI_CONTROL, true);
    const wide = (control & MSI_CONTROL_64) !== 0;
    const shift = wide ? 0 : 4;
    return {
      enabled: (control & MSI_CONTROL_ENABLE) !== 0,
      vectors: 1 << ((control >> MSI_CONTROL_MME_SHIFT) & MSI_CONTROL_LOG_MASK),
      address: BigInt(this.#view.getUint32(this.#msi + MSI_ADDRESS, true)) | (wide ? BigInt(this.#view.getUint32(this.#msi + MSI_ADDRESS_HI, true)) << 32n : 0n),
      data: this.#view.getUint16(this.#msi + MSI_DATA_64 - shift, true),
      mask: (control & MSI_CONTROL_MASKING) !== 0 ? this.#view.getUint32(this.#msi + MSI_MASK_64 - shift, true) : 0,
    };
  }

  /** All false without the capability. */
  get msix(): MsixControl {
    const bits = this.#msixBits();
    return { enabled: (bits & MSIX_CONTROL_ENABLE) !== 0, masked: (bits & MSIX_CONTROL_MASKALL) !== 0 };
  }

  /** The address a consumer programmed into a BAR; for a 64-bit one give its lower index. */
  barAddress(index: number, kind: 'io' | 'memory32' | 'memory64'): bigint {
    const at = PCI_BASE_ADDRESS_0 + 4 * index;
    const low = this.#view.getUint32(at, true);
    if (kind === 'io') return BigInt((low & ~(PCI_BAR_IO | 2)) >>> 0);
    const address = BigInt((low & ~0xf) >>> 0);
    return kind === 'memory32' ? address : address | (BigInt(this.#view.getUint32(at + 4, true)) << 32n);
  }

  /** @throws PciRangeError */
  read(offset: number, into: Uint8Array): void {
    checkRange('configuration space', offset, into.length, this.sizeBytes);
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  /**
   * A consumer's write: masks apply, nothing is ever refused (PCI ignores writes to what is read-only).
   * @throws PciRangeError
   */
  write(offset: number, from: Uint8Array): void | Promise<void> {
    checkRange('configuration space', offset, from.length, this.sizeBytes);
    const msiBefore = this.#hooks.onMsi === undefined ? undefined : this.msi;
    const commandBefore = this.#view.getUint16(PCI_COMMAND, true);
    const msixBefore = this.#msixBits();
    let flr = false;
    for (const [i, value] of from.entries()) {
      const at = offset + i;
      const writable = this.#image.writable[at]!;
      this.#bytes[at] = ((this.#bytes[at]! & ~writable) | (value & writable)) & ~(value & this.#image.writeOneToClear[at]!);
      // Initiate-FLR is the top bit of Device Control's upper byte and always reads as zero.
      if (at === this.#flrControl + 1 && this.#flrControl >= 0 && (value & (EXP_DEVCTL_INITIATE_FLR >> 8)) !== 0) flr = true;
    }
    this.#limitMsiVectors();
    if (this.#view.getUint16(PCI_COMMAND, true) !== commandBefore) this.#hooks.onCommand?.(this.command);
    if (msiBefore !== undefined) this.#reportMsi(msiBefore);
    if (this.#msixBits() !== msixBefore) this.#hooks.onMsix?.(this.msix);
    if (this.#hooks.onCapability !== undefined) this.#reportCapabilities(offset, from.length);
    if (flr) return this.#hooks.onFlr?.();
  }

  /** The device's own change of a register (status, link): no masks, no hooks. */
  set(offset: number, value: Uint8Array): void {
    checkRange('configuration space', offset, value.length, this.sizeBytes);
    this.#bytes.set(value, offset);
  }

  /** The pending bit of an MSI vector, for a device that holds interrupts back. Nothing without per-vector masking. */
  setMsiPending(vector: number, pending: boolean): void {
    if (this.#msi < 0) return;
    const control = this.#view.getUint16(this.#msi + MSI_CONTROL, true);
    if ((control & MSI_CONTROL_MASKING) === 0 || vector >= 1 << ((control >> MSI_CONTROL_MMC_SHIFT) & MSI_CONTROL_LOG_MASK)) return;
    const at = this.#msi + MSI_PENDING_64 - ((control & MSI_CONTROL_64) !== 0 ? 0 : 4);
    const bit = 1 << vector;
    const bits = this.#view.getUint32(at, true);
    this.#view.setUint32(at, pending ? bits | bit : bits & ~bit, true);
  }

  /** Interrupt Status in STATUS: what the function's INTx wants, before COMMAND's disable bit. */
  setInterruptStatus(asserted: boolean): void {
    const status = this.#bytes[PCI_STATUS]!;
    this.#bytes[PCI_STATUS] = asserted ? status | PCI_STATUS_INTERRUPT : status & ~PCI_STATUS_INTERRUPT;
  }

  /** Power-on values. Calls no hook: whoever resets the function knows. */
  reset(): void {
    this.#bytes.set(this.#image.powerOn);
  }

  #msixBits(): number {
    return this.#msixControl < 0 ? 0 : this.#view.getUint16(this.#msixControl, true);
  }

  /** Software must not ask for more vectors than there are (6.8.1.3); what it gets then is undefined, here all of them. */
  #limitMsiVectors(): void {
    if (this.#msi < 0) return;
    const at = this.#msi + MSI_CONTROL;
    const control = this.#view.getUint16(at, true);
    const capable = (control >> MSI_CONTROL_MMC_SHIFT) & MSI_CONTROL_LOG_MASK;
    if (((control >> MSI_CONTROL_MME_SHIFT) & MSI_CONTROL_LOG_MASK) <= capable) return;
    this.#view.setUint16(at, (control & ~(MSI_CONTROL_LOG_MASK << MSI_CONTROL_MME_SHIFT)) | (capable << MSI_CONTROL_MME_SHIFT), true);
  }

  #reportMsi(before: MsiControl): void {
    const now = this.msi!;
    if ((Object.keys(now) as (keyof MsiControl)[]).some((key) => now[key] !== before[key])) this.#hooks.onMsi?.(now);
  }

  /** A write that begins in one capability and reaches into the next is two writes, each inside its own. */
  #reportCapabilities(offset: number, lengthBytes: number): void {
    for (const capability of this.capabilities) {
      const from = Math.max(offset, capability.offset);
      const to = Math.min(offset + lengthBytes, capability.offset + capability.lengthBytes);
      if (from < to) this.#hooks.onCapability?.(capability, from - capability.offset, to - from);
    }
  }
}
