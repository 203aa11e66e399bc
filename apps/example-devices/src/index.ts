/**
 * Small PCI devices to learn from and to test against.
 *
 * @packageDocumentation
 */
export {};
