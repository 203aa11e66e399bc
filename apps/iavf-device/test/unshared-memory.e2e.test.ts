/**
 * A guest whose memory comes without descriptors, all of it or a part, against the composed product: every frame costs DMA messages,
 * and arrives. A well-behaved guest has the second card of the same process meanwhile.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { ask, end, start, until } from './support/children.ts';
import { HandDriver, RAM_BYTES, RAM_IOVA } from './support/hand-driver.ts';
import { Random } from './support/random.ts';
import type { DeviceReport } from './support/reporting-device.ts';
import type { Steady } from './support/steady-driver.ts';

const LENGTH = 64;
const EOP_RS = 0x30n;
const RXE = 1n << 19n;
const HALF = RAM_BYTES / 2;
const TX_RING = 0;
const RX_RING = 0x1000;
const TX_BUFFERS = HALF;
const RX_BUFFERS = HALF + 0x10_0000;
const PORT = 'net_iavf_be0';

const folder = mkdtempSync(join(tmpdir(), 'emudev-unshared-'));
const sockets = [join(folder, '0.sock'), join(folder, '1.sock')] as const;
let device: ChildProcess;
let neighbour: ChildProcess;

beforeAll(async () => {
  device = await start('reporting-device.ts', sockets.flatMap((path, i) => ['--vdev', `emu_iavf${i},path=${path}`, '--vdev', `net_iavf_be${i},emu=emu_iavf${i}`, '--forward', `net_iavf_be${i}`]));
  neighbour = await start('steady-driver.ts', [sockets[1]]);
});

afterAll(async () => {
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

const xstats = async (): Promise<Readonly<Record<string, number>>> => (await ask<DeviceReport>(device)).ports[PORT]!.xstats;

/** One queue of a guest, which sends itself frames. */
class Queue {
  readonly #guest: HandDriver;
  readonly #numbers = new Random(0x51);
  #tail = 0;
  #txDone = 0;
  #rxNext = 0;

  constructor(guest: HandDriver) {
    this.#guest = guest;
  }

  /** Enabled, with all buffers but one given to the card. */
  async up(): Promise<void> {
    const guest = this.#guest;
    this.#tail = this.#txDone = this.#rxNext = 0;
    await guest.filters();
    const configured = await guest.configure({
      tx: { vsiId: 1, queueId: 0, ringLength: LENGTH, ringAddress: RAM_IOVA + BigInt(TX_RING) },
      rx: { vsiId: 1, queueId: 0, ringLength: LENGTH, ringAddress: RAM_IOVA + BigInt(RX_RING), bufferBytes: 2048, maxPacketBytes: 9728 },
    });
    for (let slot = 0; slot < LENGTH; slot++) this.#giveBuffer(slot);
    guest.setTail('rx', 0, LENGTH - 1);
    expect([configured.status, (await guest.enable(1)).status]).toEqual([0, 0]);
  }

