/**
 * The packet-socket port: frames to and from an existing network interface of the kernel, through rings that the kernel and the
 * lcores share inside the window.
 *
 * @packageDocumentation
 */
export * from './limits.ts';
