import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Quiescence, Window } from '@emudev/dma';
import { countOpenFds } from '@emudev/linux';
import { Opcode } from '@emudev/virtchnl';
import { BufferPool, PAIR_BUFFERS } from '../src/buffer-pool.ts';
import { DMA_BASE, POOL_BASE } from '../src/dma-memory.ts';
import { Q_SLOTS } from '../src/layout.ts';
import { BUFFER_STRIDE_BYTES } from '../src/limits.ts';
import { IavfPort } from '../src/port.ts';
import { FakeDevice } from './fake-device.ts';

let window: Window;
beforeEach(() => {
  window = Window.open();
  Quiescence.of(window);
});
afterEach(() => {
  window[Symbol.dispose]();
});

const all = (pairs: number): number[] => Array.from({ length: pairs * PAIR_BUFFERS }, (_, i) => i * BUFFER_STRIDE_BYTES);
const sorted = (starts: readonly number[]): number[] => starts.toSorted((a, b) => a - b);

describe('a pool', () => {
  test('gives every buffer to one port at a time, whichever of them ports give back', () => {
    using pool = BufferPool.open({ queuePairs: 3 });
    const first = pool.take(PAIR_BUFFERS)!;
    const second = pool.take(2 * PAIR_BUFFERS)!;
    expect(sorted([...first.starts, ...second.starts])).toEqual(all(3));
    expect(pool.take(PAIR_BUFFERS)).toBeUndefined();
    // By now they have exchanged some.
    first.give(second.starts.slice(0, PAIR_BUFFERS), true);
    expect(pool.free).toBe(PAIR_BUFFERS);
    const third = pool.take(PAIR_BUFFERS)!;
    expect(sorted(third.starts)).toEqual(sorted(second.starts.slice(0, PAIR_BUFFERS)));
    third.give(third.starts, true);
    second.give([...first.starts, ...second.starts.slice(PAIR_BUFFERS)], true);
    expect(pool.free).toBe(3 * PAIR_BUFFERS);
    expect(sorted(pool.take(3 * PAIR_BUFFERS)!.starts)).toEqual(all(3));
  });

  test('gives nobody what a device may still write to', () => {
    using pool = BufferPool.open({ queuePairs: 2 });
    const lease = pool.take(PAIR_BUFFERS)!;
    lease.give(lease.starts, false);
    lease.give(lease.starts, true);
    expect([pool.free, pool.setAside]).toEqual([PAIR_BUFFERS, PAIR_BUFFERS]);
    expect(pool.take(2 * PAIR_BUFFERS)).toBeUndefined();
    expect(pool.take(PAIR_BUFFERS)!.starts).not.toContain(lease.starts[0]);
  });

  test('is there until its opener and its last port have let go of it, and then all of it is gone', () => {
    const before = [countOpenFds(), window.mappingCount, window.allocatedBytes];
    const pool = BufferPool.open({ queuePairs: 2 });
    const lease = pool.take(PAIR_BUFFERS)!;
    pool[Symbol.dispose]();
    pool[Symbol.dispose]();
    expect(pool.isOpen).toBe(true);
    const hold = pool.hold();
    lease.give(lease.starts, true);
    expect(pool.isOpen).toBe(true);
    hold[Symbol.dispose]();
    hold[Symbol.dispose]();
    expect(pool.isOpen).toBe(false);
    expect([countOpenFds(), window.mappingCount, window.allocatedBytes]).toEqual(before);
    expect(pool.take(PAIR_BUFFERS)).toBeUndefined();
    expect(() => pool.hold()).toThrow(expect.objectContaining({ code: 'ERR_IAVF_STATE' }));
  });

  test.each([0, 129, 1.5])('of %s queue pairs is refused', (queuePairs) => {
    expect(() => BufferPool.open({ queuePairs })).toThrow(expect.objectContaining({ code: 'ERR_IAVF_CONFIG' }));
  });
});

