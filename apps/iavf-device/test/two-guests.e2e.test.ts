/**
 * Two guests on one pair of ports: frames of any length, most of them lent on their way, while either guest takes memory away, disables
 * its queues or resets its card. Whatever arrives is exactly what was sent, in order, although the sender uses each of its buffers again as
 * soon as it has it back; and checksums that were left to the card are right.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ask, end, start, until } from './support/children.ts';
import { HandDriver, memory, RAM_IOVA, type Memory } from './support/hand-driver.ts';
import { Random } from './support/random.ts';
import type { DeviceReport } from './support/reporting-device.ts';

const LENGTH = 512;
const TX_RING = 0;
const RX_RING = 0x4000;
/** Regions of their own, each a whole chunk. */
const SLICE_BYTES = 2 << 20;
const SLICES = 4;
const PER_SLICE = LENGTH / SLICES;
const SLICE_IOVA = 0x4_0000_0000n;
const TX_STRIDE = 9216;
const RX_STRIDE = 2048;
const EOP_RS = 0x30n;
const DONE = 15n;
const DD = 1n;
const LAST = 2n;
const RXE = 1n << 19n;
const L3L4P = 1n << 3n;
/** IPE and L4E. */
const WRONG_CHECKSUM = 3n << 22n;
/** IIPT IPv4 with checksum, L4T TCP, OFFSET 14/20/20. */
const TCP_CHECKSUMS = 0x1600n | (7n << 16n) | (5n << 23n) | (5n << 30n);
const TCP_HEADERS_BYTES = 54;
const SIZES = [1500, 300, 1500, 60, 9000, 1500, 257, 1514, 2048, 100];
/** In memory that has been taken away. */
const SCRIBBLE = 0xee;

const folder = mkdtempSync(join(tmpdir(), 'emudev-two-guests-'));
const sockets = [join(folder, '0.sock'), join(folder, '1.sock')] as const;
let device: ChildProcess;

beforeAll(async () => {
  device = await start('reporting-device.ts', [
    ...sockets.flatMap((path, i) => ['--vdev', `emu_iavf${i},path=${path}`, '--vdev', `net_iavf_be${i},emu=emu_iavf${i}`]), '--forward', 'net_iavf_be0=net_iavf_be1',
  ]);
});

afterAll(async () => {
  await end([device]);
  rmSync(folder, { recursive: true, force: true });
});

/** Bytes of frame number n from its 18th on; those of the frame that has its buffer next are others. */
const pattern = Uint8Array.from({ length: 10_000 }, (_, i) => (i * 73 + (i >> 8)) & 0xff);
const sizeOf = (number: number): number => SIZES[number % SIZES.length]!;
const payloadOf = (number: number): Uint8Array => pattern.subarray((number * 7) % 251, ((number * 7) % 251) + sizeOf(number) - 18);

/** As a stack hands it to a card that inserts checksums. */
const isTcp = (number: number): boolean => number % 3 === 0 && sizeOf(number) > TCP_HEADERS_BYTES + 18;

