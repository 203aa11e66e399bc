/**
 * Boots a real guest (stock QEMU, stock Debian kernel, stock drivers) against vfio-user devices: as a library for tests, as
 * `pnpm guest` for people.
 *
 * @packageDocumentation
 */
export { Guest, GuestError, KERNEL_ARGS, chooseAccel, qemuCommand, type Accel, type CommandResult, type GuestOptions } from './guest.ts';
export { bootMdevGuest, MDEV_KERNELS, type MdevGuestOptions } from './mdev-guest.ts';
export type { Equipment } from './initramfs.ts';
export { KERNELS, findKernel, type Kernel, type KernelName } from './kernel.ts';
export { findQemu, type Qemu } from './qemu.ts';
export { cacheDir, type Progress } from './cache.ts';
export { ProvisionError } from './debian.ts';
