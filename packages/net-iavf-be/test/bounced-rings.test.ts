/** Rings and buffers in memory that came without a descriptor: served by messages to a client that may do anything. */
import { setImmediate as turn } from 'node:timers/promises';
import { IOTLB_READ, MissCell, Quiescence, QuiescentReader } from '@emudev/dma';
import { VECTOR_ARMED, VECTOR_FD, VECTOR_FIRED, VECTOR_PENDING } from '@emudev/emudev';
import { decodeEthStats, encodeQueueSelect, Opcode } from '@emudev/virtchnl';
import { describe, expect, it } from 'vitest';
import { Adapter } from '../src/adapter.ts';
import { DEV_BYTES } from '../src/layout.ts';
import { BOUNCE_MESSAGES } from '../src/limits.ts';
import { MAC, RAM_IOVA } from './card.ts';
import { BLOCK_BYTES, BLOCKS, MixedGuest, type BlockKind } from './mixed-guest.ts';

const all = (kind: BlockKind): BlockKind[] => new Array<BlockKind>(BLOCKS).fill(kind);
/** The first two blocks hold the rings. */
const split = (rings: BlockKind, buffers: BlockKind): BlockKind[] => all(buffers).fill(rings, 0, 2);
const BUFFERS = 4 * BLOCK_BYTES;
const PACKETS = 12 * BLOCK_BYTES;
const rxBuffers = (count: number, bytes = 2048): number[] => Array.from({ length: count }, (_, n) => BUFFERS + n * bytes);

function frame(number: number, length = 100): Uint8Array {
  const bytes = new Uint8Array(length).map((_, n) => (number * 31 + n) & 0xff);
  bytes.set(MAC);
  bytes.set([2, 0, 0, 0, 0, 9, 0x88, 0xb5, number >> 8, number & 0xff], 6);
  return bytes;
}

/** Posts frames and returns what the lcore got when the guest has all descriptors back. */
async function transmit(guest: MixedGuest, frames: readonly Uint8Array[], at = PACKETS): Promise<Uint8Array[]> {
  frames.forEach((bytes, n) => {
    guest.write(at + n * 2048, bytes);
    guest.post([{ at: at + n * 2048, bytes: bytes.length }]);
  });
  const got: Uint8Array[] = [];
  await guest.until('the guest has its descriptors back', () => {
    got.push(...guest.poll());
    return guest.txDone();
  });
  return got;
}

async function receive(guest: MixedGuest, frames: readonly Uint8Array[]): Promise<Uint8Array[]> {
  await guest.sendAll(frames);
  const got: Uint8Array[] = [];
  await guest.until('the guest has its frames', () => {
    got.push(...guest.receive().map(({ bytes }) => bytes));
    return got.length >= frames.length;
  });
  return got;
}

