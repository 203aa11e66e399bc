/** What outlives what: queues, memory, resets, consumers, the link. */
import { channel } from 'node:diagnostics_channel';
import { Quiescence, QuiescentReader } from '@emudev/dma';
import { raiseVector } from '@emudev/emudev';
import { LCORE_EVENTS_CHANNEL } from '@emudev/ethdev';
import { decodeEthStats, decodeEvent, decodeVfResources, encodeConfigIrqMap, encodeEtherAddrList, encodeQueueSelect, encodeVlanFilterList, Opcode } from '@emudev/virtchnl';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  DEV_FLAGS, DEV_PAUSED, DEV_PEER_TX_CAPS, DEV_RX_BLOCKS, DEV_STATS, DEV_TX_BLOCKS, DEV_TX_LOCK, DEVS_RX_FILTERED, DEVS_RX_NO_QUEUE, Q_BUFFER, Q_BYTES, Q_DOORBELL, Q_ENABLED, Q_FAULT,
  Q_HEAD, Q_LENGTH, Q_MAX_PACKET, Q_RING, Q_STAGE, Q_STATS, Q_TSO_OFFSET, Q_TSO_STATE, Q_TSO_TOTAL, Q_VECTOR, QFAULT_NONE, QFAULT_RING_UNMAPPED, QFAULT_TAIL, QS_BYTES, QS_DISCARDS, QS_ERRORS,
  QS_MULTICAST, QS_PACKETS, QS_UNICAST, STAGE_BYTES, TSOS_MSS, PAUSED_FOR_NOW,
} from '../src/layout.ts';
import { IavfBackEndPort } from '../src/port.ts';
import { Card, FREEBSD_CAPABILITIES, LINUX_CAPABILITIES, MAC, pair } from './card.ts';

let card: Card;
beforeEach(async () => {
  card = await Card.plug();
});
afterEach(async () => {
  const { errors } = card;
  await card[Symbol.asyncDispose]();
  expect(errors).toEqual([]);
});

const tx = (queue: number, field: number): number => card.word(card.deviceWord(DEV_TX_BLOCKS) + queue * Q_BYTES + field);
const rx = (queue: number, field: number): number => card.word(card.deviceWord(DEV_RX_BLOCKS) + queue * Q_BYTES + field);
const poke = (offset: number, value: number): void => {
  card.window.u32[offset >>> 2] = value;
};
const txBlock = (queue: number): number => card.deviceWord(DEV_TX_BLOCKS) + queue * Q_BYTES;
const rxBlock = (queue: number): number => card.deviceWord(DEV_RX_BLOCKS) + queue * Q_BYTES;
const paused = (): number => card.deviceWord(DEV_PAUSED);
const xstat = (name: string): bigint | undefined => card.port.xstats().get(name);

async function running(capabilities = LINUX_CAPABILITIES): Promise<void> {
  await card.negotiate(capabilities);
  expect(await card.configure(pair(0), pair(1))).toBe(0);
  expect(await card.enable(3, 3)).toBe(0);
}

/** An lcore that is online and passes its checkpoints only when told. */
function lcore(): { reader: QuiescentReader; [Symbol.dispose](): void } {
  const quiescence = Quiescence.of(card.window);
  const cells = quiescence.addReader('test lcore');
  const reader = new QuiescentReader(card.window.i32, cells);
  reader.online();
  return { reader, [Symbol.dispose]: () => { quiescence.removeReader(cells); } };
}

