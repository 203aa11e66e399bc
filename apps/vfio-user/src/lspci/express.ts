/** The PCI Express capability (PCI Express Base 7.5.3). */
import { bits, entry, fields, flag } from './fields.ts';
import type { Page } from './page.ts';

/** Device/Port Type of the capabilities register. */
export const PORT_ENDPOINT = 0;
export const PORT_LEGACY_ENDPOINT = 1;
export const PORT_ROOT = 4;
export const PORT_UPSTREAM = 5;
export const PORT_DOWNSTREAM = 6;
const PORT_TO_PCI_BRIDGE = 7;
const PORT_FROM_PCI_BRIDGE = 8;
export const PORT_INTEGRATED_ENDPOINT = 9;
export const PORT_EVENT_COLLECTOR = 10;

const PORT_NAMES: Readonly<Record<number, string>> = {
  [PORT_ENDPOINT]: 'Endpoint',
  [PORT_LEGACY_ENDPOINT]: 'Legacy Endpoint',
  [PORT_ROOT]: 'Root Port (Slot{8})',
  [PORT_UPSTREAM]: 'Upstream Port',
  [PORT_DOWNSTREAM]: 'Downstream Port (Slot{8})',
  [PORT_TO_PCI_BRIDGE]: 'PCI-Express to PCI/PCI-X Bridge',
  [PORT_FROM_PCI_BRIDGE]: 'PCI/PCI-X to PCI-Express Bridge (Slot{8})',
  [PORT_INTEGRATED_ENDPOINT]: 'Root Complex Integrated Endpoint',
  [PORT_EVENT_COLLECTOR]: 'Root Complex Event Collector',
};

const one = (type: number, ...types: readonly number[]): boolean => types.includes(type);

/** Prints the capability at `at`; answers the port type, which decides what extended capabilities mean. */
export function express(page: Page, at: number, flags: number): number {
  const { config, settings } = page;
  const type = bits(flags, 4, 4);
  page.print(`Express ${page.details ? `(v${bits(flags, 0, 4)}) ` : ''}`);
  page.fields(PORT_NAMES[type] ?? `Unknown type ${type}`, flags);
  page.fields(settings.form >= 11 ? ', IntMsgNum {9.5}' : ', MSI {9.5:02x}', flags);
  page.print(settings.form >= 14 && flag(flags, 15) === '+' ? ', FLIT Mode Supported\n' : '\n');
  if (!page.details) return type;

  const slot = one(type, PORT_ROOT, PORT_DOWNSTREAM, PORT_FROM_PCI_BRIDGE) && flag(flags, 8) === '+';
  const link = !one(type, PORT_INTEGRATED_ENDPOINT, PORT_EVENT_COLLECTOR);
  const root = one(type, PORT_ROOT, PORT_EVENT_COLLECTOR);
  if (!config.has(at + 4, root ? 32 : slot ? 24 : 16)) return type;
  device(page, at, type);
  if (link) linkRegisters(page, at, type);
  if (slot) slotRegisters(page, at);
  if (root) rootRegisters(page, at);

  // The second set of registers came with version 2 of the capability.
  if (bits(flags, 0, 4) < 2 || !config.has(at + 0x24, slot ? 24 : 16)) return type;
  device2(page, at, type);
  if (link) link2(page, at, type);
  return type;
}

const LATENCY: { readonly l0s: readonly string[]; readonly l1: readonly string[] } = {
  l0s: ['<64ns', '<128ns', '<256ns', '<512ns', '<1us', '<2us', '<4us', 'unlimited'],
  l1: ['<1us', '<2us', '<4us', '<8us', '<16us', '<32us', '<64us', 'unlimited'],
};

/** Slot Power Limit (7.5.3.3): above 239 W in coarse steps. */
function powerLimit(value: number, scale: number): string {
  if (scale === 0 && value === 0xff) return '>600W';
  const watts = scale === 0 && value >= 0xf0 ? 250 + 25 * (value - 0xf0) : value / 10 ** scale;
  return `${Number(watts.toPrecision(6))}W`;
}

