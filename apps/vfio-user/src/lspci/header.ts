/** The type 0 header (PCI Local Bus 3.0, 6.1): what a function is, its command and status, its BARs. */
import { capabilities } from './capabilities.ts';
import { bits, fields, flag, hex } from './fields.ts';
import { className, deviceName, progIfName, subsystemName } from './naming.ts';
import type { NumberStyle } from './naming.ts';
import type { Page } from './page.ts';

/** Sizes that only the regions tell: `undefined` where nothing but the configuration space is known. */
export interface RegionSizes {
  readonly bars: readonly number[];
  readonly rom: number;
}

const BAR_COUNT = 6;
const COMMAND_IO = 0;
const COMMAND_MEMORY = 1;
const COMMAND_MASTER = 2;

/** The first line, and with `-v` whose card it is. */
export function title(page: Page, style: NumberStyle, slot: string): void {
  const { config, settings } = page;
  const { names, verbosity } = settings;
  const [progIf, sub, base, vendor, device] = [config.u8(9), config.u8(10), config.u8(11), config.u16(0), config.u16(2)];
  page.print(`${slot} ${className(names, style, base, sub)}: ${deviceName(names, style, vendor, device)}`);
  if (config.u8(8) !== 0) page.print(` (rev ${hex(config.u8(8), 2)})`);
  if (verbosity > 0) {
    const name = progIfName(names, base, sub, progIf);
    if (progIf !== 0 || name !== undefined) page.print(` (prog-if ${hex(progIf, 2)}${name === undefined ? '' : ` [${name}]`})`);
  }
  page.print('\n');
  const subVendor = config.u16(0x2c);
  if (verbosity > 0 && headerType(page) === 0 && subVendor !== 0 && subVendor !== 0xffff) {
    page.print(`\tSubsystem: ${subsystemName(names, style, vendor, device, subVendor, config.u16(0x2e))}\n`);
  }
}

function headerType(page: Page): number {
  return page.config.u8(0x0e) & 0x7f;
}

const DEVSEL = { devsel: ['fast', 'medium', 'slow', '??'] };

/** Everything behind the first lines. Other headers than type 0 are a bridge's; no vfio-user server has one. */
export function body(page: Page, style: NumberStyle, sizes: RegionSizes | undefined): void {
  const { config } = page;
  const type = headerType(page);
  if (type !== 0) {
    page.print(`\t!!! Unknown header type ${hex(type, 2)}\n`);
    return;
  }
  if (config.u16(0x0a) === 0x0604) page.print('\t!!! Invalid class 0604 for header type 00\n');
  if (page.details) registers(page);
  else flagsLine(page);
  const bist = config.u8(0x0f);
  if (flag(bist, 7) === '+') page.print(flag(bist, 6) === '+' ? '\tBIST is running\n' : `\tBIST result: ${hex(bits(bist, 0, 4), 2)}\n`);
  const bars = decodeBars(page, sizes);
  // With the regions known, a register without one is no BAR, whatever it reads as.
  const present = (bar: Bar): boolean => (sizes === undefined ? bar.raw !== 0n || bar.kind !== 0 : bar.sizeBytes > 0);
  page.hasMemoryBar = bars.some((bar) => present(bar) && (bar.raw !== 0n || sizes !== undefined) && (bar.raw & 1n) === 0n);
  bars.forEach((bar, index) => {
    if (present(bar)) showBar(page, index, bar);
  });
  showRom(page, sizes?.rom ?? 0);
  capabilities(page, style);
}

function registers(page: Page): void {
  const { config } = page;
  const command = config.u16(4);
  page.fields('\tControl: I/O{0} Mem{1} BusMaster{2} SpecCycle{3} MemWINV{4} VGASnoop{5} ParErr{6} Stepping{7} SERR{8} FastB2B{9} DisINTx{10}\n', command);
  page.fields('\tStatus: Cap{4} 66MHz{5} UDF{6} FastB2B{7} ParErr{8} DEVSEL={9.2:devsel} >TAbort{11} <TAbort{12} <MAbort{13} >SERR{14} <PERR{15} INTx{3}\n', config.u16(6), DEVSEL);
  if (flag(command, COMMAND_MASTER) === '+') {
    // Min_Gnt and Max_Lat count quarters of a microsecond.
    const [minimum, maximum] = [config.u8(0x3e), config.u8(0x3f)];
    const needs = [minimum === 0 ? '' : `${minimum * 250}ns min`, maximum === 0 ? '' : `${maximum * 250}ns max`].filter((need) => need !== '');
    const line = config.u8(0x0c);
    page.print(`\tLatency: ${config.u8(0x0d)}${needs.length === 0 ? '' : ` (${needs.join(', ')})`}${line === 0 ? '' : `, Cache Line Size: ${line * 4} bytes`}\n`);
  }
  const pin = config.u8(0x3d);
  const irq = config.u8(0x3c);
  // Bytes beyond `D` are no pin; whatever they are is not sent to a terminal as it is.
  const letter = pin === 0 ? '?' : String.fromCharCode((0x40 + pin) & 0xff);
  if (pin !== 0 || irq !== 0) page.print(`\tInterrupt: pin ${/[ -~]/.test(letter) ? letter : '?'} routed to IRQ ${irq}\n`);
}

