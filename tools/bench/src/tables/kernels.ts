/**
 * The back end's kernels alone: one thread plays both ends of a ring, memory warm in the cache, so what is left is the work per frame.
 * Against C twins of the same checks (c/kernels.c), which start from the same memory and have to leave the same.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as dma from '@emudev/dma';
import * as ethdev from '@emudev/ethdev';
import { KERNELS_WASM_BASE64 } from '../../../../packages/net-iavf-be/src/kernels.gen.ts';
import * as layout from '../../../../packages/net-iavf-be/src/layout.ts';
import { CHUNK_IOVA, guestOffset, Rig, RIG_BYTES } from '../../../../packages/net-iavf-be/test/rig.ts';
import { missingPeer } from '../peers.ts';
import { TemporaryFolder } from '../processes.ts';
import type { Contender, Effort, Table } from '../table.ts';

const SOURCE = fileURLToPath(new URL('../../c/kernels.c', import.meta.url));
const BURST = 32;
const RING = 512;
/** Bursts between two refills by the guest; only they are timed. */
const BURSTS = 15;
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const GOAL = 0.9;

interface Kernels {
  rxBurst(device: number, queue: number, records: number, max: number, arena: number, arenaBytes: number): number;
  txBurst(device: number, records: number, count: number): number;
  setStoreOrder(ordered: number): void;
}

interface Case {
  readonly who: string;
  readonly kernel: 'guest-tx' | 'guest-rx';
  readonly bytes: number;
  readonly tcp?: boolean;
  /** Guest Tx: of qw1, besides EOP and length. */
  readonly command?: bigint;
  /** Guest Rx: FRAME_RX_* of the records. */
  readonly flags?: number;
}

const RS = 0x20n;
/** IIPT IPv4 with checksum, L4T TCP, OFFSET 14/20/20. */
const TCP_CHECKSUM = 0x1600n | (7n << 16n) | (5n << 23n) | (5n << 30n);
const VOUCHED = ethdev.FRAME_RX_IP_GOOD | ethdev.FRAME_RX_L4_GOOD;
const CASES: readonly Case[] = [
  { who: 'guest Tx 64', kernel: 'guest-tx', bytes: 64, command: RS },
  { who: 'guest Tx 64, checksums', kernel: 'guest-tx', bytes: 64, tcp: true, command: RS | TCP_CHECKSUM },
  { who: 'guest Tx 1500', kernel: 'guest-tx', bytes: 1500, command: RS },
  { who: 'guest Tx 1500, checksums', kernel: 'guest-tx', bytes: 1500, tcp: true, command: RS | TCP_CHECKSUM },
  { who: 'guest Rx 64, vouched for', kernel: 'guest-rx', bytes: 64, tcp: true, flags: VOUCHED },
  { who: 'guest Rx 64, verified', kernel: 'guest-rx', bytes: 64, tcp: true },
  { who: 'guest Rx 1500, vouched for', kernel: 'guest-rx', bytes: 1500, tcp: true, flags: VOUCHED },
  { who: 'guest Rx 1500, verified', kernel: 'guest-rx', bytes: 1500, tcp: true },
];

/** A UDP (no checksum) or TCP frame; only what the data path looks at is right. `flow` varies addresses and ports. */
function frame(bytes: number, flow: number, tcp: boolean): Uint8Array {
  const f = new Uint8Array(bytes);
  const v = new DataView(f.buffer);
  f.set(MAC, 0);
  v.setUint16(12, 0x0800);
  f[14] = 0x45;
  v.setUint16(16, bytes - 14);
  f[23] = tcp ? 6 : 17;
  v.setUint32(26, 0x0a000001 + flow);
  v.setUint32(30, 0x0a000002);
  v.setUint16(34, 1000 + flow);
  v.setUint16(36, 80);
  if (tcp) f[46] = 0x50;
  else v.setUint16(38, bytes - 34);
  return f;
}

function prepare(rig: Rig, { kernel, bytes, tcp = false, command = 0n, flags = 0 }: Case): void {
  rig.reset();
  rig.mapGuest();
  if (kernel === 'guest-tx') {
    rig.enableTx(0, { length: RING });
    for (let n = 0; n < RING; n++) {
      rig.write(guestOffset(CHUNK_IOVA + BigInt(n * 2048)), frame(bytes, n, tcp));
      rig.set64(rig.txDescriptor(0, n), CHUNK_IOVA + BigInt(n * 2048));
      rig.set64(rig.txDescriptor(0, n) + 8, 0x10n | command | (BigInt(bytes) << 34n));
    }
    return;
  }
  rig.addMac(MAC);
  rig.enableRx(0, { length: RING });
  rig.fillBurst(Array.from({ length: BURST }, (_, n) => ({ bytes: frame(bytes, n, tcp), flags })));
  for (let n = 0; n < RING; n++) rig.set64(rig.rxDescriptor(0, n), CHUNK_IOVA + BigInt(n * 2048));
}