function device(page: Page, at: number, type: number): void {
  const { config, settings } = page;
  const cap = config.u32(at + 4);
  page.print(`\t\tDevCap:\tMaxPayload ${128 << bits(cap, 0, 3)} bytes, PhantFunc ${(1 << bits(cap, 3, 2)) - 1}`);
  if (one(type, PORT_ENDPOINT, PORT_LEGACY_ENDPOINT)) page.fields(', Latency L0s {6.3:l0s}, L1 {9.3:l1}', cap, LATENCY);
  page.fields('\n\t\t\tExtTag{5}', cap);
  if (one(type, PORT_ENDPOINT, PORT_LEGACY_ENDPOINT, PORT_UPSTREAM, PORT_TO_PCI_BRIDGE)) page.fields(' AttnBtn{12} AttnInd{13} PwrInd{14}', cap);
  page.fields(' RBE{15}', cap);
  const endpoint = one(type, PORT_ENDPOINT, PORT_LEGACY_ENDPOINT, PORT_INTEGRATED_ENDPOINT);
  if (endpoint) page.fields(' FLReset{28}', cap);
  if (one(type, PORT_ENDPOINT, PORT_UPSTREAM, PORT_TO_PCI_BRIDGE)) {
    page.print(` SlotPowerLimit ${powerLimit(bits(cap, 18, 8), bits(cap, 26, 2))}`);
  }
  if (settings.form >= 12) page.fields(' TEE-IO{30}', cap);
  page.print('\n');

  const control = config.u16(at + 8);
  page.fields('\t\tDevCtl:\tCorrErr{0} NonFatalErr{1} FatalErr{2} UnsupReq{3}\n', control);
  page.fields('\t\t\tRlxdOrd{4} ExtTag{8} PhantFunc{9} AuxPwr{10} NoSnoop{11}', control);
  if (type === PORT_TO_PCI_BRIDGE) page.fields(' BrConfRtry{15}', control);
  if (endpoint && flag(cap, 28) === '+') page.fields(' FLReset{15}', control);
  page.print(`\n\t\t\tMaxPayload ${128 << bits(control, 5, 3)} bytes, MaxReadReq ${128 << bits(control, 12, 3)} bytes\n`);

  page.fields('\t\tDevSta:\tCorrErr{0} NonFatalErr{1} FatalErr{2} UnsupReq{3} AuxPwr{4} TransPend{5}\n', config.u16(at + 10));
}

const SPEEDS: readonly string[] = ['', '2.5GT/s', '5GT/s', '8GT/s', '16GT/s', '32GT/s', '64GT/s'];
const ASPM: { readonly support: readonly string[]; readonly enabled: readonly string[] } = {
  support: ['not supported', 'L0s', 'L1', 'L0s L1'],
  enabled: ['Disabled', 'L0s Enabled', 'L1 Enabled', 'L0s L1 Enabled'],
};

function compare(type: number, status: number, capability: number): string {
  if (status > capability) return ' (overdriven)';
  if (status === capability || one(type, PORT_ROOT, PORT_DOWNSTREAM, PORT_FROM_PCI_BRIDGE)) return '';
  return ' (downgraded)';
}