function flagsLine(page: Page): void {
  const { config } = page;
  const command = config.u16(4);
  const status = config.u16(6);
  const master = flag(command, COMMAND_MASTER) === '+';
  const words = [
    master ? 'bus master' : '',
    flag(command, 5) === '+' ? 'VGA palette snoop' : '',
    flag(command, 7) === '+' ? 'stepping' : '',
    flag(command, 9) === '+' ? 'fast Back2Back' : '',
    flag(status, 5) === '+' ? '66MHz' : '',
    flag(status, 6) === '+' ? 'user-definable features' : '',
    fields('{9.2:devsel} devsel', status, DEVSEL),
    master ? `latency ${config.u8(0x0d)}` : '',
    config.u8(0x3c) === 0 ? '' : `IRQ ${config.u8(0x3c)}`,
  ];
  page.print(`\tFlags: ${words.filter((word) => word !== '').join(', ')}\n`);
}

interface Bar {
  /** The register, both halves of a 64-bit one; 0 for the upper half's own slot. */
  readonly raw: bigint;
  /** What the slot's 32 bits say of its kind. */
  readonly kind: number;
  readonly sizeBytes: number;
}

const BAR_WIDE = 2; // of the type field, bits 1 and 2

function decodeBars(page: Page, sizes: RegionSizes | undefined): Bar[] {
  const { config } = page;
  const bars: Bar[] = [];
  while (bars.length < BAR_COUNT) {
    const index = bars.length;
    const low = config.u32(0x10 + 4 * index);
    const sizeBytes = sizes?.bars[index] ?? 0;
    const wide = low !== 0xffff_ffff && flag(low, 0) === '-' && bits(low, 1, 2) === BAR_WIDE;
    const upper = wide && index < BAR_COUNT - 1 ? config.u32(0x14 + 4 * index) : 0;
    const broken = low === 0xffff_ffff || (wide && index === BAR_COUNT - 1);
    bars.push({ raw: broken ? 0n : BigInt(low) | (BigInt(upper) << 32n), kind: low === 0xffff_ffff ? 0 : low, sizeBytes });
    if (!wide || index === BAR_COUNT - 1) continue;
    // Without the regions the upper half looks like a BAR of its own to lspci.
    bars.push({ raw: 0n, kind: upper === 0xffff_ffff ? 0 : upper, sizeBytes: 0 });
  }
  return bars;
}

const MEMORY_KINDS = { memory: ['32-bit', 'low-1M', '64-bit', 'type 3'] };

function showBar(page: Page, index: number, bar: Bar): void {
  const command = page.config.u16(4);
  page.print(page.details ? `\tRegion ${index}: ` : '\t');
  if (flag(bar.kind, 0) === '+') {
    const enabled = flag(command, COMMAND_IO) === '+';
    const port = bar.raw & ~3n;
    page.print(`I/O ports at ${port !== 0n || enabled ? hex(port, 4) : '<unassigned>'}${enabled ? '' : ' [disabled]'}`);
  } else {
    const address = bar.raw & ~0xfn;
    page.print(`Memory at ${address === 0n ? '<unassigned>' : hex(address, 8)}`);
    page.fields(` ({1.2:memory}, ${flag(bar.kind, 3) === '+' ? '' : 'non-'}prefetchable)`, bar.kind, MEMORY_KINDS);
    if (flag(command, COMMAND_MEMORY) === '-') page.print(' [disabled]');
  }
  page.print(`${sizeText(bar.sizeBytes)}\n`);
}

function showRom(page: Page, sizeBytes: number): void {
  const rom = page.config.u32(0x30);
  // All ones is what an absent register reads as.
  if (rom === 0 && sizeBytes === 0) return;
  const address = rom === 0xffff_ffff ? 0 : (rom & ~0x7ff) >>> 0;
  page.print(`\tExpansion ROM at ${address !== 0 ? hex(address, 8) : rom === 0xffff_ffff ? '<ignored>' : '<unassigned>'}`);
  if (flag(rom, 0) === '-') page.print(' [disabled]');
  else if (flag(page.config.u16(4), COMMAND_MEMORY) === '-') page.print(' [disabled by cmd]');
  page.print(`${sizeText(sizeBytes)}\n`);
}

/** ` [size=64K]`; whole units of 1024 only, up to T. */
function sizeText(sizeBytes: number): string {
  if (sizeBytes === 0) return '';
  let size = sizeBytes;
  let unit = 0;
  while (unit < 4 && size % 1024 === 0) {
    size /= 1024;
    unit++;
  }
  return ` [size=${size}${['', 'K', 'M', 'G', 'T'][unit]!}]`;
}
