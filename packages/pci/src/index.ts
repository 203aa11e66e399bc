/**
 * The contract of an emulated PCI device and the parts one is made of.
 *
 * @packageDocumentation
 */
export * from './device.ts';