function linkRegisters(page: Page, at: number, type: number): void {
  const { config, settings } = page;
  const cap = config.u32(at + 12);
  const speed = (value: number): string => SPEEDS[bits(value, 0, 4)] || 'unknown';
  page.fields(`\t\tLnkCap:\tPort #{24.8}, Speed ${speed(cap)}, Width x{4.6}, ASPM {10.2:support}`, cap, ASPM);
  const aspm = bits(cap, 10, 2);
  if (aspm !== 0) {
    const exits = [(aspm & 1) === 0 ? '' : 'L0s {12.3:l0s}', (aspm & 2) === 0 ? '' : 'L1 {15.3:l1}'].filter((text) => text !== '');
    page.fields(`, Exit Latency ${exits.join(', ')}`, cap, LATENCY);
  }
  page.fields('\n\t\t\tClockPM{18} Surprise{19} LLActRep{20} BwNot{21} ASPMOptComp{22}\n', cap);

  const control = config.u16(at + 16);
  page.fields('\t\tLnkCtl:\tASPM {0.2:enabled};', control, ASPM);
  if (one(type, PORT_ROOT, PORT_ENDPOINT, PORT_LEGACY_ENDPOINT, PORT_TO_PCI_BRIDGE)) page.print(` RCB ${flag(control, 3) === '+' ? 128 : 64} bytes,`);
  page.fields(` ${settings.form >= 11 ? 'LnkDisable' : 'Disabled'}{4} CommClk{6}\n\t\t\tExtSynch{7} ClockPM{8} AutWidDis{9} BWInt{10} AutBWInt{11}`, control);
  page.fields(settings.form >= 14 ? ' FltModeDis{13}\n' : '\n', control);

  const status = config.u16(at + 18);
  page.print(`\t\tLnkSta:\tSpeed ${speed(status)}${compare(type, bits(status, 0, 4), bits(cap, 0, 4))}`);
  page.print(`, Width x${bits(status, 4, 6)}${compare(type, bits(status, 4, 6), bits(cap, 4, 6))}\n`);
  page.fields('\t\t\tTrErr{10} Train{11} SlotClk{12} DLActive{13} BWMgmt{14} ABWMgmt{15}\n', status);
}

const INDICATOR = { indicator: ['Unknown', 'On', 'Blink', 'Off'] };

function slotRegisters(page: Page, at: number): void {
  const { config } = page;
  const cap = config.u32(at + 0x14);
  page.fields('\t\tSltCap:\tAttnBtn{0} PwrCtrl{1} MRL{2} AttnInd{3} PwrInd{4} HotPlug{6} Surprise{5}\n', cap);
  page.fields(`\t\t\tSlot #{19.13}, PowerLimit ${powerLimit(bits(cap, 7, 8), bits(cap, 15, 2))}; Interlock{17} NoCompl{18}\n`, cap);
  const control = config.u16(at + 0x18);
  page.fields('\t\tSltCtl:\tEnable: AttnBtn{0} PwrFlt{1} MRL{2} PresDet{3} CmdCplt{4} HPIrq{5} LinkChg{12}\n', control);
  page.fields('\t\t\tControl: AttnInd {6.2:indicator}, PwrInd {8.2:indicator}, Power{10} Interlock{11}\n', control, INDICATOR);
  const status = config.u16(at + 0x1a);
  page.fields('\t\tSltSta:\tStatus: AttnBtn{0} PowerFlt{1} MRL{5} CmdCplt{4} PresDet{6} Interlock{7}\n', status);
  page.fields('\t\t\tChanged: MRL{2} PresDet{3} LinkState{8}\n', status);
}

function rootRegisters(page: Page, at: number): void {
  const { config } = page;
  page.fields('\t\tRootCap: CRSVisible{0}\n', config.u16(at + 0x1e));
  page.fields('\t\tRootCtl: ErrCorrectable{0} ErrNon-Fatal{1} ErrFatal{2} PMEIntEna{3} CRSVisible{4}\n', config.u16(at + 0x1c));
  page.fields('\t\tRootSta: PME ReqID {0.16:04x}, PMEStatus{16} PMEPending{17}\n', config.u32(at + 0x20));
}

