/**
 * Frames as Linux hands them to a TAP or a packet socket with a virtio-net header: their checksum may be missing, and a "frame" may be
 * up to 64 KiB of TCP or UDP payload that still has to be cut. One system call for some forty frames is what makes such a port fast.
 *
 * What the peer of the forwarding stream can do itself (its txCapabilities) is left to it; everything else is finished here. The kernel
 * is believed no length: a header that does not fit its frame is an error, never an access outside of it.
 */
import {
  FRAME_DATA, FRAME_FLAGS, FRAME_IPV6, FRAME_L2_LENGTH, FRAME_L4_TCP, FRAME_L4_UDP, FRAME_LENGTH, FRAME_QUEUE, FRAME_RECORD_BYTES,
  FRAME_RX_IP_GOOD, FRAME_RX_L4_GOOD, FRAME_TX_L4_CSUM, FRAME_TX_TSO, type Burst,
} from '../burst.ts';
import { checksumOf, foldSum, sumWindowWords } from '../checksum.ts';
import type { LcoreContext } from '../port.ts';
import type { WindowBytes } from '../window-bytes.ts';
import {
  GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, VHF_DATA_VALID, VHF_NEEDS_CSUM, VH_CSUM_OFFSET, VH_CSUM_START, VH_FLAGS,
  VH_GSO_SIZE, VH_GSO_TYPE,
} from './format.ts';

const ETHERNET_BYTES = 14;
const TAG_BYTES = 4;
const MAX_TAGS = 2;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const ETHERTYPE_VLAN = 0x8100;
const ETHERTYPE_QINQ = 0x88a8;
const IPV4_MIN = 20;
const IPV6_MIN = 40;
const TCP_MIN = 20;
const TCP_CHECKSUM = 16;
const UDP_BYTES = 8;
const UDP_CHECKSUM = 6;
const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;
const FIN_PSH = 0x09;
const CWR = 0x80;

/** One Rx queue's frame in hand: taken in by `accept`, given out by `emit`, over several bursts where it has to be. */
export class VirtioReceiver {
  readonly #context: LcoreContext;
  readonly #bytes: WindowBytes;
  readonly #queue: number;
  readonly #peer: number;
  readonly #maxFrameBytes: number;
  /** Records of the burst in use so far, and their bytes. */
  count = 0;
  total = 0;
  #burst: Burst | undefined;
  #cursor = 0;
  /** The frame in hand; length 0: none. */
  #frame = 0;
  #length = 0;
  /** Headers that every piece gets, and payload bytes of a piece; the frame as it is: all of it headers. */
  #headers = 0;
  #segment = 0;
  /** Payload bytes already given out. */
  #from = 0;
  #flags = 0;
  #l2 = 0;
  #l3 = 0;
  #l4 = 0;
  #six = false;
  #tcp = false;
  #pseudo = 0;

  /** `peerTxCapabilities`: FRAME_TX_* that may be left undone. Frames of more than `maxFrameBytes` that no segmentation explains are errors. */
  constructor(context: LcoreContext, bytes: WindowBytes, queue: number, peerTxCapabilities: number, maxFrameBytes: number) {
    this.#context = context;
    this.#bytes = bytes;
    this.#queue = queue;
    this.#peer = peerTxCapabilities;
    this.#maxFrameBytes = maxFrameBytes;
  }

  /** The records of this burst are filled from now on. */
  begin(burst: Burst): void {
    this.#burst = burst;
    this.#cursor = burst.arena;
    this.count = 0;
    this.total = 0;
  }

  /** What is in hand is to be cut: its pieces are copies. */
  get cuts(): boolean {
    return this.#segment !== 0;
  }

  /** A frame waits to be given out; its bytes must stay where `accept` found them. */
  get pending(): boolean {
    return this.#length !== 0;
  }

