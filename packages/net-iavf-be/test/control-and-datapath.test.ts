/** What the guest configures through virtchnl is what the data path does: the two halves meet in the state block only. */
import { allocateBurst, FRAME_DATA, FRAME_LENGTH, type LcoreContext } from '@emudev/ethdev';
import { decodeEthStats, encodeConfigIrqMap, encodeEtherAddrList, encodePromiscuousMode, encodeQueueSelect, encodeRssLut, encodeVlanFilterListV2, NO_VLAN_TAG, Opcode } from '@emudev/virtchnl';
import { expect, it } from 'vitest';
import { createDatapath, type IavfDatapathInit } from '../src/datapath.ts';
import { Card, MAC, pair, RAM_IOVA } from './card.ts';

const TX_RING = Number(pair(0).tx.ringAddress - RAM_IOVA);
const rxRing = (queue: number): number => Number(pair(queue).rx.ringAddress - RAM_IOVA);
const BUFFERS = 0x4_0000;
const EOP_RS = 0x3n << 4n;
const OTHER = Uint8Array.of(2, 9, 9, 9, 9, 9);
const BROADCAST = new Uint8Array(6).fill(0xff);

/** An IPv4 UDP frame of 60 bytes. `vlan` puts a tag in. */
function frame(destination: Uint8Array, { sourcePort = 1, vlan }: { sourcePort?: number; vlan?: number } = {}): Uint8Array {
  const tag = vlan === undefined ? [] : [0x81, 0, vlan >> 8, vlan & 255];
  const ip = [0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, sourcePort >> 8, sourcePort & 255, 0, 9, 0, 26, 0, 0];
  return Uint8Array.from([...destination, 2, 0, 0, 0, 0, 1, ...tag, 8, 0, ...ip, ...new Array<number>(18).fill(0)]);
}