describe('queues', () => {
  it('enabling publishes where the rings are, heads at zero, everything the data path needs', async () => {
    await running();
    expect([tx(1, Q_ENABLED), tx(1, Q_RING), tx(1, Q_LENGTH), tx(1, Q_HEAD), tx(1, Q_DOORBELL), tx(1, Q_FAULT)]).toEqual([1, card.ram + 0x4000, 64, 0, card.txTail(1), 0]);
    expect([rx(1, Q_ENABLED), rx(1, Q_RING), rx(1, Q_LENGTH), rx(1, Q_HEAD), rx(1, Q_DOORBELL)]).toEqual([1, card.ram + 0x6000, 64, 0, card.rxTail(1)]);
    expect([rx(1, Q_BUFFER), rx(1, Q_MAX_PACKET)]).toEqual([2048, 1536]);
    expect(tx(1, Q_STAGE)).toBeGreaterThan(0);
    expect([tx(2, Q_ENABLED), rx(2, Q_ENABLED)]).toEqual([0, 0]);
  });

  it('the link is told after the reply to ENABLE_QUEUES, every time', async () => {
    await card.negotiate();
    await card.configure(pair(0));
    for (let i = 0; i < 2; i++) {
      const [reply, event, ...more] = await card.request(Opcode.ENABLE_QUEUES, encodeQueueSelect({ vsiId: 1, txQueues: 1, rxQueues: 1 }));
      expect(reply).toMatchObject({ opcode: Opcode.ENABLE_QUEUES, status: 0 });
      expect(event).toMatchObject({ opcode: Opcode.EVENT, status: 0 });
      expect(event?.kind === 'message' && decodeEvent(event.payload, true)).toEqual({ kind: 'link-change', up: true, speedMbps: 10_000 });
      expect(more).toEqual([]);
    }
  });

  it('CONFIG clears the Tx tail, which is stale, and keeps the Rx tail, which Linux has written already', async () => {
    await card.negotiate();
    poke(card.txTail(0), 17);
    poke(card.rxTail(0), 511);
    await card.configure(pair(0));
    expect([card.word(card.txTail(0)), card.word(card.rxTail(0))]).toEqual([0, 511]);
    await card.enable(1, 1);
    expect([card.word(card.txTail(0)), card.word(card.rxTail(0))]).toEqual([0, 511]);
  });

  it('DISABLE clears tails and heads, of queues never enabled too, and a queue may be enabled again', async () => {
    await running();
    for (const offset of [card.txTail(0), card.rxTail(0), card.rxTail(3)]) poke(offset, 9);
    poke(txBlock(0) + Q_HEAD, 9);
    poke(txBlock(0) + Q_TSO_TOTAL, 1000);
    card.window.view.setUint16(txBlock(0) + Q_TSO_STATE + TSOS_MSS, 1000, true);
    expect(await card.disable(1, 0xf)).toBe(0);
    expect([card.word(card.txTail(0)), card.word(card.rxTail(0)), card.word(card.rxTail(3))]).toEqual([0, 0, 0]);
    expect([tx(0, Q_ENABLED), tx(0, Q_RING), tx(0, Q_HEAD), tx(0, Q_TSO_TOTAL)]).toEqual([0, 0, 0, 0]);
    expect(tx(1, Q_ENABLED)).toBe(1);
    expect(await card.enable(1, 0)).toBe(0);
    expect([tx(0, Q_ENABLED), tx(0, Q_RING)]).toEqual([1, card.ram]);
  });

  it('DISABLE is answered only when no burst uses the ring any more', async () => {
    using thread = lcore();
    await card.negotiate();
    await card.configure(pair(0));
    await card.enable(1, 1);
    const before = card.sent.length;
    const answered = card.disable(1, 1);
    // Everything that could answer without the lcore has had its turn.
    await new Promise((resolve) => { setImmediate(resolve); });
    expect(card.sent.length).toBe(before);
    expect([tx(0, Q_ENABLED), tx(0, Q_RING)]).toEqual([0, card.ram]);
    thread.reader.checkpoint();
    expect(await answered).toBe(0);
    expect(tx(0, Q_RING)).toBe(0);
  });

  it('a DISABLE that a reset overtakes is never answered', async () => {
    using thread = lcore();
    await card.negotiate();
    await card.configure(pair(0));
    const answered = card.request(Opcode.DISABLE_QUEUES, encodeQueueSelect({ vsiId: 1, txQueues: 1, rxQueues: 1 }));
    const reset = card.provider.reset('family');
    thread.reader.offline();
    await reset;
    expect(await answered).toEqual([]);
  });

  it('configuring a running queue stops it first; what is enabled next is the new ring', async () => {
    await running();
    expect(await card.configure(pair(0, { tx: { ringLength: 128, ringAddress: pair(3).tx.ringAddress } }))).toBe(0);
    expect([tx(0, Q_ENABLED), rx(0, Q_ENABLED), tx(1, Q_ENABLED)]).toEqual([0, 0, 1]);
    await card.enable(1, 1);
    expect([tx(0, Q_RING), tx(0, Q_LENGTH)]).toEqual([card.ram + 0xc000, 128]);
  });

  it.each([
    ['outside of guest memory', { ringAddress: 0x1000n }, { read: true, write: true }],
    ['beyond its end', { ringAddress: pair(0).tx.ringAddress + 0xf_ff80n }, { read: true, write: true }],
    ['in read-only memory', {}, { read: true, write: false }],
    ['in write-only memory', {}, { read: false, write: true }],
  ])('a ring %s is not enabled, and nor is any other of the message', async (_where, overrides, access) => {
    await card.negotiate();
    await card.configure(pair(0), pair(1, { tx: overrides }));
    Object.assign(card.access, access);
    expect(await card.enable(3, 0)).toBe(-5);
    expect([tx(0, Q_ENABLED), tx(1, Q_ENABLED)]).toEqual([0, 0]);
  });
});

