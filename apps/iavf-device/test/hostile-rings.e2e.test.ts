/**
 * A guest that does what it likes with its rings, against the composed product over a real socket, while a well-behaved guest uses
 * the second card of the same process. What is refused is refused to the attacker alone, is counted, and ends with RESET_VF.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { encodeConfigIrqMap, encodeConfigVsiQueues, encodePromiscuousMode, encodeQueueSelect, encodeRssLut, Opcode, type QueuePairConfig } from '@emudev/virtchnl';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ask, end, PATIENCE_MS, start, until } from './support/children.ts';
import { HandDriver, memory, RAM_BYTES, RAM_IOVA, type Memory } from './support/hand-driver.ts';
import type { DeviceReport } from './support/reporting-device.ts';
import type { Steady } from './support/steady-driver.ts';

const SEED = 0x5eed_1a7f;
const FUZZ_MS = process.env['CI'] === undefined ? 20_000 : 5000;

const folder = mkdtempSync(join(tmpdir(), 'emudev-hostile-'));
const sockets = [join(folder, '0.sock'), join(folder, '1.sock')] as const;
/** Regions besides RAM: the device may only read, only write, or finds nothing at times. */
const READ_ONLY = 0x2_0000_0000n;
const WRITE_ONLY = 0x3_0000_0000n;
const ISLAND = 0x4_0000_0000n;
const REGION_BYTES = 0x1_0000;
const NOWHERE = 0xdead_0000_0000n;

let device: ChildProcess;
let neighbour: ChildProcess;
let guest: HandDriver;
let regions: Memory[];

beforeAll(async () => {
  device = await start('reporting-device.ts', [
    ...sockets.flatMap((path, i) => ['--vdev', `emu_iavf${i},path=${path}`, '--vdev', `net_iavf_be${i},emu=emu_iavf${i}`, '--forward', `net_iavf_be${i}`]),
  ]);
  neighbour = await start('steady-driver.ts', [sockets[1]]);
  guest = await HandDriver.attach(sockets[0]);
  regions = [0, 1, 2].map(() => memory(guest.window, REGION_BYTES));
  const [readOnly, writeOnly, island] = regions as [Memory, Memory, Memory];
  await guest.client.dmaMap({ iova: READ_ONLY, sizeBytes: REGION_BYTES, readable: true, writable: false, fd: readOnly.fd });
  await guest.client.dmaMap({ iova: WRITE_ONLY, sizeBytes: REGION_BYTES, readable: false, writable: true, fd: writeOnly.fd });
  await guest.client.dmaMap({ iova: ISLAND, sizeBytes: REGION_BYTES, readable: true, writable: true, fd: island.fd });
});

afterAll(async () => {
  await guest?.[Symbol.asyncDispose]();
  for (const region of regions ?? []) region[Symbol.dispose]();
  await end([neighbour, device]);
  rmSync(folder, { recursive: true, force: true });
});

/* ---- what the guest puts into its memory ---------------------------------------------------------------------------------- */

const LENGTH = 64;
const txRing = (q: number): number => q * 0x4_0000;
const rxRing = (q: number): number => q * 0x4_0000 + 0x2_0000;
const rxBuffer = (q: number, i: number): number => 0x10_0000 + (q * LENGTH + i) * 2048;
const TX_BUFFERS = 0x20_0000;

function pair(queueId: number, overrides: { tx?: Partial<QueuePairConfig['tx']>; rx?: Partial<QueuePairConfig['rx']> } = {}): QueuePairConfig {
  return {
    tx: { vsiId: 1, queueId, ringLength: LENGTH, ringAddress: RAM_IOVA + BigInt(txRing(queueId)), ...overrides.tx },
    rx: { vsiId: 1, queueId, ringLength: LENGTH, ringAddress: RAM_IOVA + BigInt(rxRing(queueId)), bufferBytes: 2048, maxPacketBytes: 9728, ...overrides.rx },
  };
}

const put64 = (at: number, value: bigint): void => { guest.window.view.setBigUint64(guest.ram.offset + at, value, true); };
const get64 = (at: number): bigint => guest.window.view.getBigUint64(guest.ram.offset + at, true);

