/**
 * The PCI bus of a user-space driver: PCI functions of the kernel, mediated devices (mdev) and vfio-user sockets.
 *
 * Reading order: `address.ts`, `selection.ts` (which devices are meant).
 *
 * @packageDocumentation
 */
export { ADDRESS_KINDS, compareAddresses, formatAddress, parseAddress, parsePciFunction, parseUuid } from './address.ts';
export type { MdevAddress, PciAddress, PciFunctionAddress, VfioUserAddress } from './address.ts';
export { BusError } from './errors.ts';
export type { BusErrorCode } from './errors.ts';
export { parseSelector, Selection } from './selection.ts';
export type { SelectionText, Selector } from './selection.ts';
export * from './limits.ts';
