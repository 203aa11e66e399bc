/** The list of extended capabilities (PCI Express Base 7.6), which begins at offset 0x100. */
import { advancedErrors } from './advanced-errors.ts';
import { bits, fields, flag, hex } from './fields.ts';
import { latencyTolerance, l1Substates, physicalLayer16, physicalLayer32, physicalLayer64, precisionTime, secondary, virtualChannel } from './extended-link.ts';
import type { Page } from './page.ts';
import { resizableBar, singleRootVirtualization } from './virtualization.ts';

/** A capability's text from its name on; `portType` is the Express capability's, -1 without one. */
type Decoder = (page: Page, at: number, portType: number) => void;

const line = (text: string): Decoder => (page) => { page.print(`${text}\n`); };

/** A name, and with `-vv` two 16-bit registers. */
const pair = (name: string, capability: string, control: string): Decoder => (page, at) => {
  page.print(`${name}\n`);
  if (!page.details || !page.config.has(at + 4, 4)) return;
  page.fields(`\t\t${capability}\n`, page.config.u16(at + 4));
  page.fields(`\t\t${control}\n`, page.config.u16(at + 6));
};

const ACS_BITS = 'SrcValid{0} TransBlk{1} ReqRedir{2} CmpltRedir{3} UpstreamFwd{4} EgressCtrl{5} DirectTrans{6}';

const serialNumber: Decoder = (page, at) => {
  // The real one leaves its line unfinished in the same case.
  if (!page.config.has(at + 4, 8)) return;
  const bytes = Array.from({ length: 8 }, (_, i) => hex(page.config.u8(at + 11 - i), 2));
  page.print(`Device Serial Number ${bytes.join('-')}\n`);
};

const vendorSpecific: Decoder = (page, at) => {
  page.print('Vendor Specific Information: ');
  page.print(page.config.has(at + 4, 4) ? fields('ID={0.16:04x} Rev={16.4} Len={20.12:03x} <?>\n', page.config.u32(at + 4)) : '<unreadable>\n');
};

const CXL_VENDOR = 0x1e98;

const designatedVendorSpecific: Decoder = (page, at) => {
  page.print('Designated Vendor-Specific: ');
  if (!page.config.has(at + 4, 8)) return page.print('<unreadable>\n');
  const header = page.config.u32(at + 4);
  page.fields(`Vendor={0.16:04x} ID=${hex(page.config.u16(at + 8), 4)} Rev={16.4} Len={20.12}`, header);
  page.print(bits(header, 0, 16) === CXL_VENDOR && bits(header, 20, 12) >= 16 ? ': CXL <?>\n' : ' <?>\n');
};

const portContainment: Decoder = (page, at) => {
  page.print('Downstream Port Containment\n');
  const { config, settings } = page;
  if (!page.details || !config.has(at + 4, 8)) return;
  page.fields(`\t\tDpcCap:\t${settings.form >= 11 ? 'IntMsgNum ' : 'INT Msg #'}{0.5}, RPExt{5} PoisonedTLP{6} SwTrigger{7} RP PIO Log {8.4}, DL_ActiveErr{12}\n`, config.u16(at + 4));
  page.fields('\t\tDpcCtl:\tTrigger:{0.2} Cmpl{2} INT{3} ErrCor{4} PoisonedTLP{5} SwTrigger{6} DL_ActiveErr{7}\n', config.u16(at + 6));
  page.fields('\t\tDpcSta:\tTrigger{0} Reason:{1.2:02x} INT{3} RPBusy{4} TriggerExt:{5.2:02x} RP PIO ErrPtr:{8.5:02x}\n', config.u16(at + 8));
  page.fields('\t\tSource:\t{0.16:04x}\n', config.u16(at + 10));
};

const pageRequests: Decoder = (page, at) => {
  page.print('Page Request Interface (PRI)\n');
  const { config, settings } = page;
  if (!page.details || !config.has(at + 4, 12)) return;
  page.fields('\t\tPRICtl: Enable{0} Reset{1}\n', config.u16(at + 4));
  page.fields(`\t\tPRISta: RF{0} UPRGI{1} Stopped{8}${settings.form >= 11 ? ' PASID{15}' : ''}\n`, config.u16(at + 6));
  page.print(`\t\tPage Request Capacity: ${hex(config.u32(at + 8), 8)}, Page Request Allocation: ${hex(config.u32(at + 12), 8)}\n`);
};

const STEERING: readonly string[] = ['No steering table available', 'Steering table in TPH capability structure', 'Steering table in MSI-X table', 'Reserved steering table location'];

const processingHints: Decoder = (page, at) => {
  page.print('Transaction Processing Hints\n');
  if (!page.details || !page.config.has(at + 4, 4)) return;
  const cap = page.config.u32(at + 4);
  if (flag(cap, 1) === '+') page.print('\t\tInterrupt vector mode supported\n');
  if (flag(cap, 2) === '+') page.print('\t\tDevice specific mode supported\n');
  if (flag(cap, 8) === '+') page.print('\t\tExtended requester support\n');
  page.print(`\t\t${STEERING[bits(cap, 9, 2)]!}\n`);
};

