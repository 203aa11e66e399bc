/** Advanced Error Reporting (PCI Express Base 7.8.4). */
import { hex } from './fields.ts';
import { PORT_EVENT_COLLECTOR, PORT_ROOT } from './express.ts';
import type { Page } from './page.ts';

const UNCORRECTABLE = 'DLP{4} SDES{5} TLP{12} FCP{13} CmpltTO{14} CmpltAbrt{15} UnxCmplt{16} RxOF{17} MalfTLP{18}';
const UNCORRECTABLE_OLD = ' ECRC{19} UnsupReq{20} ACSViol{21}\n';
const UNCORRECTABLE_MORE =
  '\n\t\t\tECRC{19} UnsupReq{20} ACSViol{21} UncorrIntErr{22} BlockedTLP{23} AtomicOpBlocked{24} TLPBlockedErr{25}\n' +
  '\t\t\tPoisonTLPBlocked{26} DMWrReqBlocked{27} IDECheck{28} MisIDETLP{29} PCRC_CHECK{30} TLPXlatBlocked{31}\n';
const CORRECTABLE = 'RxErr{0} BadTLP{6} BadDLLP{7} Rollover{8} Timeout{12} AdvNonFatalErr{13}';

export function advancedErrors(page: Page, at: number, portType: number): void {
  page.print('Advanced Error Reporting\n');
  const { config, settings } = page;
  if (!page.details || !config.has(at + 4, 40)) return;
  const uncorrectable = UNCORRECTABLE + (settings.form >= 13 ? UNCORRECTABLE_MORE : UNCORRECTABLE_OLD);
  const correctable = CORRECTABLE + (settings.form >= 13 ? ' CorrIntErr{14} HeaderOF{15}\n' : '\n');
  page.fields(`\t\tUESta:\t${uncorrectable}`, config.u32(at + 4));
  page.fields(`\t\tUEMsk:\t${uncorrectable}`, config.u32(at + 8));
  page.fields(`\t\tUESvrt:\t${uncorrectable}`, config.u32(at + 12));
  page.fields(`\t\tCESta:\t${correctable}`, config.u32(at + 16));
  page.fields(`\t\tCEMsk:\t${correctable}`, config.u32(at + 20));
  page.fields(
    '\t\tAERCap:\tFirst Error Pointer: {0.5:02x}, ECRCGenCap{5} ECRCGenEn{6} ECRCChkCap{7} ECRCChkEn{8}\n' +
    '\t\t\tMultHdrRecCap{9} MultHdrRecEn{10} TLPPfxPres{11} HdrLogCap{12}\n', config.u32(at + 24));
  page.print(`\t\tHeaderLog: ${[28, 32, 36, 40].map((offset) => hex(config.u32(at + offset), 8)).join(' ')}\n`);
  if ((portType !== PORT_ROOT && portType !== PORT_EVENT_COLLECTOR) || !config.has(at + 44, 12)) return;
  page.fields('\t\tRootCmd: CERptEn{0} NFERptEn{1} FERptEn{2}\n', config.u32(at + 44));
  page.fields(
    '\t\tRootSta: CERcvd{0} MultCERcvd{1} UERcvd{2} MultUERcvd{3}\n' +
    `\t\t\t FirstFatal{4} NonFatalMsg{5} FatalMsg{6} ${settings.form >= 11 ? 'IntMsgNum' : 'IntMsg'} {27.5}\n`, config.u32(at + 48));
  page.print(`\t\tErrorSrc: ERR_COR: ${hex(config.u16(at + 52), 4)} ERR_FATAL/NONFATAL: ${hex(config.u16(at + 54), 4)}\n`);
}