describe.each(['wasm', 'ts'] as const)('%s kernels', (kernels) => {
  it.each<[string, BlockKind[], number?]>([
    ['everything by messages', split('remote', 'remote')],
    ['rings by messages, buffers mapped', split('remote', 'mapped')],
    ['rings mapped, buffers by messages', split('mapped', 'remote')],
    ['Rx descriptors of 16 bytes, everything by messages', split('remote', 'remote'), 16],
    ['Rx descriptors of 16 bytes, ring mapped, buffers by messages', split('mapped', 'remote'), 16],
  ])('%s: frames pass both ways', async (_what, kinds, descriptorBytes = 32) => {
    await using guest = await MixedGuest.start({ kinds, kernels, descriptorBytes });
    const behind = guest.rxRing + guest.ringLength * descriptorBytes;
    const others = new Uint8Array(2048).fill(0xee);
    guest.write(behind, others);
    await guest.up(rxBuffers(63));
    const frames = Array.from({ length: 40 }, (_, n) => frame(n, 60 + n * 30));
    expect(await transmit(guest, frames)).toEqual(frames);
    expect(await receive(guest, frames)).toEqual(frames);
    // Round the ring, with buffers used again.
    guest.giveBuffers(rxBuffers(40));
    await guest.buffersShown();
    const more = Array.from({ length: 40 }, (_, n) => frame(100 + n, 1500 - n));
    expect(await transmit(guest, more)).toEqual(more);
    expect(await receive(guest, more)).toEqual(more);
    expect(guest.read(behind, others.length)).toEqual(others);
    expect([guest.stat('bounced_rings'), guest.stat('rx_q0_packets'), guest.stat('tx_q0_packets'), guest.stat('rx_q0_errors'), guest.stat('tx_q0_dropped')]).toEqual([2, 80, 80, 0, 0]);
    expect(guest.client.mostOutstanding).toBeLessThanOrEqual(2 * BOUNCE_MESSAGES);
  });

  it('frames of several buffers, in every kind of memory, and across the borders between them', async () => {
    const kinds: BlockKind[] = all('remote');
    for (let n = 3; n < BLOCKS; n += 2) kinds[n] = 'mapped';
    await using guest = await MixedGuest.start({ kinds, kernels, bufferBytes: 512 });
    // Every buffer lies half in one block and half in the next.
    await guest.up(Array.from({ length: 63 }, (_, n) => (2 + (n % 12)) * BLOCK_BYTES - 256 - 1024 * Math.floor(n / 12)));
    const packet = frame(7, 2000);
    const pieces = [[0, 300], [300, 700], [1000, 1], [1001, 999]].map(([from, bytes], n) => ({ at: (4 + n) * BLOCK_BYTES - 150, from: from!, bytes: bytes! }));
    for (const { at, from, bytes } of pieces) guest.write(at, packet.subarray(from, from + bytes));
    guest.post(pieces);
    const got: Uint8Array[] = [];
    await guest.until('it is there', () => { got.push(...guest.poll()); return guest.txDone(); });
    expect(got).toEqual([packet]);
    expect(await receive(guest, [packet, frame(8, 1100), frame(9)])).toEqual([packet, frame(8, 1100), frame(9)]);
  });
});

it('the guest never sees a descriptor before its data, nor an interrupt before both', async () => {
  await using guest = await MixedGuest.start({ kinds: all('remote') });
  await guest.up(rxBuffers(10));
  guest.card.window.i32[guest.card.cell(1) + VECTOR_ARMED] = 0;
  const frames = [frame(1), frame(2, 1500), frame(3)];
  await receive(guest, frames);
  const writes = guest.client.log.filter(({ access }) => access === 'write');
  const ringAt = RAM_IOVA + BigInt(guest.rxRing);
  const isDone = ({ iova, bytes }: { iova: bigint; bytes: Uint8Array }): boolean => iova >= ringAt && iova < ringAt + 2048n && (iova - ringAt) % 32n === 8n && (bytes[0]! & 1) === 1;
  for (const [n] of frames.entries()) {
    const done = writes.findIndex((write) => isDone(write) && write.iova === ringAt + BigInt(32 * n + 8));
    const data = writes.findIndex(({ iova }) => iova === RAM_IOVA + BigInt(rxBuffers(10)[n]!));
    const rest = writes.findIndex(({ iova, bytes }) => iova <= ringAt + BigInt(32 * n) && iova + BigInt(bytes.length) >= ringAt + BigInt(32 * n + 32));
    expect([data >= 0, rest > data, done > rest]).toEqual([true, true, true]);
  }
  const order = writes.filter(isDone).map(({ iova }) => Number(iova - ringAt - 8n) / 32);
  expect(order).toEqual([0, 1, 2]);
  await guest.until('the interrupt is latched', () => guest.card.window.i32[guest.card.cell(1) + VECTOR_PENDING] === 1);
});

