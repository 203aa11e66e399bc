/** Reads a capture that tcpdump made and checks every checksum in it, independently of the product's own code. */
import { readFileSync } from 'node:fs';

export interface CaptureSummary {
  readonly frames: number;
  readonly tcp: number;
  readonly udp: number;
  /** Frames whose IPv4 header, TCP or UDP checksum is wrong. */
  readonly wrong: string[];
  readonly longest: number;
}

function sum(bytes: Buffer, start: number): number {
  let total = start;
  for (let i = 0; i + 1 < bytes.length; i += 2) total += bytes.readUInt16BE(i);
  if (bytes.length % 2 === 1) total += bytes[bytes.length - 1]! << 8;
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

/** `from`: only frames with this source MAC (colon form). */
export function checkCapture(file: string, from: string): CaptureSummary {
  const data = readFileSync(file);
  const source = Buffer.from(from.replaceAll(':', ''), 'hex');
  const wrong: string[] = [];
  let [frames, tcp, udp, longest] = [0, 0, 0, 0];
  for (let at = 24; at + 16 <= data.length; ) {
    const captured = data.readUInt32LE(at + 8);
    const frame = data.subarray(at + 16, at + 16 + captured);
    at += 16 + captured;
    if (frame.length < captured || !frame.subarray(6, 12).equals(source)) continue;
    frames++;
    longest = Math.max(longest, frame.length);
    const complain = (what: string): void => { wrong.push(`frame ${frames}, ${frame.length} bytes: ${what}`); };
    const type = frame.readUInt16BE(12);
    if (type !== 0x0800 && type !== 0x86dd) continue;
    const ip = frame.subarray(14);
    const v4 = type === 0x0800;
    const header = v4 ? (ip[0]! & 15) * 4 : 40;
    const total = v4 ? ip.readUInt16BE(2) : 40 + ip.readUInt16BE(4);
    if (total > ip.length || total < header) {
      complain(`IP length ${total} of ${ip.length}`);
      continue;
    }
    if (v4 && sum(ip.subarray(0, header), 0) !== 0xffff) complain('IPv4 header checksum');
    const protocol = v4 ? ip[9]! : ip[6]!;
    if (protocol !== 6 && protocol !== 17) continue;
    // A fragment's checksum covers the whole datagram.
    if (v4 && (ip.readUInt16BE(6) & 0x3fff) !== 0) continue;
    if (protocol === 6) tcp++;
    else udp++;
    const l4 = ip.subarray(header, total);
    if (protocol === 17 && l4.readUInt16BE(6) === 0) continue;
    const addresses = v4 ? ip.subarray(12, 20) : ip.subarray(8, 40);
    if (sum(l4, sum(addresses, protocol + l4.length)) !== 0xffff) complain(protocol === 6 ? 'TCP checksum' : 'UDP checksum');
  }
  return { frames, tcp, udp, wrong, longest };
}
