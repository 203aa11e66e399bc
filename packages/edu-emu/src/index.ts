/**
 * QEMU's educational PCI device as an emudev driver: the smallest complete one, to read and to copy from.
 *
 * @packageDocumentation
 */
export { EDU_FAMILY, EduDevice, type EduOptions } from './device.ts';
export { driver, type EduArgs } from './driver.ts';
