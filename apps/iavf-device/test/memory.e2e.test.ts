/**
 * Guest memory of any size and in motion, against the composed product: a guest with rings and buffers all over 64 GiB, and one that
 * unmaps and remaps what its queues are using, while a well-behaved guest has the second card of the same process.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { linux } from '@emudev/linux';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { ask, end, start, until } from './support/children.ts';
import { HandDriver } from './support/hand-driver.ts';
import { Random } from './support/random.ts';
import type { DeviceReport } from './support/reporting-device.ts';
import type { Steady } from './support/steady-driver.ts';

const GIB = 2 ** 30;
const PAGE = 4096;
const RAM_BYTES = 64 * GIB;
const BASE = 0x10_0000_0000n;
const LENGTH = 64;
const FRAME_BYTES = 300;
const EOP_RS = 0x30n;

const folder = mkdtempSync(join(tmpdir(), 'emudev-memory-'));
const sockets = [join(folder, '0.sock'), join(folder, '1.sock')] as const;
let device: ChildProcess;
let neighbour: ChildProcess;
/** The guest's memory: sparse, written and read through the file. */
let ram: number;

beforeAll(async () => {
  device = await start('reporting-device.ts', sockets.flatMap((path, i) => ['--vdev', `emu_iavf${i},path=${path}`, '--vdev', `net_iavf_be${i},emu=emu_iavf${i}`, '--forward', `net_iavf_be${i}`]));
  neighbour = await start('steady-driver.ts', [sockets[1]]);
  ram = linux.memfdCreate('guest-big', { allowSealing: true });
  linux.ftruncate(ram, RAM_BYTES);
});

afterAll(async () => {
  if (ram !== undefined) linux.close(ram);
  await end([neighbour, device]);
  rmSync(folder, { recursive: true, force: true });
});

beforeEach(async () => {
  await ask<Steady>(neighbour);
});

async function expectNeighbourWell(): Promise<void> {
  let echoed = 0;
  await until('the neighbour has echoed', async () => {
    const seen = await ask<Steady>(neighbour);
    expect([seen.failures, seen.wrong]).toEqual([[], 0]);
    echoed += seen.echoed;
    return echoed > 0;
  });
  expect((await ask<DeviceReport>(device)).failures).toEqual([]);
}

function put64(at: number, ...values: bigint[]): void {
  linux.pwrite(ram, new Uint8Array(BigUint64Array.from(values).buffer), at);
}
function get64(at: number): bigint {
  const value = new BigUint64Array(1);
  linux.pread(ram, new Uint8Array(value.buffer), at);
  return value[0]!;
}

/** Where the rings of a queue lie: far apart, and not on a chunk. */
const txRing = (queue: number): number => (11 + 13 * queue) * GIB + 37 * PAGE;
const rxRing = (queue: number): number => (7 + 13 * queue) * GIB + 511 * PAGE;
const pair = (queueId: number): Parameters<HandDriver['configure']>[0] => ({
  tx: { vsiId: 1, queueId, ringLength: LENGTH, ringAddress: BASE + BigInt(txRing(queueId)) },
  rx: { vsiId: 1, queueId, ringLength: LENGTH, ringAddress: BASE + BigInt(rxRing(queueId)), bufferBytes: 2048, maxPacketBytes: 9728 },
});

