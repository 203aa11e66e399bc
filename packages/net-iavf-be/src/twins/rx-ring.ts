/** Twin of src/kernels/rx-ring.ts: frames to the guest's Rx rings. */
import { IOTLB_WRITE } from '@emudev/dma';
import { FRAME_DATA, FRAME_FLAGS, FRAME_LENGTH, FRAME_RECORD_BYTES } from '@emudev/ethdev';
import {
  DEV_FLAGS, DEV_HENA, DEV_IOTLB, DEV_LUT, DEV_MAX_FRAME, DEV_PAUSED, DEV_QUEUE_PAIRS, DEV_RSS_TABLE, DEV_RX_BLOCKS, DEV_RX_KICK,
  DEV_STATS, DEVF_VLAN_STRIP, DEVS_RX_FILTERED, DEVS_RX_NO_QUEUE, DEVS_RX_OVERSIZE, DEVS_RX_RUNT, MAX_RX_BUFFERS,
  PADDED_FRAME_BYTES, Q_BAD_BUFFERS, Q_BUFFER, Q_BYTES, Q_DOORBELL, Q_ENABLED, Q_FAULT, Q_HEAD, Q_LENGTH, Q_MAX_PACKET, Q_RING,
  Q_SHORT, Q_STATS, QFAULT_BUFFER, QFAULT_TAIL, QS_DISCARDS, QS_ERRORS, RSS_LUT_ENTRIES, RX_BAD_BUFFER_LIMIT, RX_DESCRIPTOR_BYTES, SHORT_RX_DESCRIPTOR_BYTES,
} from '../layout.ts';
import { classify } from './classify.ts';
import { isAddressed, isPruned } from './filter.ts';
import { TwinIotlb, type MissState } from './iotlb.ts';
import type { TwinMemory } from './memory.ts';
import { toeplitz } from './rss.ts';
import { countFrame, isBroadcast } from './tx-burst.ts';
import { makeWhole } from './tx-lent.ts';
import { verdict } from './verify.ts';

/** Fields of qw1, low and high half. */
const DD = 1 << 0;
const EOP = 1 << 1;
const L2TAG1P = 1 << 2;
const L3L4P = 1 << 3;
const UMBCAST_SHIFT = 9;
const FLTSTAT_RSS = 3 << 12;
const RXE = 1 << 19;
const IPE = 1 << 22;
const L4E = 1 << 23;
const PTYPE_SHIFT = 30;
const LENGTH_SHIFT_HIGH = 38 - 32;

/** What the guest is to be told about a frame, besides its lengths. */
interface Description {
  readonly status: number;
  readonly ptype: number;
  readonly tag: number;
  readonly hash: number;
}

const MISS = 1 << 17;

export function txBurst(memory: TwinMemory, misses: MissState, device: number, records: number, count: number): number {
  if (memory.acquire(device + DEV_PAUSED) !== 0) count = 0;
  const iotlb = new TwinIotlb(memory, memory.u32(device + DEV_IOTLB), IOTLB_WRITE, misses);
  let kick = 0;
  let taken = 0;
  for (; taken < count; taken++) {
    const queue = deliver(memory, iotlb, device, records + taken * FRAME_RECORD_BYTES);
    if (iotlb.missed) break;
    if (queue !== undefined) kick |= 1 << queue;
  }
  memory.setU32(device + DEV_RX_KICK, kick);
  return taken | (iotlb.missed ? MISS : 0);
}

/** The queue that got a write-back. */
function deliver(memory: TwinMemory, iotlb: TwinIotlb, device: number, record: number): number | undefined {
  const discard = (counter: number): undefined => {
    memory.count(device + DEV_STATS + 8 * counter);
  };
  makeWhole(memory, record);
  const frame = memory.u32(record + FRAME_DATA);
  const length = memory.u32(record + FRAME_LENGTH);
  if (length < 14) return discard(DEVS_RX_RUNT);
  if (length > memory.u32(device + DEV_MAX_FRAME)) return discard(DEVS_RX_OVERSIZE);
  if (!isAddressed(memory, device, frame)) return discard(DEVS_RX_FILTERED);
  const tagged = memory.be16(frame + 12) === 0x8100 && length >= 18;
  const tci = tagged ? memory.be16(frame + 14) : 0;
  if (tagged && isPruned(memory, device, tci & 0xfff)) return discard(DEVS_RX_FILTERED);
  const l3 = tagged ? 18 : 14;
  const broadcast = isBroadcast(memory, frame);
  const multicast = (memory.u8(frame) & 1) !== 0;
  const c = classify(memory, frame, length, l3, memory.be16(frame + l3 - 2), multicast);

  const hashed = c.hashBits.some((bit) => bit < 32 ? memory.u32(device + DEV_HENA) & (1 << bit) : memory.u32(device + DEV_HENA + 4) & (1 << (bit - 32)));
  const hash = hashed
    ? toeplitz(memory, memory.u32(device + DEV_RSS_TABLE), frame + l3 + (c.ip === 4 ? 12 : 8), c.ip === 4 ? 8 : 32, c.l4 === 0 ? 0 : frame + c.l4)
    : 0;
  const queue = memory.u8(device + DEV_LUT + (hash % RSS_LUT_ENTRIES));
  if (queue >= memory.u32(device + DEV_QUEUE_PAIRS)) return discard(DEVS_RX_NO_QUEUE);
  const block = memory.u32(device + DEV_RX_BLOCKS) + queue * Q_BYTES;
  if (memory.u32(block + Q_ENABLED) === 0 || memory.u32(block + Q_FAULT) !== 0 || memory.u32(block + Q_RING) === 0) return discard(DEVS_RX_NO_QUEUE);
  if (length + 4 > memory.u32(block + Q_MAX_PACKET)) return discard(DEVS_RX_OVERSIZE);

  const strip = tagged && (memory.u32(device + DEV_FLAGS) & DEVF_VLAN_STRIP) !== 0;
  const v = verdict(memory, frame, l3, c, memory.u32(record + FRAME_FLAGS));
  const status =
    ((broadcast ? 2 : multicast ? 1 : 0) << UMBCAST_SHIFT) | (hashed ? FLTSTAT_RSS : 0) | (strip ? L2TAG1P : 0) |
    (v.l3l4p ? L3L4P : 0) | (v.ipe ? IPE : 0) | (v.l4e ? L4E : 0);
  const written = place(memory, iotlb, block, frame, length, strip, { status, ptype: c.ptype, tag: strip ? tci : 0, hash });
  return written ? queue : undefined;
}

