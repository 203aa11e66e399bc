/** The conventional list of capabilities (PCI Local Bus 3.0, 6.7): what hangs at offset 0x34. */
import { express } from './express.ts';
import { extendedCapabilities } from './extended.ts';
import { bits, fields, flag, hex } from './fields.ts';
import { subsystemName } from './naming.ts';
import type { NumberStyle } from './naming.ts';
import type { Page } from './page.ts';
import { vitalProductData } from './vpd.ts';

const STATUS_CAP_LIST = 4;

/** A capability's text from its id on; `word` is what follows the two bytes of the list. */
type Decoder = (page: Page, at: number, word: number, style: NumberStyle) => void;

const line = (text: string): Decoder => (page) => { page.print(`${text}\n`); };

const AUX_MILLIAMPERES = { aux: ['0', '55', '100', '160', '220', '270', '320', '375'] };

const powerManagement: Decoder = (page, at, word) => {
  page.fields('Power Management version {0.3}\n', word);
  if (!page.details) return;
  page.fields('\t\tFlags: PMEClk{3} DSI{5} D1{9} D2{10} AuxCurrent={6.3:aux}mA PME(D0{11},D1{12},D2{13},D3hot{14},D3cold{15})\n', word, AUX_MILLIAMPERES);
  if (!page.config.has(at + 4, 4)) return;
  page.fields('\t\tStatus: D{0.2} NoSoftRst{3} PME-Enable{8} DSel={9.4} DScale={13.2} PME{15}\n', page.config.u16(at + 4));
  const bridge = page.config.u8(at + 6);
  if (bridge !== 0) page.print(`\t\tBridge: PM${flag(bridge, 7)} B3${flag(~bridge, 6)}\n`);
};

const msi: Decoder = (page, at, word) => {
  page.print(fields('MSI: Enable{0}', word) + ` Count=${1 << bits(word, 4, 3)}/${1 << bits(word, 1, 3)}` + fields(' Maskable{8} 64bit{7}\n', word));
  const wide = flag(word, 7) === '+';
  if (!page.details || !page.config.has(at + 4, wide ? 10 : 6)) return;
  const { config } = page;
  const address = (wide ? hex(config.u32(at + 8), 8) : '') + hex(config.u32(at + 4), 8);
  page.print(`\t\tAddress: ${address}  Data: ${hex(config.u16(at + (wide ? 12 : 8)), 4)}\n`);
  const mask = at + (wide ? 16 : 12);
  if (flag(word, 8) === '+' && config.has(mask, 8)) page.print(`\t\tMasking: ${hex(config.u32(mask), 8)}  Pending: ${hex(config.u32(mask + 4), 8)}\n`);
};

const msix: Decoder = (page, at, word) => {
  page.print(fields('MSI-X: Enable{15}', word) + ` Count=${bits(word, 0, 11) + 1}` + fields(' Masked{14}\n', word));
  if (!page.details || !page.config.has(at + 4, 8)) return;
  const place = (value: number): string => `BAR=${bits(value, 0, 3)} offset=${hex((value & ~7) >>> 0, 8)}`;
  page.print(`\t\tVector table: ${place(page.config.u32(at + 4))}\n\t\tPBA: ${place(page.config.u32(at + 8))}\n`);
};

const VIRTIO_KINDS: Readonly<Record<number, string>> = { 1: 'CommonCfg', 2: 'Notify', 3: 'ISR', 4: 'DeviceCfg' };

/** Intel's capabilities say what they are in the upper byte; registers of its host bridges are not shown. */
function intelKind(word: number): string {
  const kind = bits(word, 12, 4);
  return kind === 0 ? fields('Intel Capabilities v{8.4}\n', word) : kind === 1 ? 'Intel Feature Detection\n' : 'Intel <unknown>\n';
}

const vendorSpecific: Decoder = (page, at, word) => {
  const { config, settings } = page;
  page.print('Vendor Specific Information: ');
  const length = bits(word, 0, 8);
  const deviceId = config.u16(2);
  // VirtIO 1.2, 4.1.4: where the parts of a virtio device lie.
  const virtio = config.u16(0) === 0x1af4 && deviceId >= 0x1000 && deviceId <= 0x107f && length >= 16 && config.has(at, length);
  if (settings.form >= 14 && config.u16(0) === 0x8086) {
    page.print(intelKind(word));
    return;
  }
  if (!virtio) {
    page.print(`Len=${hex(length, 2)} <?>\n`);
    return;
  }
  const kind = bits(word, 8, 8);
  const shared = settings.form >= 14 && kind === 8;
  page.print(`VirtIO: ${shared ? 'SharedMemory' : VIRTIO_KINDS[kind] ?? '<unknown>'}\n`);
  if (!page.details) return;
  const wide = (low: number): string => hex(BigInt(config.u32(at + low)) | (BigInt(config.u32(at + low + 8)) << 32n), 16);
  const place = shared ? `offset=${wide(8)} size=${wide(12)} id=${config.u8(at + 5)}` : `offset=${hex(config.u32(at + 8), 8)} size=${hex(config.u32(at + 12), 8)}`;
  const multiplier = kind === 2 && length >= 20 ? ` multiplier=${hex(config.u32(at + 16), 8)}` : '';
  page.print(`\t\tBAR=${config.u8(at + 4)} ${place}${multiplier}\n`);
};

