/**
 * The data path of an echo port: `txBurst` copies a frame into the ring of answers and turns the copy into its answer (or forgets
 * it); `rxBurst` hands answers out where they lie.
 */
import {
  FRAME_DATA,
  FRAME_FLAGS,
  FRAME_LENGTH,
  FRAME_RECORD_BYTES,
  FRAME_RX_VLAN,
  FRAME_VLAN_TCI,
  FrameRingReader,
  FrameRingWriter,
  RXQ_BYTES,
  RXQ_MISSED,
  RXQ_PACKETS,
  TXQ_BYTES,
  TXQ_ERRORS,
  TXQ_PACKETS,
  addCounter,
  type Burst,
  type LcoreContext,
  type PortDatapath,
} from '@emudev/ethdev';
import { answerArp } from './datapath/arp.ts';
import { Host, type EchoInit } from './datapath/host.ts';
import { answerIpv4 } from './datapath/ipv4.ts';
import { answerIpv6 } from './datapath/ipv6.ts';
import { MAX_FIXED_ANSWER_BYTES, MAX_FRAME_BYTES, MAX_TAGS } from './limits.ts';

const ETHERNET_BYTES = 14;
const TAG_BYTES = 4;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_ARP = 0x0806;
const ETHERTYPE_VLAN = 0x8100;
const ETHERTYPE_QINQ = 0x88a8;
const ETHERTYPE_IPV6 = 0x86dd;
const MIN_ANSWER_BYTES = 60;

class EchoDatapath implements PortDatapath {
  readonly #context: LcoreContext;
  readonly #init: EchoInit;
  readonly #host: Host;
  readonly #reader: FrameRingReader;
  readonly #writer: FrameRingWriter;

  constructor(context: LcoreContext, init: EchoInit) {
    this.#context = context;
    this.#init = init;
    this.#host = new Host(context, init);
    this.#reader = new FrameRingReader(context, init.answers);
    this.#writer = new FrameRingWriter(context, init.answers);
  }

  rxBurst(_queue: number, burst: Burst, max: number): number {
    const count = this.#reader.releaseAndPop(burst.records, max < burst.capacity ? max : burst.capacity);
    if (count === 0) return 0;
    const u32 = this.#context.u32;
    let bytes = 0;
    for (let i = 0; i < count; i++) bytes += u32[(burst.records + i * FRAME_RECORD_BYTES + FRAME_LENGTH) >>> 2]!;
    addCounter(u32, (this.#init.rxCounters + RXQ_PACKETS) >>> 2, count);
    addCounter(u32, (this.#init.rxCounters + RXQ_BYTES) >>> 2, bytes);
    return count;
  }

  /** Takes every frame: what it has no room to answer is counted as missed. */
  txBurst(_queue: number, burst: Burst, count: number): number {
    const u32 = this.#context.u32;
    let bytes = 0;
    let missed = 0;
    let refused = 0;
    this.#writer.begin();
    for (let i = 0; i < count; i++) {
      const record = (burst.records + i * FRAME_RECORD_BYTES) >>> 2;
      const data = u32[record + FRAME_DATA / 4]!;
      const length = u32[record + FRAME_LENGTH / 4]!;
      if (length > MAX_FRAME_BYTES || length < ETHERNET_BYTES) {
        refused++;
        continue;
      }
      bytes += length;
      const stripped = (u32[record + FRAME_FLAGS / 4]! & FRAME_RX_VLAN) !== 0;
      const room = length + TAG_BYTES > MAX_FIXED_ANSWER_BYTES ? length + TAG_BYTES : MAX_FIXED_ANSWER_BYTES;
      // GUEST: whatever memory the frame is in, it is fetched once; everything below reads the copy.
      const copy = this.#writer.reserve(room);
      if (copy === 0) {
        missed++;
        continue;
      }
      const answerBytes = this.#answer(copy, stripped ? this.#copyWithTag(copy, data, length, record) : this.#copy(copy, data, length));
      if (answerBytes !== 0) this.#writer.commit(answerBytes);
    }
    this.#writer.publish();
    addCounter(u32, (this.#init.txCounters + TXQ_PACKETS) >>> 2, count - refused);
    addCounter(u32, (this.#init.txCounters + TXQ_BYTES) >>> 2, bytes);
    if (missed !== 0) addCounter(u32, (this.#init.rxCounters + RXQ_MISSED) >>> 2, missed);
    if (refused !== 0) addCounter(u32, (this.#init.txCounters + TXQ_ERRORS) >>> 2, refused);
    return count;
  }

  #copy(copy: number, data: number, length: number): number {
    this.#host.bytes.copy(copy, data, length);
    return length;
  }

  /** A tag that the sending port has taken off goes back, so that the answer carries it too. */
  #copyWithTag(copy: number, data: number, length: number, record: number): number {
    const { view } = this.#context;
    const { bytes } = this.#host;
    bytes.copy(copy, data, 12);
    view.setUint16(copy + 12, ETHERTYPE_VLAN);
    view.setUint16(copy + 14, view.getUint16(record * 4 + FRAME_VLAN_TCI, true));
    bytes.copy(copy + 16, data + 12, length - 12);
    return length + TAG_BYTES;
  }

  /** Length of the answer that the copy has become; 0: none. */
  #answer(frame: number, length: number): number {
    const { view } = this.#context;
    const host = this.#host;
    const first = view.getUint8(frame);
    // To us or to a group; from a station, which is never a group.
    if (((first & 1) === 0 && !host.equals(frame, this.#init.mac)) || (view.getUint8(frame + 6) & 1) !== 0) {
      host.count('not_for_us');
      return 0;
    }
    let l3 = frame + ETHERNET_BYTES;
    const end = frame + length;
    let type = view.getUint16(frame + 12);
    for (let tags = 0; type === ETHERTYPE_VLAN || type === ETHERTYPE_QINQ; tags++) {
      if (tags === MAX_TAGS || l3 + TAG_BYTES > end) {
        host.count('malformed');
        return 0;
      }
      type = view.getUint16(l3 + 2);
      l3 += TAG_BYTES;
    }
    let answer = 0;
    if (type === ETHERTYPE_IPV4) answer = answerIpv4(host, frame, l3, end);
    else if (type === ETHERTYPE_IPV6) answer = answerIpv6(host, frame, l3, end);
    else if (type === ETHERTYPE_ARP) answer = answerArp(host, frame, l3, end);
    else host.count('not_for_us');
    if (answer === 0 || answer >= MIN_ANSWER_BYTES) return answer;
    host.zero(frame + answer, MIN_ANSWER_BYTES - answer);
    return MIN_ANSWER_BYTES;
  }
}

export function createDatapath(context: LcoreContext, init: EchoInit): PortDatapath {
  return new EchoDatapath(context, init);
}
