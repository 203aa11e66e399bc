/** What can be wrong with a message: its bytes, its length, its header, its descriptors. The size field stays right; lying about it is the stream's business. */
import type { Descriptors } from './descriptors.ts';
import type { Random } from './random.ts';
import { Weighted } from './random.ts';

/** A message before it gets its header. The descriptors are borrowed. */
export interface Outgoing {
  command: number;
  flags: number;
  payload: Uint8Array;
  fds: number[];
}

type Mutate = (message: Outgoing, random: Random, descriptors: Descriptors) => void;

function word(message: Outgoing, random: Random, value: number): void {
  const { payload } = message;
  if (payload.length < 4) return;
  const at = 4 * random.below(Math.min(payload.length >> 2, 16));
  payload[at] = value;
  payload[at + 1] = value >>> 8;
  payload[at + 2] = value >>> 16;
  payload[at + 3] = value >>> 24;
}

const MUTATIONS: Weighted<Mutate> = new Weighted<Mutate>([
  [6, ({ payload }, random) => { if (payload.length > 0) payload[random.below(payload.length)]! ^= 1 << random.below(8); }],
  [8, (message, random) => { word(message, random, random.edge()); }],
  [2, (message, random) => { word(message, random, random.u32()); }],
  // All ones in the upper half of a 64-bit field, and both halves.
  [2, ({ payload }, random) => { if (payload.length >= 8) payload.fill(0xff, 8 * random.below(payload.length >> 3)).fill(0, Math.min(payload.length, 24 + 8 * random.below(4))); }],
  [3, (message, random) => { message.payload = message.payload.slice(0, random.below(message.payload.length + 1)); }],
  [3, (message, random) => {
    const longer = new Uint8Array(message.payload.length + random.pick([1, 4, 8, 64, 4064]));
    longer.set(message.payload);
    message.payload = longer;
  }],
  [2, (message, random) => { message.flags = random.oneIn(4) ? random.u32() : random.pick([0, 0x10, 0x20, 0x30, 0x40, 2, 3, 15, 0x12]); }],
  // The payload of one command under the number of another.
  [2, (message, random) => { message.command = random.oneIn(20) ? random.u32() & 0xffff : random.below(20); }],
  [1, (message) => { message.fds = []; }],
  [1, (message) => { message.fds.push(...message.fds); }],
  [1, (message) => { message.fds.pop(); }],
  [2, (message, random, descriptors) => { message.fds.push(...Array.from({ length: 1 + random.below(3) }, () => descriptors.any(random))); }],
]);

/** As much as one message can carry (SCM_MAX_FD). */
const MANY_FDS = 253;

export function mutate(message: Outgoing, random: Random, descriptors: Descriptors): void {
  for (let n = 1 + random.below(3); n > 0; n--) MUTATIONS.pick(random)(message, random, descriptors);
  if (random.oneIn(3000)) message.fds = Array.from({ length: MANY_FDS }, () => descriptors.any(random));
  if (message.fds.length > MANY_FDS) message.fds.length = MANY_FDS;
}