it('an armed guest gets its one interrupt for a frame when all of it is there, none when the lcore has put it in the shadow', async () => {
  await using guest = await MixedGuest.start({ kinds: all('remote') });
  await guest.up(rxBuffers(10));
  const { i32 } = guest.card.window;
  const cell = guest.card.cell(1);
  const fired = (): number => i32[cell + VECTOR_FIRED]!;
  const { sys } = guest.card.window;
  const eventfd = sys.eventfd();
  using _closed = { [Symbol.dispose]: () => { i32[cell + VECTOR_FD] = -1; sys.close(eventfd); } };
  i32[cell + VECTOR_PENDING] = 0;
  i32[cell + VECTOR_FD] = eventfd;
  i32[cell + VECTOR_ARMED] = 1;
  const before = fired();
  const atWrites: number[] = [];
  guest.client.script = (access) => { if (access === 'write') atWrites.push(fired() - before); return undefined; };
  await receive(guest, [frame(1)]);
  await guest.until('it is interrupted', () => fired() > before);
  expect([atWrites.length > 0, Math.max(...atWrites), fired() - before, i32[cell + VECTOR_PENDING]]).toEqual([true, 0, 1, 0]);
});

it('a ring in mapped memory stays where it is until it meets a buffer that is not', async () => {
  await using guest = await MixedGuest.start({ kinds: split('mapped', 'mapped').fill('remote', 14) });
  await guest.up(rxBuffers(20));
  expect(await transmit(guest, [frame(1)])).toEqual([frame(1)]);
  expect(await receive(guest, [frame(2)])).toEqual([frame(2)]);
  expect([guest.stat('bounced_rings'), guest.client.log.length]).toEqual([0, 0]);
  // Between good ones: nothing is lost or seen twice where it changes over.
  const packets = [frame(3), frame(4), frame(5)];
  const places = [PACKETS, 14 * BLOCK_BYTES, PACKETS + 4096];
  packets.forEach((bytes, n) => {
    guest.write(places[n]!, bytes);
    guest.post([{ at: places[n]!, bytes: bytes.length }]);
  });
  const got: Uint8Array[] = [];
  await guest.until('they are through', () => { got.push(...guest.poll()); return guest.txDone(); });
  expect(got).toEqual(packets);
  expect(guest.stat('bounced_rings')).toBe(1);
  guest.giveBuffers([15 * BLOCK_BYTES]);
  const frames = Array.from({ length: 20 }, (_, n) => frame(10 + n));
  expect(await receive(guest, frames)).toEqual(frames);
  expect([guest.stat('bounced_rings'), guest.stat('tx_q0_packets'), guest.stat('tx_q0_dropped'), guest.stat('tx_no_queue_dropped')]).toEqual([2, 21, 0, 0]);
});