describe('guest memory', () => {
  it('no consumer, or locked: paused', async () => {
    expect(paused()).toBe(0);
    await card.provider.lock('dma-unmap');
    expect(paused()).toBe(PAUSED_FOR_NOW);
    card.provider.unlock();
    expect(paused()).toBe(0);
    await card.provider.destroyed('guest left');
    expect(paused()).toBe(1);
    card.provider.connected();
    await card.provider.ready();
    expect(paused()).toBe(0);
  });

  it('lock takes the turn to fill Rx rings from an lcore that has died with it, not from one that got it meanwhile', async () => {
    const turn = (card.device + DEV_TX_LOCK) >>> 2;
    using thread = lcore();
    let done = false;
    const locked = card.provider.lock('dma-unmap').then(() => { done = true; });
    await new Promise((resolve) => { setImmediate(resolve); });
    // It has ended its burst; the next one finds the device paused, and is in no hurry.
    thread.reader.checkpoint();
    card.window.i32[turn] = 7;
    await new Promise((resolve) => { setTimeout(resolve, 20); });
    expect([done, card.window.i32[turn]]).toEqual([false, 7]);
    thread[Symbol.dispose]();
    await locked;
    expect(card.window.i32[turn]).toBe(0);
    card.provider.unlock();
  });

  it('an lcore that dies with the turn gives it to the others when their bursts have ended; one that got it meanwhile keeps it', async () => {
    const turn = (card.device + DEV_TX_LOCK) >>> 2;
    const { i32 } = card.window;
    const quiescence = Quiescence.of(card.window);
    const died = (): void => { channel(LCORE_EVENTS_CHANNEL).publish({ kind: 'lcore-died', lcore: 1, error: new Error('killed') }); };
    using thread = lcore();
    for (const [next, left] of [[7, 0], [8, 8]] as const) {
      i32[turn] = 7;
      died();
      const passed = quiescence.synchronize();
      expect(i32[turn]).toBe(7);
      i32[turn] = next;
      thread.reader.checkpoint();
      await passed;
      await new Promise((resolve) => { setImmediate(resolve); });
      expect(i32[turn]).toBe(left);
    }
    i32[turn] = 0;
  });

  it('lock waits for the burst under way', async () => {
    using thread = lcore();
    const locked = card.provider.lock('dma-unmap');
    let done = false;
    void locked.then(() => { done = true; });
    await new Promise((resolve) => { setImmediate(resolve); });
    expect([paused(), done]).toEqual([PAUSED_FOR_NOW, false]);
    thread.reader.checkpoint();
    await locked;
    card.provider.unlock();
  });

  it('an lcore that hangs fails the lock in time, and the next lock is as good as ever', async () => {
    {
      using _hanging = lcore();
      await expect(card.provider.lock('dma-unmap')).rejects.toMatchObject({ code: 'ERR_QUIESCENCE_TIMEOUT' });
      expect(paused()).toBe(0);
    }
    await card.changeMemory(() => {});
    expect(paused()).toBe(0);
  });

  it('a ring that an unmap takes away is faulted and counted, and resumes when its memory is back', async () => {
    await running();
    poke(txBlock(0) + Q_HEAD, 5);
    await card.changeMemory(() => { card.access.read = false; });
    expect([tx(0, Q_ENABLED), tx(0, Q_RING), tx(0, Q_FAULT)]).toEqual([0, 0, QFAULT_RING_UNMAPPED]);
    expect([rx(1, Q_ENABLED), rx(1, Q_FAULT), tx(2, Q_FAULT)]).toEqual([0, QFAULT_RING_UNMAPPED, QFAULT_NONE]);
    expect([xstat('rx_fault_ring_unmapped'), xstat('tx_fault_ring_unmapped')]).toEqual([2n, 2n]);
    await card.changeMemory(() => { card.access = { read: true, write: true, moved: 4096 }; });
    expect([tx(0, Q_ENABLED), tx(0, Q_RING), tx(0, Q_FAULT), tx(0, Q_HEAD)]).toEqual([1, card.ram + 4096, QFAULT_NONE, 5]);
    expect(xstat('rx_fault_ring_unmapped')).toBe(2n);
  });

  it('a change that does not concern a ring leaves it where it is; one that moves it is followed', async () => {
    await running();
    await card.changeMemory(() => {});
    expect([tx(1, Q_ENABLED), tx(1, Q_RING)]).toEqual([1, card.ram + 0x4000]);
    await card.changeMemory(() => { card.access.moved = 8192; });
    expect([tx(1, Q_RING), rx(0, Q_RING)]).toEqual([card.ram + 0x4000 + 8192, card.ram + 0x2000 + 8192]);
  });

  it('a fault of the data path stays latched through a memory change, and is counted when DISABLE clears it', async () => {
    await running();
    poke(txBlock(0) + Q_FAULT, QFAULT_TAIL);
    await card.changeMemory(() => {});
    expect([tx(0, Q_FAULT), xstat('rx_fault_tail')]).toEqual([QFAULT_TAIL, 1n]);
    await card.disable(1, 1);
    expect([tx(0, Q_FAULT), xstat('rx_fault_tail')]).toEqual([QFAULT_NONE, 1n]);
  });

  it('segments that DISABLE or a reset cuts off are counted, once', async () => {
    await running();
    const stage = (): void => {
      poke(txBlock(0) + Q_TSO_OFFSET, 2000);
      poke(txBlock(0) + Q_TSO_TOTAL, 4001);
      card.window.view.setUint16(txBlock(0) + Q_TSO_STATE + TSOS_MSS, 1000, true);
    };
    stage();
    await card.disable(1, 1);
    expect([tx(0, Q_TSO_TOTAL), xstat('rx_q0_dropped'), card.port.stats().ierrors]).toEqual([0, 3n, 3n]);
    await card.disable(1, 1);
    expect(xstat('rx_q0_dropped')).toBe(3n);
    await card.enable(1, 1);
    stage();
    await card.provider.reset('family');
    expect([tx(0, Q_TSO_TOTAL), xstat('rx_q0_dropped')]).toEqual([0, 6n]);
  });

  it('where there is no memory for one of the queues none is enabled', async () => {
    await card.negotiate();
    await card.configure(pair(0), pair(1));
    const forOne = card.window.alloc(STAGE_BYTES);
    const taken: number[] = [];
    for (let bytes = 1 << 28; bytes >= 64; bytes >>>= 1) {
      try {
        for (;;) taken.push(card.window.alloc(bytes));
      } catch {
        // Smaller ones may fit.
      }
    }
    card.window.free(forOne);
    const refused = await card.enable(3, 3);
    for (const offset of taken) card.window.free(offset);
    expect(refused).not.toBe(0);
    expect([tx(0, Q_ENABLED), tx(1, Q_ENABLED), rx(0, Q_ENABLED), rx(1, Q_ENABLED)]).toEqual([0, 0, 0, 0]);
    expect(await card.enable(3, 3)).toBe(0);
  });

  it('an interrupt for a queue that is mapped while locked waits for unlock', async () => {
    await running();
    await card.provider.lock('irqs');
    await card.status(Opcode.CONFIG_IRQ_MAP, encodeConfigIrqMap([{ vsiId: 1, vectorId: 2, rxQueues: 1, txQueues: 0, rxItr: 0, txItr: 0 }]));
    expect(card.window.i32[card.cell(2) + 1]).toBe(0);
    card.provider.unlock();
    expect(card.window.i32[card.cell(2) + 1]).toBe(1);
    // The latch fires when the guest arms the vector: nothing is lost.
    card.window.i32.set([1, 1, 77], card.cell(2));
    const fired: number[] = [];
    raiseVector(card.window.i32, card.cell(2), (fd) => fired.push(fd) > 0);
    expect(fired).toEqual([77]);
  });
});