test('rings and buffers anywhere in 64 GiB', async () => {
  await using guest = await HandDriver.attach(sockets[0]);
  await guest.client.dmaMap({ iova: BASE, sizeBytes: RAM_BYTES, readable: true, writable: true, fd: ram });
  await guest.filters();
  expect((await guest.configure(pair(0), pair(1))).status).toBe(0);
  expect((await guest.enable(3)).status).toBe(0);
  const numbers = new Random(0x64);
  const random = (): number => numbers.u32() / 2 ** 32;
  /** Not page aligned: some frames lie across two pages, and some of these across two chunks. */
  const anywhere = (): number => Math.floor(random() * (RAM_BYTES / 2 - 2048)) * 2;
  let tail = 0;
  for (let round = 0; round < 40; round++) {
    const frames = 32;
    const posted: { sent: Uint8Array; to: number }[] = [];
    for (let n = 0; n < frames; n++) {
      const slot = (tail + n) % LENGTH;
      const sent = new Uint8Array(FRAME_BYTES).map(() => Math.floor(random() * 256));
      sent.set(guest.mac);
      sent.set(guest.mac, 6);
      sent.set([0x88, 0xb5], 12);
      const from = anywhere();
      const to = anywhere();
      linux.pwrite(ram, sent, from);
      put64(rxRing(0) + 32 * slot, BASE + BigInt(to), 0n);
      put64(txRing(0) + 16 * slot, BASE + BigInt(from), EOP_RS | (BigInt(FRAME_BYTES) << 34n));
      posted.push({ sent, to });
    }
    const first = tail;
    tail = (tail + frames) % LENGTH;
    guest.setTail('rx', 0, tail);
    guest.setTail('tx', 0, tail);
    const last = (tail + LENGTH - 1) % LENGTH;
    await until(`round ${round} is back`, () => (get64(rxRing(0) + 32 * last + 8) & 1n) === 1n);
    posted.forEach(({ sent, to }, n) => {
      const got = new Uint8Array(FRAME_BYTES);
      linux.pread(ram, got, to);
      expect([round, n, (get64(rxRing(0) + 32 * ((first + n) % LENGTH) + 8) >> 38n) & 0x3fffn]).toEqual([round, n, BigInt(FRAME_BYTES)]);
      expect(Buffer.compare(got, sent)).toBe(0);
    });
  }
  const { xstats } = (await ask<DeviceReport>(device)).ports['net_iavf_be0']!;
  expect([xstats['rx_q0_errors'], xstats['tx_q0_dropped']]).toEqual([0, 0]);
  await expectNeighbourWell();
});

test('memory that comes and goes under four busy queues', async () => {
  const before = await ask<DeviceReport>(device);
  {
    await using guest = await HandDriver.attach(sockets[0]);
    const slice = 4 * GIB;
    const map = (n: number): Promise<void> => guest.client.dmaMap({ iova: BASE + BigInt(n * slice), sizeBytes: slice, readable: true, writable: true, fd: ram, fdOffset: n * slice });
    const slices = RAM_BYTES / slice;
    for (let n = 0; n < slices; n++) await map(n);
    await guest.filters();
    const numbers = new Random(0xbad);
    const random = (): number => numbers.u32() / 2 ** 32;
    const queues = [0, 1, 2, 3];
    for (const queue of queues) {
      for (let slot = 0; slot < LENGTH; slot++) {
        const buffer = (): bigint => BASE + BigInt(Math.floor(random() * (RAM_BYTES / PAGE)) * PAGE);
        put64(txRing(queue) + 16 * slot, buffer(), EOP_RS | (BigInt(FRAME_BYTES) << 34n));
        put64(rxRing(queue) + 32 * slot, buffer(), 0n);
      }
    }
    const up = async (): Promise<void> => {
      await guest.configure(...queues.map(pair));
      await guest.enable(15);
      for (const queue of queues) guest.setTail('rx', queue, LENGTH - 1);
    };
    await up();
    let tail = 0;
    for (let round = 0; round < 60; round++) {
      tail = (tail + 40) % LENGTH;
      for (const queue of queues) guest.setTail('tx', queue, tail);
      const n = Math.floor(random() * slices);
      await guest.client.dmaUnmap(BASE + BigInt(n * slice), slice);
      tail = (tail + 7) % LENGTH;
      for (const queue of queues) guest.setTail('tx', queue, tail);
      await map(n);
      // What it did to itself has cost it queues by now.
      if (round % 10 === 9) {
        await guest.reset();
        await guest.filters();
        await up();
      }
    }
    const { xstats } = (await ask<DeviceReport>(device)).ports['net_iavf_be0']!;
    expect(xstats['rx_good_packets']! + xstats['rx_q0_errors']!).toBeGreaterThan(0);
    await expectNeighbourWell();
  }
  await until('everything of the guest has been given back', async () => {
    const now = await ask<DeviceReport>(device);
    return now.openDescriptors <= before.openDescriptors && now.mappings <= before.mappings;
  });
  await expectNeighbourWell();
});