const laneMargining: Decoder = (page, at) => {
  const decoded = page.settings.form >= 11;
  page.print(`Lane Margining at the Receiver${decoded ? '' : ' <?>'}\n`);
  if (!decoded || !page.details || !page.config.has(at, 8)) return;
  page.fields('\t\tPortCap: Uses Driver{0}\n', page.config.u16(at + 4));
  page.fields('\t\tPortSta: MargReady{0} MargSoftReady{1}\n', page.config.u16(at + 6));
};

const dataObjectExchange: Decoder = (page, at) => {
  page.print('Data Object Exchange\n');
  const { config, settings } = page;
  if (!page.details) return;
  if (!config.has(at + 4, 0x14)) return page.print('\t\t<unreadable>\n');
  const cap = config.u32(at + 4);
  page.fields('\t\tDOECap: IntSup{0}\n', cap);
  if (flag(cap, 0) === '+') page.fields(settings.form >= 11 ? '\t\t\tIntMsgNum {1.11}\n' : '\t\t\tInterrupt Message Number {1.11:03x}\n', cap);
  page.fields('\t\tDOECtl: IntEn{1}\n', config.u32(at + 8));
  const status = config.u32(at + 12);
  // Until 3.11 lspci took the two bits before for the error.
  const failed = (status & (settings.form >= 11 ? 4 : 3)) !== 0;
  page.fields(`\t\tDOESta: Busy{0} IntSta{1} Error${failed ? '+' : '-'} ObjectReady{31}\n`, status);
};

/** Names that the form of a younger pciutils knows. */
const since = (form: number, decoder: Decoder, id: number): Decoder => (page, at, portType) => {
  (page.settings.form >= form ? decoder : unknown(id))(page, at, portType);
};

/** Extended capability ids (PCI Code and ID Assignment specification). `<?>`: shown by name only. */
const DECODERS: Readonly<Record<number, Decoder>> = {
  0x00: line('Null'),
  0x01: advancedErrors,
  0x02: virtualChannel,
  0x03: serialNumber,
  0x04: line('Power Budgeting <?>'),
  0x05: line('Root Complex Link <?>'),
  0x06: line('Root Complex Internal Link <?>'),
  0x07: line('Root Complex Event Collector Endpoint Association <?>'),
  0x08: line('Multi-Function Virtual Channel <?>'),
  0x09: virtualChannel,
  0x0a: line('Root Complex Register Block <?>'),
  0x0b: vendorSpecific,
  0x0d: pair('Access Control Services', `ACSCap:\t${ACS_BITS}`, `ACSCtl:\t${ACS_BITS}`),
  0x0e: pair('Alternative Routing-ID Interpretation (ARI)', 'ARICap:\tMFVC{0} ACS{1}, Next Function: {8.8}', 'ARICtl:\tMFVC{0} ACS{1}, Function Group: {4.3}'),
  0x0f: pair('Address Translation Service (ATS)', 'ATSCap:\tInvalidate Queue Depth: {0.5:02x}', 'ATSCtl:\tEnable{15}, Smallest Translation Unit: {0.5:02x}'),
  0x10: singleRootVirtualization,
  0x11: line('Multi-Root I/O Virtualization <?>'),
  0x12: line('Multicast <?>'),
  0x13: pageRequests,
  0x15: resizableBar('Physical'),
  0x16: line('Dynamic Power Allocation <?>'),
  0x17: processingHints,
  0x18: latencyTolerance,
  0x19: secondary,
  0x1a: line('Protocol Multiplexing <?>'),
  0x1b: pair('Process Address Space ID (PASID)', 'PASIDCap: Exec{1} Priv{2}, Max PASID Width: {8.5:02x}', 'PASIDCtl: Enable{0} Exec{1} Priv{2}'),
  0x1c: line('LN Requester <?>'),
  0x1d: portContainment,
  0x1e: l1Substates,
  0x1f: precisionTime,
  0x20: line('PCI Express over M_PHY <?>'),
  0x21: line('FRS Queueing <?>'),
  0x22: line('Readiness Time Reporting <?>'),
  0x23: designatedVendorSpecific,
  0x24: resizableBar('Virtual'),
  0x25: line('Data Link Feature <?>'),
  0x26: physicalLayer16,
  0x27: laneMargining,
  0x28: line('Hierarchy ID <?>'),
  0x29: line('Native PCIe Enclosure Management <?>'),
  0x2a: since(11, physicalLayer32, 0x2a),
  0x2e: dataObjectExchange,
  0x2f: since(14, line('Device 3 <?>'), 0x2f),
  0x30: since(12, line('Integrity & Data Encryption <?>'), 0x30),
  0x31: since(14, physicalLayer64, 0x31),
};

/** Follows the list, each offset once. */
export function extendedCapabilities(page: Page, portType: number): void {
  const { config } = page;
  const seen = new Set<number>();
  for (let at = 0x100; ;) {
    if (!config.has(at, 4)) return;
    const header = config.u32(at);
    if (header === 0 || header === 0xffff_ffff) return;
    page.print(`\tCapabilities: [${hex(at, 3)}${page.details ? ` v${bits(header, 16, 4)}` : ''}] `);
    if (seen.has(at)) return page.print('<chain looped>\n');
    seen.add(at);
    const id = bits(header, 0, 16);
    (DECODERS[id] ?? unknown(id))(page, at, portType);
    at = bits(header, 20, 12) & ~3;
    if (at === 0) return;
  }
}

function unknown(id: number): Decoder {
  return (page) => { page.print(`Extended Capability ID 0x${id.toString(16)}\n`); };
}