describe('reset', () => {
  const primary = Uint8Array.of(2, 0, 0, 0, 0, 9);
  const mac = async (): Promise<number[]> => [...decodeVfResources((await card.negotiate()).payload).vsis[0]!.mac];
  const takePrimary = (type = 1): Promise<number> => card.status(Opcode.ADD_ETH_ADDR, encodeEtherAddrList({ vsiId: 1, addresses: [{ address: primary, type }] }));

  it('RESET_VF clears queues, tails, vectors, filters and modes', async () => {
    await running(FREEBSD_CAPABILITIES);
    await card.status(Opcode.CONFIG_IRQ_MAP, encodeConfigIrqMap([{ vsiId: 1, vectorId: 1, rxQueues: 1, txQueues: 1, rxItr: 0, txItr: 0 }]));
    await card.status(Opcode.ADD_VLAN, encodeVlanFilterList({ vsiId: 1, vlanIds: [5] }));
    await card.status(Opcode.CONFIG_PROMISCUOUS_MODE, Uint8Array.of(1, 0, 3, 0));
    poke(card.rxTail(0), 63);
    expect(card.deviceWord(DEV_FLAGS)).not.toBe(0);
    await card.provider.reset('family');
    expect([tx(0, Q_ENABLED), tx(0, Q_RING), tx(0, Q_VECTOR), rx(0, Q_VECTOR), card.word(card.rxTail(0)), card.deviceWord(DEV_FLAGS)]).toEqual([0, 0, 0, 0, 0, 0]);
    expect(xstat('guest_resets')).toBe(1n);
    await card.negotiate();
    expect(await card.enable(1, 1)).toBe(-5);
  });

  it('RESET_VF keeps the primary address; a function reset brings the provisioned one back', async () => {
    await card.negotiate();
    await takePrimary();
    expect(await mac()).toEqual([...primary]);
    await card.provider.reset('family');
    expect(await mac()).toEqual([...primary]);
    await card.provider.reset('function');
    expect(await mac()).toEqual([...MAC]);
  });

  it('an address of legacy type becomes primary only where there is none, and an extra one never does', async () => {
    await card.negotiate();
    for (const type of [0, 2]) await takePrimary(type);
    expect(await mac()).toEqual([...MAC]);
    card.provider.device.setAttr({ name: 'mac' }, new Uint8Array(6));
    await takePrimary(2);
    expect(await mac()).toEqual([0, 0, 0, 0, 0, 0]);
    await takePrimary(0);
    expect(await mac()).toEqual([...primary]);
  });

  it('a change of the provisioned address is seen by the next driver, not by the present one', async () => {
    await card.negotiate();
    card.provider.device.setAttr({ name: 'mac' }, primary);
    await card.provider.reset('family');
    expect(await mac()).toEqual([...primary]);
  });

  it('a new consumer finds nothing of the old one', async () => {
    await running();
    await takePrimary();
    poke(txBlock(0) + Q_STATS + 8 * QS_UNICAST, 100);
    await card.provider.destroyed('guest left');
    expect([tx(0, Q_ENABLED), rx(1, Q_ENABLED), paused()]).toEqual([0, 0, 1]);
    card.provider.connected();
    await card.provider.ready();
    expect(await mac()).toEqual([...MAC]);
    const { payload } = await card.ask(Opcode.GET_STATS, encodeQueueSelect({ vsiId: 1, txQueues: 0, rxQueues: 0 }));
    expect(decodeEthStats(payload).txUnicast).toBe(0n);
  });
});

