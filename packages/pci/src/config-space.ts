/**
 * Configuration space as three byte arrays: current value, writable bits, write-one-to-clear bits. Every access of any width
 * is the same loop over bytes, so no combination of offset and length can reach a bit it must not; what a write *means*
 * (bus master, MSI-X enable, function level reset) is found afterwards by comparing the few registers that have a meaning.
 */
import type { RegionDescription } from './device.ts';
import { checkRange } from './errors.ts';
import { buildImage, type ConfigSpaceLayout, type Image } from './layout.ts';
import {
  EXP_DEVCAP, EXP_DEVCAP_FLR, EXP_DEVCTL, EXP_DEVCTL_INITIATE_FLR, MSIX_CONTROL, MSIX_CONTROL_ENABLE, MSIX_CONTROL_MASKALL, PCI_BAR_IO, PCI_BASE_ADDRESS_0,
  PCI_CAP_ID_EXP, PCI_CAP_ID_MSIX, PCI_COMMAND, PCI_COMMAND_INTX_DISABLE, PCI_COMMAND_IO, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY,
} from './registers.ts';
import { REGION_CONFIG } from './vfio.ts';

export interface Command {
  readonly io: boolean;
  readonly memory: boolean;
  readonly busMaster: boolean;
  readonly intxDisabled: boolean;
}

export interface MsixControl {
  readonly enabled: boolean;
  readonly masked: boolean;
}

/** Called after a write is complete, in this order, and only for what changed. Not called by `reset`. */
export interface ConfigSpaceHooks {
  onCommand?(command: Command): void;
  onMsix?(control: MsixControl): void;
  /** Initiate-FLR was written (and FLR is announced). What it returns is what `write` returns. */
  onFlr?(): void | Promise<void>;
}

export class ConfigSpace {
  readonly sizeBytes: number;
  /** What the device lists in `PciDevice.regions`. */
  readonly region: RegionDescription;
  readonly #image: Image;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #hooks: ConfigSpaceHooks;
  /** Offset of Message Control, or -1. */
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
    const msix = this.capabilityOffset(PCI_CAP_ID_MSIX);
    const express = this.capabilityOffset(PCI_CAP_ID_EXP);
    this.#msixControl = msix === undefined ? -1 : msix + MSIX_CONTROL;
    this.#flrControl = express !== undefined && (this.#view.getUint32(express + EXP_DEVCAP, true) & EXP_DEVCAP_FLR) !== 0 ? express + EXP_DEVCTL : -1;
  }

  /** Where a capability was placed: the first of that id in list order. */
  capabilityOffset(id: number, extended = false): number | undefined {
    return this.#image.placed.find((p) => p.capability.id === id && (p.capability.extendedVersion !== undefined) === extended)?.offset;
  }

  get command(): Command {
    const bits = this.#view.getUint16(PCI_COMMAND, true);
    return {
      io: (bits & PCI_COMMAND_IO) !== 0,
      memory: (bits & PCI_COMMAND_MEMORY) !== 0,
      busMaster: (bits & PCI_COMMAND_MASTER) !== 0,
      intxDisabled: (bits & PCI_COMMAND_INTX_DISABLE) !== 0,
    };
  }

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
    if (this.#view.getUint16(PCI_COMMAND, true) !== commandBefore) this.#hooks.onCommand?.(this.command);
    if (this.#msixBits() !== msixBefore) this.#hooks.onMsix?.(this.msix);
    if (flr) return this.#hooks.onFlr?.();
  }

  /** The device's own change of a register (status, link): no masks, no hooks. */
  set(offset: number, value: Uint8Array): void {
    checkRange('configuration space', offset, value.length, this.sizeBytes);
    this.#bytes.set(value, offset);
  }

  /** Power-on values. Calls no hook: whoever resets the function knows. */
  reset(): void {
    this.#bytes.set(this.#image.powerOn);
  }

  #msixBits(): number {
    return this.#msixControl < 0 ? 0 : this.#view.getUint16(this.#msixControl, true);
  }
}