/** One's complement sum, folded. */
function sumOf(bytes: Buffer, start = 0): number {
  let sum = start;
  for (let at = 0; at + 1 < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  if (bytes.length % 2 === 1) sum += bytes[bytes.length - 1]! << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}
const pseudoSum = (frame: Buffer): number => sumOf(frame.subarray(26, 34), 6 + frame.length - 34);

/** Of a TCP packet whose sequence number is that of the frame. */
function tcpFrame(addresses: Uint8Array, number: number): Buffer {
  const frame = Buffer.alloc(sizeOf(number));
  frame.set(addresses);
  frame.writeUInt16BE(0x0800, 12);
  frame.writeUInt16BE(0x4500, 14);
  frame.writeUInt16BE(frame.length - 14, 16);
  frame.set([64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4], 22);
  frame.writeUInt32BE(number, 38);
  frame.set([0x50, 0x10], 46);
  frame.set(payloadOf(number).subarray(TCP_HEADERS_BYTES - 18), TCP_HEADERS_BYTES);
  frame.writeUInt16BE(pseudoSum(frame), 50);
  return frame;
}

/** A guest with one queue, whose buffers lie in regions apart from its rings. */
class Guest implements AsyncDisposable {
  readonly driver: HandDriver;
  readonly slices: readonly Memory[];

  static async attach(socket: string): Promise<Guest> {
    const guest = new Guest(await HandDriver.attach(socket));
    for (let n = 0; n < SLICES; n++) await guest.map(n);
    return guest;
  }

  private constructor(driver: HandDriver) {
    this.driver = driver;
    this.slices = Array.from({ length: SLICES }, () => memory(driver.window, SLICE_BYTES));
  }

  map(slice: number): Promise<void> {
    return this.driver.client.dmaMap({ iova: SLICE_IOVA + BigInt(slice * SLICE_BYTES), sizeBytes: SLICE_BYTES, readable: true, writable: true, fd: this.slices[slice]!.fd });
  }

  unmap(slice: number): Promise<void> {
    return this.driver.client.dmaUnmap(SLICE_IOVA + BigInt(slice * SLICE_BYTES), SLICE_BYTES);
  }

  /** Where the buffer of a slot is: for the card, and in the window. */
  buffer(slot: number, stride: number): { readonly iova: bigint; readonly offset: number } {
    const slice = Math.floor(slot / PER_SLICE);
    const within = (slot % PER_SLICE) * stride;
    return { iova: SLICE_IOVA + BigInt(slice * SLICE_BYTES + within), offset: this.slices[slice]!.offset + within };
  }

  /** The rings hold `fill`, and the queues are enabled. */
  async up(fill: (slot: number) => void): Promise<void> {
    const { driver } = this;
    await driver.filters();
    const configured = await driver.configure({
      tx: { vsiId: 1, queueId: 0, ringLength: LENGTH, ringAddress: RAM_IOVA + BigInt(TX_RING) },
      rx: { vsiId: 1, queueId: 0, ringLength: LENGTH, ringAddress: RAM_IOVA + BigInt(RX_RING), bufferBytes: RX_STRIDE, maxPacketBytes: 9728 },
    });
    for (let slot = 0; slot < LENGTH; slot++) fill(slot);
    expect([configured.status, (await driver.enable(1)).status]).toEqual([0, 0]);
  }

  get64(at: number): bigint {
    return this.driver.window.view.getBigUint64(this.driver.ram.offset + at, true);
  }

  put64(at: number, ...values: bigint[]): void {
    values.forEach((value, n) => { this.driver.window.view.setBigUint64(this.driver.ram.offset + at + 8 * n, value, true); });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const slice of this.slices) slice[Symbol.dispose]();
    await this.driver[Symbol.asyncDispose]();
  }
}

class Sender {
  readonly guest: Guest;
  readonly #header: Uint8Array;
  /** Of the next frame. */
  number = 0;
  #tail = 0;
  #done = 0;

  constructor(guest: Guest, to: Uint8Array) {
    this.guest = guest;
    this.#header = Uint8Array.from([...to, ...guest.driver.mac, 0x88, 0xb5, 0, 0, 0, 0]);
  }

  async up(): Promise<void> {
    this.#tail = this.#done = 0;
    await this.guest.up((slot) => { this.guest.put64(TX_RING + 16 * slot, 0n, 0n); });
  }

