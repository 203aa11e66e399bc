import { afterEach, beforeEach, expect, test } from 'vitest';
import { Quiescence, Window } from '@emudev/dma';
import { Forwarding, LcorePool, allocateBurst, type CreateDatapath, type OwnedBurst, type PortDatapath } from '@emudev/ethdev';
import { RingPort } from '@emudev/net-ring';

let window: Window;
let burst: OwnedBurst;
let port: RingPort;
beforeEach(() => {
  window = Window.open();
  burst = allocateBurst(window, 64, 1 << 20);
});
afterEach(async () => {
  await port.close();
  burst[Symbol.dispose]();
  expect(window.allocatedBytes).toBe(0);
  window[Symbol.dispose]();
});

async function opened(queues: number, size?: number): Promise<PortDatapath> {
  port = new RingPort('net_ring0', { queues, ...(size === undefined ? {} : { size }) });
  await port.configure({ rxQueues: queues, txQueues: queues, peerTxCapabilities: 0 });
  await port.start();
  const { module, init } = port.datapath();
  const { memory, base, u8, i32, u32, view } = window;
  return ((await import(module)) as { createDatapath: CreateDatapath }).createDatapath({ lcore: 0, memory, base, u8, i32, u32, view }, init as never);
}
function send(datapath: PortDatapath, queue: number, frames: readonly Uint8Array[]): number {
  let data = burst.arena;
  frames.forEach((frame, i) => {
    window.u8.set(frame, data);
    window.u8.fill(0, burst.records + 32 * i, burst.records + 32 * i + 32);
    window.view.setUint32(burst.records + 32 * i, data, true);
    window.view.setUint32(burst.records + 32 * i + 4, frame.length, true);
    data += frame.length + 3;
  });
  return datapath.txBurst(queue, burst, frames.length);
}
function receive(datapath: PortDatapath, queue: number, max = 64): Uint8Array[] {
  return Array.from({ length: datapath.rxBurst(queue, burst, max) }, (_, i) => {
    const at = burst.records + 32 * i;
    expect(window.view.getUint16(at + 28, true)).toBe(queue);
    const data = window.view.getUint32(at, true);
    return window.u8.slice(data, data + window.view.getUint32(at + 4, true));
  });
}
const frame = (n: number, length = 60): Uint8Array => new Uint8Array(length).fill(n);

test('what is sent on a queue comes back on it, in order, and on no other', async () => {
  const datapath = await opened(2);
  send(datapath, 0, [frame(1), frame(2, 1514)]);
  send(datapath, 1, [frame(3, 61)]);
  expect(receive(datapath, 1)).toEqual([frame(3, 61)]);
  expect(receive(datapath, 0, 1)).toEqual([frame(1)]);
  expect(receive(datapath, 0)).toEqual([frame(2, 1514)]);
  expect(receive(datapath, 0)).toEqual([]);
  const { ipackets, opackets, ibytes, obytes } = port.stats();
  expect([ipackets, opackets, ibytes, obytes]).toEqual([3n, 3n, 1635n, 1635n]);
});

test('a full ring takes no more; what it took it gives back', async () => {
  const datapath = await opened(1, 4096);
  const taken = send(datapath, 0, Array.from({ length: 64 }, (_, i) => frame(i, 200)));
  expect(taken).toBe(19);
  expect(receive(datapath, 0).map((f) => f[0])).toEqual(Array.from({ length: 19 }, (_, i) => i));
});

test('a frame longer than the port carries is an error, not a full ring', async () => {
  const datapath = await opened(1, 4096);
  expect(port.info.maxFrameBytes).toBe(2040);
  expect(send(datapath, 0, [frame(1, 2041), frame(2)])).toBe(2);
  expect(receive(datapath, 0)).toEqual([frame(2)]);
  expect(port.stats()).toMatchObject({ opackets: 1n, oerrors: 1n });
});

test('a size that makes no ring is refused, and leaves nothing behind', async () => {
  await opened(1);
  const bytes = window.allocatedBytes;
  expect(() => new RingPort('net_ring1', { size: 100 })).toThrow(/100 bytes: want 4096/);
  expect(window.allocatedBytes).toBe(bytes);
});

test('between lcores: frames go round and none is lost', async () => {
  const datapath = await opened(2);
  await port.stop();
  const quiescence = new Quiescence(window);
  const pool = await LcorePool.start(2, { window, quiescence });
  const forwarding = new Forwarding(pool);
  send(datapath, 0, [1, 2, 3].map((n) => frame(n)));
  send(datapath, 1, [4, 5].map((n) => frame(n)));
  await forwarding.connect({ a: port, b: port });
  const deadline = performance.now() + 5000;
  while (forwarding.report().some((s) => s.sent < 100n) && performance.now() < deadline) await new Promise((resolve) => setImmediate(resolve));
  const report = forwarding.report();
  await forwarding.stop();
  await pool.close();
  quiescence[Symbol.dispose]();
  expect(report.every((s) => s.sent >= 100n && s.dropped === 0n)).toBe(true);
  expect(new Set(report.map((s) => s.lcore)).size).toBe(2);
  expect(receive(datapath, 0).map((f) => f[0]).sort()).toEqual([1, 2, 3]);
  expect(receive(datapath, 1).map((f) => f[0]).sort()).toEqual([4, 5]);
});