describe('what the guest does wrong is refused and counted as elsewhere', () => {
  it('a Tx buffer that is not mapped, among good ones', async () => {
    await using guest = await MixedGuest.start({ kinds: all('remote').fill('none', 15) });
    await guest.up(rxBuffers(10));
    guest.write(PACKETS, frame(1));
    guest.post([{ at: PACKETS, bytes: 100 }]);
    guest.post([{ at: 15 * BLOCK_BYTES, bytes: 100 }]);
    guest.post([{ at: 15 * BLOCK_BYTES - 50, bytes: 100 }]);
    guest.post([{ at: PACKETS, bytes: 50 }, { at: 15 * BLOCK_BYTES, bytes: 50 }]);
    guest.post([{ at: PACKETS, bytes: 100 }]);
    const got: Uint8Array[] = [];
    await guest.until('all come back', () => { got.push(...guest.poll()); return guest.txDone(); });
    expect([got, guest.stat('rx_q0_errors')]).toEqual([[frame(1), frame(1)], 3]);
  });

  it('an Rx buffer that is not mapped, and one that is not mapped to its end', async () => {
    await using guest = await MixedGuest.start({ kinds: all('remote').fill('none', 15) });
    await guest.up([15 * BLOCK_BYTES, 15 * BLOCK_BYTES - 500, 15 * BLOCK_BYTES - 500, BUFFERS]);
    await guest.sendAll([frame(1, 400), frame(2, 400), frame(3, 600), frame(4)]);
    const got: { bytes: Uint8Array; isError: boolean }[] = [];
    await guest.until('all come back', () => { got.push(...guest.receive()); return got.length === 4; });
    expect(got.map(({ isError }) => isError)).toEqual([true, false, true, false]);
    expect([got[1]!.bytes, got[3]!.bytes]).toEqual([frame(2, 400), frame(4)]);
    expect([guest.stat('tx_q0_packets'), guest.stat('tx_q0_dropped')]).toEqual([2, 2]);
    const stats = decodeEthStats((await guest.card.ask(Opcode.GET_STATS, encodeQueueSelect({ vsiId: 1, txQueues: 0, rxQueues: 0 }))).payload);
    expect([stats.rxUnicast, stats.rxBytes, stats.rxDiscards]).toEqual([2n, 500n, 2n]);
  });

  it('a packet longer than any that can be', async () => {
    await using guest = await MixedGuest.start({ kinds: all('remote') });
    await guest.up(rxBuffers(1));
    guest.post(Array.from({ length: 60 }, () => ({ at: PACKETS, bytes: 16_000 })));
    await guest.until('it is refused', () => { expect(guest.poll()).toEqual([]); return guest.txDone(); });
    expect(guest.stat('rx_q0_errors')).toBe(1);
    expect(await transmit(guest, [frame(1)])).toEqual([frame(1)]);
  });

  it('a ring of descriptors without an end, a tail outside of the ring', async () => {
    await using guest = await MixedGuest.start({ kinds: all('remote') });
    await guest.up(rxBuffers(1));
    for (let n = 0; n < 63; n++) {
      guest.card.window.view.setBigUint64(guest.card.ram + 16 * n + 8, 100n << 34n, true);
      guest.card.window.view.setBigUint64(guest.card.ram + 16 * n, RAM_IOVA + BigInt(PACKETS), true);
    }
    guest.card.window.u32[guest.card.txTail(0) >>> 2] = 63;
    guest.card.window.u32[guest.card.rxTail(0) >>> 2] = 64;
    await guest.until('both are faulted', () => {
      guest.poll();
      guest.send(frame(1));
      return guest.stat('rx_fault_never_eop') === 1 && guest.stat('tx_fault_tail') === 1;
    });
  });

  it('tails that run over what is under way', async () => {
    await using guest = await MixedGuest.start({ kinds: all('remote') });
    await guest.up(rxBuffers(63));
    for (let n = 0; n < 64; n++) guest.card.window.view.setBigUint64(guest.card.ram + 16 * n + 8, (100n << 34n) | 0x30n, true);
    for (let n = 0; n < 64; n++) guest.card.window.view.setBigUint64(guest.card.ram + 16 * n, RAM_IOVA + BigInt(PACKETS), true);
    let frames = 0;
    for (let round = 0; round < 300; round++) {
      guest.card.window.u32[guest.card.txTail(0) >>> 2] = (round * 23) % 64;
      guest.card.window.u32[guest.card.rxTail(0) >>> 2] = (round * 41) % 64;
      await guest.until('a turn', () => { frames += guest.poll().length; guest.send(frame(round)); return true; });
      await new Promise((resolve) => { setImmediate(resolve); });
    }
    expect(frames).toBeGreaterThan(0);
    expect([guest.stat('rx_q0_errors'), guest.card.errors]).toEqual([0, []]);
  });
});

