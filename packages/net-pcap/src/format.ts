/** The classic capture file (pcap-savefile(5)), as far as both halves of the port need it. */
import { PcapError } from './errors.ts';

export const FILE_HEADER_BYTES = 24;
export const RECORD_HEADER_BYTES = 16;
const MICROSECONDS = 0xa1b2c3d4;
const NANOSECONDS = 0xa1b23c4d;
const PCAPNG = 0x0a0d0d0a;
const LINKTYPE_ETHERNET = 1;
/** "f" of the link type field: frames end with an FCS. */
const HAS_FCS = 0x0400_0000;

export interface FileFormat {
  readonly littleEndian: boolean;
}

/** Throws ERR_PCAP_FORMAT. `path` is for the message. */
export function readFileHeader(bytes: Uint8Array, path: string): FileFormat {
  const refuse = (why: string): never => {
    throw new PcapError('ERR_PCAP_FORMAT', `${path}: ${why}`);
  };
  if (bytes.length < FILE_HEADER_BYTES) return refuse(`${String(bytes.length)} bytes, less than the ${String(FILE_HEADER_BYTES)} of a pcap header`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = view.getUint32(0, true);
  const swapped = view.getUint32(0, false);
  if (magic === PCAPNG) return refuse('a pcapng file; convert it with: editcap -F pcap IN OUT');
  const littleEndian = magic === MICROSECONDS || magic === NANOSECONDS;
  if (!littleEndian && swapped !== MICROSECONDS && swapped !== NANOSECONDS) return refuse(`no pcap file: begins with 0x${swapped.toString(16).padStart(8, '0')}`);
  const network = view.getUint32(20, littleEndian);
  if ((network & 0xffff) !== LINKTYPE_ETHERNET) return refuse(`link type ${String(network & 0xffff)}, want 1 (Ethernet)`);
  if ((network & HAS_FCS) !== 0) return refuse('its frames end with an FCS; cut it off with: editcap -C -4 IN OUT');
  // The clock's unit (microseconds or nanoseconds) does not matter: frames are sent as fast as they are taken.
  return { littleEndian };
}

/** Little-endian, microseconds, Ethernet. */
export function fileHeader(snaplen: number): Uint8Array {
  const bytes = new Uint8Array(FILE_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MICROSECONDS, true);
  view.setUint16(4, 2, true);
  view.setUint16(6, 4, true);
  view.setUint32(16, snaplen, true);
  view.setUint32(20, LINKTYPE_ETHERNET, true);
  return bytes;
}