/** CMD of a data descriptor. */
const [EOP, RS, TAG1] = [1, 2, 8];
const [IPV4_CSUM, TCP] = [0x60, 0x100];
const offset = (l2: number, l3: number, l4: number): number => (l2 >> 1) | ((l3 >> 2) << 7) | ((l4 >> 2) << 14);
const data = (bytes: number, cmd: number = EOP | RS, offsets = 0, tag = 0): bigint =>
  (BigInt(cmd) << 4n) | (BigInt(offsets) << 16n) | (BigInt(bytes) << 34n) | (BigInt(tag) << 48n);
const context = (mss: number, length: number, cmd = 1): bigint => 1n | (BigInt(cmd) << 4n) | (BigInt(length) << 30n) | (BigInt(mss) << 50n);
const BUFFER = RAM_IOVA + BigInt(TX_BUFFERS);

/** Puts descriptors [address, qw1] into Tx ring 0 from slot 0 on and moves the tail behind them. */
function transmit(...descriptors: (readonly [bigint, bigint])[]): void {
  descriptors.forEach(([address, qw1], i) => {
    put64(txRing(0) + 16 * i, address);
    put64(txRing(0) + 16 * i + 8, qw1);
  });
  guest.setTail('tx', 0, descriptors.length);
}

/** A frame from and to the card itself: the loop behind it brings it back. */
function writeFrame(at: number, number: number, length: number): void {
  const { u8, view } = guest.window;
  const frame = guest.ram.offset + at;
  u8.fill(number & 0xff, frame, frame + length);
  u8.set(guest.mac, frame);
  u8.set(guest.mac, frame + 6);
  view.setUint16(frame + 12, 0x88b5);
  view.setUint32(frame + 14, number);
}

function postBuffers(q: number, count = LENGTH - 1): void {
  for (let i = 0; i < LENGTH; i++) {
    put64(rxRing(q) + 32 * i, RAM_IOVA + BigInt(rxBuffer(q, i)));
    put64(rxRing(q) + 32 * i + 8, 0n);
  }
  guest.setTail('rx', q, count);
}

async function up(...pairs: QueuePairConfig[]): Promise<void> {
  await guest.reset();
  await guest.filters();
  for (const q of [0, 1]) postBuffers(q);
  expect((await guest.configure(...(pairs.length > 0 ? pairs : [pair(0), pair(1)]))).status).toBe(0);
  expect((await guest.enable(3)).status).toBe(0);
}

/** Forty frames on each queue come back whole, in order, announced by an interrupt. */
async function worksNormally(): Promise<void> {
  await up();
  guest.interrupts(1);
  await guest.armVector(1);
  for (const q of [0, 1]) {
    for (let i = 0; i < 20; i++) {
      const length = 60 + 60 * i;
      const at = TX_BUFFERS + (q * 32 + i) * 2048;
      writeFrame(at, q * 20 + i, length);
      put64(txRing(q) + 16 * i, RAM_IOVA + BigInt(at));
      put64(txRing(q) + 16 * i + 8, data(length));
    }
    guest.setTail('tx', q, 20);
    await until(`frames of queue ${q} are back`, () => (get64(rxRing(0) + 32 * (q * 20 + 19) + 8) & 1n) === 1n);
    for (let i = 0; i < 20; i++) {
      const slot = q * 20 + i;
      const length = 60 + 60 * i;
      const { u8 } = guest.window;
      const sent = guest.ram.offset + TX_BUFFERS + (q * 32 + i) * 2048;
      const got = guest.ram.offset + rxBuffer(0, slot);
      expect(Number((get64(rxRing(0) + 32 * slot + 8) >> 38n) & 0x3fffn)).toBe(length);
      expect(Buffer.compare(u8.slice(got, got + length), u8.slice(sent, sent + length))).toBe(0);
      expect(get64(txRing(q) + 16 * i + 8) & 15n).toBe(15n);
    }
  }
  expect(guest.interrupts(1)).toBeGreaterThan(0);
}

/* ---- what the device says about it ------------------------------------------------------------------------------------------ */

const sumOf = (values: Readonly<Record<string, number>>, name: RegExp): number => Object.entries(values).reduce((sum, [key, value]) => (name.test(key) ? sum + value : sum), 0);

/**
 * Once nothing moves any more, although the lcore has looked: the neighbour's frames go round on the same one, three of them mean
 * that it has polled the card in between.
 */