  /** The card has given back all descriptors, in order. */
  isIdle(): boolean {
    while (this.#done !== this.#tail && (this.guest.get64(TX_RING + 16 * this.#done + 8) & DONE) === DONE) this.#done = (this.#done + 1) % LENGTH;
    return this.#done === this.#tail;
  }

  /** As many frames as there are descriptors. */
  send(): void {
    const { guest } = this;
    const { u8 } = guest.driver.window;
    this.isIdle();
    for (; (this.#tail + 1) % LENGTH !== this.#done; this.#tail = (this.#tail + 1) % LENGTH, this.number++) {
      const { iova, offset } = guest.buffer(this.#tail, TX_STRIDE);
      if (isTcp(this.number)) {
        u8.set(tcpFrame(this.#header.subarray(0, 12), this.number), offset);
      } else {
        u8.set(this.#header, offset);
        guest.driver.window.view.setUint32(offset + 14, this.number);
        u8.set(payloadOf(this.number), offset + 18);
      }
      guest.put64(TX_RING + 16 * this.#tail, iova, EOP_RS | (isTcp(this.number) ? TCP_CHECKSUMS : 0n) | (BigInt(sizeOf(this.number)) << 34n));
    }
    guest.driver.setTail('tx', 0, this.#tail);
  }

  /** What is on its way is lost with it. */
  async disable(): Promise<void> {
    const { guest } = this;
    this.send();
    expect((await guest.driver.disable(1)).status).toBe(0);
    for (let slot = 0; slot < LENGTH; slot++) guest.put64(TX_RING + 16 * slot, 0n, 0n);
  }
}

class Receiver {
  readonly guest: Guest;
  /** Of the frame that has come last. */
  number = -1;
  frames = 0;
  readonly wrong: string[] = [];
  #next = 0;

  constructor(guest: Guest) {
    this.guest = guest;
  }

  async up(): Promise<void> {
    this.#next = 0;
    await this.guest.up((slot) => { this.#give(slot); });
    this.guest.driver.setTail('rx', 0, LENGTH - 1);
  }

  #give(slot: number): void {
    this.guest.put64(RX_RING + 32 * slot, this.guest.buffer(slot, RX_STRIDE).iova, 0n, 0n, 0n);
  }

  receive(): void {
    const { guest } = this;
    const { u8 } = guest.driver.window;
    for (;;) {
      const parts: Uint8Array[] = [];
      let slot = this.#next;
      let status = 0n;
      do {
        status = guest.get64(RX_RING + 32 * slot + 8);
        if ((status & DD) === 0n) return;
        const { offset } = guest.buffer(slot, RX_STRIDE);
        parts.push(u8.subarray(offset, offset + (Number(status >> 38n) & 0x3fff)));
        slot = (slot + 1) % LENGTH;
      } while ((status & LAST) === 0n);
      if ((status & RXE) === 0n) this.#look(Buffer.concat(parts), status);
      for (; this.#next !== slot; this.#next = (this.#next + 1) % LENGTH) this.#give(this.#next);
      guest.driver.setTail('rx', 0, (slot + LENGTH - 1) % LENGTH);
    }
  }

  #look(frame: Buffer, status: bigint): void {
    const hasChecksum = frame.readUInt16BE(12) === 0x0800;
    const number = frame.readUInt32BE(hasChecksum ? 38 : 14);
    const start = hasChecksum ? TCP_HEADERS_BYTES : 18;
    const isRight = frame.length === sizeOf(number) && hasChecksum === isTcp(number) && Buffer.compare(frame.subarray(start), payloadOf(number).subarray(start - 18)) === 0 &&
      (!hasChecksum || (sumOf(frame.subarray(14, 34)) === 0xffff && sumOf(frame.subarray(34), pseudoSum(frame)) === 0xffff && (status & (L3L4P | WRONG_CHECKSUM)) === L3L4P));
    if ((!isRight || number <= this.number) && this.wrong.length < 5) this.wrong.push(`${number} after ${this.number}, ${frame.length} bytes`);
    this.frames++;
    this.number = number;
  }
}

test('frames between guests that take away memory, queues and the card', async () => {
  await using a = await Guest.attach(sockets[0]);
  await using b = await Guest.attach(sockets[1]);
  const sender = new Sender(a, b.driver.mac);
  const receiver = new Receiver(b);
  await receiver.up();
  await sender.up();
  /** Traffic goes on while something happens, and a little longer. */
  const under = async (change: () => Promise<unknown>, sending = true): Promise<void> => {
    let settled = false;
    if (sending) sender.send();
    const done = change().finally(() => { settled = true; });
    for (let more = 20; more > 0; more -= settled ? 1 : 0) {
      if (sending) sender.send();
      receiver.receive();
      await turn();
    }
    await done;
  };
  const numbers = new Random(0x2601);
  let least = 0;
  for (let round = 0; round < 60; round++) {
    const slice = numbers.below(SLICES);
    switch (round % 6) {
      case 0:
      case 1:
        await under(async () => {
          await a.unmap(slice);
          const { offset } = a.slices[slice]!;
          a.driver.window.u8.fill(SCRIBBLE, offset, offset + SLICE_BYTES);
        });
        // What lay there has been refused by then
        await until('all has been sent', () => {
          receiver.receive();
          return sender.isIdle();
        });
        await a.map(slice);
        break;
      case 2:
        await under(() => b.unmap(slice));
        await b.map(slice);
        // That may have cost it its Rx queue
        await under(() => b.driver.disable(1));
        await receiver.up();
        break;
      case 3:
        await under(() => sender.disable(), false);
        // Nor is one given back when the ring is not the card's any more
        await under(() => b.driver.client.read32(0, 0), false);
        for (let slot = 0; slot < LENGTH; slot++) expect(a.get64(TX_RING + 16 * slot + 8)).toBe(0n);
        await sender.up();
        break;
      case 4:
        await under(() => a.driver.reset(), false);
        await sender.up();
        break;
      case 5:
        await under(() => b.driver.reset());
        await receiver.up();
        break;
    }
    await until('frames come through', () => {
      sender.send();
      receiver.receive();
      return receiver.number >= least;
    });
    least = sender.number;
    expect(receiver.wrong).toEqual([]);
  }
  await until('all has been sent', () => {
    receiver.receive();
    return sender.isIdle();
  });
  receiver.receive();
  expect(receiver.wrong).toEqual([]);
  expect(receiver.frames).toBeGreaterThan(5000);
  const { failures, streams } = await ask<DeviceReport>(device);
  expect(failures).toEqual([]);
  for (const { received, generated, sent, dropped, consumed } of streams) expect(received + generated).toBe(sent + dropped + consumed);
});