describe('a client that does not do its part hurts itself only', () => {
  it('reads of buffers that fail cost their frames', async () => {
    await using guest = await MixedGuest.start({ kinds: all('remote') });
    await guest.up(rxBuffers(10));
    guest.client.script = (access, iova) => (access === 'read' && iova === RAM_IOVA + BigInt(PACKETS + 2048) ? 'fail' : undefined);
    expect(await transmit(guest, [frame(1), frame(2), frame(3)])).toEqual([frame(1), frame(3)]);
    expect(guest.stat('rx_q0_errors')).toBe(1);
  });

  it('writes of data that fail: the guest sees an error, the frame is counted as lost', async () => {
    await using guest = await MixedGuest.start({ kinds: all('remote'), bufferBytes: 256 });
    await guest.up(rxBuffers(10, 256));
    guest.client.script = (access, iova) => (access === 'write' && iova === RAM_IOVA + BigInt(rxBuffers(10, 256)[2]!) ? 'fail' : undefined);
    await guest.sendAll([frame(1), frame(2, 700), frame(3)]);
    const got: { bytes: Uint8Array; isError: boolean }[] = [];
    await guest.until('all come back', () => { got.push(...guest.receive()); return got.length === 5; });
    expect(got.map(({ isError }) => isError)).toEqual([false, true, true, true, false]);
    expect([got[0]!.bytes, got[4]!.bytes, guest.stat('tx_q0_packets'), guest.stat('tx_q0_dropped')]).toEqual([frame(1), frame(3), 2, 1]);
  });

  it.each([['Tx', 'rx_fault_unreachable', 0], ['Rx', 'tx_fault_unreachable', 0x2000]] as const)('a %s ring that cannot be read stands still until it is disabled', async (_which, fault, at) => {
    await using guest = await MixedGuest.start({ kinds: all('remote') });
    guest.client.script = (access, iova) => (access === 'read' && iova >= RAM_IOVA + BigInt(at) && iova < RAM_IOVA + BigInt(at + 0x2000) ? 'fail' : undefined);
    await guest.up(rxBuffers(10));
    guest.post([{ at: PACKETS, bytes: 100 }]);
    await guest.until('it is faulted', () => guest.stat(fault) === 1);
    const { length } = guest.client.log;
    guest.client.script = () => undefined;
    for (let n = 0; n < 20; n++) guest.poll();
    await guest.card.disable(1, 1);
    expect(guest.client.log.length - length).toBeLessThan(20);
    await guest.up(rxBuffers(10));
    expect(await transmit(guest, [frame(1)])).toEqual([frame(1)]);
    expect(await receive(guest, [frame(2)])).toEqual([frame(2)]);
  });

  it('silence: DISABLE_QUEUES, a change of memory and a reset are done in bounded time, and what comes late is ignored', async () => {
    await using guest = await MixedGuest.start({ kinds: all('remote') });
    const { allocatedBytes } = guest.card.window;
    for (const end of ['disable', 'remap', 'reset'] as const) {
      if (end === 'reset') await guest.card.negotiate();
      await guest.up(rxBuffers(10));
      guest.client.script = (access, iova) => (access === 'read' && iova < RAM_IOVA + BigInt(BLOCK_BYTES) ? undefined : 'silence');
      guest.post([{ at: PACKETS, bytes: 100 }]);
      await guest.until('it asks for the buffer', () => guest.client.outstanding >= 1);
      await guest.until('frames reach the shadow', () => { guest.send(frame(1)); return guest.client.outstanding >= 2; });
      const before = guest.stat('tx_q0_packets') + guest.stat('tx_q0_dropped');
      const began = performance.now();
      if (end === 'disable') await guest.card.disable(1, 1);
      else if (end === 'remap') await guest.remap(12, 'mapped');
      else await guest.card.provider.reset('family');
      expect(performance.now() - began).toBeLessThan(8000);
      if (end === 'remap') await guest.card.disable(1, 1);
      // Every frame is still accounted for, as lost.
      expect(guest.stat('tx_q0_packets') + guest.stat('tx_q0_dropped')).toBe(before);
      expect(guest.stat('bounced_rings')).toBe(0);
      guest.client.breakSilence();
      await guest.until('late answers are in', () => guest.client.outstanding === 0);
      guest.client.script = () => undefined;
      if (end === 'remap') await guest.remap(12, 'remote');
      if (end === 'reset') await guest.card.negotiate();
    }
    await guest.up(rxBuffers(10));
    expect(await transmit(guest, [frame(5)])).toEqual([frame(5)]);
    expect(await receive(guest, [frame(6)])).toEqual([frame(6)]);
    await guest.card.disable(1, 1);
    // Areas of disabled rings go with the next change of the table.
    await guest.remap(13, 'mapped');
    expect(guest.card.window.allocatedBytes).toBeLessThanOrEqual(allocatedBytes + 0x8_0000);
  });

  it.each(['rx', 'tx'] as const)('silence: of an %s ring that has been given up no message more begins, whatever its memory is used for by then', async (direction) => {
    await using guest = await MixedGuest.start({ kinds: all('remote') });
    await guest.up(rxBuffers(63));
    let begun = 0;
    guest.client.script = (_access, iova) => {
      if (iova < RAM_IOVA + BigInt(BUFFERS)) return undefined;
      begun++;
      return 'silence';
    };
    if (direction === 'rx') guest.send(...Array.from({ length: 40 }, (_, n) => frame(n)));
    else for (let n = 0; n < 40; n++) guest.post([{ at: PACKETS + n * 100, bytes: 100 }]);
    await guest.until('it has as many messages under way as it may', () => begun >= BOUNCE_MESSAGES);
    await guest.card.disable(1, 1);
    await guest.until('late answers are in', () => { guest.client.breakSilence(); return guest.client.outstanding === 0; });
    for (let n = 0; n < 10; n++) await turn();
    expect(begun).toBe(BOUNCE_MESSAGES);
    if (direction === 'rx') expect([guest.stat('tx_q0_packets'), guest.stat('tx_q0_dropped')]).toEqual([0, 40]);
  });

  it('silence: a frame of which nobody says whether the guest has it is counted when its ring is given up, and not once more', async () => {
    await using guest = await MixedGuest.start({ kinds: all('remote') });
    await guest.up(rxBuffers(10));
    // Not even an error comes for the word with DD in it.
    let asked = 0;
    guest.client.script = (access, _iova, bytes) => {
      if (access === 'read' || bytes.length !== 8) return undefined;
      asked++;
      return 'silence';
    };
    guest.send(frame(1), frame(2));
    await guest.until('the first is under way', () => asked === 1);
    await guest.card.disable(1, 1);
    const counted = (): number[] => [guest.stat('tx_q0_packets'), guest.stat('tx_q0_dropped')];
    const atTheEnd = counted();
    expect(atTheEnd[0]! + atTheEnd[1]!).toBe(2);
    guest.client.breakSilence();
    await guest.until('the late answer is in', () => guest.client.outstanding === 0);
    for (let n = 0; n < 10; n++) await turn();
    expect([atTheEnd, counted()]).toEqual([[0, 2], [0, 2]]);
  });
});