async function atRest(): Promise<DeviceReport> {
  const mine = (report: DeviceReport): string => JSON.stringify([report.ports['net_iavf_be0'], report.streams.filter(({ rx }) => rx === 'net_iavf_be0')]);
  /** Frames that wait for the control thread to bring in their buffers. */
  const kept = (report: DeviceReport): number =>
    report.streams.filter(({ rx }) => rx === 'net_iavf_be0').reduce((sum, { received, generated, sent, dropped, consumed }) => sum + received + generated - sent - dropped - consumed, 0);
  const rounds = (report: DeviceReport): number => report.streams.find(({ rx }) => rx === 'net_iavf_be1')!.received;
  let last = await ask<DeviceReport>(device);
  await until('the card is at rest', async () => {
    const now = await ask<DeviceReport>(device);
    if (mine(now) === mine(last) && kept(now) === 0) return rounds(now) >= rounds(last) + 3;
    last = now;
    return false;
  });
  return last;
}

/** Every frame that went in came out, or is counted where it was lost. */
function expectConservation(report: DeviceReport): void {
  const { xstats } = report.ports['net_iavf_be0']!;
  const streams = report.streams.filter(({ rx }) => rx === 'net_iavf_be0');
  const sum = (field: 'received' | 'sent' | 'dropped' | 'consumed' | 'generated'): number => streams.reduce((total, stream) => total + stream[field], 0);
  expect(report.failures).toEqual([]);
  expect(streams.map(({ state }) => state)).toEqual(streams.map(() => 'running'));
  expect(sumOf(xstats, /^rx_q\d+_packets$/)).toBe(sum('received'));
  expect(sum('received') + sum('generated')).toBe(sum('sent') + sum('dropped') + sum('consumed'));
  expect(sumOf(xstats, /^tx_q\d+_(packets|dropped)$|^tx_(filtered_packets|no_queue_dropped|oversize_dropped|runt_dropped)$/)).toBe(sum('sent'));
}

/** The neighbour has echoed all along. */
async function expectNeighbourWell(atLeast: number): Promise<void> {
  const seen = await ask<Steady>(neighbour);
  expect(seen.failures).toEqual([]);
  expect(seen.wrong).toBe(0);
  expect(seen.echoed).toBeGreaterThanOrEqual(atLeast);
  // What the machine's other work takes is not the attack's doing.
  expect(seen.slowestMs).toBeLessThan(PATIENCE_MS);
}

async function counted(attack: () => void | Promise<void>): Promise<(name: string) => number> {
  const before = (await atRest()).ports['net_iavf_be0']!.xstats;
  await attack();
  const report = await atRest();
  expectConservation(report);
  const after = report.ports['net_iavf_be0']!.xstats;
  return (name) => {
    expect(Object.keys(after)).toContain(name);
    return after[name]! - before[name]!;
  };
}

beforeEach(async () => {
  await ask<Steady>(neighbour);
});

const TCP4 = offset(14, 20, 20);
const whole = (n: number, qw1: bigint): (readonly [bigint, bigint])[] => Array.from({ length: n }, () => [BUFFER, qw1] as const);

