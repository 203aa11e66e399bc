import { FRAME_DATA, FRAME_FLAGS, FRAME_LENGTH, FRAME_RECORD_BYTES, FRAME_RX_VLAN, type Burst } from '../burst.ts';
import { updateChecksum } from '../checksum.ts';
import type { LcoreContext } from '../port.ts';
import type { Engine } from './engine.ts';
import { swapMacs } from './macswap.ts';

const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_ARP = 0x0806;
const ETHERTYPE_VLAN = 0x8100;
const ETHERTYPE_QINQ = 0x88a8;
const MAX_TAGS = 2;
const ARP_BYTES = 28;
const PROTOCOL_ICMP = 1;
const ICMP_ECHO_REQUEST = 8;
const ICMP_HEADER_BYTES = 8;

/**
 * Answers in place: the reply to an echo request is the request with its addresses exchanged and its type changed, so the IP
 * checksum stays and the ICMP checksum changes by one word (a wrong one stays wrong, for the sender to see). Fragments, requests
 * to group addresses and everything else are dropped.
 */
export class IcmpEchoEngine implements Engine {
  readonly receives = true;
  readonly #u32: Uint32Array;
  readonly #u8: Uint8Array;
  readonly #view: DataView;
  readonly #mac: Uint8Array;

  constructor(context: LcoreContext, mac: Uint8Array) {
    this.#u32 = context.u32;
    this.#u8 = context.u8;
    this.#view = context.view;
    this.#mac = mac;
  }

  run(burst: Burst, count: number): number {
    const u32 = this.#u32;
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const record = (burst.records + i * FRAME_RECORD_BYTES) >>> 2;
      // A tag that was taken off cannot be put back here: nothing says that the port inserts tags.
      if ((u32[record + FRAME_FLAGS / 4]! & FRAME_RX_VLAN) !== 0) continue;
      if (!this.#answer(u32[record + FRAME_DATA / 4]!, u32[record + FRAME_LENGTH / 4]!)) continue;
      if (kept !== i) {
        const target = (burst.records + kept * FRAME_RECORD_BYTES) >>> 2;
        for (let w = 0; w < FRAME_RECORD_BYTES / 4; w++) u32[target + w] = u32[record + w]!;
      }
      kept++;
    }
    return kept;
  }

  #answer(data: number, length: number): boolean {
    const view = this.#view;
    if (length < 14) return false;
    let l3 = 14;
    let type = view.getUint16(data + 12);
    for (let tags = 0; type === ETHERTYPE_VLAN || type === ETHERTYPE_QINQ; tags++) {
      if (tags === MAX_TAGS || length < l3 + 4) return false;
      type = view.getUint16(data + l3 + 2);
      l3 += 4;
    }
    if (type === ETHERTYPE_ARP) return this.#answerArp(data, l3, length);
    if (type === ETHERTYPE_IPV4) return this.#answerEcho(data, l3, length);
    return false;
  }

  #answerArp(data: number, l3: number, length: number): boolean {
    const view = this.#view;
    if (length < l3 + ARP_BYTES) return false;
    const arp = data + l3;
    // Ethernet and IPv4, 6 and 4 byte addresses, request.
    if (view.getUint32(arp) !== 0x00010800 || view.getUint32(arp + 4) !== 0x06040001) return false;
    const sender = view.getUint32(arp + 14);
    const target = view.getUint32(arp + 24);
    // A probe (RFC 5227) or an announcement asks whether an address is taken: an answer would claim it.
    if (sender === 0 || sender === target) return false;
    const u8 = this.#u8;
    for (let i = 0; i < 6; i++) {
      const asker = u8[arp + 8 + i]!;
      const mine = this.#mac[i]!;
      u8[data + i] = asker;
      u8[data + 6 + i] = mine;
      u8[arp + 8 + i] = mine;
      u8[arp + 18 + i] = asker;
    }
    view.setUint16(arp + 6, 2);
    view.setUint32(arp + 14, target);
    view.setUint32(arp + 24, sender);
    return true;
  }

  // GUEST: a frame that changes meanwhile spoils its own answer at most: every access stays inside [data, data + length).
  #answerEcho(data: number, l3: number, length: number): boolean {
    const view = this.#view;
    if ((view.getUint8(data) & 1) !== 0 || length < l3 + 20) return false;
    const ip = data + l3;
    const versionAndLength = view.getUint8(ip);
    const headerBytes = (versionAndLength & 15) * 4;
    const totalBytes = view.getUint16(ip + 2);
    if (versionAndLength >> 4 !== 4 || headerBytes < 20 || totalBytes < headerBytes + ICMP_HEADER_BYTES || length < l3 + totalBytes) return false;
    if (view.getUint8(ip + 9) !== PROTOCOL_ICMP || (view.getUint16(ip + 6) & 0x3fff) !== 0) return false;
    const icmp = ip + headerBytes;
    const typeAndCode = view.getUint16(icmp);
    if (typeAndCode !== ICMP_ECHO_REQUEST << 8) return false;
    const from = view.getUint32(ip + 12);
    const to = view.getUint32(ip + 16);
    // 224.0.0.0 and above are groups and broadcast: nobody may send from them.
    if (to >= 0xe0000000) return false;
    swapMacs(view, data);
    view.setUint32(ip + 12, to);
    view.setUint32(ip + 16, from);
    view.setUint16(icmp, 0);
    view.setUint16(icmp + 2, updateChecksum(view.getUint16(icmp + 2), typeAndCode, 0));
    return true;
  }
}
