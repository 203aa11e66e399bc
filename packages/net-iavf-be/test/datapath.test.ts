/** Bursts through the PortDatapath, and the interrupts they raise. */
import { MISS_CELL_BYTES } from '@emudev/dma';
import { VECTOR_ARMED, VECTOR_FD, VECTOR_FIRED, VECTOR_PENDING } from '@emudev/emudev';
import type { LcoreContext } from '@emudev/ethdev';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createDatapath } from '../src/datapath.ts';
import { DEV_IOTLB, DEV_PAUSED, DEV_TX_LOCK, PAUSED_AWAY, PAUSED_FOR_NOW, Q_ENABLED, Q_ITR, Q_VECTOR, QS_ERRORS, QS_INTERRUPTS, QS_PACKETS } from '../src/layout.ts';
import { frameOf, MAC } from './frames.ts';
import { CHUNK_IOVA, GUEST, guestOffset, Rig } from './rig.ts';

const rig = new Rig();
const TX_CELLS = 0x9f00 / 4;
const RX_CELLS = 0x9f40 / 4;

describe.each(['wasm', 'ts'] as const)('%s', (kernels) => {
  const context: LcoreContext = { lcore: 0, memory: rig.memory, base: 0n, u8: rig.u8, i32: rig.i32, u32: rig.u32, view: rig.view, wakeUps: { count: 0 } };
  let signals: number[];
  const datapath = createDatapath(context, { device: rig.device, kernels }, (fd) => {
    signals.push(fd);
    return true;
  });

  beforeEach(() => {
    signals = [];
    context.wakeUps!.count = 0;
    rig.reset();
    rig.mapGuest();
    rig.addMac(MAC);
    rig.enableTx();
    rig.enableRx();
    rig.set(rig.txBlock(0) + Q_VECTOR, TX_CELLS);
    rig.set(rig.rxBlock(0) + Q_VECTOR, RX_CELLS);
    for (const [cells, fd] of [[TX_CELLS, 11], [RX_CELLS, 12]] as const) {
      rig.i32[cells + VECTOR_ARMED] = 1;
      rig.i32[cells + VECTOR_FD] = fd;
    }
    for (let n = 0; n < 64; n++) rig.set64(rig.rxDescriptor(0, n), CHUNK_IOVA + BigInt(n * 2048));
    rig.setTail(rig.rxBlock(0), 63);
  });

  function post(rs: boolean): void {
    const bytes = frameOf().bytes;
    const tail = rig.tail(rig.txBlock(0));
    rig.write(guestOffset(CHUNK_IOVA), bytes);
    rig.set64(rig.txDescriptor(0, tail), CHUNK_IOVA);
    rig.set64(rig.txDescriptor(0, tail) + 8, (rs ? 0x30n : 0x10n) | (BigInt(bytes.length) << 34n));
    rig.setTail(rig.txBlock(0), tail + 1);
  }

  it('raises the Tx vector once per burst, and only if a descriptor was completed', () => {
    post(true);
    post(true);
    expect(datapath.rxBurst(0, rig.burst, 32)).toBe(2);
    expect(signals).toEqual([11]);
    rig.i32[TX_CELLS + VECTOR_ARMED] = 1;
    post(false);
    expect(datapath.rxBurst(0, rig.burst, 32)).toBe(1);
    expect(datapath.rxBurst(0, rig.burst, 32)).toBe(0);
    expect(signals).toEqual([11]);
    expect(rig.stat(rig.txBlock(0), QS_INTERRUPTS)).toBe(1);
  });

  it('raises the vector of the Rx queue that got frames, and latches while the guest has not armed it', () => {
    const count = rig.fillBurst([{ bytes: frameOf().bytes }, { bytes: frameOf().bytes }]);
    expect(datapath.txBurst(0, rig.burst, count)).toBe(2);
    expect(signals).toEqual([12]);
    expect(datapath.txBurst(0, rig.burst, count)).toBe(2);
    expect(signals).toEqual([12]); // fired once per arming
    expect(context.wakeUps!.count).toBe(1); // and the lcore was told
    expect([rig.i32[RX_CELLS + VECTOR_PENDING], rig.i32[RX_CELLS + VECTOR_FIRED]]).toEqual([1, 1]);
  });

  it('delivers without an interrupt where none is mapped (DPDK)', () => {
    rig.set(rig.rxBlock(0) + Q_VECTOR, 0);
    datapath.txBurst(0, rig.burst, rig.fillBurst([{ bytes: frameOf().bytes }]));
    expect(rig.stat(rig.rxBlock(0), QS_PACKETS)).toBe(1);
    expect(signals).toEqual([]);
  });

  it('waits for its turn where several lcores send, and says so', () => {
    const [one, other] = [0, 1].map(() => createDatapath(context, { device: rig.device, kernels, shared: true }, () => true));
    const count = rig.fillBurst([{ bytes: frameOf().bytes }, { bytes: frameOf().bytes }]);
    expect(one!.txBurst(0, rig.burst, count)).toBe(2);
    expect(other!.txBurst(1, rig.burst, count)).toBe(2);
    // A third one is at it.
    rig.set(rig.device + DEV_TX_LOCK, 1);
    expect([other!.txBurst(1, rig.burst, count), other!.holding!(1), one!.holding!(0)]).toEqual([0, true, false]);
    rig.set(rig.device + DEV_TX_LOCK, 0);
    expect([other!.txBurst(1, rig.burst, count), other!.holding!(1)]).toEqual([2, false]);
    expect(rig.stat(rig.rxBlock(0), QS_PACKETS)).toBe(6);
  });

  it('takes no lines of Rx descriptors ahead of time that another lcore may be writing', () => {
    // The Rx descriptors of the queue are as the guest has posted them until somebody delivers; the kernels' store is of zeroes
    const mark = 0x77n << 32n;
    const marked = (options: { readonly shared?: boolean }, sends: boolean): boolean => {
      rig.set64(rig.rxDescriptor(0, 0) + 8, mark);
      post(false);
      const path = createDatapath(context, { device: rig.device, kernels, ...options }, () => true);
      expect(path.prefetch!(0, sends)).toBe(true);
      return rig.get64(rig.rxDescriptor(0, 0) + 8) === mark;
    };
    expect([marked({}, true), marked({}, false), marked({ shared: true }, true)]).toEqual([kernels === 'ts', true, true]);
  });

  it('and a burst that ends with an error gives its turn back', () => {
    const [one, other] = [0, 1].map(() => createDatapath(context, { device: rig.device, kernels, shared: true }, () => true));
    const count = rig.fillBurst([{ bytes: frameOf().bytes }]);
    const data = rig.get(rig.record(0));
    // Up to the end of the address space: as a page that has gone.
    rig.set(rig.record(0), 0xffff_fff0);
    rig.u8.set(MAC, 0xffff_fff0);
    expect(() => one!.txBurst(0, rig.burst, count)).toThrow();
    rig.u8.fill(0, 0xffff_fff0);
    rig.set(rig.record(0), data);
    expect([other!.txBurst(1, rig.burst, count), other!.holding!(1)]).toEqual([1, false]);
  });

  it('and where one of them waits for memory, the others wait with it and lose nothing', () => {
    const misses = { offset: 0xb000, count: 3, bell: 0xf000 };
    const [one, other] = [0, 1].map(() => createDatapath(context, { device: rig.device, kernels, shared: true, misses }, () => true));
    rig.set64(rig.rxDescriptor(0, 0), 0x77_0000_0000n);
    const count = rig.fillBurst([{ bytes: frameOf().bytes }]);
    expect([one!.txBurst(0, rig.burst, count), one!.holding!(0)]).toEqual([0, true]);
    expect([other!.txBurst(1, rig.burst, count), other!.holding!(1)]).toEqual([0, true]);
    // Brought in, and answered.
    rig.mapChunk(0x77_0000_0000n, GUEST, 2);
    rig.set(misses.offset + 2 * MISS_CELL_BYTES, 0);
    expect([other!.txBurst(1, rig.burst, count), other!.holding!(1)]).toEqual([1, false]);
    expect([one!.txBurst(0, rig.burst, count), one!.holding!(0)]).toEqual([1, false]);
    expect(rig.stat(rig.rxBlock(0), QS_PACKETS)).toBe(2);
  });

  it('an answer that one card has not heeded, for its burst ended with an error, is none for another', () => {
    const absent = 0x77_0000_0000n;
    const cells = [0xb000, 0xc000];
    const [one, other] = cells.map((offset) => createDatapath(context, { device: rig.device, kernels, misses: { offset, count: 3, bell: 0xf000 } }, () => true));
    // Denied: state, IOTLB, address
    rig.set(cells[0]!, 3);
    rig.set(cells[0]! + 4, rig.get(rig.device + DEV_IOTLB));
    rig.set64(cells[0]! + 24, absent);
    post(false);
    expect(() => one!.rxBurst(0, { ...rig.burst, arena: 0xffff_fff0, arenaBytes: 4096 }, 32)).toThrow();
    rig.u8.fill(0, 0xffff_fff0);
    rig.set64(rig.txDescriptor(0, 0), absent);
    expect(other!.rxBurst(0, rig.burst, 32)).toBe(0);
    expect([rig.stat(rig.txBlock(0), QS_ERRORS), rig.get(cells[1]!)]).toEqual([0, 1]);
  });

  it('asks for a moment while memory or interrupts are changed, not while nobody is there', () => {
    const count = rig.fillBurst([{ bytes: frameOf().bytes }]);
    for (const [paused, holding] of [[PAUSED_FOR_NOW, true], [PAUSED_AWAY, false]] as const) {
      rig.set(rig.device + DEV_PAUSED, paused);
      expect([datapath.txBurst(0, rig.burst, count), datapath.holding!(0)]).toEqual([0, holding]);
    }
  });

  it('asks for a moment while a ring lacks room, for a moment only, and again once there was room', async () => {
    const full = (): boolean => datapath.holding!(0);
    const room = (descriptors: number): void => { rig.setTail(rig.rxBlock(0), descriptors); };
    room(16);
    expect(full()).toBe(false);
    room(15);
    expect(full()).toBe(true);
    // Nothing is refused because of it.
    expect(datapath.txBurst(0, rig.burst, rig.fillBurst([{ bytes: frameOf().bytes }]))).toBe(1);
    await vi.waitUntil(() => !full());
    expect(full()).toBe(false);
    room(40);
    expect(full()).toBe(false);
    room(2);
    expect(full()).toBe(true);
    // A tail that is none, and a ring that is not enabled, hold nobody up.
    room(5000);
    expect(full()).toBe(false);
    room(2);
    rig.set(rig.rxBlock(0) + Q_ENABLED, 0);
    expect(full()).toBe(false);
  });

  it('keeps the interval between two interrupts that the guest has set, and closes with none left', () => {
    const itr = 0x9f80;
    let now = 1_000_000;
    const timed = createDatapath(context, { device: rig.device, kernels }, (fd) => signals.push(fd) > 0, () => now);
    rig.set(rig.rxBlock(0) + Q_ITR, itr);
    rig.set(itr, 100);
    const burst = (): void => {
      expect(timed.txBurst(0, rig.burst, rig.fillBurst([{ bytes: frameOf().bytes }]))).toBe(1);
      rig.i32[RX_CELLS + VECTOR_ARMED] = 1;
    };
    burst();
    burst();
    expect([signals, timed.tick!()]).toEqual([[12], 200]);
    now += 200;
    expect([timed.tick!(), signals]).toEqual([0, [12, 12]]);
    rig.i32[RX_CELLS + VECTOR_ARMED] = 1;
    burst();
    timed.close!();
    expect(signals).toEqual([12, 12, 12]);
    rig.set(itr, 0);
  });

  it('never fills more records than the burst has', () => {
    for (let n = 0; n < 8; n++) post(false);
    expect(datapath.rxBurst(0, { ...rig.burst, capacity: 5 }, 32)).toBe(5);
    expect(datapath.rxBurst(0, rig.burst, 2)).toBe(2);
  });
});