describe('memory that changes under a bounced ring', () => {
  it('a ring that is unmapped stops, and goes on where it was when it is mapped again, in whatever way', async () => {
    await using guest = await MixedGuest.start({ kinds: all('remote') });
    await guest.up(rxBuffers(40));
    expect(await transmit(guest, [frame(1)])).toEqual([frame(1)]);
    expect(await receive(guest, [frame(2)])).toEqual([frame(2)]);
    for (const kind of ['mapped', 'remote'] as const) {
      await guest.remap(0, 'none');
      guest.send(frame(99));
      await guest.remap(0, kind);
      await guest.buffersShown();
      expect(await transmit(guest, [frame(3), frame(4)])).toEqual([frame(3), frame(4)]);
      expect(await receive(guest, [frame(5)])).toEqual([frame(5)]);
    }
    expect(guest.stat('tx_no_queue_dropped')).toBe(2);
  });

  it('buffers are fetched anew from what is mapped there now', async () => {
    await using guest = await MixedGuest.start({ kinds: all('remote') });
    await guest.up(rxBuffers(10));
    guest.write(PACKETS, frame(1));
    guest.post([{ at: PACKETS, bytes: 100 }]);
    // The kernel is not asked before the memory has changed.
    await guest.until('it has been fetched', () => guest.client.log.some(({ iova }) => iova === RAM_IOVA + BigInt(PACKETS)));
    await guest.remap(12, 'none');
    await guest.until('it is refused', () => { expect(guest.poll()).toEqual([]); return guest.txDone(); });
    expect(guest.stat('rx_q0_errors')).toBe(1);
  });

  it('a frame whose buffer goes before it is written is lost and counted', async () => {
    await using guest = await MixedGuest.start({ kinds: all('remote') });
    await guest.up(rxBuffers(10));
    guest.client.script = (access) => (access === 'write' ? 'fail' : undefined);
    await guest.until('the buffers are shown', () => guest.send(frame(1)) === 1 && guest.stat('tx_q0_packets') + guest.stat('tx_fault_unreachable') > 0);
    await guest.remap(4, 'none');
    await guest.until('it is accounted for', () => guest.stat('tx_fault_unreachable') === 1);
    await guest.card.disable(1, 1);
    expect(guest.stat('tx_q0_packets')).toBe(0);
    expect(guest.stat('tx_q0_dropped')).toBeGreaterThan(0);
  });
});

