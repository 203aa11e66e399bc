/**
 * The classic capture file format (draft-ietf-opsawg-pcap). All words in the byte order of the machine that wrote the file, which
 * the magic number tells:
 * ```
 * file header, 24 bytes                      record header, 16 bytes, then inclLen bytes
 * 0   u32  magic                             0   u32  seconds
 * 4   u16  major version (2)                 4   u32  microseconds or nanoseconds
 * 6   u16  minor version (4)                 8   u32  inclLen: bytes that follow
 * 8   u32  reserved, 0                       12  u32  origLen: bytes the frame had
 * 12  u32  reserved, 0
 * 16  u32  snaplen
 * 20  u32  link type; upper bits: FCS
 * ```
 */
import { PcapError } from './errors.ts';

export const FILE_HEADER_BYTES = 24;
export const RECORD_HEADER_BYTES = 16;
export const RECORD_SECONDS = 0;
export const RECORD_MICROSECONDS = 4;
export const RECORD_INCL_LENGTH = 8;
export const RECORD_ORIG_LENGTH = 12;

const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const MAGIC_NANOSECONDS = 0xa1b23c4d;
const MAGIC_PCAPNG = 0x0a0d0d0a;
const LINKTYPE_ETHERNET = 1;

/** What a reader needs to know. Timestamps are not used, so neither is their unit. */
export interface FileFormat {
  readonly littleEndian: boolean;
}

const hex = (n: number): string => `0x${n.toString(16).padStart(8, '0')}`;

/** Checks the first bytes of a file (fewer than 24: it has no more). ERR_PCAP_FORMAT, ERR_PCAP_LINKTYPE. `who` opens the message. */
export function parseFileHeader(bytes: Uint8Array, who: string): FileFormat {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length >= 4 && view.getUint32(0) === MAGIC_PCAPNG) {
    throw new PcapError('ERR_PCAP_FORMAT', `${who} is a pcapng file; convert it: editcap -F pcap IN OUT, or tcpdump -r IN -w OUT`);
  }
  if (bytes.length < FILE_HEADER_BYTES) {
    throw new PcapError('ERR_PCAP_FORMAT', `${who} ends after ${String(bytes.length)} bytes: a pcap file header has ${String(FILE_HEADER_BYTES)}`);
  }
  const littleEndian = [MAGIC_MICROSECONDS, MAGIC_NANOSECONDS].includes(view.getUint32(0, true));
  const magic = view.getUint32(0, littleEndian);
  if (magic !== MAGIC_MICROSECONDS && magic !== MAGIC_NANOSECONDS) {
    throw new PcapError('ERR_PCAP_FORMAT', `${who} begins with ${hex(magic)}: want ${hex(MAGIC_MICROSECONDS)} (pcap) or ${hex(MAGIC_NANOSECONDS)} (pcap with nanoseconds), in either byte order`);
  }
  const major = view.getUint16(4, littleEndian);
  const minor = view.getUint16(6, littleEndian);
  if (major !== 2 || minor !== 4) throw new PcapError('ERR_PCAP_FORMAT', `${who} is pcap version ${String(major)}.${String(minor)}: want 2.4`);
  const linkType = view.getUint32(20, littleEndian);
  if ((linkType & 0xffff) !== LINKTYPE_ETHERNET) {
    throw new PcapError('ERR_PCAP_LINKTYPE', `${who} has frames of link type ${String(linkType & 0xffff)}: want ${String(LINKTYPE_ETHERNET)} (Ethernet)`);
  }
  if (linkType >>> 16 !== 0) throw new PcapError('ERR_PCAP_LINKTYPE', `${who} has link type ${hex(linkType)}: want ${hex(LINKTYPE_ETHERNET)}, frames without FCS`);
  return { littleEndian };
}

/** The header of the files we write: microseconds, little-endian. */
export function buildFileHeader(snaplen: number): Uint8Array {
  const bytes = new Uint8Array(FILE_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC_MICROSECONDS, true);
  view.setUint16(4, 2, true);
  view.setUint16(6, 4, true);
  view.setUint32(16, snaplen, true);
  view.setUint32(20, LINKTYPE_ETHERNET, true);
  return bytes;
}