it.each(['wasm', 'ts'] as const)('%s kernels', async (kernels) => {
  await using card = await Card.plug({ dma: true });
  const { window } = card;
  using burst = allocateBurst(window, 32, 1 << 20);
  const context: LcoreContext = { lcore: 0, memory: window.memory, base: window.base, u8: window.u8, i32: window.i32, u32: window.u32, view: window.view };
  const path = createDatapath(context, { ...(card.port.datapath().init as IavfDatapathInit), kernels }, () => true);

  /** Sends one frame towards the guest; returns how many were taken. */
  const toGuest = (bytes: Uint8Array): number => {
    window.u8.set(bytes, burst.arena);
    window.u32[(burst.records + FRAME_DATA) >>> 2] = burst.arena;
    window.u32[(burst.records + FRAME_LENGTH) >>> 2] = bytes.length;
    window.u32[(burst.records + 8) >>> 2] = 0;
    return path.txBurst(0, burst, 1);
  };
  const stats = async (): Promise<ReturnType<typeof decodeEthStats>> => decodeEthStats((await card.ask(Opcode.GET_STATS, encodeQueueSelect({ vsiId: 1, txQueues: 0, rxQueues: 0 }))).payload);

  // Before the guest has done anything: nothing moves, nothing breaks.
  expect(path.rxBurst(0, burst, 32)).toBe(0);
  toGuest(frame(BROADCAST));

  await card.negotiate();
  await card.configure(pair(0), pair(1));
  await card.status(Opcode.CONFIG_IRQ_MAP, encodeConfigIrqMap([{ vsiId: 1, vectorId: 1, rxQueues: 1, txQueues: 1, rxItr: 0, txItr: 0 }]));
  for (const queue of [0, 1]) {
    for (let i = 0; i < 32; i++) window.view.setBigUint64(card.ram + rxRing(queue) + 32 * i, RAM_IOVA + BigInt(BUFFERS + (queue * 32 + i) * 2048), true);
    window.u32[card.rxTail(queue) >>> 2] = 32; // before ENABLE, as Linux does
  }
  await card.enable(3, 3);

  // The guest transmits.
  const sent = frame(OTHER);
  window.u8.set(sent, card.ram + BUFFERS + 0x4_0000);
  window.view.setBigUint64(card.ram + TX_RING, RAM_IOVA + BigInt(BUFFERS + 0x4_0000), true);
  window.view.setBigUint64(card.ram + TX_RING + 8, EOP_RS | (BigInt(sent.length) << 34n), true);
  expect(path.rxBurst(0, burst, 32)).toBe(0);
  window.u32[card.txTail(0) >>> 2] = 1;
  expect(path.rxBurst(0, burst, 32)).toBe(1);
  const at = window.u32[(burst.records + FRAME_DATA) >>> 2]!;
  expect(window.u8.slice(at, at + sent.length)).toEqual(sent);
  expect(window.u8[card.ram + TX_RING + 8]! & 15).toBe(15);
  expect(window.i32[card.cell(1) + 1]).toBe(1);

  // The guest receives what is for it. Two of its four queues are enabled: leave the others out.
  await card.status(Opcode.CONFIG_RSS_LUT, encodeRssLut({ vsiId: 1, lut: new Uint8Array(64) }));
  const received = async (): Promise<bigint> => (await stats()).rxUnicast + (await stats()).rxBroadcast;
  toGuest(frame(BROADCAST));
  expect(await received()).toBe(1n);
  toGuest(frame(MAC));
  expect(await received()).toBe(2n);
  toGuest(frame(OTHER));
  expect(await received()).toBe(2n);
  await card.status(Opcode.ADD_ETH_ADDR, encodeEtherAddrList({ vsiId: 1, addresses: [{ address: OTHER, type: 2 }] }));
  toGuest(frame(OTHER));
  expect(await received()).toBe(3n);
  await card.status(Opcode.DEL_ETH_ADDR, encodeEtherAddrList({ vsiId: 1, addresses: [{ address: OTHER, type: 2 }] }));
  toGuest(frame(OTHER));
  expect(await received()).toBe(3n);
  await card.status(Opcode.CONFIG_PROMISCUOUS_MODE, encodePromiscuousMode({ vsiId: 1, flags: 1 }));
  toGuest(frame(OTHER));
  expect(await received()).toBe(4n);
  await card.status(Opcode.CONFIG_PROMISCUOUS_MODE, encodePromiscuousMode({ vsiId: 1, flags: 0 }));

  // VLANs: all of them until there is a filter, then the listed ones.
  toGuest(frame(MAC, { vlan: 7 }));
  expect(await received()).toBe(5n);
  await card.status(Opcode.ADD_VLAN_V2, encodeVlanFilterListV2({ vportId: 1, filters: [{ inner: { tci: 8, tciMask: 0, tpid: 0x8100 }, outer: NO_VLAN_TAG }] }));
  toGuest(frame(MAC, { vlan: 7 }));
  toGuest(frame(MAC, { vlan: 8 }));
  expect(await received()).toBe(6n);

  // RSS: with a table of ones everything is for queue 1.
  await card.status(Opcode.CONFIG_RSS_LUT, encodeRssLut({ vsiId: 1, lut: new Uint8Array(64).fill(1) }));
  const onQueue1 = card.port.xstats().get('tx_q1_packets')!;
  for (let port = 0; port < 8; port++) toGuest(frame(MAC, { sourcePort: port }));
  expect(card.port.xstats().get('tx_q1_packets')).toBe(onQueue1 + 8n);

  // A paused device touches nothing, a disabled queue neither.
  await card.provider.lock('dma-unmap');
  expect([toGuest(frame(MAC)), path.rxBurst(0, burst, 32)]).toEqual([0, 0]);
  card.provider.unlock();
  await card.disable(3, 3);
  window.u32[card.txTail(0) >>> 2] = 5;
  expect(path.rxBurst(0, burst, 32)).toBe(0);
  const before = window.u8.slice(card.ram, card.ram + 0x1_0000);
  toGuest(frame(MAC));
  expect(window.u8.slice(card.ram, card.ram + 0x1_0000)).toEqual(before);
  expect((await stats()).rxDiscards).toBe(2n); // this one, and the one before any queue was enabled
});