describe('transmit descriptors that cannot be carried out are errors of their queue, one each; the frame behind them is sent', () => {
  test.each<[string, (readonly [bigint, bigint])[], number]>([
    ['an address nobody has mapped', [[NOWHERE, data(100)]], 1],
    ['the last address there is', [[0xffff_ffff_ffff_fff0n, data(100)]], 1],
    ['memory the device may not read', [[WRITE_ONLY, data(100)]], 1],
    ['a buffer that runs over the end of its region', [[RAM_IOVA + BigInt(RAM_BYTES - 50), data(100)]], 1],
    ['a second buffer that is not mapped', [[BUFFER, data(100, 0)], [NOWHERE, data(100)]], 1],
    ['no length at all', [[BUFFER, data(0)]], 1],
    ['16 bytes', [[BUFFER, data(16)]], 1],
    ['one byte more than a frame has', [[BUFFER, data(9729)]], 1],
    ['a chain of the longest buffers', [...whole(40, data(16383, 0)), [BUFFER, data(16383)]], 1],
    ['a chain of nothing', [...whole(40, data(0, 0)), [BUFFER, data(0)]], 1],
    ['descriptor types that do not exist', [[BUFFER, data(100) | 3n], [BUFFER, data(100) | 8n], [BUFFER, data(100) | 14n]], 3],
    ['a context descriptor inside a packet', [[BUFFER, data(100, 0)], [0n, context(1448, 100)], [BUFFER, data(100)]], 1],
    ['TSO with MSS 0', [[0n, context(0, 4000)], [BUFFER, data(4000, EOP | RS | IPV4_CSUM | TCP, TCP4)]], 1],
    ['TSO with MSS 63', [[0n, context(63, 4000)], [BUFFER, data(4000, EOP | RS | IPV4_CSUM | TCP, TCP4)]], 1],
    ['TSO with the largest MSS there is', [[0n, context(0x3fff, 4000)], [BUFFER, data(4000, EOP | RS | IPV4_CSUM | TCP, TCP4)]], 1],
    ['TSO with LEN 0', [[0n, context(1448, 0)], [BUFFER, data(4000, EOP | RS | IPV4_CSUM | TCP, TCP4)]], 1],
    ['TSO of headers longer than the frame', [[0n, context(1448, 0x3ffff)], [BUFFER, data(100, EOP | RS | IPV4_CSUM | TCP, offset(254, 508, 60))]], 1],
    ['TSO of headers and nothing else', [[0n, context(1448, 0x3ffff)], [BUFFER, data(54, EOP | RS | IPV4_CSUM | TCP, TCP4)]], 1],
    ['TSO without header lengths', [[0n, context(1448, 0x3ffff)], [BUFFER, data(4000, EOP | RS | IPV4_CSUM | TCP)]], 1],
    ['TSO without a protocol', [[0n, context(1448, 0x3ffff)], [BUFFER, data(4000, EOP | RS, TCP4)]], 1],
    ['TSO of more than LEN can say', [[0n, context(1448, 0x3ffff)], ...whole(30, data(16383, IPV4_CSUM | TCP, TCP4)), [BUFFER, data(16383, EOP | RS | IPV4_CSUM | TCP, TCP4)]], 1],
    ['TSO whose last buffer is not mapped', [[0n, context(1448, 0x3ffff)], ...whole(10, data(16383, IPV4_CSUM | TCP, TCP4)), [NOWHERE, data(16383, EOP | RS | IPV4_CSUM | TCP, TCP4)]], 1],
    ['checksums of headers longer than the frame', [[BUFFER, data(60, EOP | RS | IPV4_CSUM | TCP, offset(14, 60, 20))]], 1],
    ['a TCP checksum without an Ethernet header', [[BUFFER, data(100, EOP | RS | IPV4_CSUM | TCP, offset(0, 20, 20))]], 1],
    ['a second VLAN tag', [[7n << 32n, context(0, 0, 4)], [BUFFER, data(100)]], 1],
    ['a context descriptor for nobody, and the done mark', [[0n, 0xfn], [0n, 0xfn | (3n << 4n)]], 0],
  ])('%s', async (_name, descriptors, errors) => {
    await up();
    const grew = await counted(async () => {
      writeFrame(TX_BUFFERS + 0x8_0000, 1, 60);
      transmit(...descriptors, [RAM_IOVA + BigInt(TX_BUFFERS + 0x8_0000), data(60)]);
      await until('the frame behind is back', () => (get64(rxRing(0) + 8) & 1n) === 1n);
    });
    expect(grew('rx_q0_errors')).toBe(errors);
    expect(grew('rx_q0_packets')).toBe(1);
    expect(grew('tx_q0_packets')).toBe(1);
    // Whoever gave up a descriptor has it back.
    await until('the last descriptor is done', () => (get64(txRing(0) + 16 * descriptors.length + 8) & 15n) === 15n);
    await expectNeighbourWell(1);
  });

  test('a burst of nothing but the most expensive mistakes leaves the neighbour its share', async () => {
    await up(pair(0, { tx: { ringLength: 8160 } }), pair(1));
    const packet: (readonly [bigint, bigint])[] = [[0n, context(1448, 0x3ffff)], ...whole(15, data(16383, IPV4_CSUM | TCP, TCP4)), [NOWHERE, data(16383, EOP | RS | IPV4_CSUM | TCP, TCP4)]];
    const rounds = 479;
    const all = Array.from({ length: rounds }, () => packet).flat();
    all.forEach(([address, qw1], i) => {
      put64(txRing(0) + 16 * i, address);
      put64(txRing(0) + 16 * i + 8, qw1);
    });
    await ask<Steady>(neighbour);
    const grew = await counted(async () => {
      guest.setTail('tx', 0, all.length);
      await until('all are refused', () => (get64(txRing(0) + 16 * (all.length - 1) + 8) & 15n) === 15n);
    });
    expect(grew('rx_q0_errors')).toBe(rounds);
    await expectNeighbourWell(1);
  });
});

