/** What a group and a device say of themselves: struct vfio_group_status, vfio_device_info, vfio_irq_info. */
import { received, sized } from './bytes.ts';
import { capabilitiesOf } from './capability-chain.ts';
import type { VfioCapability } from './capability-chain.ts';

/** Bytes of struct vfio_group_status. */
export const GROUP_STATUS_BYTES = 8;
/** Bytes of struct vfio_device_info that every kernel takes: later ones have 4 more. */
export const DEVICE_INFO_BYTES = 20;
/** Bytes of struct vfio_irq_info. */
export const IRQ_INFO_BYTES = 16;

/** `DeviceInfo.flags`: capabilities follow. */
export const VFIO_DEVICE_FLAGS_CAPS = 0x80;

/** struct vfio_device_info. */
export interface VfioDeviceInfo {
  /** VFIO_DEVICE_FLAGS_*. */
  readonly flags: number;
  readonly numRegions: number;
  readonly numIrqs: number;
  readonly capabilities: readonly VfioCapability[];
}

/** struct vfio_irq_info. */
export interface VfioIrqInfo {
  readonly index: number;
  /** VFIO_IRQ_INFO_*. */
  readonly flags: number;
  readonly count: number;
}

/** VFIO_GROUP_FLAGS_* of the answer to `VFIO_GROUP_GET_STATUS`. */
export function decodeGroupStatus(bytes: Uint8Array): { readonly flags: number } {
  return { flags: received(bytes, GROUP_STATUS_BYTES, 'vfio_group_status').getUint32(4, true) };
}

/** The answer to `VFIO_DEVICE_GET_INFO`, whole (`askWithArgsz`). */
export function decodeDeviceInfo(bytes: Uint8Array): VfioDeviceInfo {
  const name = 'vfio_device_info';
  const view = received(bytes, DEVICE_INFO_BYTES, name);
  const flags = view.getUint32(4, true);
  const first = (flags & VFIO_DEVICE_FLAGS_CAPS) === 0 ? 0 : view.getUint32(16, true);
  return { flags, numRegions: view.getUint32(8, true), numIrqs: view.getUint32(12, true), capabilities: capabilitiesOf(bytes, first, DEVICE_INFO_BYTES, name) };
}

/** The question of `VFIO_DEVICE_GET_IRQ_INFO`; the kernel fills in the rest. */
export function encodeIrqInfo(index: number): Uint8Array {
  const { bytes, view } = sized(IRQ_INFO_BYTES);
  view.setUint32(8, index, true);
  return bytes;
}

/** The answer to `VFIO_DEVICE_GET_IRQ_INFO`. */
export function decodeIrqInfo(bytes: Uint8Array): VfioIrqInfo {
  const view = received(bytes, IRQ_INFO_BYTES, 'vfio_irq_info');
  return { flags: view.getUint32(4, true), index: view.getUint32(8, true), count: view.getUint32(12, true) };
}
