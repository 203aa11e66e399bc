import { afterEach, beforeEach, expect, test } from 'vitest';
import { Window } from '@emudev/dma';
import { parseArgs, parseVdev, EmudevRegistry } from '@emudev/emudev';
import { FRAME_TX_MASK, allocateBurst, type CreateDatapath, type OwnedBurst, type PortDatapath } from '@emudev/ethdev';
import { driver, type NullPort } from '@emudev/net-null';

let window: Window;
let burst: OwnedBurst;
let port: NullPort;
beforeEach(() => {
  window = Window.open();
  burst = allocateBurst(window, 64, 1 << 17);
});
afterEach(async () => {
  await port.close();
  burst[Symbol.dispose]();
  expect(window.allocatedBytes).toBe(0);
  window[Symbol.dispose]();
});

/** As the command line makes one: `net_null0,size=…`. */
async function opened(text: string): Promise<PortDatapath> {
  const { name, pairs } = parseVdev(text);
  port = await driver.probe(name, parseArgs(driver.args, pairs), { findEmudev: () => undefined, registry: new EmudevRegistry() });
  const queues = port.info.maxRxQueues;
  await port.configure({ rxQueues: queues, txQueues: queues, peerTxCapabilities: 0 });
  await port.start();
  const { module, init } = port.datapath();
  const { memory, base, u8, i32, u32, view } = window;
  return ((await import(module)) as { createDatapath: CreateDatapath }).createDatapath({ lcore: 0, memory, base, u8, i32, u32, view }, init as never);
}
const record = (i: number): { data: number; length: number; queue: number } => {
  const at = burst.records + 32 * i;
  return { data: window.view.getUint32(at, true), length: window.view.getUint32(at + 4, true), queue: window.view.getUint16(at + 28, true) };
};

test('gives whole bursts of frames of the asked size, each with bytes of its own, inside the arena', async () => {
  const datapath = await opened('net_null0,size=100');
  expect(datapath.rxBurst(0, burst, 64)).toBe(64);
  expect(datapath.rxBurst(0, burst, 3)).toBe(3);
  const frames = Array.from({ length: 64 }, (_, i) => record(i));
  expect(frames.every(({ length }) => length === 100)).toBe(true);
  const starts = frames.map(({ data }) => data);
  expect(starts.every((data, i) => data >= burst.arena && data + 100 <= burst.arena + burst.arenaBytes && (i === 0 || data - starts[i - 1]! >= 100))).toBe(true);
  expect(port.stats()).toMatchObject({ ipackets: 67n, ibytes: 6700n });
});

test('a frame size that fills the arena early makes shorter bursts', async () => {
  const datapath = await opened('net_null0,size=9728');
  expect(datapath.rxBurst(0, burst, 64)).toBe(13);
});

test('no-rx receives nothing; what is sent is swallowed and counted, finished or not', async () => {
  const datapath = await opened('net_null0,no-rx');
  expect(datapath.rxBurst(0, burst, 64)).toBe(0);
  expect(port.info.txCapabilities).toBe(FRAME_TX_MASK);
  for (let i = 0; i < 64; i++) {
    window.view.setUint32(burst.records + 32 * i, burst.arena, true);
    window.view.setUint32(burst.records + 32 * i + 4, 1000, true);
  }
  expect(datapath.txBurst(0, burst, 64)).toBe(64);
  expect(port.stats()).toMatchObject({ opackets: 64n, obytes: 64_000n, ipackets: 0n });
});

test.each([['off', 64], ['on', 64], ['off', 101], ['on', 101]])('gives zeroes, whatever the arena held: copy=%s,size=%i', async (copy, size) => {
  const datapath = await opened(`net_null0,copy=${copy},size=${String(size)}`);
  window.u8.fill(0xff, burst.arena, burst.arena + burst.arenaBytes);
  expect(datapath.rxBurst(0, burst, 64)).toBe(64);
  for (let i = 0; i < 64; i++) expect(window.u8.slice(record(i).data, record(i).data + size).every((byte) => byte === 0)).toBe(true);
});

test('copy copies what is sent', async () => {
  const datapath = await opened('net_null0,copy=on,size=64');
  expect(datapath.rxBurst(0, burst, 64)).toBe(64);
  // Longer than the sink: a TSO frame.
  window.view.setUint32(burst.records + 4, 65_000, true);
  expect(datapath.txBurst(0, burst, 1)).toBe(1);
});

test('queues have counters of their own; DPDK finds its names', async () => {
  const datapath = await opened('net_null3,queues=2,size=60');
  datapath.rxBurst(1, burst, 5);
  expect(record(0).queue).toBe(1);
  const xstats = port.xstats();
  expect([xstats.get('rx_good_packets'), xstats.get('rx_q0_packets'), xstats.get('rx_q1_packets'), xstats.get('rx_q1_bytes')]).toEqual([5n, 0n, 5n, 300n]);
  port.resetStats();
  expect(port.stats().ipackets).toBe(0n);
  datapath.rxBurst(1, burst, 2);
  expect(port.stats().ipackets).toBe(2n);
});

test('the link is up while the port is started', async () => {
  await opened('net_null0');
  const seen: boolean[] = [];
  port.onLink((link) => seen.push(link.up));
  expect(port.link()).toEqual({ up: true, speedMbps: 10_000 });
  await port.stop();
  await port.start();
  expect(seen).toEqual([false, true]);
  await expect(port.configure({ rxQueues: 1, txQueues: 1, peerTxCapabilities: 0 })).rejects.toMatchObject({ code: 'ERR_ETHDEV_STATE' });
});