const advancedFeatures: Decoder = (page, at) => {
  page.print('PCI Advanced Features\n');
  if (!page.details || !page.config.has(at + 3, 3)) return;
  page.fields('\t\tAFCap: TP{0} FLR{1}\n', page.config.u8(at + 3));
  page.fields('\t\tAFCtrl: FLR{0}\n', page.config.u8(at + 4));
  page.fields('\t\tAFStatus: TP{0}\n', page.config.u8(at + 5));
};

const sata: Decoder = (page, at, word) => {
  page.fields('SATA HBA v{4.4}.{0.4}', word);
  if (!page.details || !page.config.has(at + 4, 4)) return page.print('\n');
  const where = page.config.u32(at + 4);
  const bar = bits(where, 0, 4);
  if (bar >= 4 && bar <= 9) page.print(` BAR${bar - 4} Offset=${hex(bits(where, 4, 20), 8)}\n`);
  else page.print(bar === 15 ? ' InCfgSpace\n' : ` BAR??${bar}\n`);
};

const SPLITS: readonly number[] = [1, 2, 3, 4, 8, 12, 16, 32];

const pcix: Decoder = (page, at) => {
  page.print('PCI-X non-bridge device\n');
  if (!page.details || !page.config.has(at + 4, 4)) return;
  const command = page.config.u16(at + 2);
  const status = page.config.u32(at + 4);
  page.fields(`\t\tCommand: DPERE{0} ERO{1} RBC=${1 << (9 + bits(command, 2, 2))} OST=${SPLITS[bits(command, 4, 3)]}\n`, command);
  page.fields(`\t\tStatus: Dev={8.8:02x}:{3.5:02x}.{0.3} 64bit{16} 133MHz{17} SCD{18} USC{19} DC=${flag(status, 20) === '+' ? 'bridge' : 'simple'}`, status);
  page.print(` DMMRBC=${1 << (9 + bits(status, 21, 2))} DMOST=${SPLITS[bits(status, 23, 3)]} DMCRS=${1 << (3 + bits(status, 26, 3))}`);
  page.fields(' RSCEM{29} 266MHz{30} 533MHz{31}\n', status);
};

const subsystem: Decoder = (page, at, _word, style) => {
  const { config, settings } = page;
  // The real one leaves its line unfinished in the same case.
  if (!config.has(at, 8)) return;
  page.print(`Subsystem: ${subsystemName(settings.names, style, config.u16(0), config.u16(2), config.u16(at + 4), config.u16(at + 6))}\n`);
};

const EXPRESS = 0x10;
const PCIX = 0x07;

/** Capability ids of the PCI Code and ID Assignment specification. `<?>`: shown by name only. */
const DECODERS: Readonly<Record<number, Decoder>> = {
  0x00: line('Null'),
  0x01: powerManagement,
  0x02: (page, _at, word) => { page.print(`AGP version ${bits(word, 4, 4).toString(16)}.${bits(word, 0, 4).toString(16)} <?>\n`); },
  0x03: (page) => { vitalProductData(page); },
  0x04: (page, _at, word) => { page.fields('Slot ID: {0.5} slots, First{5}, chassis {8.8:02x}\n', word); },
  0x05: msi,
  0x06: line('CompactPCI hot-swap <?>'),
  [PCIX]: pcix,
  0x08: line('HyperTransport <?>'),
  0x09: vendorSpecific,
  0x0a: (page, _at, word) => { page.fields('Debug port: BAR={13.3} offset={0.13:04x}\n', word); },
  0x0b: line('CompactPCI central resource control <?>'),
  0x0c: line('Hot-plug capable'),
  0x0d: subsystem,
  0x0e: line('AGP3 <?>'),
  0x0f: line('Secure device <?>'),
  0x11: msix,
  0x12: sata,
  0x13: advancedFeatures,
  0x14: (page, _at, word) => { page.fields('Enhanced Allocation (EA): NumEntries={0.6} <?>\n', word); },
};

/** Follows the list, each offset once, and then the extended list where PCI Express or PCI-X say there can be one. */
export function capabilities(page: Page, style: NumberStyle): void {
  const { config } = page;
  let extended = false;
  let portType = -1;
  if (flag(config.u16(0x06), STATUS_CAP_LIST) === '+') {
    const seen = new Set<number>();
    for (let at = config.u8(0x34) & ~3; at !== 0;) {
      page.print('\tCapabilities: ');
      if (!config.has(at, 4)) {
        page.print('<access denied>\n');
        break;
      }
      page.print(`[${hex(at, 2)}] `);
      const id = config.u8(at);
      if (seen.has(at) || id === 0xff) {
        page.print(seen.has(at) ? '<chain looped>\n' : '<chain broken>\n');
        break;
      }
      seen.add(at);
      const word = config.u16(at + 2);
      if (id === EXPRESS) portType = express(page, at, word);
      else (DECODERS[id] ?? unknown(id))(page, at, word, style);
      if (id === EXPRESS || id === PCIX) extended = true;
      at = config.u8(at + 1) & ~3;
    }
  }
  if (extended) extendedCapabilities(page, portType);
}

function unknown(id: number): Decoder {
  return (page, _at, word) => { page.print(`Capability ID 0x${id.toString(16)} [${hex(word, 4)}]\n`); };
}
