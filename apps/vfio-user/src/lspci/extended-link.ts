/** Extended capabilities about the link and its timing: LTR, L1 substates, PTM, lanes, virtual channels, physical layers. */
import { bits, entry, fields, flag, hex } from './fields.ts';
import type { Page } from './page.ts';

/** Latency Tolerance Reporting (PCI Express Base 7.8.2): value and scale of 32^n ns; scales above 5 are not permitted and shown modulo 2^32 as lspci does. */
function scaled(value: number, scale: number): number {
  return value * ((1 << ((scale * 5) & 31)) >>> 0);
}

export function latencyTolerance(page: Page, at: number): void {
  page.print('Latency Tolerance Reporting\n');
  if (!page.details || !page.config.has(at + 4, 4)) return;
  const latency = (register: number): number => scaled(bits(register, 0, 10), bits(register, 10, 3));
  page.print(`\t\tMax snoop latency: ${latency(page.config.u16(at + 4))}ns\n`);
  page.print(`\t\tMax no snoop latency: ${latency(page.config.u16(at + 6))}ns\n`);
}

const POWER_ON_US: readonly number[] = [2, 10, 100];

function powerOnTime(scale: number, value: number): string {
  const unit = POWER_ON_US[scale];
  return unit === undefined ? '<error>' : `${unit * value}us`;
}

/** L1 PM Substates (7.8.3). */
export function l1Substates(page: Page, at: number): void {
  page.print('L1 PM Substates\n');
  const { config } = page;
  if (!page.details) return;
  if (!config.has(at + 4, 12)) return page.print('\t\t<unreadable>\n');
  const cap = config.u32(at + 4);
  const [control1, control2] = [config.u32(at + 8), config.u32(at + 12)];
  const l12 = (cap & 5) !== 0;
  page.fields('\t\tL1SubCap: PCI-PM_L1.2{0} PCI-PM_L1.1{1} ASPM_L1.2{2} ASPM_L1.1{3} L1_PM_Substates{4}\n', cap);
  if (l12) page.fields(`\t\t\t  PortCommonModeRestoreTime={8.8}us PortTPowerOnTime=${powerOnTime(bits(cap, 16, 2), bits(cap, 19, 5))}\n`, cap);
  page.fields('\t\tL1SubCtl1: PCI-PM_L1.2{0} PCI-PM_L1.1{1} ASPM_L1.2{2} ASPM_L1.1{3}\n', control1);
  if (l12) {
    const scale = bits(control1, 29, 3);
    const threshold = scale > 5 ? '<error>' : `${scaled(bits(control1, 16, 10), scale)}ns`;
    page.fields(`\t\t\t   T_CommonMode={8.8}us${flag(cap, 2) === '+' ? ` LTR1.2_Threshold=${threshold}` : ''}\n`, control1);
  }
  page.print(`\t\tL1SubCtl2:${l12 ? ` T_PwrOn=${powerOnTime(bits(control2, 0, 2), bits(control2, 3, 5))}` : ''}\n`);
}

/** Precision Time Measurement (7.9.15). */
export function precisionTime(page: Page, at: number): void {
  page.print('Precision Time Measurement\n');
  const { config, settings } = page;
  if (!page.details) return;
  if (!config.has(at + 4, 8)) return page.print('\t\t<unreadable>\n');
  const colon = settings.form >= 11 ? '' : ':';
  const granularity = (register: number, zero: string): string => {
    const ns = bits(register, 8, 8);
    return ns === 0 ? zero : ns === 0xff ? 'Greater than 254ns' : `${ns}ns`;
  };
  const [cap, control] = [config.u32(at + 4), config.u32(at + 8)];
  page.fields(`\t\tPTMCap: Requester${colon}{0} Responder${colon}{1} Root${colon}{2}\n`, cap);
  page.print(`\t\tPTMClockGranularity: ${granularity(cap, 'Unimplemented')}\n`);
  page.fields(`\t\tPTMControl: Enabled${colon}{0} RootSelected${colon}{1}\n`, control);
  page.print(`\t\tPTMEffectiveGranularity: ${granularity(control, 'Unknown')}\n`);
}

/** Secondary PCI Express (7.7.3): lane errors of 8 GT/s and more. */
export function secondary(page: Page, at: number): void {
  page.print('Secondary PCI Express\n');
  const { config } = page;
  if (!page.details || !config.has(at + 4, 12)) return;
  page.fields('\t\tLnkCtl3: LnkEquIntrruptEn{1} PerformEqu{0}\n', config.u16(at + 4));
  const errors = config.u16(at + 8);
  const lanes = Array.from({ length: 16 }, (_, lane) => lane).filter((lane) => flag(errors, lane) === '+');
  page.print(`\t\tLaneErrStat: ${errors === 0 ? '0' : `LaneErr at lane: ${lanes.join(' ')}`}\n`);
}

const PORT_ARBITRATION: readonly string[] = ['Fixed', 'WRR32', 'WRR64', 'WRR128', '??4', '??5', '??6', '??7'];
const VC_ARBITRATION: readonly string[] = ['Fixed', 'WRR32', 'WRR64', 'WRR128', 'TWRR128', 'WRR256', '??6', '??7'];

