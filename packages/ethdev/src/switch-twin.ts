/**
 * The switch's kernels in plain TypeScript: the oracle of src/kernels/switch.ts, and what runs where WebAssembly over mapped memory
 * does not. Slow (its words are bigints) and as good on several lcores as the kernels are.
 */
import { FRAME_DATA, FRAME_LENGTH, FRAME_RECORD_BYTES } from './burst.ts';
import { SWITCH_AGE_TICKS } from './limits.ts';
import {
  SIDE_COUNTS, SIDE_DESTINATIONS, SIDE_RECORDS, SIDE_SET, SWC_ALONE, SWC_BAD_SOURCE, SWC_CELLS, SWC_FILTERED, SWC_FLOODED, SWC_LEARNED,
  SWC_MOVED, SWC_RESERVED, SWC_SHORT, SWC_UNLEARNED, SWITCH_BUCKET_BYTES, SWITCH_COUNTED, SWITCH_MIXED, SWITCH_WAYS, SW_HELD, SW_MASK, SW_QUOTA,
  SW_SEED, SW_TABLE, SW_TICK, SW_UP, TICK_MASK, TO_FLOOD, TO_NOWHERE,
} from './switch-layout.ts';

/** Offsets are window offsets, ports and ticks plain numbers. What they do is said in src/kernels/switch.ts. */
export interface SwitchKernels {
  switchClassify(sw: number, side: number, source: number, records: number, frames: number): number;
  switchGather(side: number, source: number, records: number, frames: number, port: number): number;
  switchForget(sw: number, tick: number, portsLow: number, portsHigh: number): number;
}

const ETHERNET_HEADER_BYTES = 14;
const MAC_MASK = 0xffff_ffff_ffffn;
const RESERVED = 0x0000_c280_01n;
const RESERVED_MASK = 0xf0ff_ffff_ffffn;

const portOf = (word: bigint): number => Number((word >> 48n) & 63n);
const tickOf = (word: bigint): number => Number(word >> 54n);
const isExpired = (word: bigint, tick: number): boolean => ((tick - tickOf(word)) & TICK_MASK) > SWITCH_AGE_TICKS;