describe('rings that cannot be used are given up, for their own reason, until the next reset', () => {
  test.each([64, 65, 0x7fff_ffff, 0xffff_ffff])('Tx tail %i', async (tail) => {
    await up();
    const grew = await counted(() => { guest.setTail('tx', 0, tail); });
    expect(grew('rx_fault_tail')).toBe(1);
    await worksNormally();
  });

  test('Rx tail outside of the ring', async () => {
    await up();
    const grew = await counted(async () => {
      guest.setTail('rx', 0, LENGTH);
      writeFrame(TX_BUFFERS, 1, 60);
      transmit(...whole(3, data(60)));
      await until('they are sent', () => (get64(txRing(0) + 16 * 2 + 8) & 15n) === 15n);
    });
    expect(grew('tx_fault_tail')).toBe(1);
    expect(grew('tx_q0_dropped') + grew('tx_no_queue_dropped')).toBe(3);
    await worksNormally();
  });

  test('a whole ring without an end', async () => {
    await up();
    const grew = await counted(() => { transmit(...whole(LENGTH - 1, data(100, RS))); });
    expect(grew('rx_fault_never_eop')).toBe(1);
    expect(grew('rx_q0_packets')).toBe(0);
    await worksNormally();
  });

  test.each([['that the device may not write', READ_ONLY], ['that is not there', NOWHERE]])('Rx buffers in memory %s', async (_name, address) => {
    await up();
    for (let i = 0; i < LENGTH; i++) put64(rxRing(0) + 32 * i, address);
    const grew = await counted(async () => {
      writeFrame(TX_BUFFERS, 1, 60);
      transmit(...whole(20, data(60)));
      await until('they are sent', () => (get64(txRing(0) + 16 * 19 + 8) & 15n) === 15n);
    });
    expect(grew('tx_fault_buffer')).toBe(1);
    expect(grew('tx_q0_dropped') + grew('tx_no_queue_dropped')).toBe(20);
    expect(guest.window.u8.slice(regions[0]!.offset, regions[0]!.offset + 256).every((byte) => byte === 0)).toBe(true);
    await worksNormally();
  });

  test('a ring whose memory goes under load, and comes back', async () => {
    const island = regions[2]!;
    await up(pair(0, { tx: { ringAddress: ISLAND } }), pair(1));
    const { view } = guest.window;
    writeFrame(TX_BUFFERS, 1, 60);
    for (let i = 0; i < LENGTH; i++) {
      view.setBigUint64(island.offset + 16 * i, BUFFER, true);
      view.setBigUint64(island.offset + 16 * i + 8, data(60), true);
    }
    let tail = 0;
    const grew = await counted(async () => {
      for (let round = 0; round < 10; round++) {
        for (let i = 0; i < 50; i++) guest.setTail('tx', 0, (tail = (tail + 1) % LENGTH));
        await guest.client.dmaUnmap(ISLAND, REGION_BYTES);
        const before = guest.window.u8.slice(island.offset, island.offset + 16 * LENGTH);
        for (let i = 0; i < 50; i++) guest.setTail('tx', 0, (tail = (tail + 1) % LENGTH));
        await sleep(2);
        // Not one write-back reaches memory that was given back.
        expect(Buffer.compare(guest.window.u8.slice(island.offset, island.offset + 16 * LENGTH), before)).toBe(0);
        await guest.client.dmaMap({ iova: ISLAND, sizeBytes: REGION_BYTES, readable: true, writable: true, fd: island.fd });
      }
    });
    expect(grew('rx_fault_ring_unmapped')).toBe(10);
    const more = await counted(async () => {
      const slot = (tail + LENGTH - 1) % LENGTH;
      view.setBigUint64(island.offset + 16 * tail + 8, data(60), true);
      guest.setTail('tx', 0, (tail + 1) % LENGTH);
      await until('it is sent', () => (view.getBigUint64(island.offset + 16 * ((slot + 1) % LENGTH) + 8, true) & 15n) === 15n);
    });
    expect(more('rx_q0_packets')).toBeGreaterThanOrEqual(1);
    await worksNormally();
  });

  test('rings that lie on each other, and buffers on rings', async () => {
    await up(pair(0, { rx: { ringAddress: RAM_IOVA } }), pair(1, { tx: { ringAddress: RAM_IOVA }, rx: { ringAddress: RAM_IOVA + 0x80n } }));
    await counted(async () => {
      for (let i = 0; i < 2 * LENGTH; i++) put64(8 * i, i % 2 === 0 ? RAM_IOVA + BigInt(8 * i) : data(200));
      for (const q of [0, 1]) {
        guest.setTail('tx', q, LENGTH - 1);
        guest.setTail('rx', q, LENGTH - 1);
      }
      await sleep(20);
    });
    await worksNormally();
    await expectNeighbourWell(1);
  });
});

