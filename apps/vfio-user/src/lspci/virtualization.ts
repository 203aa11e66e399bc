/** Capabilities about BARs that are not in the header: SR-IOV (PCI Express Base 9.3.3) and resizable BARs (7.8.6). */
import { bits, flag, hex } from './fields.ts';
import type { Page } from './page.ts';

const VF_BARS = 6;
const BAR_WIDE = 2;

export function singleRootVirtualization(page: Page, at: number): void {
  page.print('Single Root I/O Virtualization (SR-IOV)\n');
  const { config, settings } = page;
  if (!page.details || !config.has(at + 4, 0x3c)) return;
  page.fields(`\t\tIOVCap:\tMigration{0} 10BitTagReq{2} ${settings.form >= 11 ? 'IntMsgNum {21.11}' : 'Interrupt Message Number: {21.11:03x}'}\n`, config.u32(at + 4));
  page.fields('\t\tIOVCtl:\tEnable{0} Migration{1} Interrupt{2} MSE{3} ARIHierarchy{4} 10BitTagReq{5}\n', config.u16(at + 8));
  page.fields('\t\tIOVSta:\tMigration{0}\n', config.u16(at + 0x0a));
  page.print(`\t\tInitial VFs: ${config.u16(at + 0x0c)}, Total VFs: ${config.u16(at + 0x0e)}, Number of VFs: ${config.u16(at + 0x10)}, `);
  page.print(`Function Dependency Link: ${hex(config.u8(at + 0x12), 2)}\n`);
  page.print(`\t\tVF offset: ${config.u16(at + 0x14)}, stride: ${config.u16(at + 0x16)}, Device ID: ${hex(config.u16(at + 0x1a), 4)}\n`);
  page.print(`\t\tSupported Page Size: ${hex(config.u32(at + 0x1c), 8)}, System Page Size: ${hex(config.u32(at + 0x20), 8)}\n`);
  for (let bar = 0; bar < VF_BARS; bar++) {
    const low = config.u32(at + 0x24 + 4 * bar);
    if (low === 0 || low === 0xffff_ffff) continue;
    const wide = bits(low, 1, 2) === BAR_WIDE;
    const upper = wide ? hex(config.u32(at + 0x28 + 4 * bar), 8) : '';
    // Any kind but plain 32 bits counts as 64.
    const width = bits(low, 1, 2) === 0 ? '32' : '64';
    page.print(`\t\tRegion ${bar}: Memory at ${upper}${hex((low & ~0xf) >>> 0, 8)} (${width}-bit, ${flag(low, 3) === '+' ? '' : 'non-'}prefetchable)\n`);
    if (wide) bar++;
  }
  const migration = config.u32(at + 0x3c);
  page.print(`\t\tVF Migration: offset: ${hex((migration & ~7) >>> 0, 8)}, BIR: ${bits(migration, 0, 3)}\n`);
}

const UNITS: readonly string[] = ['MB', 'GB', 'TB', 'PB', 'EB'];

/** Sizes are powers of two, counted from 1 MB. */
function power(exponent: number): string {
  return exponent < 44 ? ` ${1 << (exponent % 10)}${UNITS[Math.floor(exponent / 10)]!}` : ' <unknown>';
}

export function resizableBar(kind: 'Physical' | 'Virtual'): (page: Page, at: number) => void {
  return (page, at) => {
    page.print(`${kind} Resizable BAR\n`);
    if (!page.details) return;
    const { config } = page;
    let count = 1;
    for (let i = 0; i < count; i++) {
      const entry = at + 4 + 8 * i;
      if (!config.has(entry, 8)) return page.print('\t\t<unreadable>\n');
      const sizes = config.u32(entry) >>> 4;
      const control = config.u32(entry + 4);
      if (i === 0) {
        count = bits(control, 5, 3);
        if (count < 1 || count > 6) return page.print(`\t\t<error in resizable BAR: num_bars=${count} is out of specification>\n`);
      }
      const more = bits(control, 16, 16);
      page.print(`\t\tBAR ${bits(control, 0, 3)}: current size:${power(bits(control, 8, 6))}`);
      if (sizes !== 0 || more !== 0) {
        page.print(', supported:');
        for (let bit = 0; bit < 28; bit++) if (flag(sizes, bit) === '+') page.print(power(bit));
        for (let bit = 0; bit < 16; bit++) if (flag(more, bit) === '+') page.print(power(bit + 28));
      }
      page.print('\n');
    }
  };
}