/** true = descriptors were written back. */
function place(memory: TwinMemory, iotlb: TwinIotlb, block: number, frame: number, length: number, strip: boolean, description: Description): boolean {
  const ringLength = memory.u32(block + Q_LENGTH);
  const tail = memory.acquire(memory.u32(block + Q_DOORBELL)); // GUEST: any value
  if (tail >= ringLength) {
    memory.setU32(block + Q_FAULT, QFAULT_TAIL);
    memory.count(block + Q_STATS + 8 * QS_DISCARDS);
    return false;
  }
  const ring = memory.u32(block + Q_RING);
  const head = memory.u32(block + Q_HEAD);
  const buffer = memory.u32(block + Q_BUFFER);
  const content = strip ? length - 4 : length;
  const bytes = Math.max(content, PADDED_FRAME_BYTES);
  const needed = Math.ceil(bytes / buffer);
  if (needed > MAX_RX_BUFFERS || needed > (tail - head + ringLength) % ringLength) {
    memory.count(block + Q_STATS + 8 * QS_DISCARDS);
    return false;
  }
  const descriptorBytes = memory.u32(block + Q_SHORT) === 1 ? SHORT_RX_DESCRIPTOR_BYTES : RX_DESCRIPTOR_BYTES;
  const descriptorOf = (n: number): number => ring + descriptorBytes * ((head + n) % ringLength);
  const addresses: { high: number; low: number }[] = [];
  for (let n = 0; n < needed; n++) {
    const low = memory.u32(descriptorOf(n)); // GUEST: fetched once
    const high = memory.u32(descriptorOf(n) + 4);
    addresses.push({ high, low });
    const mapped = iotlb.forEachPiece(high, low, Math.min(buffer, bytes - n * buffer), () => undefined);
    if (!mapped) {
      if (iotlb.missed) return false;
      refuse(memory, block, descriptorOf, descriptorBytes, n + 1, ringLength);
      return true;
    }
  }
  addresses.forEach(({ high, low }, n) => {
    iotlb.forEachPiece(high, low, Math.min(buffer, bytes - n * buffer), (to, at, part) => {
      for (let k = 0; k < part; k++) {
        const position = n * buffer + at + k; // in what the guest gets
        const source = strip && position >= 12 ? position + 4 : position;
        memory.setU8(to + k, source < length ? memory.u8(frame + source) : 0);
      }
    });
  });
  const { status, ptype, tag, hash } = description;
  for (let n = 0; n < needed; n++) {
    if (n === needed - 1) writeBack(memory, descriptorOf(n), descriptorBytes, tag, hash, status | DD | EOP, ptype, bytes - n * buffer);
    else writeBack(memory, descriptorOf(n), descriptorBytes, 0, 0, DD, ptype, buffer);
  }
  memory.setU32(block + Q_HEAD, (head + needed) % ringLength);
  memory.setU32(block + Q_BAD_BUFFERS, 0);
  countFrame(memory, block + Q_STATS, frame, 1, length);
  return true;
}

function writeBack(memory: TwinMemory, descriptor: number, descriptorBytes: number, tag: number, hash: number, status: number, ptype: number, bytes: number): void {
  memory.setU32(descriptor, tag << 16);
  memory.setU32(descriptor + 4, hash);
  memory.zero(descriptor + 16, descriptorBytes - 16);
  memory.publish(descriptor + 8, status | (ptype << PTYPE_SHIFT), (ptype >>> (32 - PTYPE_SHIFT)) | (bytes << LENGTH_SHIFT_HIGH));
}

/** A buffer that is not mapped for writing: it and those before it go back as receive errors; a guest that repeats it loses the queue. */
function refuse(memory: TwinMemory, block: number, descriptorOf: (n: number) => number, descriptorBytes: number, count: number, ringLength: number): void {
  memory.count(block + Q_STATS + 8 * QS_DISCARDS);
  memory.count(block + Q_STATS + 8 * QS_ERRORS);
  for (let n = 0; n < count; n++) writeBack(memory, descriptorOf(n), descriptorBytes, 0, 0, DD | EOP | RXE, 0, PADDED_FRAME_BYTES);
  memory.setU32(block + Q_HEAD, (memory.u32(block + Q_HEAD) + count) % ringLength);
  const bad = memory.u32(block + Q_BAD_BUFFERS) + 1;
  memory.setU32(block + Q_BAD_BUFFERS, bad);
  if (bad >= RX_BAD_BUFFER_LIMIT) memory.setU32(block + Q_FAULT, QFAULT_BUFFER);
}