describe('a port of a pool', () => {
  const open = (device: FakeDevice, pool: BufferPool, queues = 1): Promise<IavfPort> => IavfPort.open('net_iavf0', async () => device, { pool, queues });
  async function started(device: FakeDevice, pool: BufferPool): Promise<IavfPort> {
    const port = await open(device, pool);
    await port.configure({ rxQueues: 1, txQueues: 1, peerTxCapabilities: 0 });
    await port.start();
    return port;
  }

  test('shows the device the pool, posts its buffers, and takes it back', async () => {
    using pool = BufferPool.open({ queuePairs: 1 });
    const device = new FakeDevice(window);
    const port = await started(device, pool);
    expect(port.sharesBuffers).toBe(true);
    expect([...device.dmaMaps].toSorted()).toEqual([DMA_BASE, POOL_BASE]);
    const ring = device.at(device.queues().pairs[0]!.rx.ringAddress);
    const posted = Array.from({ length: 511 }, (_, i) => window.view.getBigUint64(ring + 32 * i, true));
    expect(posted.every((address) => address >= POOL_BASE && address < POOL_BASE + BigInt(PAIR_BUFFERS * BUFFER_STRIDE_BYTES))).toBe(true);
    expect(new Set(posted).size).toBe(511);
    expect(pool.free).toBe(0);
    await port.close();
    expect(device.dmaMaps.size).toBe(0);
    expect([pool.free, pool.setAside]).toEqual([PAIR_BUFFERS, 0]);
  });

  test('takes as many of its buffers as its rings have descriptors', async () => {
    using pool = BufferPool.open({ queuePairs: 1 });
    const port = await IavfPort.open('net_iavf0', async () => new FakeDevice(window), { pool, queues: 2, rxDescriptors: 128, txDescriptors: 96 });
    expect([port.sharesBuffers, pool.free]).toEqual([true, PAIR_BUFFERS - 2 * (128 + 96)]);
    await port.close();
    expect(pool.free).toBe(PAIR_BUFFERS);
  });

  test('posts the same buffers after a reset: what its slots had before may be another port\'s by now', async () => {
    using pool = BufferPool.open({ queuePairs: 1 });
    const device = new FakeDevice(window);
    const port = await started(device, pool);
    const { rxBlocks } = port.datapath().init as { rxBlocks: number[] };
    const word = window.u32[(rxBlocks[0]! + Q_SLOTS) >>> 2]! >>> 2;
    // As an exchange of two slots leaves them.
    const [first, last] = [window.u32[word]!, window.u32[word + 1023]!];
    window.u32[word] = last;
    window.u32[word + 1023] = first;
    device.requests.length = 0;
    await port.reset();
    const ring = device.at(device.queues().pairs[0]!.rx.ringAddress);
    expect(window.view.getBigUint64(ring, true)).toBe(POOL_BASE + BigInt(last));
    await port.close();
    expect(sorted(pool.take(PAIR_BUFFERS)!.starts)).toEqual(all(1));
  });

  test('has buffers of its own where the pool is full', async () => {
    using pool = BufferPool.open({ queuePairs: 1 });
    const device = new FakeDevice(window);
    const port = await open(device, pool, 2);
    expect(port.sharesBuffers).toBe(false);
    expect([...device.dmaMaps]).toEqual([DMA_BASE]);
    await port.close();
    expect(pool.free).toBe(PAIR_BUFFERS);
  });

  test('and where the device cannot be shown it', async () => {
    using pool = BufferPool.open({ queuePairs: 1 });
    const device = new FakeDevice(window);
    const map = device.dmaMap.bind(device);
    device.dmaMap = async (memory) => {
      if (memory.iova === POOL_BASE) throw new Error('no locked memory left');
      await map(memory);
    };
    const port = await started(device, pool);
    expect(port.sharesBuffers).toBe(false);
    expect(pool.free).toBe(PAIR_BUFFERS);
    await port.close();
    expect([pool.free, pool.setAside]).toEqual([PAIR_BUFFERS, 0]);
  });

  test('whose device goes without a word leaves its buffers to nobody', async () => {
    using pool = BufferPool.open({ queuePairs: 2 });
    const device = new FakeDevice(window);
    const port = await started(device, pool);
    device.vanish();
    await new Promise<void>((resolve) => port.onError(() => { resolve(); }));
    await port.close();
    expect([pool.free, pool.setAside]).toEqual([PAIR_BUFFERS, PAIR_BUFFERS]);
  });

  test('that never came up gives all of them back', async () => {
    using pool = BufferPool.open({ queuePairs: 1 });
    for (const opcode of [Opcode.VERSION, Opcode.GET_VF_RESOURCES]) {
      const device = new FakeDevice(window);
      device.answers.set(opcode, () => ({ status: -5 }));
      await expect(open(device, pool)).rejects.toMatchObject({ code: 'ERR_IAVF_REFUSED' });
    }
    const other = new FakeDevice(window);
    other.config.set(2, 0x1572);
    await expect(open(other, pool)).rejects.toMatchObject({ code: 'ERR_IAVF_NOT_IAVF' });
    expect([pool.free, pool.setAside]).toEqual([PAIR_BUFFERS, 0]);
  });
});