describe('frames the guest has no room for are discarded and counted', () => {
  async function sendBack(count: number, length: number): Promise<void> {
    writeFrame(TX_BUFFERS, 1, length);
    transmit(...whole(count, data(length)));
    await until('they are sent', () => (get64(txRing(0) + 16 * (count - 1) + 8) & 15n) === 15n);
  }

  test('no buffers', async () => {
    await up();
    guest.setTail('rx', 0, 5);
    const grew = await counted(() => sendBack(20, 60));
    expect([grew('tx_q0_packets'), grew('tx_q0_dropped')]).toEqual([5, 15]);
  });

  test('a frame of more than five buffers', async () => {
    await up(pair(0, { rx: { bufferBytes: 128 } }), pair(1));
    const grew = await counted(() => sendBack(10, 641));
    expect([grew('tx_q0_packets'), grew('tx_q0_dropped')]).toEqual([0, 10]);
    expect((await counted(() => { guest.setTail('tx', 0, 10); }))('tx_q0_packets')).toBe(0);
  });

  test('a frame longer than max_pkt_size, by its tag', async () => {
    await up(pair(0, { rx: { maxPacketBytes: 1000 } }), pair(1));
    const grew = await counted(async () => {
      writeFrame(TX_BUFFERS, 1, 996);
      transmit([BUFFER, data(996)], [BUFFER, data(996, EOP | RS | TAG1, 0, 5)]);
      await until('both are sent', () => (get64(txRing(0) + 16 + 8) & 15n) === 15n);
    });
    expect([grew('tx_q0_packets'), grew('tx_oversize_dropped')]).toEqual([1, 1]);
  });

  test('a queue that was stopped under load', async () => {
    await up();
    writeFrame(TX_BUFFERS, 1, 60);
    for (let i = 0; i < LENGTH; i++) {
      put64(txRing(1) + 16 * i, BUFFER);
      put64(txRing(1) + 16 * i + 8, data(60));
    }
    let tail = 0;
    const grew = await counted(async () => {
      for (let round = 0; round < 20; round++) {
        for (let i = 0; i < 40; i++) guest.setTail('tx', 1, (tail = (tail + 1) % LENGTH));
        expect((await guest.request(Opcode.DISABLE_QUEUES, encodeQueueSelect({ vsiId: 1, rxQueues: 1, txQueues: 0 }))).status).toBe(0);
        for (let i = 0; i < 40; i++) guest.setTail('tx', 1, (tail = (tail + 1) % LENGTH));
        postBuffers(0);
        expect((await guest.request(Opcode.ENABLE_QUEUES, encodeQueueSelect({ vsiId: 1, rxQueues: 1, txQueues: 0 }))).status).toBe(0);
      }
    });
    expect(grew('rx_q1_packets')).toBeGreaterThan(0);
    await worksNormally();
  });
});

test('a segmented frame that is cut short because its queue stops is counted', async () => {
  let cut = 0;
  // A queue may stop between two of them: then once more.
  for (let round = 0; round < 5 && cut === 0; round++) {
    await up(pair(0, { tx: { ringLength: 8160 } }), pair(1));
    const grew = await counted(async () => {
      // MSS 64: 3839 segments each, more than a million in all, so that the queue is stopped long before the last.
      const segmented = IPV4_CSUM | TCP;
      const packet: (readonly [bigint, bigint])[] = [[0n, context(64, 0x3ffff)], ...whole(14, data(16383, segmented, TCP4)), [BUFFER, data(16383, EOP | RS | segmented, TCP4)]];
      transmit(...Array.from({ length: 500 }, () => packet).flat());
      await until('the first is taken', () => (get64(txRing(0) + 16 * 15 + 8) & 15n) === 15n);
      expect((await guest.disable(3)).status).toBe(0);
    });
    expect(grew('rx_q0_packets')).toBeGreaterThan(0);
    cut = grew('rx_q0_dropped');
  }
  expect(cut).toBeGreaterThan(0);
  expect(cut).toBeLessThan(3840);
  await worksNormally();
});

