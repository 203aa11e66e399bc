/** What every part of the decoder works with: the bytes, how much to say of them, and the text so far. */
import type { ConfigBytes } from './config-bytes.ts';
import { fields } from './fields.ts';
import type { Tables } from './fields.ts';
import { MAX_LSPCI_CHARS } from '../limits.ts';
import type { PciNames } from './pci-ids.ts';

export interface PageSettings {
  /** Number of `v` in `-vvv`. */
  readonly verbosity: number;
  /** Second number of the pciutils version whose form is printed: 13 for 3.13. */
  readonly form: number;
  readonly device: number;
  readonly function: number;
  readonly names: PciNames;
  /** The device's vital product data, where somebody has read them. */
  readonly vpd: Uint8Array | undefined;
}

export class Page {
  readonly config: ConfigBytes;
  readonly settings: PageSettings;
  /** The function has a BAR in memory space, which some registers only matter with. */
  hasMemoryBar = false;
  #text = '';
  #full = false;

  constructor(config: ConfigBytes, settings: PageSettings) {
    this.config = config;
    this.settings = settings;
  }

  /** `-vv` or more: registers are shown, not only what there is. */
  get details(): boolean {
    return this.settings.verbosity >= 2;
  }

  get text(): string {
    return this.#text;
  }

  /** A hostile space can ask for megabytes of text; the rest is left out. */
  print(text: string): void {
    if (this.#full) return;
    if (this.#text.length + text.length > MAX_LSPCI_CHARS) {
      this.#full = true;
      this.#text += '\n\t<more than a device can have to say is left out>\n';
      return;
    }
    this.#text += text;
  }

  /** Appends a template filled with a register. */
  fields(template: string, value: number, tables?: Tables): void {
    this.print(fields(template, value, tables));
  }
}