/** What is defined is always shown; what is reserved only where it is set. */
function arbiters(names: readonly string[], supported: number): string {
  return names.map((name, bit) => (name.startsWith('?') && flag(supported, bit) === '-' ? '' : `${bit === 0 ? '\t' : ' '}${name}${flag(supported, bit)}`)).join('');
}

/** Virtual Channel (7.9.1). */
export function virtualChannel(page: Page, at: number): void {
  page.print('Virtual Channel\n');
  const { config } = page;
  if (!page.details || !config.has(at + 4, 0x18)) return;
  const [port1, port2] = [config.u32(at + 4), config.u32(at + 8)];
  page.fields(`\t\tCaps:\tLPEVC={4.3} RefClk=${entry(['100ns'], bits(port1, 8, 2))} PATEntryBits=${1 << bits(port1, 10, 2)}\n`, port1);
  page.print(`\t\tArb:${arbiters(PORT_ARBITRATION, port2)}\n`);
  page.print(`\t\tCtrl:\tArbSelect=${PORT_ARBITRATION[bits(config.u16(at + 12), 1, 3)]!}\n`);
  page.fields('\t\tStatus:\tInProgress{0}\n', config.u16(at + 14));
  const table = bits(port2, 24, 8);
  if (table !== 0) page.print(`\t\tPort Arbitration Table [${(at + 16 * table).toString(16)}] <?>\n`);
  for (let channel = 0; channel <= bits(port1, 0, 3); channel++) {
    page.print(`\t\tVC${channel}:\t`);
    const resource = at + 16 + 12 * channel;
    if (config.has(resource, 12)) channelResource(page, resource);
    else page.print('<unreadable>\n');
  }
}

function channelResource(page: Page, at: number): void {
  const { config } = page;
  const [cap, control, status] = [config.u32(at), config.u32(at + 4), config.u16(at + 10)];
  page.print(`Caps:\tPATOffset=${hex(bits(cap, 24, 8), 2)} MaxTimeSlots=${bits(cap, 16, 7) + 1} RejSnoopTrans${flag(cap, 15)}\n`);
  page.print(`\t\t\tArb:${arbiters(VC_ARBITRATION, cap)}\n`);
  page.fields('\t\t\tCtrl:\tEnable{31} ID={24.3} ArbSelect={17.3:arbitration} TC/VC={0.8:02x}\n', control, { arbitration: VC_ARBITRATION });
  page.fields('\t\t\tStatus:\tNegoPending{1} InProgress{0}\n', status);
  if (bits(cap, 24, 8) !== 0) page.print('\t\t\tPort Arbitration Table <?>\n');
}

const EQUALIZATION = 'EquComplete{0} EquPhase1{1} EquPhase2{2} EquPhase3{3} LinkEquRequest{4}';

/** Physical Layer 16.0 GT/s (7.7.5). */
export function physicalLayer16(page: Page, at: number): void {
  const decoded = page.settings.form >= 14;
  page.print(`Physical Layer 16.0 GT/s${decoded ? '' : ' <?>'}\n`);
  if (!decoded || !page.details) return;
  if (!page.config.has(at + 4, 0x18)) return page.print('\t\t<unreadable>\n');
  page.fields(`\t\tPhy16Sta: ${EQUALIZATION}\n`, page.config.u32(at + 12));
}

const LAYER32 = {
  mode: ['PCI Express', 'Training Set Messages', 'Alternate Protocol Negotiation'],
  link: ['Full Equalization required', 'Equalization bypass to highest rate support', 'No Equalization Needed', 'Modified TS1/TS2 Ordered Sets supported'],
};

/** Physical Layer 32.0 GT/s (7.7.6). */
export function physicalLayer32(page: Page, at: number): void {
  const decoded = page.settings.form >= 14;
  page.print(`Physical Layer 32.0 GT/s${decoded ? '' : ' <?>'}\n`);
  if (!decoded || !page.details) return;
  const { config } = page;
  if (!config.has(at + 4, 0x1c)) return page.print('\t\t<unreadable>\n');
  page.print(fields('\t\tPhy32Cap: EqualizationBypass{0} NoEqualizationNeeded{1}\n\t\t\t  ModTsMode0{8} ModTsMode1{9} ModTsMode2{10}\n', config.u32(at + 4)));
  page.fields('\t\tPhy32Ctl: EqualizationBypassDis{0} NoEqualizationNeededDis{1}\n\t\t\t  Modified TS Usage Mode: {8.3:mode}\n', config.u32(at + 8), LAYER32);
  const status = config.u32(at + 12);
  page.fields(`\t\tPhy32Sta: ${EQUALIZATION}\n\t\t\t  Received Enhanced Link Behavior Control: {6.2:link}\n`, status, LAYER32);
  page.fields('\t\t\t  ModTsRecv{5} TxPrecodeOn{8} TxPrecodeReq{9} NoEqualizationNeededRecv{10}\n', status);
}

/** Physical Layer 64.0 GT/s (7.7.7). */
export function physicalLayer64(page: Page, at: number): void {
  page.print('Physical Layer 64.0 GT/s\n');
  if (!page.details) return;
  if (!page.config.has(at + 4, 12)) return page.print('\t\t<unreadable>\n');
  const status = page.config.u32(at + 12);
  page.fields(`\t\tPhy64Sta: ${EQUALIZATION}\n\t\t\t  TxPrecodeOn{5} TxPrecodeReq{6} NoEqualizationNeededRecv{7}\n`, status);
}