test('messages that name queues and vectors there are none of are refused; LUT entries beyond the queues wrap around', async () => {
  await up();
  expect((await guest.request(Opcode.CONFIG_IRQ_MAP, encodeConfigIrqMap([{ vsiId: 1, vectorId: 5, rxQueues: 1, txQueues: 1, rxItr: 0, txItr: 0 }]))).status).toBe(-5);
  expect((await guest.request(Opcode.CONFIG_IRQ_MAP, encodeConfigIrqMap([{ vsiId: 1, vectorId: 1, rxQueues: 0x10, txQueues: 0, rxItr: 0, txItr: 0 }]))).status).toBe(-5);
  expect((await guest.request(Opcode.ENABLE_QUEUES, encodeQueueSelect({ vsiId: 1, rxQueues: 0xffff, txQueues: 0xffff }))).status).toBe(-5);
  expect((await guest.request(Opcode.CONFIG_RSS_LUT, encodeRssLut({ vsiId: 1, lut: new Uint8Array(64).fill(0xfc) }))).status).toBe(0);
  const grew = await counted(async () => {
    writeFrame(TX_BUFFERS, 1, 60);
    transmit([BUFFER, data(60)]);
    await until('it is back', () => (get64(rxRing(0) + 8) & 1n) === 1n);
  });
  expect(grew('tx_q0_packets')).toBe(1);
});

