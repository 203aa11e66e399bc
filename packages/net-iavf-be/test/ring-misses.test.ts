/** A question about memory that a ring misses takes along what the same ring will need next, whatever its descriptors are like. */
import { IOTLB_READ, IOTLB_WRITE, MISS_CELL_BYTES } from '@emudev/dma';
import type { LcoreContext } from '@emudev/ethdev';
import { expect, it } from 'vitest';
import { Q_HEAD } from '../src/layout.ts';
import { RingMisses } from '../src/ring-misses.ts';
import type { Kernels } from '../src/twins/index.ts';
import { CHUNK_IOVA, Rig } from './rig.ts';

const CELLS = 0x300000;
const BELL = 0x310000;
const QUEUE_PAIRS = 2;
const SEND_CELL = CELLS + QUEUE_PAIRS * MISS_CELL_BYTES;
const RING = 32;
const ABSENT = Array.from({ length: 4 }, (_, n) => 0x77_0000_0000n + (BigInt(n) << 21n));

const rig = new Rig();

function misses(at: bigint): RingMisses {
  const kernels = { setAsking: () => {}, deny: () => {}, missHigh: () => Number(at >> 32n), missLow: () => Number(at & 0xffff_ffffn) } as unknown as Kernels;
  return new RingMisses({ ...rig, lcore: 0, base: 0n } as LcoreContext, kernels, rig.device, { offset: CELLS, count: QUEUE_PAIRS + 1, bell: BELL });
}

/** As misses.ts of @emudev/dma has it. */
const asked = (cell: number): { state: number; access: number; addresses: bigint[] } => ({
  state: rig.get(cell), access: rig.get(cell + 8), addresses: Array.from({ length: rig.get(cell + 12) }, (_, n) => rig.get64(cell + 24 + 8 * n)),
});

it.each([['32', false], ['16', true]])('buffers to receive in, descriptors of %s bytes, over the end of the ring', (_, short) => {
  rig.reset();
  rig.mapGuest();
  rig.enableRx(0, { length: RING, short });
  // What the device has written last time is no address; behind the tail nothing is the device's
  const posted = [CHUNK_IOVA, ABSENT[0]!, CHUNK_IOVA + 4096n, ABSENT[1]!, ABSENT[2]!];
  for (let n = 0; n < RING; n++) {
    rig.set64(rig.rxDescriptor(0, n), ABSENT[3]!);
    rig.set64(rig.rxDescriptor(0, n) + 8, ABSENT[3]!);
  }
  const head = RING - 3;
  posted.forEach((at, n) => { rig.set64(rig.rxDescriptor(0, (head + n) % RING), at); });
  rig.set(rig.rxBlock(0) + Q_HEAD, head);
  rig.setTail(rig.rxBlock(0), (head + posted.length) % RING);
  misses(ABSENT[0]!).askForRx();
  expect(asked(SEND_CELL)).toEqual({ state: 1, access: IOTLB_WRITE, addresses: [ABSENT[0], ABSENT[0], ABSENT[1], ABSENT[2]] });
  expect(rig.get(BELL)).toBe(1);
});

it('buffers to send from, and no context descriptor', () => {
  rig.reset();
  rig.mapGuest();
  rig.enableTx(1, { length: RING });
  const DATA = 0n;
  const CONTEXT = 1n;
  [[ABSENT[0]!, DATA], [ABSENT[3]!, CONTEXT], [CHUNK_IOVA, DATA], [ABSENT[1]!, DATA]].forEach(([at, type], n) => {
    rig.set64(rig.txDescriptor(1, n), at!);
    rig.set64(rig.txDescriptor(1, n) + 8, type!);
  });
  rig.setTail(rig.txBlock(1), 4);
  misses(ABSENT[0]!).askForTx(1);
  expect(asked(CELLS + MISS_CELL_BYTES)).toEqual({ state: 1, access: IOTLB_READ, addresses: [ABSENT[0], ABSENT[0], ABSENT[1]] });
});
