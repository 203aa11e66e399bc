/** A configuration space as `lspci` shows it. */
import { ConfigBytes } from './config-bytes.ts';
import { body, title } from './header.ts';
import type { RegionSizes } from './header.ts';
import type { NumberStyle } from './naming.ts';
import { Page } from './page.ts';
import { systemNames } from './pci-ids.ts';
import type { PciNames } from './pci-ids.ts';

export interface LspciOptions {
  /** 0: one line; 1 to 3: as many `v` as `lspci -vvv` has. 0 by default. */
  readonly verbosity?: number;
  /** Names, numbers (`-n`) or both (`-nn`); names by default. */
  readonly numbers?: NumberStyle;
  /** `[domain:]bus:device.function`; `00:00.0` by default. Where a function lies decides whether it has link registers of its own. */
  readonly slot?: string;
  /**
   * Sizes in bytes of the regions: BARs 0 to 5 and the expansion ROM, 0 where there is none. Left out, the text is what
   * `lspci -F` makes of the same bytes: without sizes, and without BARs that have no address yet.
   */
  readonly sizes?: RegionSizes;
  /** The pciutils version whose form is followed, 3.9 to 3.14; older and newer ones are taken for the nearest. 3.13 (Debian 13) by default. */
  readonly pciutils?: string;
  /** Vital product data as read through the VPD capability; "Not readable" without. */
  readonly vpd?: Uint8Array;
  /** Names of vendors, devices and classes; those of the system's pci.ids by default. */
  readonly names?: PciNames;
}

const SLOT = /^(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:([0-9a-f]{2})\.([0-7])$/i;
const [OLDEST_FORM, DEFAULT_FORM, NEWEST_FORM] = [9, 13, 14];

/**
 * What `lspci` prints for a function with this configuration space (64, 256 or 4096 bytes, or any part): lines, ends of lines
 * and indentation included. Bounded and total: whatever the bytes are, it ends, and throws only on wrong options (RangeError).
 */
export function lspciText(config: Uint8Array, options: LspciOptions = {}): string {
  const { verbosity = 0, numbers = 'names', slot = '00:00.0' } = options;
  const place = SLOT.exec(slot);
  if (place === null) throw new RangeError(`slot "${slot}" is no bus:device.function`);
  const page = new Page(new ConfigBytes(config), {
    verbosity,
    form: formOf(options.pciutils),
    device: parseInt(place[1]!, 16),
    function: Number(place[2]),
    names: options.names ?? systemNames(),
    vpd: options.vpd,
  });
  title(page, numbers, slot);
  if (verbosity > 0) body(page, numbers, options.sizes);
  return page.text;
}

/**
 * The hex dump of `lspci -xxxx`, which `lspci -F` reads: a title and 16 bytes a line. `bytes`: how many of the space, 64 (`-x`),
 * 256 (`-xxx`) or 4096 (`-xxxx`); fewer where there are fewer.
 */
export function lspciDump(config: Uint8Array, options: LspciOptions = {}, bytes: 64 | 256 | 4096 = 4096): string {
  const lines = [lspciText(config, options)];
  const end = Math.min(bytes, config.length);
  for (let at = 0; at < end; at += 16) {
    const row = [...config.subarray(at, Math.min(at + 16, end))].map((byte) => byte.toString(16).padStart(2, '0'));
    lines.push(`${at.toString(16).padStart(2, '0')}: ${row.join(' ')}\n`);
  }
  return lines.join('');
}

function formOf(version: string | undefined): number {
  if (version === undefined) return DEFAULT_FORM;
  const parts = /^(\d+)\.(\d+)(?:\.\d+)?$/.exec(version);
  if (parts === null) throw new RangeError(`"${version}" is no version of pciutils`);
  if (Number(parts[1]) !== 3) return Number(parts[1]) < 3 ? OLDEST_FORM : NEWEST_FORM;
  return Math.min(Math.max(Number(parts[2]), OLDEST_FORM), NEWEST_FORM);
}