/** Nanoseconds per frame of the lower-quartile lap: what it costs when nobody else has the processor. */
function time(rig: Rig, kernels: Kernels, { kernel }: Case, laps: number): number {
  const { records, arena, arenaBytes } = rig.burst;
  const tx = kernel === 'guest-tx';
  const block = tx ? rig.txBlock(0) : rig.rxBlock(0);
  const ring = tx ? rig.txDescriptor(0, 0) : rig.rxDescriptor(0, 0);
  const posted = rig.bytes(ring, RING * (tx ? layout.TX_DESCRIPTOR_BYTES : layout.RX_DESCRIPTOR_BYTES));
  const times: number[] = [];
  for (let lap = 0; lap < laps; lap++) {
    rig.write(ring, posted);
    rig.setTail(block, (rig.head(block) + BURSTS * BURST) % RING);
    const start = performance.now();
    for (let n = 0; n < BURSTS; n++) {
      const done = tx ? kernels.rxBurst(rig.device, 0, records, BURST, arena, arenaBytes) & 0xffff : kernels.txBurst(rig.device, records, BURST);
      if (done !== BURST) throw new Error(`${done} of ${BURST} frames`);
    }
    times.push(performance.now() - start);
  }
  return (times.sort((a, b) => a - b)[laps >> 2]! * 1e6) / (BURSTS * BURST);
}

/** The twin's constants are the kernels' own. */
function compile(folder: TemporaryFolder): string {
  const constants = Object.entries({ ...layout, ...dma, ...ethdev }).filter(([name, value]) => typeof value === 'number' && /^[A-Z][A-Z0-9_]*$/.test(name));
  writeFileSync(folder.file('layout.h'), constants.map(([name, value]) => `#define ${name} ${String(value)}u\n`).join(''));
  const program = folder.file('kernels');
  execFileSync('gcc', ['-O3', '-march=native', '-fno-strict-aliasing', '-I', folder.file('.'), '-o', program, SOURCE], { stdio: ['ignore', 'ignore', 'pipe'] });
  return program;
}

const lapsOf = (effort: Effort): number => (effort.quick ? 200 : 4000);

/** What the kernels alone write, besides what counts. */
function withoutScratch(rig: Rig, image: Buffer): Buffer {
  return image.fill(0, rig.device + layout.DEV_SCRATCH, rig.device + layout.DEV_BYTES);
}

const table: Table = {
  what: `kernels of the emulated card alone, both ends of the ring played by one thread, bursts of ${BURST}; nanoseconds per frame, lower quartile of the laps`,
  figures: [{ name: 'ns', unit: 'ns', better: 'less' }],
  contenders(_effort, undo) {
    const missing = missingPeer('gcc');
    const folder = undo.use(new TemporaryFolder());
    const program = missing === undefined ? compile(folder) : '';
    const rig = new Rig();
    const kernels = dma.loadKernels<Kernels>(KERNELS_WASM_BASE64, rig.memory);
    kernels.setStoreOrder(process.arch === 'x64' ? 1 : 0);
    return CASES.flatMap((which): Contender[] => {
      const twin = `${which.who}, in C`;
      return [
        {
          who: which.who,
          against: [{ who: twin, goal: GOAL }],
          run: async (effort) => {
            prepare(rig, which);
            return { ns: time(rig, kernels, which, lapsOf(effort)) };
          },
        },
        {
          who: twin,
          missing,
          run: async (effort) => {
            const laps = lapsOf(effort);
            const image = folder.file('image');
            prepare(rig, which);
            writeFileSync(image, rig.bytes(0, RIG_BYTES));
            const { records, arena, arenaBytes } = rig.burst;
            const answer = execFileSync(program, [image, which.kernel, BURST, BURSTS, laps, rig.device, records, arena, arenaBytes].map(String), { encoding: 'utf8' });
            time(rig, kernels, which, laps);
            if (!withoutScratch(rig, readFileSync(image)).equals(withoutScratch(rig, rig.bytes(0, RIG_BYTES)))) throw new Error('it does not do what the kernel does');
            return { ns: Number(answer) };
          },
        },
      ];
    });
  },
};
export default table;
