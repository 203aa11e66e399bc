/**
 * Command-line tool for the PCI bus: `emudev-pci` (cli.ts). As a library it has the forms of its JSON.
 *
 * @packageDocumentation
 */
export type { ListedDevice } from './listed.ts';
export type { ShownDevice } from './show.ts';
export type { Survey } from './survey.ts';