/** Completion Timeout Ranges and Values (7.5.3.15, 7.5.3.16); what is not listed is reserved. */
const TIMEOUT_RANGES: Readonly<Record<number, string>> = { 0: 'Not Supported', 1: 'Range A', 2: 'Range B', 3: 'Range AB', 6: 'Range BC', 7: 'Range ABC', 14: 'Range BCD', 15: 'Range ABCD' };
const TIMEOUT_VALUES: Readonly<Record<number, string>> = {
  0: '50us to 50ms', 1: '50us to 100us', 2: '1ms to 10ms', 5: '16ms to 55ms', 6: '65ms to 210ms', 9: '260ms to 900ms', 10: '1s to 3.5s', 13: '4s to 13s', 14: '17s to 64s',
};
const DEVICE2 = {
  obff: ['Not Supported', 'Via message', 'Via WAKE#', 'Via message/WAKE#'],
  power: ['Not Supported', 'Dev Specific', 'Form Factor Dev Specific', 'Reserved'],
  lines: ['Not Supported', '64byte cachelines', '128byte cachelines', 'Reserved'],
  tph: ['TPHComp- ExtTPHComp-', 'TPHComp+ ExtTPHComp-', '', 'TPHComp+ ExtTPHComp+'],
  obffEnabled: ['Disabled', 'Via message A', 'Via message B', 'Via WAKE#'],
};

function device2(page: Page, at: number, type: number): void {
  const { config, settings, hasMemoryBar } = page;
  const switching = one(type, PORT_ROOT, PORT_UPSTREAM, PORT_DOWNSTREAM);
  const ariForwarding = one(type, PORT_ROOT, PORT_DOWNSTREAM);

  const cap = config.u32(at + 0x24);
  page.fields(`\t\tDevCap2: Completion Timeout: ${TIMEOUT_RANGES[bits(cap, 0, 4)] ?? 'Unknown'}, TimeoutDis{4} NROPrPrP{10} LTR{11}`, cap);
  page.fields('\n\t\t\t 10BitTagComp{16} 10BitTagReq{17} OBFF {18.2:obff}, ExtFmt{20} EETLPPrefix{21}', cap, DEVICE2);
  if (flag(cap, 21) === '+') page.print(`, MaxEETLPPrefixes ${bits(cap, 22, 2) || 4}`);
  page.fields('\n\t\t\t EmergencyPowerReduction {24.2:power}, EmergencyPowerReductionInit{26}\n\t\t\t FRS{31}', cap, DEVICE2);
  if (type === PORT_ROOT) page.fields(' LN System CLS {14.2:lines},', cap, DEVICE2);
  if (one(type, PORT_ROOT, PORT_ENDPOINT)) page.fields(' {12.2:tph}', cap, DEVICE2);
  page.fields(ariForwarding ? ' ARIFwd{5}\n' : '\n', cap);
  if (switching || hasMemoryBar) {
    const routing = switching ? ' Routing{6}' : '';
    const completer = type === PORT_ROOT || hasMemoryBar ? ' 32bit{7} 64bit{8} 128bitCAS{9}' : '';
    page.fields(`\t\t\t AtomicOpsCap:${routing}${completer}\n`, cap);
  }

  const control = config.u16(at + 0x28);
  page.fields(`\t\tDevCtl2: Completion Timeout: ${TIMEOUT_VALUES[bits(control, 0, 4)] ?? 'Unknown'}, TimeoutDis{4}`, control);
  if (settings.form < 11) page.fields(' LTR{10} 10BitTagReq{12} OBFF {13.2:obffEnabled},', control, DEVICE2);
  page.fields(ariForwarding ? ' ARIFwd{5}\n' : '\n', control);
  const requester = one(type, PORT_ROOT, PORT_ENDPOINT, PORT_INTEGRATED_ENDPOINT, PORT_LEGACY_ENDPOINT);
  if (switching || requester) page.fields(`\t\t\t AtomicOpsCtl:${requester ? ' ReqEn{6}' : ''}${switching ? ' EgressBlck{7}' : ''}\n`, control);
  if (settings.form < 11) return;
  page.fields('\t\t\t IDOReq{8} IDOCompl{9} LTR{10} EmergencyPowerReductionReq{11}\n', control);
  page.fields('\t\t\t 10BitTagReq{12} OBFF {13.2:obffEnabled}, EETLPPrefixBlk{15}\n', control, DEVICE2);
}