describe('link', () => {
  const events = (from: number): unknown[] =>
    card.sent.slice(from).flatMap((m) => (m.kind === 'message' && m.opcode === Opcode.EVENT ? [decodeEvent(m.payload, true)] : []));

  it("the guest sees the far end's link, once per change, at the speed of its own card", async () => {
    await running();
    const from = card.sent.length;
    card.port.setPeerLink({ up: false, speedMbps: 0 });
    card.port.setPeerLink({ up: false, speedMbps: 0 });
    card.port.setPeerLink({ up: true, speedMbps: 25_000 });
    expect(events(from)).toEqual([
      { kind: 'link-change', up: false, speedMbps: 10_000 },
      { kind: 'link-change', up: true, speedMbps: 10_000 },
    ]);
    expect(card.link).toEqual({ up: true, speedMbps: 10_000 });
  });

  it('a port that closes takes its guest the carrier; one whose card is closed already closes too', async () => {
    await running();
    expect(card.link.up).toBe(true);
    const from = card.sent.length;
    await card.port.close();
    expect([events(from), card.link.up]).toEqual([[{ kind: 'link-change', up: false, speedMbps: 10_000 }], false]);
    const other = await Card.plug();
    await other.provider.device.close();
    await other.port.close();
    expect(other.errors).toEqual([]);
    other.window[Symbol.dispose]();
  });

  it('a guest that has not negotiated hears nothing', () => {
    card.port.setPeerLink({ up: false, speedMbps: 0 });
    expect(card.sent).toEqual([]);
  });

  it('without ADV_LINK_SPEED the speed is the enumeration', async () => {
    await running(1);
    const last = card.sent.at(-1);
    expect(last?.kind === 'message' && [...last.payload.subarray(4, 9)]).toEqual([8, 0, 0, 0, 1]);
  });

  it('our link is up while a guest has queues; stopping the port takes the guest its carrier', async () => {
    const seen: boolean[] = [];
    card.port.onLink(({ up }) => seen.push(up));
    await card.port.configure({ rxQueues: 4, txQueues: 1, peerTxCapabilities: 0x30000 });
    expect(card.deviceWord(DEV_PEER_TX_CAPS)).toBe(0x30000);
    await card.port.start();
    await running();
    expect(seen).toEqual([true]);
    await card.disable(3, 3);
    await card.enable(1, 1);
    await card.provider.reset('family');
    expect(seen).toEqual([true, false, true, false]);
    await running();
    const from = card.sent.length;
    await card.port.stop();
    expect(events(from)).toEqual([{ kind: 'link-change', up: false, speedMbps: 10_000 }]);
    expect(seen).toEqual([true, false, true, false, true, false]);
  });
});

