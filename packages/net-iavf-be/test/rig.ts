/**
 * A device, its queues and a small guest for tests of the data path: everything lies in the first 8 MiB of one window, so that a
 * test can take a snapshot of all of it. Descriptors and IOTLB entries are written from the specifications, not with the code
 * under test.
 */
import { FRAME_DATA, FRAME_FLAGS, FRAME_LENGTH, FRAME_RECORD_BYTES, type Burst } from '@emudev/ethdev';
import {
  DEV_FLAGS, DEV_HENA, DEV_IOTLB, DEV_LUT, DEV_MAC_TABLE, DEV_MAX_FRAME, DEV_PAUSED, DEV_PEER_TX_CAPS, DEV_QUEUE_PAIRS,
  DEV_RSS_TABLE, DEV_RX_BLOCKS, DEV_STATS, DEV_TX_BLOCKS, DEV_VLAN_BITMAP, MAC_SLOTS, Q_BUFFER, Q_BYTES, Q_DOORBELL, Q_ENABLED,
  Q_FAULT, Q_HEAD, Q_LENGTH, Q_MAX_PACKET, Q_RING, Q_SHORT, Q_STAGE, Q_STATS, RSS_INPUT_BYTES, RSS_LUT_ENTRIES,
  STAGE_BYTES,
} from '../src/layout.ts';

export const RIG_BYTES: number = 8 << 20;
const DEVICE = 0x1000;
const TX_BLOCKS = 0x2000;
const RX_BLOCKS = 0x3000;
const DOORBELLS = 0x4000;
const MAC_TABLE = 0x5000;
const VLAN_BITMAP = 0x7000;
const RECORDS = 0x8000;
const RSS_TABLE = 0x10000;
const IOTLB = 0x20000;
const HASH_TABLE = IOTLB + 64;
const PAGE_TABLES = 0x48000;
const STAGES = 0x80000;
const ARENA = 0x200000;
const ARENA_BYTES = 0x100000;
/** Guest memory: 4 MiB of the window. The first 2 MiB are mapped as one chunk, from the others pages are mapped one by one. */
export const GUEST = 0x400000;
export const GUEST_BYTES = 0x400000;
/** Where the whole chunk and the pages appear for the device. */
export const CHUNK_IOVA = 0x1_4000_0000n;
export const READ = 1;
export const WRITE = 2;

const CAPACITY = 256;
/** The verification key of Microsoft's RSS specification, as long as iavf's. */
export const RSS_KEY: Uint8Array = Uint8Array.from(
  Buffer.from('6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa', 'hex').toJSON().data.concat(new Array(12).fill(0)),
);

export interface QueueOptions {
  readonly ring?: number;
  readonly length?: number;
  readonly buffer?: number;
  readonly maxPacket?: number;
  /** Rx descriptors of 16 bytes. */
  readonly short?: boolean;
}

export class Rig {
  readonly memory: WebAssembly.Memory;
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly view: DataView;
  readonly device: number = DEVICE;
  readonly burst: Burst = { records: RECORDS, capacity: CAPACITY, arena: ARENA, arenaBytes: ARENA_BYTES };
  /** Offsets of slots that have a chunk. */
  readonly entries: Set<number> = new Set<number>();
  #pageTables = 0;

  constructor() {
    this.memory = new WebAssembly.Memory({ initial: 65536, maximum: 65536, shared: true });
    const buffer = this.memory.buffer;
    this.u8 = new Uint8Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.view = new DataView(buffer);
    this.reset();
  }

  /** Zeroes everything and describes a device with 2 queue pairs that is running, without queues, filters or mappings; all to queue 0. */
  reset(): void {
    this.u8.fill(0, 0, RIG_BYTES);
    this.#pageTables = 0;
    this.entries.clear();
    const d = DEVICE;
    this.set(d + DEV_PAUSED, 0);
    this.set(d + DEV_IOTLB, IOTLB);
    this.set(d + DEV_MAX_FRAME, 9728);
    this.set(d + DEV_QUEUE_PAIRS, 2);
    this.set(d + DEV_MAC_TABLE, MAC_TABLE);
    this.set(d + DEV_VLAN_BITMAP, VLAN_BITMAP);
    this.set(d + DEV_RSS_TABLE, RSS_TABLE);
    this.set(d + DEV_TX_BLOCKS, TX_BLOCKS);
    this.set(d + DEV_RX_BLOCKS, RX_BLOCKS);
    this.view.setBigUint64(d + DEV_HENA, 0x00007f9fe0000000n, true);
    this.set(IOTLB, HASH_TABLE);
    this.set(HASH_TABLE, 8191);
    this.set(HASH_TABLE + 4, 0x9e3779b1);
    this.set(HASH_TABLE + 8, 0x85ebca6b);
    this.set(HASH_TABLE + 12, 19);
    this.setKey(RSS_KEY);
  }

