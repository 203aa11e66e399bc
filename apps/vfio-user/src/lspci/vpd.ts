/** Vital Product Data (PCI Local Bus 3.0, appendix I): product name, part and serial numbers. */
import { hex } from './fields.ts';
import type { Page } from './page.ts';

type Form = 'text' | 'binary' | 'checksum' | 'free';

/** Keywords of the specification, and the ones cards use besides; a single letter stands for all that begin with it. */
const KEYWORDS: readonly (readonly [string, Form, string])[] = [
  ['CP', 'binary', 'Extended capability'], ['EC', 'text', 'Engineering changes'], ['MN', 'text', 'Manufacture ID'], ['PN', 'text', 'Part number'],
  ['RV', 'checksum', 'Reserved'], ['RW', 'free', 'Read-write area'], ['SN', 'text', 'Serial number'], ['YA', 'text', 'Asset tag'],
  ['V', 'text', 'Vendor specific'], ['Y', 'text', 'System specific'], ['CC', 'text', 'CCIN'], ['FC', 'text', 'Feature code'], ['FN', 'text', 'FRU'],
  ['NA', 'text', 'Network address'], ['RM', 'text', 'Firmware version'], ['Z', 'text', 'Product specific'],
];

const TAG_NAME = 0x82;
const TAG_READ_ONLY = 0x90;
const TAG_READ_WRITE = 0x91;
const TAG_END = 0x0f;

export function vitalProductData(page: Page): void {
  page.print('Vital Product Data\n');
  if (!page.details) return;
  const vpd = page.settings.vpd ?? new Uint8Array(0);
  let at = 0;
  while (at < vpd.length) {
    const first = vpd[at]!;
    const large = (first & 0x80) !== 0;
    if (large && at + 3 > vpd.length) break;
    const tag = large ? first : first >> 3;
    const length = large ? vpd[at + 1]! | (vpd[at + 2]! << 8) : first & 7;
    const start = at + (large ? 3 : 1);
    if (start + length > vpd.length && tag !== TAG_END) break;
    if (tag === TAG_END) return page.print('\t\tEnd\n');
    if (tag === TAG_NAME) page.print(`\t\tProduct Name: ${text(vpd.subarray(start, start + length))}\n`);
    else if (tag === TAG_READ_ONLY || tag === TAG_READ_WRITE) resource(page, vpd, start, length, tag === TAG_READ_ONLY);
    else return page.print(`\t\tUnknown ${large ? 'large' : 'small'} resource type ${hex(tag & 0x7f, 2)}, will not decode more.\n`);
    at = start + length;
  }
  page.print(at === 0 ? '\t\tNot readable\n' : '\t\tNo end tag found\n');
}

function resource(page: Page, vpd: Uint8Array, start: number, length: number, readOnly: boolean): void {
  page.print(`\t\t${readOnly ? 'Read-only' : 'Read/write'} fields:\n`);
  const end = start + length;
  for (let at = start; at + 3 <= end;) {
    const id = vpd.subarray(at, at + 2);
    const size = vpd[at + 2]!;
    at += 3;
    if (size > end - at) return;
    const data = vpd.subarray(at, at + size);
    const keyword = String.fromCharCode(id[0]!, id[1]!);
    const [, form, name] = KEYWORDS.find(([known]) => keyword.startsWith(known)) ?? ['', 'binary' as Form, 'Unknown'];
    page.print(`\t\t\t[${text(id)}] ${name}: ${value(form, vpd, at, data)}\n`);
    at += size;
  }
}

function value(form: Form, vpd: Uint8Array, at: number, data: Uint8Array): string {
  switch (form) {
    case 'text': return text(data);
    case 'binary': return [...data].map((byte) => hex(byte, 2)).join(' ');
    case 'free': return `${data.length} byte(s) free`;
    // All bytes from the first one to the checksum add up to zero.
    case 'checksum': return `checksum ${vpd.subarray(0, at + 1).reduce((sum, byte) => (sum + byte) & 0xff, 0) === 0 ? 'good' : 'bad'}, ${data.length - 1} byte(s) reserved`;
  }
}

/** The device's characters are no orders to a terminal. A closing NUL is a habit of some cards and not shown. */
function text(bytes: Uint8Array): string {
  const shown = bytes.at(-1) === 0 ? bytes.subarray(0, -1) : bytes;
  return [...shown].map((byte) => (byte === 0x5c ? '\\\\' : byte < 32 || byte >= 127 ? `\\x${hex(byte, 2)}` : String.fromCharCode(byte))).join('');
}
