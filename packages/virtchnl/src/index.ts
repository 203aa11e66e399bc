/**
 * Admin-queue descriptors and virtchnl messages of Intel virtual functions, for device and driver alike. Bytes only.
 *
 * For every message there is an `encode…` and a `decode…`; a name says which structure it is, and where several opcodes share
 * one (a queue selection, a VLAN setting) the decoder takes the opcode, for its error messages. Decoders check the format
 * only, and throw nothing but `VirtchnlError`, whose `status` is what a device replies. Lists are sent in the lengths that
 * drivers have always sent (one element too many) and accepted down to what is needed.
 *
 * @packageDocumentation
 */
export * from './admin-queue.ts';
export * from './capabilities.ts';
export * from './errors.ts';
export * from './eth-addr.ts';
export * from './event.ts';
export * from './irq-map.ts';
export * from './limits.ts';
export * from './opcodes.ts';
export * from './promisc.ts';
export * from './queues.ts';
export * from './resources.ts';
export * from './rss.ts';
export * from './rxdids.ts';
export * from './stats.ts';
export * from './status.ts';
export * from './version.ts';
export * from './vlan-v2.ts';
export * from './vlan.ts';