  get(offset: number): number {
    return this.view.getUint32(offset, true);
  }
  set(offset: number, value: number): void {
    this.view.setUint32(offset, value, true);
  }
  get64(offset: number): bigint {
    return this.view.getBigUint64(offset, true);
  }
  set64(offset: number, value: bigint): void {
    this.view.setBigUint64(offset, BigInt.asUintN(64, value), true);
  }
  bytes(offset: number, length: number): Buffer {
    return Buffer.from(this.u8.slice(offset, offset + length).buffer);
  }
  write(offset: number, bytes: Uint8Array): void {
    this.u8.set(bytes, offset);
  }

  txBlock(queue: number): number {
    return TX_BLOCKS + queue * Q_BYTES;
  }
  rxBlock(queue: number): number {
    return RX_BLOCKS + queue * Q_BYTES;
  }
  stat(block: number, counter: number): number {
    return Number(this.get64(block + Q_STATS + 8 * counter));
  }
  deviceStat(counter: number): number {
    return Number(this.get64(DEVICE + DEV_STATS + 8 * counter));
  }
  fault(block: number): number {
    return this.get(block + Q_FAULT);
  }

  /** Rings lie in guest memory, as they do in life: Tx at its end, Rx before. */
  enableTx(queue = 0, options: QueueOptions = {}): void {
    const block = this.txBlock(queue);
    this.set(block + Q_RING, options.ring ?? GUEST + 0x1f0000 - queue * 0x20000);
    this.set(block + Q_LENGTH, options.length ?? 64);
    this.set(block + Q_DOORBELL, DOORBELLS + 4 * queue);
    this.set(block + Q_STAGE, STAGES + queue * 2 ** Math.ceil(Math.log2(STAGE_BYTES)));
    this.set(block + Q_ENABLED, 1);
  }
  enableRx(queue = 0, options: QueueOptions = {}): void {
    const block = this.rxBlock(queue);
    this.set(block + Q_RING, options.ring ?? GUEST + 0x1e0000 - queue * 0x20000);
    this.set(block + Q_LENGTH, options.length ?? 64);
    this.set(block + Q_DOORBELL, DOORBELLS + 64 + 4 * queue);
    this.set(block + Q_BUFFER, options.buffer ?? 2048);
    this.set(block + Q_MAX_PACKET, options.maxPacket ?? 9732);
    this.set(block + Q_SHORT, options.short === true ? 1 : 0);
    this.set(block + Q_ENABLED, 1);
  }
  setTail(block: number, tail: number): void {
    this.set(this.get(block + Q_DOORBELL), tail);
  }
  tail(block: number): number {
    return this.get(this.get(block + Q_DOORBELL));
  }
  head(block: number): number {
    return this.get(block + Q_HEAD);
  }
  /** Offset of descriptor `index`. */
  txDescriptor(queue: number, index: number): number {
    return this.get(this.txBlock(queue) + Q_RING) + 16 * index;
  }
  rxDescriptor(queue: number, index: number): number {
    return this.get(this.rxBlock(queue) + Q_RING) + this.rxDescriptorBytes(queue) * index;
  }
  rxDescriptorBytes(queue: number): number {
    return this.get(this.rxBlock(queue) + Q_SHORT) === 1 ? 16 : 32;
  }