describe('statistics', () => {
  beforeEach(async () => {
    await running();
    const stat = (block: number, field: number, value: bigint): void => { card.window.view.setBigUint64(block + Q_STATS + 8 * field, value, true); };
    stat(txBlock(0), QS_PACKETS, 3n);
    stat(txBlock(0), QS_BYTES, 0x1_0000_0001n);
    stat(txBlock(1), QS_BYTES, 9n);
    stat(txBlock(0), QS_ERRORS, 2n);
    stat(rxBlock(1), QS_PACKETS, 7n);
    stat(rxBlock(1), QS_MULTICAST, 4n);
    stat(rxBlock(0), QS_DISCARDS, 5n);
    card.window.view.setBigUint64(card.device + DEV_STATS + 8 * DEVS_RX_NO_QUEUE, 6n, true);
    card.window.view.setBigUint64(card.device + DEV_STATS + 8 * DEVS_RX_FILTERED, 8n, true);
  });

  it('GET_STATS: the guest’s directions, 64 bits, filtered frames are no loss', async () => {
    const { payload } = await card.ask(Opcode.GET_STATS, encodeQueueSelect({ vsiId: 1, txQueues: 0, rxQueues: 0 }));
    expect(decodeEthStats(payload)).toMatchObject({ txBytes: 0x1_0000_000an, txErrors: 2n, rxMulticast: 4n, rxDiscards: 11n });
  });

  it("stats(): the port's directions, and resettable without touching the guest's", async () => {
    expect(card.port.stats()).toMatchObject({ ipackets: 3n, ibytes: 0x1_0000_000an, ierrors: 2n, opackets: 7n, imissed: 11n });
    expect([xstat('rx_q0_packets'), xstat('tx_q1_packets'), xstat('tx_filtered_packets'), xstat('rx_good_packets')]).toEqual([3n, 7n, 8n, 3n]);
    card.port.resetStats();
    expect(card.port.stats()).toMatchObject({ ipackets: 0n, ibytes: 0n, imissed: 0n });
    const { payload } = await card.ask(Opcode.GET_STATS, encodeQueueSelect({ vsiId: 1, txQueues: 0, rxQueues: 0 }));
    expect(decodeEthStats(payload).txErrors).toBe(2n);
  });

  it('survive RESET_VF', async () => {
    await card.provider.reset('family');
    await card.negotiate();
    const { payload } = await card.ask(Opcode.GET_STATS, encodeQueueSelect({ vsiId: 1, txQueues: 0, rxQueues: 0 }));
    expect(decodeEthStats(payload).rxMulticast).toBe(4n);
  });
});