  /** Takes the frame of `length` bytes at `frame` in hand, its header at `header` (0: there is none). false: it makes no sense. */
  accept(header: number, frame: number, length: number): boolean {
    this.#frame = frame;
    this.#from = 0;
    this.#segment = 0;
    this.#headers = length;
    this.#flags = 0;
    this.#l2 = 0;
    this.#l3 = 0;
    this.#l4 = 0;
    if (header !== 0) {
      const { view } = this.#context;
      const flags = view.getUint8(header + VH_FLAGS);
      const gso = view.getUint8(header + VH_GSO_TYPE) & ~GSO_ECN;
      if (gso !== GSO_NONE) {
        if ((flags & VHF_NEEDS_CSUM) === 0 || !this.#describe(header, frame, length, gso)) return false;
        this.#length = length;
        return true;
      }
      if ((flags & VHF_NEEDS_CSUM) !== 0) {
        if (!this.#finish(header, frame, length)) return false;
      } else if ((flags & VHF_DATA_VALID) !== 0) {
        this.#flags = FRAME_RX_L4_GOOD;
      }
    }
    if (length > this.#maxFrameBytes) return false;
    this.#length = length;
    return true;
  }

  /**
   * Fills records while the burst has fewer than `most` and its arena has room. false: it has not, and the rest waits for the next burst;
   * what would not even fit an empty arena is given up: `pending` is false then, and nothing was given out.
   */
  emit(most: number): boolean {
    if (this.#segment === 0) {
      if (!this.#room(this.#length, most)) return false;
      this.#bytes.copy(this.#cursor, this.#frame, this.#length);
      this.#record(this.#cursor, this.#length, this.#flags);
      this.#advance(this.#length);
      this.#length = 0;
      return true;
    }
    const payload = this.#length - this.#headers;
    while (this.#from < payload) {
      const bytes = payload - this.#from < this.#segment ? payload - this.#from : this.#segment;
      if (!this.#room(this.#headers + bytes, most)) return false;
      this.#piece(bytes, this.#from + bytes === payload);
      this.#record(this.#cursor, this.#headers + bytes, FRAME_RX_IP_GOOD | FRAME_RX_L4_GOOD);
      this.#advance(this.#headers + bytes);
      this.#from += bytes;
    }
    this.#length = 0;
    return true;
  }

  /** As `emit` for a frame that stays where it is until the next burst: not copied unless it is to be cut. */
  emitInPlace(most: number): boolean {
    if (this.#segment !== 0) return this.emit(most);
    if (this.count >= most) return false;
    this.#record(this.#frame, this.#length, this.#flags);
    this.#length = 0;
    return true;
  }

  #room(bytes: number, most: number): boolean {
    const burst = this.#burst!;
    if (this.count >= most) return false;
    // A copy may write up to the next word behind its end.
    if (this.#cursor + bytes + 4 <= burst.arena + burst.arenaBytes) return true;
    if (this.#cursor === burst.arena) this.#length = 0;
    return false;
  }

  #advance(bytes: number): void {
    this.#cursor = (this.#cursor + bytes + 4 + 63) & ~63;
  }

  #record(data: number, length: number, flags: number): void {
    const { u32, view } = this.#context;
    const at = this.#burst!.records + this.count * FRAME_RECORD_BYTES;
    const record = at >>> 2;
    for (let i = 0; i < FRAME_RECORD_BYTES / 4; i++) u32[record + i] = 0;
    u32[record + FRAME_DATA / 4] = data;
    u32[record + FRAME_LENGTH / 4] = length;
    u32[record + FRAME_FLAGS / 4] = flags;
    u32[record + FRAME_QUEUE / 4] = this.#queue;
    if (this.#l2 !== 0 && this.#segment === 0) {
      // l2, l3, l4 and, with TSO, the segment: see burst.ts.
      view.setUint16(at + FRAME_L2_LENGTH, this.#l2, true);
      view.setUint16(at + FRAME_L2_LENGTH + 2, this.#l3, true);
      view.setUint16(at + FRAME_L2_LENGTH + 4, this.#l4, true);
      view.setUint16(at + FRAME_L2_LENGTH - 2, this.#handed, true);
    }
    this.count++;
    this.total += length;
  }

  /** Where the IP header is and which; 0: it is neither. Leaves l2 and six. */
  #network(frame: number, length: number): number {
    const { view } = this.#context;
    let l2 = ETHERNET_BYTES;
    if (length < l2) return 0;
    let type = view.getUint16(frame + l2 - 2);
    for (let tags = 0; (type === ETHERTYPE_VLAN || type === ETHERTYPE_QINQ) && tags < MAX_TAGS; tags++) {
      l2 += TAG_BYTES;
      if (length < l2) return 0;
      type = view.getUint16(frame + l2 - 2);
    }
    if (type !== ETHERTYPE_IPV4 && type !== ETHERTYPE_IPV6) return 0;
    this.#six = type === ETHERTYPE_IPV6;
    return l2;
  }

  /** The one checksum of a plain frame: finished here, or left to the peer. */
  #finish(header: number, frame: number, length: number): boolean {
    const { view } = this.#context;
    const start = view.getUint16(header + VH_CSUM_START, true);
    const offset = view.getUint16(header + VH_CSUM_OFFSET, true);
    if (start + offset + 2 > length) return false;
    if ((this.#peer & FRAME_TX_L4_CSUM) !== 0 && (offset === TCP_CHECKSUM || offset === UDP_CHECKSUM)) {
      const l2 = this.#network(frame, length);
      const tcp = offset === TCP_CHECKSUM;
      const l4 = !tcp ? UDP_BYTES : start + TCP_MIN <= length ? (view.getUint8(frame + start + 12) >>> 4) * 4 : 0;
      if (l2 !== 0 && start > l2 && l4 >= UDP_BYTES && start + l4 <= length) {
        this.#l2 = l2;
        this.#l3 = start - l2;
        this.#l4 = l4;
        this.#handed = 0;
        this.#flags = FRAME_TX_L4_CSUM | (tcp ? FRAME_L4_TCP : FRAME_L4_UDP) | (this.#six ? FRAME_IPV6 : 0);
        return true;
      }
    }
    const checksum = checksumOf(this.#bytes.sum(frame + start, length - start));
    // UDP's "none" is 0; its complement says the same as a sum (RFC 768).
    view.setUint16(frame + start + offset, checksum === 0 && offset === UDP_CHECKSUM ? 0xffff : checksum);
    this.#flags = FRAME_RX_L4_GOOD;
    return true;
  }

  /** `segment` of the record: with FRAME_TX_TSO only. */
  #handed = 0;

  /** How to cut a frame; false for one that cannot be. */
  #describe(header: number, frame: number, length: number, gso: number): boolean {
    const { view, u32, u8 } = this.#context;
    const l2 = this.#network(frame, length);
    const l4 = view.getUint16(header + VH_CSUM_START, true);
    const segment = view.getUint16(header + VH_GSO_SIZE, true);
    const ip = frame + l2;
    if (l2 === 0 || segment === 0 || l4 < l2 + (this.#six ? IPV6_MIN : IPV4_MIN)) return false;
    this.#tcp = gso === GSO_TCPV4 || gso === GSO_TCPV6;
    if (!this.#tcp && gso !== GSO_UDP_L4) return false;
    if (l4 + (this.#tcp ? TCP_MIN : UDP_BYTES) > length) return false;
    const headerBytes = this.#tcp ? (view.getUint8(frame + l4 + 12) >>> 4) * 4 : UDP_BYTES;
    const headers = l4 + headerBytes;
    if (headerBytes < (this.#tcp ? TCP_MIN : UDP_BYTES) || headers >= length || headers + segment > this.#maxFrameBytes) return false;
    if (!this.#six && (view.getUint8(ip) & 15) * 4 !== l4 - l2) return false;
    this.#pseudo = this.#six ? sumWindowWords(u32, u8, ip + 8, 32) : sumWindowWords(u32, u8, ip + 12, 8);
    this.#pseudo += this.#tcp ? PROTOCOL_TCP : PROTOCOL_UDP;
    this.#l2 = l2;
    this.#l3 = l4 - l2;
    this.#l4 = headerBytes;
    if (this.#tcp && (this.#peer & FRAME_TX_TSO) !== 0) {
      // The peer wants the pseudo-header sum without length.
      view.setUint16(frame + l4 + TCP_CHECKSUM, foldSum(this.#pseudo));
      this.#handed = segment;
      this.#flags = FRAME_TX_TSO | FRAME_L4_TCP | (this.#six ? FRAME_IPV6 : 0);
      return true;
    }
    this.#headers = headers;
    this.#segment = segment;
    return true;
  }

  /** Payload [from, from + bytes) behind headers of its own, at the cursor (RFC 9293; the kernel's tcp_gso_segment does the same). */
  #piece(bytes: number, last: boolean): void {
    const { view, u32, u8 } = this.#context;
    const to = this.#cursor;
    const headers = this.#headers;
    const ip = to + this.#l2;
    const l4 = ip + this.#l3;
    const l4Bytes = this.#l4 + bytes;
    this.#bytes.copy(to, this.#frame, headers);
    this.#bytes.copy(to + headers, this.#frame + headers + this.#from, bytes);
    if (this.#six) {
      view.setUint16(ip + 4, this.#l3 - IPV6_MIN + l4Bytes);
    } else {
      view.setUint16(ip + 2, this.#l3 + l4Bytes);
      view.setUint16(ip + 4, (view.getUint16(ip + 4) + this.#from / this.#segment) & 0xffff);
      view.setUint16(ip + 10, 0);
      view.setUint16(ip + 10, checksumOf(sumWindowWords(u32, u8, ip, this.#l3)));
    }
    if (this.#tcp) {
      view.setUint32(l4 + 4, (view.getUint32(l4 + 4) + this.#from) >>> 0);
      // FIN and PSH belong to the last segment, CWR to the first.
      const clear = (last ? 0 : FIN_PSH) | (this.#from === 0 ? 0 : CWR);
      if (clear !== 0) view.setUint8(l4 + 13, view.getUint8(l4 + 13) & ~clear);
    } else {
      view.setUint16(l4 + 4, l4Bytes);
    }
    const field = l4 + (this.#tcp ? TCP_CHECKSUM : UDP_CHECKSUM);
    view.setUint16(field, 0);
    const checksum = checksumOf(this.#pseudo + l4Bytes + this.#bytes.sum(l4, l4Bytes));
    view.setUint16(field, checksum === 0 && !this.#tcp ? 0xffff : checksum);
  }
}
