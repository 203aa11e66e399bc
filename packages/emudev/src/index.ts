/**
 * The emulated-device class.
 *
 * @packageDocumentation
 */
export * from './device.ts';
export * from './vector.ts';
export * from './vdev.ts';