const LINK2 = {
  deemphasis: ['-6dB', '-3.5dB'],
  preset: [
    '-6dB de-emphasis, 0dB preshoot', '-3.5dB de-emphasis, 0dB preshoot', '-4.4dB de-emphasis, 0dB preshoot', '-2.5dB de-emphasis, 0dB preshoot',
    '0dB de-emphasis, 0dB preshoot', '0dB de-emphasis, 1.9dB preshoot', '0dB de-emphasis, 2.5dB preshoot', '-6.0dB de-emphasis, 3.5dB preshoot',
    '-3.5dB de-emphasis, 3.5dB preshoot', '0dB de-emphasis, 3.5dB preshoot', ...Array.from({ length: 6 }, () => 'Unknown'),
  ],
  margin: [
    'Normal Operating Range', '800-1200mV(full-swing)/400-700mV(half-swing)',
    ...Array.from({ length: 4 }, () => '200-400mV(full-swing)/100-200mV(half-swing)'), 'Unknown', 'Unknown',
  ],
  crosslink: ['unsupported', 'Upstream Port', 'Downstream Port', 'incomplete'],
  component: ['Link Down - Not Determined', 'Link Down - Not Present', 'Link Down - Present', 'Reserved', 'Link Up - Present', 'Link Up - Present and DRS Received', 'Reserved', 'Reserved'],
};

/** Supported Link Speeds Vector: all speeds up to the highest are implied (8.2.1). */
function supportedSpeeds(vector: number, form: number): string {
  if ((vector & (form >= 11 ? 0x40 : 0x60)) !== 0) return 'RsvdP';
  const highest = 31 - Math.clz32(vector);
  if (highest < 0) return 'Unknown';
  return highest === 0 ? '2.5GT/s' : `2.5-${entry(SPEEDS, highest + 1)}`;
}

function link2(page: Page, at: number, type: number): void {
  const { config, settings } = page;
  let cap = 0;
  // Functions beside the first of an upstream port have no link registers of their own (7.5.3.18).
  if (!one(type, PORT_ENDPOINT, PORT_LEGACY_ENDPOINT) || (settings.device === 0 && settings.function === 0)) {
    cap = config.u32(at + 0x2c);
    if (cap !== 0) page.fields(`\t\tLnkCap2: Supported Link Speeds: ${supportedSpeeds(bits(cap, 1, 7), settings.form)}, Crosslink{8} Retimer{23} 2Retimers{24} DRS{31}\n`, cap);
    const control = config.u16(at + 0x30);
    const target = SPEEDS[bits(control, 0, 4) || 1] ?? 'Unknown';
    page.fields(`\t\tLnkCtl2: Target Link Speed: ${target}, EnterCompliance{4} SpeedDis{5}`, control);
    if (type === PORT_DOWNSTREAM) page.fields(', Selectable De-emphasis: {6.1:deemphasis}', control, LINK2);
    page.fields('\n\t\t\t Transmit Margin: {7.3:margin}, EnterModifiedCompliance{10} ComplianceSOS{11}\n', control, LINK2);
    page.fields('\t\t\t Compliance Preset/De-emphasis: {12.4:preset}\n', control, LINK2);
  }
  const status = config.u16(at + 0x32);
  page.fields('\t\tLnkSta2: Current De-emphasis Level: {0.1:deemphasis}, EqualizationComplete{1} EqualizationPhase1{2}\n', status, LINK2);
  page.fields('\t\t\t EqualizationPhase2{3} EqualizationPhase3{4} LinkEqualizationRequest{5}\n', status);
  page.print(fields('\t\t\t Retimer{6} 2Retimers{7} CrosslinkRes: {8.2:crosslink}', status, LINK2));
  if (settings.form >= 14) page.fields(', FltMode{10}', status);
  if (one(type, PORT_ROOT, PORT_DOWNSTREAM, PORT_FROM_PCI_BRIDGE) && flag(cap, 31) === '+') page.fields(', DRS{15}\n\t\t\t DownstreamComp: {12.3:component}\n', status, LINK2);
  else page.print('\n');
}