describe('the port', () => {
  it('gives all its memory back, once', async () => {
    await running();
    expect(card.window.allocatedBytes).toBeGreaterThan(card.ownBytes);
    await card.port.close();
    await card.port.close();
    expect(card.window.allocatedBytes).toBe(card.ownBytes);
  });

  it('leaves its card to a successor', async () => {
    await running();
    await card.port.close();
    card.port = await IavfBackEndPort.open('net_iavf_be1', card.provider.device);
    // The newcomer catches up with what the consumer has done before it is asked anything.
    await card.changeMemory(() => {});
    await running();
    expect(tx(0, Q_ENABLED)).toBe(1);
  });

  it('refuses a card that is served already, and gives back what it took', async () => {
    const before = card.window.allocatedBytes;
    await expect(IavfBackEndPort.open('net_iavf_be1', card.provider.device)).rejects.toMatchObject({ code: 'EMUDEV_EXISTS' });
    expect(card.window.allocatedBytes).toBe(before);
    await running();
  });

  it('takes its address from its argument', async () => {
    await using other = await Card.plug({ mac: Uint8Array.of(2, 2, 2, 2, 2, 2) });
    expect([...other.port.info.mac!]).toEqual([2, 2, 2, 2, 2, 2]);
    const mac = async (): Promise<number[]> => [...decodeVfResources((await other.negotiate()).payload).vsis[0]!.mac];
    expect(await mac()).toEqual([2, 2, 2, 2, 2, 2]);
    await other.provider.reset('function');
    expect(await mac()).toEqual([2, 2, 2, 2, 2, 2]);
  });
});