it('what it holds of the window is given back when the consumer has gone', async () => {
  const guest = await MixedGuest.start({ kinds: all('remote') });
  const { card } = guest;
  await guest.up(rxBuffers(10));
  expect(await transmit(guest, [frame(1)])).toEqual([frame(1)]);
  guest.client.script = () => 'silence';
  guest.post([{ at: PACKETS, bytes: 100 }]);
  await guest.until('it asks', () => guest.client.outstanding > 0);
  await card.provider.destroyed('connection-lost');
  card.space!.clear();
  guest.client.breakSilence();
  guest.path.close?.();
  guest.burst[Symbol.dispose]();
  await card.port.close();
  await card.provider.device.close();
  card.space![Symbol.dispose]();
  expect(card.window.allocatedBytes).toBeLessThanOrEqual(card.ownBytes);
  card.window[Symbol.dispose]();
});

it('a back end that leaves while a ring of it waits to be bounced writes nothing more', async () => {
  await using guest = await MixedGuest.start({ kinds: all('remote') });
  const { card } = guest;
  const { window } = card;
  const quiescence = Quiescence.of(window);
  const cells = quiescence.addReader('slow');
  const reader = new QuiescentReader(window.i32, cells);
  reader.online();
  const adapter = new Adapter(card.provider.device);
  adapter.ready();
  const { device, misses } = adapter;
  const cell = new MissCell(window, misses, 0);
  const before = window.allocatedBytes;
  const requests = Atomics.load(window.i32, cells.request);
  cell.begin(card.space!.iotlb, IOTLB_READ, Number(RAM_IOVA >> 32n), Number(RAM_IOVA & 0xffff_ffffn));
  cell.ask();
  await guest.until('it waits for the burst', () => Atomics.load(window.i32, cells.request) !== requests);
  adapter[Symbol.dispose]();
  expect(window.allocatedBytes).toBeLessThan(before);
  const left = window.allocatedBytes;
  // Somebody else's by now.
  window.u8.fill(0xa5, device, device + DEV_BYTES);
  const passed = quiescence.synchronize();
  reader.checkpoint();
  await passed;
  for (let n = 0; n < 10; n++) await turn();
  expect(window.u8.subarray(device, device + DEV_BYTES).every((byte) => byte === 0xa5)).toBe(true);
  expect(window.allocatedBytes).toBe(left);
  quiescence.removeReader(cells);
});