test(`${FUZZ_MS / 1000} s of random guest: the neighbour echoes on, every frame is accounted for, and a reset makes all well`, async () => {
  let state = SEED;
  const random = (below: number): number => {
    // xorshift32
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  const pick = <T>(from: readonly T[]): T => from[random(from.length)]!;
  const address = (): bigint => pick([
    () => RAM_IOVA + BigInt(random(RAM_BYTES)), () => RAM_IOVA + BigInt(random(RAM_BYTES)), () => BUFFER + BigInt(random(0x1_0000)), () => BUFFER, () => READ_ONLY + BigInt(random(REGION_BYTES)),
    () => WRITE_ONLY + BigInt(random(REGION_BYTES)), () => ISLAND + BigInt(random(REGION_BYTES)), () => NOWHERE, () => RAM_IOVA + BigInt(RAM_BYTES - random(64)), () => 0n, () => 0xffff_ffff_ffff_ffffn,
    () => RAM_IOVA + BigInt(txRing(random(2)) + random(2048)),
  ])();
  const bytes = (): number => pick([0, 1, 16, 17, 59, 60, 61, 64, 1000, 1514, 4000, 9728, 9729, 16383, random(16384)]);
  const descriptor = (): bigint => pick([
    () => data(bytes()), () => data(bytes()), () => data(60 + random(1400)), () => data(bytes(), random(0x1000), random(1 << 18), random(0x10000)), () => data(bytes(), EOP | RS | IPV4_CSUM | TCP, TCP4),
    () => context(pick([0, 63, 64, 65, 1448, 8948, 9668, 9669, 0x3fff]), random(1 << 18), random(1 << 8)), () => context(1448, 0x3ffff),
    () => (BigInt(random(0x1_0000_0000)) << 32n) | BigInt(random(0x1_0000_0000)),
  ])();
  const tail = (): number => pick([() => random(LENGTH), () => random(LENGTH), () => random(LENGTH), () => random(LENGTH), () => random(LENGTH), () => (random(40) === 0 ? random(0x1_0000_0000) : random(LENGTH))])();
  const queueWords: readonly (() => void)[] = [
    () => { for (let i = random(30); i-- > 0;) { const at = txRing(random(2)) + 16 * random(LENGTH); put64(at, address()); put64(at + 8, descriptor()); } },
    () => { for (let i = random(30); i-- > 0;) put64(rxRing(random(2)) + 32 * random(LENGTH), address()); },
    () => { postBuffers(random(2), random(LENGTH)); },
    () => { writeFrame(TX_BUFFERS + 2048 * random(4), random(0x1_0000), 60 + random(1900)); },
    () => { for (let i = random(64); i-- > 0;) put64(8 * random(RAM_BYTES / 8), BigInt(random(0x1_0000_0000)) << BigInt(random(33))); },
    () => { guest.setTail('tx', random(2), tail()); },
    () => { guest.setTail('rx', random(2), tail()); },
    // The tail of the one that is looked at right now.
    () => { for (let i = 0; i < 200; i++) guest.setTail(pick(['tx', 'rx'] as const), random(2), random(LENGTH)); },
  ];
  const anyPair = (q: number): QueuePairConfig => pair(q, {
    tx: { ringLength: pick([64, 64, 512, 8160, 0]), ringAddress: pick([RAM_IOVA + BigInt(txRing(q)), RAM_IOVA + BigInt(128 * random(0x4000)), ISLAND, READ_ONLY, NOWHERE]) },
    rx: { ringLength: pick([64, 64, 512, 0]), ringAddress: pick([RAM_IOVA + BigInt(rxRing(q)), RAM_IOVA + BigInt(128 * random(0x4000)), ISLAND, WRITE_ONLY]), bufferBytes: pick([128, 1536, 2048, 4096, 16256]), maxPacketBytes: pick([64, 1518, 9728]) },
  });
  let mapped = true;
  const messages: readonly (() => Promise<unknown>)[] = [
    () => guest.disable(1 + random(3)),
    () => guest.enable(1 + random(3)),
    () => guest.request(Opcode.CONFIG_VSI_QUEUES, encodeConfigVsiQueues({ vsiId: 1, pairs: [anyPair(0), anyPair(1)] })),
    () => up(),
    () => up(),
    // Otherwise most of what comes back is addressed to nobody.
    () => guest.request(Opcode.CONFIG_PROMISCUOUS_MODE, encodePromiscuousMode({ vsiId: 1, flags: 3 })),
    () => guest.request(Opcode.CONFIG_PROMISCUOUS_MODE, encodePromiscuousMode({ vsiId: 1, flags: 3 })),
    () => guest.armVector(1 + random(4)),
    async () => {
      await (mapped ? guest.client.dmaUnmap(ISLAND, REGION_BYTES) : guest.client.dmaMap({ iova: ISLAND, sizeBytes: REGION_BYTES, readable: true, writable: true, fd: regions[2]!.fd }));
      mapped = !mapped;
    },
  ];
  await ask<Steady>(neighbour);
  const before = (await atRest()).ports['net_iavf_be0']!.xstats;
  let resets = 0;
  let rounds = 0;
  const grown = async (): Promise<(name: RegExp) => number> => {
    const { xstats } = (await ask<DeviceReport>(device)).ports['net_iavf_be0']!;
    return (name) => sumOf(xstats, name) - sumOf(before, name);
  };
  const deep = [/^rx_q\d_packets$/, /^tx_q\d_packets$/];
  const refused = [/^rx_q\d_errors$/, /^tx_q\d_dropped$/, /^rx_fault_/, /^tx_fault_/];
  /** It got deep: frames went round, and all that refuses had something to refuse. How long that takes is the machine's business. */
  const deepEnough = async (): Promise<boolean> => {
    const by = await grown();
    return resets > 10 && deep.every((kind) => by(kind) > 1000) && refused.every((kind) => by(kind) > 0);
  };
  const least = performance.now() + FUZZ_MS;
  while (performance.now() < least || (!(await deepEnough()) && performance.now() < least + PATIENCE_MS)) {
    for (const pause = rounds + 500; rounds < pause; rounds++) {
      for (let i = 0; i < 20; i++) pick(queueWords)();
      if (random(8) === 0) await pick(messages)();
      // A queue that has been given up says nothing any more.
      if (rounds % 64 !== 0) continue;
      await up();
      resets++;
    }
  }
  if (!mapped) await messages.at(-1)!();
  const report = await atRest();
  expectConservation(report);
  expect(await deepEnough()).toBe(true);
  expect(report.ports['net_iavf_be0']!.xstats['virtchnl_failed']).toBe(0);
  await expectNeighbourWell(FUZZ_MS / 100);
  await worksNormally();
});
