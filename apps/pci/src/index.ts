/**
 * Command-line tool for the PCI bus: `emudev-pci` (cli.ts). As a library it has what a program can use as well, and the forms of its JSON.
 *
 * @packageDocumentation
 */
export { capabilityName } from '@emudev/bus-pci';
export type { ListedDevice } from './listed.ts';
export type { ShownDevice } from './show.ts';
export { survey } from './survey.ts';
export type { Survey } from './survey.ts';
