/** An lcore that has died between a burst and the end of its loans: whoever polls the queue next gives the descriptors back. */
import { expect, it } from 'vitest';
import { DEV_LENDS } from '../src/layout.ts';
import { implementations } from './both-ways.ts';
import { frameOf } from './frames.ts';
import { CHUNK_IOVA, guestOffset, Rig } from './rig.ts';

const RAISE = 1 << 16;
const LENT = 1 << 18;
const rig = new Rig();
const both = implementations(rig);

it.each(['wasm', 'twins'] as const)('%s', (which) => {
  const kernels = both[which];
  rig.reset();
  rig.mapGuest();
  rig.set(rig.device + DEV_LENDS, 1);
  rig.enableTx();
  const { bytes } = frameOf({ payload: 1400 });
  for (const slot of [0, 1, 2]) {
    const iova = CHUNK_IOVA + BigInt(slot * 2048);
    rig.write(guestOffset(iova), bytes);
    rig.set64(rig.txDescriptor(0, slot), iova);
    rig.set64(rig.txDescriptor(0, slot) + 8, 0x30n | (BigInt(bytes.length) << 34n)); // EOP, RS
  }
  const { records, arena, arenaBytes } = rig.burst;
  const poll = (): number => kernels.rxBurst(rig.device, 0, records, 64, arena, arenaBytes);
  const done = (): boolean[] => [0, 1, 2].map((slot) => (rig.get64(rig.txDescriptor(0, slot) + 8) & 0xfn) === 0xfn);
  rig.setTail(rig.txBlock(0), 2);
  expect([poll(), done()]).toEqual([2 | LENT, [false, false, false]]);
  rig.setTail(rig.txBlock(0), 3);
  expect([poll(), done()]).toEqual([1 | RAISE | LENT, [true, true, false]]);
  kernels.takeBack(rig.device, 0, records, 0);
  expect([poll(), done()]).toEqual([0, [true, true, true]]);
});