/** Over any memory: the window, or a test's. */
export function createSwitchTwin(buffer: ArrayBufferLike): SwitchKernels {
  const u8 = new Uint8Array(buffer);
  const u32 = new Uint32Array(buffer);
  const words = new BigUint64Array(buffer);
  const view = new DataView(buffer);

  const field = (block: number, offset: number): number => Atomics.load(u32, (block + offset) >>> 2);
  const count = (side: number, cell: number): void => {
    u32[(side + SIDE_COUNTS) / 4 + cell]!++;
  };
  const take = (sw: number, port: number): boolean => {
    if (Atomics.add(u32, (sw + SW_HELD) / 4 + port, 1) < field(sw, SW_QUOTA)) return true;
    give(sw, port);
    return false;
  };
  const give = (sw: number, port: number): void => {
    Atomics.sub(u32, (sw + SW_HELD) / 4 + port, 1);
  };
  const load = (at: number): bigint => Atomics.load(words, at / 8);
  const exchange = (at: number, before: bigint, after: bigint): boolean => Atomics.compareExchange(words, at / 8, before, after) === before;

  /** The places of both buckets of `mac`, in the order in which they are looked at. */
  function places(sw: number, mac: bigint): [number[], number[]] {
    const mask = field(sw, SW_MASK);
    let hash = Number(mac & 0xffff_ffffn) ^ field(sw, SW_SEED);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = ((hash ^ (hash >>> 13)) + (Number(mac >> 32n) ^ field(sw, SW_SEED + 4))) | 0;
    hash = Math.imul(hash, 0xc2b2ae35);
    hash ^= hash >>> 16;
    const second = Math.imul(hash, 0x9e3779b1);
    const first = hash & mask;
    const bucket = (index: number): number[] => Array.from({ length: SWITCH_WAYS }, (_, way) => field(sw, SW_TABLE) + index * SWITCH_BUCKET_BYTES + way * 8);
    return [bucket(first), bucket(first ^ (((second >>> 15) & mask) | 1))];
  }

  function find(sw: number, mac: bigint): { at: number; word: bigint } | undefined {
    for (const at of places(sw, mac).flat()) {
      const word = load(at);
      if ((word & MAC_MASK) === mac) return { at, word };
    }
    return undefined;
  }

  function learn(sw: number, side: number, source: number, mac: bigint, tick: number): void {
    const word = mac | (BigInt(source) << 48n) | (BigInt(tick) << 54n);
    const found = find(sw, mac);
    if (found === undefined) {
      insert(sw, side, source, mac, word, tick);
      return;
    }
    const { at, word: before } = found;
    const expired = isExpired(before, tick);
    const port = portOf(before);
    if (port === source) {
      if (before !== word && exchange(at, before, word) && expired) count(side, SWC_LEARNED);
      return;
    }
    if (!take(sw, source)) {
      if (exchange(at, before, 0n)) give(sw, port);
      count(side, SWC_UNLEARNED);
    } else if (exchange(at, before, word)) {
      give(sw, port);
      count(side, expired ? SWC_LEARNED : SWC_MOVED);
    } else {
      give(sw, source);
    }
  }

  function insert(sw: number, side: number, source: number, mac: bigint, word: bigint, tick: number): void {
    if (!take(sw, source)) {
      count(side, SWC_UNLEARNED);
      return;
    }
    const isFree = (at: number): boolean => load(at) === 0n || isExpired(load(at), tick);
    const [first, second] = places(sw, mac).map((bucket) => bucket.filter(isFree)) as [number[], number[]];
    const at = (second.length > first.length ? second : first)[0];
    if (at === undefined) {
      give(sw, source);
      count(side, SWC_UNLEARNED);
      return;
    }
    const before = load(at);
    if ((before !== 0n && !isExpired(before, tick)) || !exchange(at, before, word)) {
      give(sw, source);
      return;
    }
    if (before !== 0n) give(sw, portOf(before));
    count(side, SWC_LEARNED);
    const twins = places(sw, mac).flat().filter((place) => (load(place) & MAC_MASK) === mac);
    for (const place of twins.slice(1)) {
      const twin = load(place);
      if ((twin & MAC_MASK) === mac && exchange(place, twin, 0n)) give(sw, portOf(twin));
    }
  }

  function destinationOf(sw: number, source: number, mac: bigint, tick: number, up: bigint): number {
    if ((mac & 1n) !== 0n) {
      if ((mac & RESERVED_MASK) === RESERVED) return TO_NOWHERE + SWC_RESERVED;
    } else if (mac !== 0n) {
      const found = find(sw, mac);
      if (found !== undefined && !isExpired(found.word, tick)) {
        const port = portOf(found.word);
        if (port === source) return TO_NOWHERE + SWC_FILTERED;
        if (((up >> BigInt(port)) & 1n) !== 0n) return port;
      }
    }
    return (up & ~(1n << BigInt(source))) !== 0n ? TO_FLOOD : TO_NOWHERE + SWC_ALONE;
  }

  /** A frame that goes nowhere is counted, and so is one that is flooded. Of a train from one address the first frame tells all. */
  let lastSource = 0n;
  function destinationOfFrame(sw: number, side: number, source: number, record: number, tick: number, up: bigint): number {
    if (u32[(record + FRAME_LENGTH) / 4]! < ETHERNET_HEADER_BYTES) {
      count(side, SWC_SHORT);
      return TO_NOWHERE;
    }
    const data = u32[(record + FRAME_DATA) / 4]!;
    const destination = view.getBigUint64(data, true) & MAC_MASK;
    const address = view.getBigUint64(data + 6, true) & MAC_MASK;
    if (address === 0n || (address & 1n) !== 0n) {
      count(side, SWC_BAD_SOURCE);
      return TO_NOWHERE;
    }
    if (address !== lastSource) learn(sw, side, source, address, tick);
    lastSource = address;
    const to = destinationOf(sw, source, destination, tick, up);
    if (to === TO_FLOOD) count(side, SWC_FLOODED);
    if (to <= TO_FLOOD) return to;
    count(side, to - TO_NOWHERE);
    return TO_NOWHERE;
  }

  return {
    switchClassify(sw, side, source, records, frames) {
      u32.fill(0, (side + SIDE_COUNTS) / 4, (side + SIDE_COUNTS) / 4 + 12);
      const tick = field(sw, SW_TICK);
      const up = load(sw + SW_UP);
      let set = 0n;
      let sent = 0;
      lastSource = 0n;
      for (let n = 0; n < frames; n++) {
        const to = destinationOfFrame(sw, side, source, records + n * FRAME_RECORD_BYTES, tick, up);
        u8[side + SIDE_DESTINATIONS + n] = to;
        if (to === TO_NOWHERE) continue;
        sent++;
        set |= to === TO_FLOOD ? up & ~(1n << BigInt(source)) : 1n << BigInt(to);
      }
      view.setBigUint64(side + SIDE_SET, set, true);
      let counted = 0;
      for (let cell = 0; cell < SWC_CELLS; cell++) if (u32[(side + SIDE_COUNTS) / 4 + cell] !== 0) counted = SWITCH_COUNTED;
      const single = set !== 0n && (set & (set - 1n)) === 0n;
      return (sent === frames && single ? set.toString(2).length - 1 : SWITCH_MIXED) | counted;
    },

    switchGather(side, source, records, frames, port) {
      let gathered = 0;
      for (let n = 0; n < frames; n++) {
        const to = u8[side + SIDE_DESTINATIONS + n]!;
        if (to !== port && !(to === TO_FLOOD && port !== source)) continue;
        const record = records + n * FRAME_RECORD_BYTES;
        u8.copyWithin(side + SIDE_RECORDS + gathered * FRAME_RECORD_BYTES, record, record + FRAME_RECORD_BYTES);
        gathered++;
      }
      return gathered;
    },

    switchForget(sw, tick, portsLow, portsHigh) {
      const ports = BigInt(portsLow >>> 0) | (BigInt(portsHigh >>> 0) << 32n);
      const table = field(sw, SW_TABLE);
      let forgotten = 0;
      for (let at = table; at < table + (field(sw, SW_MASK) + 1) * SWITCH_BUCKET_BYTES; at += 8) {
        const word = load(at);
        if (word === 0n || (((ports >> BigInt(portOf(word))) & 1n) === 0n && !isExpired(word, tick))) continue;
        if (!exchange(at, word, 0n)) continue;
        give(sw, portOf(word));
        forgotten++;
      }
      return forgotten;
    },
  };
}
