/**
 * The parts of the `vfio-user` command that a program can use as well.
 *
 * @packageDocumentation
 */
export { lspciDump, lspciText } from './lspci/text.ts';
export type { LspciOptions } from './lspci/text.ts';
export type { RegionSizes } from './lspci/header.ts';
export type { NumberStyle } from './lspci/naming.ts';
export { NO_NAMES, parsePciIds, systemNames } from './lspci/pci-ids.ts';
export type { PciNames } from './lspci/pci-ids.ts';