  #giveBuffer(slot: number): void {
    const { window, ram } = this.#guest;
    const at = ram.offset + RX_RING + 32 * slot;
    // Across pages, too.
    window.view.setBigUint64(at, RAM_IOVA + BigInt(RX_BUFFERS + slot * 2056), true);
    window.view.setBigUint64(at + 8, 0n, true);
  }

  /** Sends frames, and returns them. */
  transmit(frames: number): Uint8Array[] {
    const { window, ram, mac } = this.#guest;
    const sent: Uint8Array[] = [];
    for (let n = 0; n < frames; n++) {
      const bytes = Uint8Array.from({ length: 60 + this.#numbers.below(1440) }, () => this.#numbers.below(256));
      bytes.set(mac);
      bytes.set(mac, 6);
      bytes.set([0x88, 0xb5], 12);
      window.u8.set(bytes, ram.offset + TX_BUFFERS + this.#tail * 2000);
      const at = ram.offset + TX_RING + 16 * this.#tail;
      window.view.setBigUint64(at, RAM_IOVA + BigInt(TX_BUFFERS + this.#tail * 2000), true);
      window.view.setBigUint64(at + 8, EOP_RS | (BigInt(bytes.length) << 34n), true);
      sent.push(bytes);
      this.#tail = (this.#tail + 1) % LENGTH;
    }
    this.#guest.setTail('tx', 0, this.#tail);
    return sent;
  }

  /** The card has given back all Tx descriptors. */
  isSent(): boolean {
    const { window, ram } = this.#guest;
    for (; this.#txDone !== this.#tail; this.#txDone = (this.#txDone + 1) % LENGTH) {
      if ((window.view.getBigUint64(ram.offset + TX_RING + 16 * this.#txDone + 8, true) & 15n) !== 15n) return false;
    }
    return true;
  }

  /** Frames that have come; their buffers are given to the card again. */
  receive(): Uint8Array[] {
    const { window, ram } = this.#guest;
    const frames: Uint8Array[] = [];
    for (;;) {
      const slot = this.#rxNext;
      const qw1 = window.view.getBigUint64(ram.offset + RX_RING + 32 * slot + 8, true);
      if ((qw1 & 1n) === 0n) return frames;
      const at = ram.offset + RX_BUFFERS + slot * 2056;
      if ((qw1 & RXE) === 0n) frames.push(window.u8.slice(at, at + Number((qw1 >> 38n) & 0x3fffn)));
      this.#giveBuffer(slot);
      this.#rxNext = (slot + 1) % LENGTH;
      this.#guest.setTail('rx', 0, (slot + LENGTH) % LENGTH);
    }
  }
}

test.each(['everything', 'rings', 'buffers'] as const)('%s by messages: what is sent comes back', async (unshared) => {
  await using guest = await HandDriver.attach(sockets[0], unshared);
  const queue = new Queue(guest);
  await queue.up();
  for (let round = 0; round < 15; round++) {
    const before = await xstats();
    const sent = queue.transmit(20);
    await until(`round ${round} is sent`, () => queue.isSent());
    const got: Uint8Array[] = [];
    await until(`round ${round} is back or counted`, async () => {
      const now = await xstats();
      const count = (name: string): number => now[name]! - before[name]!;
      got.push(...queue.receive());
      // A card that has not looked at its new buffers yet discards what comes, and counts it.
      return count('rx_q0_packets') === 20 && got.length === count('tx_q0_packets') && got.length + count('tx_q0_dropped') === 20;
    });
    // In order, each once, byte for byte.
    let next = 0;
    for (const bytes of got) {
      while (next < sent.length && Buffer.compare(sent[next]!, bytes) !== 0) next++;
      expect([round, next < sent.length]).toEqual([round, true]);
      next++;
    }
  }
  const { bounced_rings: bounced, rx_q0_errors: errors, tx_q0_packets: packets } = await xstats();
  expect([bounced, errors, packets! > 200]).toEqual([2, 0, true]);
  await expectNeighbourWell();
});

test('memory that goes and comes under load, shared and not', async () => {
  const before = await ask<DeviceReport>(device);
  {
    await using guest = await HandDriver.attach(sockets[0], 'everything');
    const queue = new Queue(guest);
    await queue.up();
    const numbers = new Random(0x77);
    for (let round = 0; round < 40; round++) {
      queue.transmit(30);
      const at = numbers.below(2) * HALF;
      await guest.client.dmaUnmap(RAM_IOVA + BigInt(at), HALF);
      await guest.map(at, HALF, numbers.below(2) === 0);
      queue.receive();
      if (round % 8 !== 7) continue;
      // What it did to itself has cost it queues by now.
      await guest.reset();
      await queue.up();
    }
    await guest.reset();
    await queue.up();
    await until('frames come back at last', async () => {
      queue.transmit(1);
      await until('it is sent', () => queue.isSent());
      return queue.receive().length > 0;
    });
    await expectNeighbourWell();
  }
  await until('everything of the guest has been given back', async () => {
    const now = await ask<DeviceReport>(device);
    return now.openDescriptors <= before.openDescriptors && now.mappings <= before.mappings && now.ports[PORT]!.xstats['bounced_rings'] === 0;
  });
});

test('a client that is killed with messages on their way', async () => {
  const before = await ask<DeviceReport>(device);
  for (let n = 0; n < 3; n++) {
    const seen = (await xstats())['rx_q0_packets']!;
    const child = fork(fileURLToPath(new URL('./support/killed-client.ts', import.meta.url)), [sockets[0], 'unshared'], { stdio: 'inherit' });
    await once(child, 'message');
    await until('its rings are served', async () => (await xstats())['rx_q0_packets']! > seen);
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
    await until('its rings are gone', async () => (await xstats())['bounced_rings'] === 0);
  }
  await until('nothing of them is left', async () => {
    const now = await ask<DeviceReport>(device);
    return now.openDescriptors <= before.openDescriptors && now.mappings <= before.mappings;
  });
  await expectNeighbourWell();
  await using guest = await HandDriver.attach(sockets[0], 'everything');
  const queue = new Queue(guest);
  await queue.up();
  queue.transmit(1);
  await until('the next one is served', () => queue.isSent());
});
