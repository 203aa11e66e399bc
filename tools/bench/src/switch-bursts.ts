/**
 * The switch's kernels by themselves: `node switch-bursts.ts MILLISECONDS`. 64 stations on each of four ports, known ones talking to known
 * ones of other ports, every frame to somebody else: no trains, a table look-up and a learned address per frame, four ways to gather.
 * Prints a line of JSON; c/switch.c does the same, and comes to the same sum.
 */
import { loadKernels, Window } from '@emudev/dma';
import { KERNELS_WASM_BASE64 } from '../../../packages/ethdev/src/kernels.gen.ts';
import { SIDE_RECORDS, SIDE_SET, SWITCH_COUNTED, SWITCH_MIXED, SW_BYTES, SW_MASK, SW_QUOTA, SW_SEED, SW_TABLE, SW_UP } from '../../../packages/ethdev/src/switch-layout.ts';
import type { SwitchKernels } from '../../../packages/ethdev/src/switch-twin.ts';

const PORTS = 4;
const STATIONS = 64;
const BURSTS = 256;
const FRAMES = 64;
const BUCKETS = 2048;

const windowMs = Number(process.argv[2] ?? 1000);
using window = Window.open();
const { u8, u32 } = window;
const kernels = loadKernels<SwitchKernels>(KERNELS_WASM_BASE64, window.memory);
const sw = window.alloc(SW_BYTES, 64);
const side = window.alloc(SIDE_RECORDS + FRAMES * 32, 64);
const records = window.alloc(BURSTS * FRAMES * 32, 64);
const frames = window.alloc(BURSTS * FRAMES * 64, 64);
u32[(sw + SW_TABLE) >>> 2] = window.alloc(BUCKETS * 32, 64);
u32[(sw + SW_MASK) >>> 2] = BUCKETS - 1;
u32.set([0x1234_5678, 0x9abc_def0], (sw + SW_SEED) >>> 2);
u32[(sw + SW_QUOTA) >>> 2] = 1024;
u32[(sw + SW_UP) >>> 2] = (1 << PORTS) - 1;

let state = 1;
function below(n: number): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Number((BigInt(state) * BigInt(n)) >> 32n);
}

for (let burst = 0; burst < BURSTS; burst++) {
  for (let frame = 0; frame < FRAMES; frame++) {
    const n = burst * FRAMES + frame;
    const port = burst % PORTS;
    u8.set([2, 0, 0, 0, (port + 1 + below(PORTS - 1)) % PORTS, below(STATIONS)], frames + n * 64);
    u8.set([2, 0, 0, 0, port, below(STATIONS)], frames + n * 64 + 6);
    u32[(records + n * 32) >>> 2] = frames + n * 64;
    u32[(records + n * 32 + 4) >>> 2] = 60;
  }
}

let sum = 0;
/** All bursts once; what comes of them is added up where it is wanted. */
function round(adding: boolean): void {
  for (let burst = 0; burst < BURSTS; burst++) {
    const first = records + burst * FRAMES * 32;
    const source = burst % PORTS;
    if ((kernels.switchClassify(sw, side, source, first, FRAMES) & ~SWITCH_COUNTED) !== SWITCH_MIXED) continue;
    for (let set = u32[(side + SIDE_SET) >>> 2]!; set !== 0; set &= set - 1) {
      const port = 31 - Math.clz32(set & -set);
      const count = kernels.switchGather(side, source, first, FRAMES, port);
      if (adding) sum = (Math.imul(sum, 31) + count * 64 + port) >>> 0;
    }
  }
}

/** Milliseconds of processor time: whoever else wants the processor meanwhile does not count. */
function spentMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

round(false);
round(true);
// The engine optimizes as it goes.
for (const until = spentMs() + 200; spentMs() < until;) round(false);
let rounds = 0;
const began = spentMs();
let now = began;
for (; now - began < windowMs; now = spentMs()) {
  round(false);
  rounds++;
}
console.log(JSON.stringify({ framesPerSecond: Math.round((rounds * BURSTS * FRAMES * 1000) / (now - began)), sum }));