  /** Offset of the chunk's slot: the one that has it, or where it belongs. */
  entryOf(iova: bigint): number {
    const key = (iova >> 21n) + 1n;
    let slot = Number(((key & 0xffffffffn) * 0x9e3779b1n + (key >> 32n) * 0x85ebca6bn) & 0xffffffffn) >>> 19;
    const found = (): bigint => this.get64(HASH_TABLE + 16 + 16 * slot);
    while (found() !== 0n && found() !== key) slot = (slot + 1) & 8191;
    return HASH_TABLE + 16 + 16 * slot;
  }
  #entry(iova: bigint, value: number): void {
    const entry = this.entryOf(iova);
    this.set64(entry, (iova >> 21n) + 1n);
    this.set(entry + 8, value);
    this.entries.add(entry);
  }
  mapChunk(iova: bigint, offset: number, permission: number): void {
    this.#entry(iova, offset | permission);
  }
  /** 512 pages: window offset | permission each, 0 = a hole. */
  mapPages(iova: bigint, pages: readonly number[]): void {
    const table = PAGE_TABLES + 2048 * this.#pageTables++;
    for (let n = 0; n < 512; n++) this.set(table + 4 * n, pages[n] ?? 0);
    this.#entry(iova, table | 4);
  }
  /** Of the chunk that `iova` lies in only the 128 KiB around it. */
  mapPart(iova: bigint, offset: number, access: number): void {
    this.#entry(iova & ~0x1fffffn, (offset | 8 | (Number((iova >> 17n) & 15n) << 4) | access) >>> 0);
  }
  /** All of the first half of guest memory, readable and writable, at CHUNK_IOVA. */
  mapGuest(): void {
    this.mapChunk(CHUNK_IOVA, GUEST, READ | WRITE);
  }

  addMac(mac: Uint8Array): void {
    let key = 1n << 63n;
    for (let n = 0; n < 6; n++) key |= BigInt(mac[n]!) << BigInt(8 * n);
    let slot = (Math.imul(Number(key & 0xffffffffn) ^ Number(key >> 32n), 0x9e3779b1) >>> 20) & (MAC_SLOTS - 1);
    while (this.get64(MAC_TABLE + 8 * slot) !== 0n) slot = (slot + 1) & (MAC_SLOTS - 1);
    this.set64(MAC_TABLE + 8 * slot, key);
  }
  addVlan(vid: number): void {
    this.u8[VLAN_BITMAP + (vid >> 3)]! |= 1 << (vid & 7);
  }
  setFlags(flags: number): void {
    this.set(DEVICE + DEV_FLAGS, flags);
  }
  setPeerCaps(caps: number): void {
    this.set(DEVICE + DEV_PEER_TX_CAPS, caps);
  }
  setLut(queueOf: (entry: number) => number): void {
    for (let n = 0; n < RSS_LUT_ENTRIES; n++) this.u8[DEVICE + DEV_LUT + n] = queueOf(n);
  }
  /** Toeplitz straight from its definition: bit n of the input adds the 32 key bits from n on. */
  setKey(key: Uint8Array): void {
    const bits = BigInt('0x' + Buffer.from(key).toString('hex'));
    const total = BigInt(key.length * 8);
    for (let byte = 0; byte < RSS_INPUT_BYTES; byte++) {
      const shares = Array.from({ length: 8 }, (_, bit) => Number((bits >> (total - 32n - BigInt(byte * 8 + bit))) & 0xffffffffn));
      for (let value = 0; value < 256; value++) {
        let share = 0;
        for (let bit = 0; bit < 8; bit++) if (value & (0x80 >> bit)) share ^= shares[bit]!;
        this.set(RSS_TABLE + (byte * 256 + value) * 4, share >>> 0);
      }
    }
  }

  /** Puts frames into the burst (as a sending port would) and returns their number. */
  fillBurst(frames: readonly { readonly bytes: Uint8Array; readonly flags?: number }[]): number {
    let at = ARENA;
    frames.forEach((frame, n) => {
      const record = RECORDS + n * FRAME_RECORD_BYTES;
      this.u8.fill(0, record, record + FRAME_RECORD_BYTES);
      this.set(record + FRAME_DATA, at);
      this.set(record + FRAME_LENGTH, frame.bytes.length);
      this.set(record + FRAME_FLAGS, frame.flags ?? 0);
      this.write(at, frame.bytes);
      at += (frame.bytes.length + 63) & ~63;
    });
    return frames.length;
  }
  record(n: number): number {
    return RECORDS + n * FRAME_RECORD_BYTES;
  }
  /** The bytes of received frame n. */
  frame(n: number): Buffer {
    return this.bytes(this.get(this.record(n) + FRAME_DATA), this.get(this.record(n) + FRAME_LENGTH));
  }
  frameFlags(n: number): number {
    return this.get(this.record(n) + FRAME_FLAGS);
  }
}

/** Window offset behind an IOVA of the whole chunk. */
export function guestOffset(iova: bigint): number {
  return GUEST + Number(iova - CHUNK_IOVA);
}
