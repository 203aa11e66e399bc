/** Every operation, good and bad, through the mailbox. Row by row: accepted requests, then what is refused and how. */
import {
  decodeRssHena, decodeVersion, decodeVfResources, decodeVlanCaps, DEFAULT_HENA, encodeConfigIrqMap, encodeConfigVsiQueues, encodeEtherAddrList, encodeGetVfResources,
  encodePromiscuousMode, encodeQueueSelect, encodeRequestQueues, encodeRssHena, encodeRssKey, encodeRssLut, encodeVersion, encodeVlanFilterList, encodeVlanFilterListV2,
  encodeVlanSetting, NO_VLAN_TAG, Opcode, type VectorMap, type VlanFilter,
} from '@emudev/virtchnl';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEV_FLAGS, DEV_HENA, DEV_LUT, DEV_RX_BLOCKS, DEVF_MULTICAST_PROMISC, DEVF_UNICAST_PROMISC, DEVF_VLAN_PRUNING, DEVF_VLAN_STRIP, Q_SHORT, Q_VECTOR } from '../src/layout.ts';
import { Card, FREEBSD_CAPABILITIES, LINUX_CAPABILITIES, MAC, RX_FORMATS_CAPABILITIES, pair, RAM_BYTES, RAM_IOVA } from './card.ts';

const OK = 0;
const BAD = -5;
const UNSUPPORTED = -64;
const PAIRS = 4;

let card: Card;
beforeEach(async () => {
  card = await Card.plug({ pairs: PAIRS });
});
afterEach(async () => {
  const { errors } = card;
  await card[Symbol.asyncDispose]();
  expect(errors).toEqual([]);
});

const bytes = (length: number, fill = 0): Uint8Array => new Uint8Array(length).fill(fill);
const flags = (): number => card.deviceWord(DEV_FLAGS);

describe('VERSION', () => {
  it('answers the lower of 1.1 and what was asked, at any time, and changes nothing', async () => {
    expect(decodeVersion((await card.ask(Opcode.VERSION, encodeVersion({ major: 1, minor: 1 }))).payload)).toEqual({ major: 1, minor: 1 });
    expect(decodeVersion((await card.ask(Opcode.VERSION, encodeVersion({ major: 1, minor: 0 }))).payload)).toEqual({ major: 1, minor: 0 });
    await card.negotiate();
    expect(await card.status(Opcode.VERSION, encodeVersion({ major: 9, minor: 9 }))).toBe(OK);
    expect(await card.configure(pair(0))).toBe(OK);
  });

  it.each([0, 4, 12])('refuses %i bytes', async (length) => {
    expect(await card.ask(Opcode.VERSION, bytes(length))).toMatchObject({ status: BAD, payload: bytes(0) });
  });
});

describe('RESET_VF', () => {
  it.each([0, 12])('has no reply but a reset, body of %i bytes or not', async (length) => {
    expect(await card.request(Opcode.RESET_VF, bytes(length))).toEqual([{ kind: 'reset' }]);
  });
});

describe('GET_VF_RESOURCES', () => {
  it.each([
    ['Linux 6.1', 0x1abd_80f9, 0x000c_80e1],
    ['Linux 6.12', LINUX_CAPABILITIES, 0x000c_80e1],
    ['Linux 7', 0xbebd_8cf9, 0x000c_80e1],
    ['DPDK', 0xbe0b_c7e1, 0x000a_80e1],
    ['FreeBSD', FREEBSD_CAPABILITIES, 0x0009_0081],
    ['RX_FLEX_DESC without VLAN', 0x040e_80a1, 0x040e_80a1],
    ['RX_FLEX_DESC and VLAN', 0x0401_0001, 0x0001_0001],
    ['nothing asked for', 0, 0x0000_0001],
  ])('%s gets what we can do of what it wants', async (_name, requested, granted) => {
    const { payload } = await card.negotiate(requested);
    expect(decodeVfResources(payload)).toEqual({
      queuePairs: PAIRS, maxVectors: PAIRS + 1, maxFrameBytes: 9728, capabilities: granted, rssKeyBytes: 52, rssLutEntries: 64,
      vsis: [{ vsiId: 1, queuePairs: PAIRS, type: 6, qsetHandle: 0, mac: MAC }],
    });
  });

  it('without a body grants base mode and legacy VLAN', async () => {
    expect(decodeVfResources((await card.ask(Opcode.GET_VF_RESOURCES)).payload).capabilities).toBe(0x0001_0001);
  });

  it('is followed by the link, and is repeatable', async () => {
    const first = await card.request(Opcode.GET_VF_RESOURCES, encodeGetVfResources(LINUX_CAPABILITIES));
    expect(first.map((m) => (m.kind === 'message' ? m.opcode : m.kind))).toEqual([Opcode.GET_VF_RESOURCES, Opcode.EVENT]);
    await card.configure(pair(0));
    await card.enable(1, 1);
    expect(await card.request(Opcode.GET_VF_RESOURCES, encodeGetVfResources(LINUX_CAPABILITIES))).toEqual(first);
    expect(card.port.xstats().get('virtchnl_refused')).toBe(0n);
  });

  it('turns stripping on for a legacy-VLAN driver and leaves it off for VLAN_V2', async () => {
    await card.negotiate(LINUX_CAPABILITIES);
    expect(flags() & DEVF_VLAN_STRIP).toBe(0);
    await card.negotiate(FREEBSD_CAPABILITIES);
    expect(flags() & DEVF_VLAN_STRIP).toBe(DEVF_VLAN_STRIP);
  });

  it.each([1, 2, 3, 5, 8])('refuses %i bytes', async (length) => {
    expect(await card.status(Opcode.GET_VF_RESOURCES, bytes(length))).toBe(BAD);
  });
});

describe('the allow-list', () => {
  const needNegotiation = [6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 23, 24, 25, 26, 27, 28, 29, 51, 52, 53, 54, 55, 56, 57];
  /** A well-formed body of each, so that the format is not what it is refused for. */
  const wellFormed = (op: number): Uint8Array => {
    if (op === 6) return encodeConfigVsiQueues({ vsiId: 1, pairs: [pair(0)] });
    if (op === 7) return encodeConfigIrqMap([{ vsiId: 1, vectorId: 0, rxQueues: 0, txQueues: 0, rxItr: 3, txItr: 3 }]);
    if (op === 8 || op === 9 || op === 15) return encodeQueueSelect({ vsiId: 1, rxQueues: 1, txQueues: 1 });
    if (op === 10 || op === 11) return encodeEtherAddrList({ vsiId: 1, addresses: [{ address: MAC, type: 1 }] });
    if (op === 12 || op === 13) return encodeVlanFilterList({ vsiId: 1, vlanIds: [7] });
    if (op === 14) return encodePromiscuousMode({ vsiId: 1, flags: 0 });
    if (op === 23) return encodeRssKey({ vsiId: 1, key: bytes(52) });
    if (op === 24) return encodeRssLut({ vsiId: 1, lut: bytes(64) });
    if (op === 26) return encodeRssHena(0n);
    if (op === 29) return encodeRequestQueues(0);
    if (op === 52 || op === 53) return encodeVlanFilterListV2({ vportId: 1, filters: [{ inner: { tci: 7, tciMask: 0, tpid: 0x8100 }, outer: NO_VLAN_TAG }] });
    if (op >= 54 && op <= 57) return encodeVlanSetting({ vportId: 1, outerEthertype: 0, innerEthertype: 1 });
    return bytes(0);
  };

  it.each(needNegotiation)('opcode %i needs GET_VF_RESOURCES, and needs it again after a reset', async (op) => {
    expect(await card.ask(op, wellFormed(op))).toMatchObject({ status: UNSUPPORTED, payload: bytes(0) });
    await card.negotiate();
    await card.provider.reset('family');
    expect(await card.status(op, wellFormed(op))).toBe(UNSUPPORTED);
  });

  it.each([12, 13, 27, 28])('opcode %i needs VLAN, which a VLAN_V2 driver has not', async (op) => {
    await card.negotiate(LINUX_CAPABILITIES);
    expect(await card.status(op, wellFormed(op))).toBe(UNSUPPORTED);
  });

  it.each([51, 52, 53, 54, 55, 56, 57, 29])('opcode %i needs a capability that FreeBSD does not ask for', async (op) => {
    await card.negotiate(FREEBSD_CAPABILITIES);
    expect(await card.status(op, wellFormed(op))).toBe(UNSUPPORTED);
  });

  it.each([23, 24, 25, 26])('opcode %i needs RSS_PF', async (op) => {
    await card.negotiate(1);
    expect(await card.status(op, wellFormed(op))).toBe(UNSUPPORTED);
  });

  it.each([0, 4, 5, 16, 17, 18, 20, 30, 44, 45, 50, 60, 66, 107, 111, 200, 0xffff_ffff])('opcode %i is not ours', async (op) => {
    await card.negotiate();
    expect(await card.status(op, bytes(16))).toBe(UNSUPPORTED);
  });

  it('a malformed message is malformed even where the operation is not allowed', async () => {
    expect(await card.status(Opcode.CONFIG_VSI_QUEUES, bytes(3))).toBe(BAD);
  });
});

describe('CONFIG_VSI_QUEUES', () => {
  beforeEach(() => card.negotiate());

  it.each([64, 512, 4096, 8160])('accepts rings of %i', async (ringLength) => {
    expect(await card.configure(pair(0, { tx: { ringLength }, rx: { ringLength } }))).toBe(OK);
  });

  it('accepts all granted pairs, half a pair, and configuring again', async () => {
    expect(await card.configure(pair(0), pair(1), pair(2), pair(3))).toBe(OK);
    expect(await card.configure(pair(1, { rx: { ringLength: 0, bufferBytes: 0, maxPacketBytes: 0 } }))).toBe(OK);
    expect(await card.configure(pair(1, { tx: { ringLength: 0 } }))).toBe(OK);
  });

  it('accepts any rxdid, because RX_FLEX_DESC is not granted, and any garbage in ignored fields', async () => {
    expect(await card.configure(pair(0, { rx: { rxdid: 22, flags: 1, headerBytes: 128, splitHeader: 1, splitPosition: -1 } }))).toBe(OK);
  });

  it.each<[string, Parameters<typeof pair>[1]]>([
    ['VSI in the Tx half', { tx: { vsiId: 2 } }],
    ['VSI in the Rx half', { rx: { vsiId: 2 } }],
    ['different queues', { rx: { queueId: 1 } }],
    ['a queue that was not granted', { tx: { queueId: PAIRS }, rx: { queueId: PAIRS } }],
    ['head write-back', { tx: { headWriteback: 1 } }],
    ['a Tx ring of 63', { tx: { ringLength: 63 } }],
    ['a Tx ring of 65', { tx: { ringLength: 65 } }],
    ['a Tx ring of 8192', { tx: { ringLength: 8192 } }],
    ['an Rx ring of 32', { rx: { ringLength: 32 } }],
    ['an Rx ring of 8192', { rx: { ringLength: 8192 } }],
    ['an Rx ring of 2^32 - 32', { rx: { ringLength: 0xffff_ffe0 } }],
    ['a Tx ring that is not aligned', { tx: { ringAddress: 0x1000_0040n } }],
    ['an Rx ring that is not aligned', { rx: { ringAddress: 0x1000_0001n } }],
    ['Rx buffers of 64 bytes', { rx: { bufferBytes: 64 } }],
    ['Rx buffers of no bytes', { rx: { bufferBytes: 0 } }],
    ['Rx buffers of 16300 bytes', { rx: { bufferBytes: 16_300 } }],
    ['max_pkt_size 60', { rx: { maxPacketBytes: 60 } }],
    ['max_pkt_size 20000', { rx: { maxPacketBytes: 20_000 } }],
    ['crc_disable', { rx: { crcDisable: 1 } }],
  ])('refuses %s', async (_what, overrides) => {
    expect(await card.configure(pair(0, overrides))).toBe(BAD);
    expect(await card.enable(1, 1)).toBe(BAD); // nothing was configured
  });

  it('refuses another VSI, no pair, one pair too many, and a byte too few', async () => {
    expect(await card.status(Opcode.CONFIG_VSI_QUEUES, encodeConfigVsiQueues({ vsiId: 0, pairs: [pair(0)] }))).toBe(BAD);
    expect(await card.status(Opcode.CONFIG_VSI_QUEUES, encodeConfigVsiQueues({ vsiId: 1, pairs: [] }))).toBe(BAD);
    expect(await card.configure(pair(0), pair(1), pair(2), pair(3), pair(3))).toBe(BAD);
    expect(await card.status(Opcode.CONFIG_VSI_QUEUES, encodeConfigVsiQueues({ vsiId: 1, pairs: [pair(0)] }).subarray(0, 71))).toBe(BAD);
  });

  it('refuses the whole message for one bad pair', async () => {
    expect(await card.configure(pair(0), pair(1, { tx: { ringLength: 63 } }))).toBe(BAD);
    expect(await card.enable(1, 0)).toBe(BAD);
  });
});

describe('formats of Rx descriptors', () => {
  const rx = (field: number): number => card.word(card.deviceWord(DEV_RX_BLOCKS) + field);
  /** Configures and enables pair 0 with this `rxdid`, and says what the kernels are told. */
  const bytesWith = async (rxdid: number): Promise<number> => {
    expect(await card.configure(pair(0, { rx: { rxdid } }))).toBe(OK);
    expect(await card.enable(1, 1)).toBe(OK);
    return 32 >> rx(Q_SHORT);
  };

  it('GET_SUPPORTED_RXDIDS names 0 and 1, to drivers with RX_FLEX_DESC', async () => {
    await card.negotiate(RX_FORMATS_CAPABILITIES);
    expect(await card.ask(Opcode.GET_SUPPORTED_RXDIDS)).toMatchObject({ status: OK, payload: Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0) });
    await card.negotiate();
    expect(await card.status(Opcode.GET_SUPPORTED_RXDIDS)).toBe(UNSUPPORTED);
  });

  it.each([
    ['RX_FLEX_DESC and RXDID 0', RX_FORMATS_CAPABILITIES, 0, 16],
    ['RX_FLEX_DESC and RXDID 1', RX_FORMATS_CAPABILITIES, 1, 32],
    ['Linux, which leaves 0 there', LINUX_CAPABILITIES, 0, 32],
    ['Linux 7 and its RXDID 1', 0xbebd_8cf9, 1, 32],
    ['DPDK, which leaves 0 there', 0xbe0b_c7e1, 0, 32],
  ])('%s', async (_name, capabilities, rxdid, expected) => {
    await card.negotiate(capabilities);
    expect(await bytesWith(rxdid)).toBe(expected);
  });

  it('a driver of version 1.0 has 32 bytes', async () => {
    await card.ask(Opcode.GET_VF_RESOURCES);
    expect(await bytesWith(0)).toBe(32);
  });

  it.each([2, 22, 255])('RXDID %i is refused where there are formats', async (rxdid) => {
    await card.negotiate(RX_FORMATS_CAPABILITIES);
    expect(await card.configure(pair(0, { rx: { rxdid } }))).toBe(BAD);
    expect(await card.configure(pair(0, { rx: { rxdid, ringLength: 0, bufferBytes: 0, maxPacketBytes: 0 } }))).toBe(OK);
  });

  it('change with the configuration, from one to the other and back, with the queue enabled or not, and with the driver', async () => {
    await card.negotiate(RX_FORMATS_CAPABILITIES);
    const seen = [await bytesWith(0), await bytesWith(1), await bytesWith(0)];
    await card.disable(1, 1);
    seen.push(await bytesWith(1), await bytesWith(0));
    await card.provider.reset('family');
    await card.negotiate();
    seen.push(await bytesWith(0));
    expect(seen).toEqual([16, 32, 16, 32, 16, 32]);
  });

  it('a ring of 16 bytes needs half the memory', async () => {
    await card.negotiate(RX_FORMATS_CAPABILITIES);
    const ringAddress = RAM_IOVA + BigInt(RAM_BYTES - 64 * 16);
    expect(await card.configure(pair(0, { rx: { rxdid: 0, ringAddress } }))).toBe(OK);
    expect(await card.enable(1, 1)).toBe(OK);
    expect(await card.configure(pair(0, { rx: { rxdid: 1, ringAddress } }))).toBe(OK);
    expect(await card.enable(1, 1)).toBe(BAD);
  });
});

describe('CONFIG_IRQ_MAP', () => {
  beforeEach(() => card.negotiate());
  const map = (vectorId: number, txQueues: number, rxQueues: number, vsiId = 1): VectorMap => ({ vsiId, vectorId, rxQueues, txQueues, rxItr: 0, txItr: 1 });
  const send = (...maps: VectorMap[]): Promise<number> => card.status(Opcode.CONFIG_IRQ_MAP, encodeConfigIrqMap(maps));
  const vectorOf = (blocks: 'tx' | 'rx', queue: number): number => card.word(card.deviceWord(blocks === 'tx' ? 36 : 40) + queue * 192 + Q_VECTOR);

  it('Linux: one vector per pair, vector 0 last and empty', async () => {
    expect(await send(map(1, 1, 1), map(2, 2, 2), map(3, 4, 4), map(4, 8, 8), map(0, 0, 0))).toBe(OK);
    expect([0, 1, 2, 3].map((q) => vectorOf('tx', q))).toEqual([1, 2, 3, 4].map((v) => card.cell(v)));
    expect([0, 1, 2, 3].map((q) => vectorOf('rx', q))).toEqual([1, 2, 3, 4].map((v) => card.cell(v)));
  });

  it('DPDK: all Rx queues on vector 0 or 1, Tx without interrupts', async () => {
    expect(await send(map(0, 0, 0xf))).toBe(OK);
    expect([vectorOf('rx', 3), vectorOf('tx', 3)]).toEqual([card.cell(0), 0]);
    expect(await send(map(1, 0, 0xf))).toBe(OK);
    expect([vectorOf('rx', 3), vectorOf('tx', 3)]).toEqual([card.cell(1), 0]);
  });

  it("a vector's new set of queues replaces the old one", async () => {
    await send(map(1, 0xf, 0xf));
    await send(map(1, 1, 2));
    expect([0, 1].map((q) => vectorOf('tx', q))).toEqual([card.cell(1), 0]);
    expect([0, 1].map((q) => vectorOf('rx', q))).toEqual([0, card.cell(1)]);
  });

  it('raises the vector that a running queue has just got', async () => {
    await card.configure(pair(0));
    await card.enable(1, 1);
    await send(map(2, 0, 1));
    expect(card.window.i32[card.cell(2) + 1]).toBe(1);
    expect(card.window.i32[card.cell(1) + 1]).toBe(0);
  });

  it('refuses none, too many, an absent vector, an absent queue, another VSI, and too few bytes', async () => {
    expect(await send()).toBe(BAD);
    expect(await send(...Array.from({ length: PAIRS + 2 }, () => map(0, 0, 0)))).toBe(BAD);
    expect(await send(map(PAIRS + 1, 1, 1))).toBe(BAD);
    expect(await send(map(1, 1 << PAIRS, 0))).toBe(BAD);
    expect(await send(map(1, 0, 1 << PAIRS))).toBe(BAD);
    expect(await send(map(1, 1, 1, 7))).toBe(BAD);
    expect(await card.status(Opcode.CONFIG_IRQ_MAP, encodeConfigIrqMap([map(1, 1, 1)]).subarray(0, 13))).toBe(BAD);
  });
});

describe.each([
  ['ENABLE_QUEUES', Opcode.ENABLE_QUEUES],
  ['DISABLE_QUEUES', Opcode.DISABLE_QUEUES],
])('%s', (_name, op) => {
  beforeEach(async () => {
    await card.negotiate();
    await card.configure(pair(0), pair(1));
  });
  const send = (txQueues: number, rxQueues: number, vsiId = 1): Promise<number> => card.status(op, encodeQueueSelect({ vsiId, txQueues, rxQueues }));

  it('accepts bitmaps, single bits, and the same again', async () => {
    expect([await send(3, 3), await send(1, 0), await send(0, 2), await send(3, 3)]).toEqual([OK, OK, OK, OK]);
  });

  it('refuses no queue, absent queues, another VSI, and a wrong length', async () => {
    expect([await send(0, 0), await send(1 << PAIRS, 0), await send(0, 0x1_0000), await send(1 << 31, 0), await send(1, 1, 0)]).toEqual([BAD, BAD, BAD, BAD, BAD]);
    expect([await card.status(op, bytes(8)), await card.status(op, bytes(13))]).toEqual([BAD, BAD]);
  });
});

describe('ADD_ETH_ADDR, DEL_ETH_ADDR', () => {
  beforeEach(() => card.negotiate());
  const send = (op: number, ...addresses: [Uint8Array, number][]): Promise<number> =>
    card.status(op, encodeEtherAddrList({ vsiId: 1, addresses: addresses.map(([address, type]) => ({ address, type })) }));
  const multicast = (n: number): [Uint8Array, number] => [Uint8Array.of(1, 0, 0x5e, 0, n >> 8, n & 255), 2];

  it('accepts adding twice, deleting twice, and every type', async () => {
    for (const type of [0, 1, 2]) expect(await send(Opcode.ADD_ETH_ADDR, [MAC, type])).toBe(OK);
    expect([await send(Opcode.DEL_ETH_ADDR, [MAC, 0]), await send(Opcode.DEL_ETH_ADDR, [MAC, 0])]).toEqual([OK, OK]);
  });

  it('accepts 200 multicast addresses in several messages, and refuses more than the table takes without adding any', async () => {
    for (let first = 0; first < 200; first += 50) expect(await send(Opcode.ADD_ETH_ADDR, ...Array.from({ length: 50 }, (_, i) => multicast(first + i)))).toBe(OK);
    expect(await send(Opcode.ADD_ETH_ADDR, ...Array.from({ length: 400 }, (_, i) => multicast(1000 + i)))).toBe(BAD);
    expect(await send(Opcode.ADD_ETH_ADDR, ...Array.from({ length: 300 }, (_, i) => multicast(1000 + i)))).toBe(OK);
  });

  it('skips zero and broadcast', async () => {
    expect(await send(Opcode.ADD_ETH_ADDR, [bytes(6), 1], [bytes(6, 0xff), 2])).toBe(OK);
    expect(decodeVfResources((await card.negotiate()).payload).vsis[0]?.mac).toEqual(MAC);
  });

  it.each([Opcode.ADD_ETH_ADDR, Opcode.DEL_ETH_ADDR])('opcode %i refuses another VSI, an empty list, and a wrong length', async (op) => {
    expect(await card.status(op, encodeEtherAddrList({ vsiId: 2, addresses: [{ address: MAC, type: 0 }] }))).toBe(BAD);
    expect(await send(op)).toBe(BAD);
    expect(await card.status(op, encodeEtherAddrList({ vsiId: 1, addresses: [{ address: MAC, type: 0 }] }).subarray(0, 11))).toBe(BAD);
  });
});

describe('ADD_VLAN, DEL_VLAN and stripping', () => {
  beforeEach(() => card.negotiate(FREEBSD_CAPABILITIES));
  const send = (op: number, ...vlanIds: number[]): Promise<number> => card.status(op, encodeVlanFilterList({ vsiId: 1, vlanIds }));
  const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);

  it('accepts 4094 filters and no more; an absent one may be deleted', async () => {
    expect(await send(Opcode.ADD_VLAN, ...range(1, 2000))).toBe(OK);
    expect(await send(Opcode.ADD_VLAN, ...range(2001, 4000))).toBe(OK);
    expect(await send(Opcode.ADD_VLAN, ...range(4001, 4094))).toBe(OK);
    expect(await send(Opcode.ADD_VLAN, 4095)).toBe(BAD);
    expect(await send(Opcode.DEL_VLAN, 17)).toBe(OK);
    expect(await send(Opcode.ADD_VLAN, 4095)).toBe(OK);
    expect(await send(Opcode.DEL_VLAN, 17)).toBe(OK);
  });

  it('accepts VLAN 0 and does not prune for it', async () => {
    expect(await send(Opcode.ADD_VLAN, 0)).toBe(OK);
    expect(flags() & DEVF_VLAN_PRUNING).toBe(0);
    expect(await send(Opcode.DEL_VLAN, 0)).toBe(OK);
  });

  it.each([Opcode.ADD_VLAN, Opcode.DEL_VLAN])('opcode %i refuses VLAN 4096, another VSI, an empty list, and a wrong length', async (op) => {
    expect(await send(op, 1, 4096)).toBe(BAD);
    expect(await send(op)).toBe(BAD);
    expect(await card.status(op, encodeVlanFilterList({ vsiId: 0, vlanIds: [1] }))).toBe(BAD);
    expect(await card.status(op, bytes(5, 1))).toBe(BAD);
    expect(flags() & DEVF_VLAN_PRUNING).toBe(0);
  });

  it('stripping is switched, body or not', async () => {
    expect(await card.status(Opcode.DISABLE_VLAN_STRIPPING)).toBe(OK);
    expect(flags() & DEVF_VLAN_STRIP).toBe(0);
    expect(await card.status(Opcode.ENABLE_VLAN_STRIPPING, bytes(4))).toBe(OK);
    expect(flags() & DEVF_VLAN_STRIP).toBe(DEVF_VLAN_STRIP);
  });
});

describe('CONFIG_PROMISCUOUS_MODE', () => {
  beforeEach(() => card.negotiate());

  it.each([
    [0, 0],
    [1, DEVF_UNICAST_PROMISC],
    [2, DEVF_MULTICAST_PROMISC],
    [3, DEVF_UNICAST_PROMISC | DEVF_MULTICAST_PROMISC],
  ])('flags %i', async (mode, expected) => {
    expect(await card.status(Opcode.CONFIG_PROMISCUOUS_MODE, encodePromiscuousMode({ vsiId: 1, flags: mode }))).toBe(OK);
    expect(flags() & (DEVF_UNICAST_PROMISC | DEVF_MULTICAST_PROMISC)).toBe(expected);
  });

  it('refuses another VSI and a wrong length', async () => {
    expect(await card.status(Opcode.CONFIG_PROMISCUOUS_MODE, encodePromiscuousMode({ vsiId: 3, flags: 1 }))).toBe(BAD);
    expect([await card.status(Opcode.CONFIG_PROMISCUOUS_MODE, bytes(2)), await card.status(Opcode.CONFIG_PROMISCUOUS_MODE, bytes(6))]).toEqual([BAD, BAD]);
  });
});

describe('GET_STATS', () => {
  it('answers 96 bytes; refuses another VSI and a wrong length', async () => {
    await card.negotiate();
    const { status, payload } = await card.ask(Opcode.GET_STATS, encodeQueueSelect({ vsiId: 1, rxQueues: 0xffff_ffff, txQueues: 0xffff_ffff }));
    expect([status, payload.length]).toEqual([OK, 96]);
    expect(await card.status(Opcode.GET_STATS, encodeQueueSelect({ vsiId: 9, rxQueues: 0, txQueues: 0 }))).toBe(BAD);
    expect(await card.status(Opcode.GET_STATS, bytes(4))).toBe(BAD);
  });
});

describe('RSS', () => {
  beforeEach(() => card.negotiate());
  const hena = (): bigint => new DataView(card.window.memory.buffer).getBigUint64(card.device + DEV_HENA, true);

  it('takes a key of 52 bytes and nothing else', async () => {
    expect(await card.status(Opcode.CONFIG_RSS_KEY, encodeRssKey({ vsiId: 1, key: bytes(52, 7) }))).toBe(OK);
    for (const length of [0, 40, 51, 53]) expect(await card.status(Opcode.CONFIG_RSS_KEY, encodeRssKey({ vsiId: 1, key: bytes(length) }))).toBe(BAD);
    expect(await card.status(Opcode.CONFIG_RSS_KEY, encodeRssKey({ vsiId: 1, key: bytes(52) }).subarray(0, 55))).toBe(BAD);
    expect(await card.status(Opcode.CONFIG_RSS_KEY, encodeRssKey({ vsiId: 0, key: bytes(52) }))).toBe(BAD);
  });

  it('takes a table of 64 entries and nothing else; entries wrap around the granted queues', async () => {
    expect(await card.status(Opcode.CONFIG_RSS_LUT, encodeRssLut({ vsiId: 1, lut: Uint8Array.from({ length: 64 }, (_, i) => i * 3) }))).toBe(OK);
    expect([...card.window.u8.subarray(card.device + DEV_LUT, card.device + DEV_LUT + 64)]).toEqual(Array.from({ length: 64 }, (_, i) => (i * 3) % 256 % PAIRS));
    for (const length of [0, 63, 128]) expect(await card.status(Opcode.CONFIG_RSS_LUT, encodeRssLut({ vsiId: 1, lut: bytes(length) }))).toBe(BAD);
    expect(await card.status(Opcode.CONFIG_RSS_LUT, encodeRssLut({ vsiId: 5, lut: bytes(64) }))).toBe(BAD);
  });

  it('tells the types it can hash, and masks off the others silently', async () => {
    expect(decodeRssHena((await card.ask(Opcode.GET_RSS_HENA_CAPS)).payload, Opcode.GET_RSS_HENA_CAPS)).toBe(DEFAULT_HENA);
    expect(hena()).toBe(DEFAULT_HENA);
    for (const [wanted, expected] of [[0n, 0n], [1n << 33n, 1n << 33n], [(1n << 63n) | (1n << 29n), 1n << 29n], [DEFAULT_HENA, DEFAULT_HENA]] as const) {
      expect(await card.status(Opcode.SET_RSS_HENA, encodeRssHena(wanted))).toBe(OK);
      expect(hena()).toBe(expected);
    }
    expect(await card.status(Opcode.SET_RSS_HENA, bytes(4))).toBe(BAD);
  });
});

describe('REQUEST_QUEUES', () => {
  beforeEach(() => card.negotiate());

  it('answers the present number for 0, and the largest possible for too many', async () => {
    expect(await card.ask(Opcode.REQUEST_QUEUES, encodeRequestQueues(0))).toMatchObject({ status: OK, payload: encodeRequestQueues(PAIRS) });
    expect(await card.ask(Opcode.REQUEST_QUEUES, encodeRequestQueues(17))).toMatchObject({ status: OK, payload: encodeRequestQueues(PAIRS) });
  });

  it('has no reply when granted: it announces a reset, resets, and then offers that many', async () => {
    const messages = await card.request(Opcode.REQUEST_QUEUES, encodeRequestQueues(2));
    expect(messages).toMatchObject([{ kind: 'message', opcode: Opcode.EVENT }, { kind: 'reset' }]);
    await card.provider.reset('family');
    expect(decodeVfResources((await card.negotiate()).payload)).toMatchObject({ queuePairs: 2, vsis: [{ queuePairs: 2 }] });
    await card.provider.reset('function');
    expect(decodeVfResources((await card.negotiate()).payload)).toMatchObject({ queuePairs: PAIRS });
  });

  it('grants no more than the port is polled for, at first and later', async () => {
    await card.port.configure({ rxQueues: 2, txQueues: 1, peerTxCapabilities: 0 });
    await card.provider.reset('function');
    expect(decodeVfResources((await card.negotiate()).payload)).toMatchObject({ queuePairs: 2 });
    expect(await card.ask(Opcode.REQUEST_QUEUES, encodeRequestQueues(3))).toMatchObject({ payload: encodeRequestQueues(2) });
  });

  it('refuses a wrong length', async () => {
    expect(await card.status(Opcode.REQUEST_QUEUES, bytes(4))).toBe(BAD);
  });
});

describe('VLAN_V2', () => {
  beforeEach(() => card.negotiate());
  const inner = (tci: number, tpid = 0x8100, tciMask = 0): VlanFilter => ({ inner: { tci, tciMask, tpid }, outer: NO_VLAN_TAG });
  const send = (op: number, ...filters: VlanFilter[]): Promise<number> => card.status(op, encodeVlanFilterListV2({ vportId: 1, filters }));

  it('offers one tag, 0x8100, in L2TAG1', async () => {
    const caps = decodeVlanCaps((await card.ask(Opcode.GET_OFFLOAD_VLAN_V2_CAPS)).payload);
    expect(caps).toEqual({
      filtering: { outer: 0, inner: 1, ethertypeInit: 1, maxFilters: 4094 },
      stripping: { outer: 0, inner: 0x8000_0101 },
      insertion: { outer: 0, inner: 0x8000_0101 },
      ethertypeInit: 1,
      ethertypeMatch: 0,
    });
  });

  it('filters inner 0x8100 tags; VLAN 0 is no filter; an absent one may be deleted', async () => {
    expect(await send(Opcode.ADD_VLAN_V2, inner(0))).toBe(OK);
    expect(flags() & DEVF_VLAN_PRUNING).toBe(0);
    expect(await send(Opcode.ADD_VLAN_V2, inner(100), inner(4095), inner(100))).toBe(OK);
    expect(flags() & DEVF_VLAN_PRUNING).toBe(DEVF_VLAN_PRUNING);
    expect(await send(Opcode.DEL_VLAN_V2, inner(100), inner(4095), inner(9))).toBe(OK);
    expect(flags() & DEVF_VLAN_PRUNING).toBe(0);
  });

  it.each([Opcode.ADD_VLAN_V2, Opcode.DEL_VLAN_V2])('opcode %i refuses what the offer does not contain', async (op) => {
    expect(await send(op, { inner: NO_VLAN_TAG, outer: { tci: 5, tciMask: 0, tpid: 0x8100 } })).toBe(BAD);
    expect(await send(op, { inner: { tci: 5, tciMask: 0, tpid: 0x8100 }, outer: { tci: 5, tciMask: 0, tpid: 0x88a8 } })).toBe(BAD);
    expect(await send(op, inner(5, 0x88a8))).toBe(BAD);
    expect(await send(op, inner(5, 0x8100, 0xfff))).toBe(BAD);
    expect(await send(op, inner(0x2005))).toBe(BAD);
    expect(await send(op)).toBe(BAD);
    expect(await card.status(op, encodeVlanFilterListV2({ vportId: 1, filters: [inner(5)] }).subarray(0, 39))).toBe(BAD);
    expect(await card.status(op, encodeVlanFilterListV2({ vportId: 0, filters: [inner(5)] }))).toBe(BAD);
  });

  it('counts filters over messages', async () => {
    for (let first = 1; first < 4095; first += 100) {
      expect(await send(Opcode.ADD_VLAN_V2, ...Array.from({ length: Math.min(100, 4095 - first) }, (_, i) => inner(first + i)))).toBe(OK);
    }
    expect(await send(Opcode.ADD_VLAN_V2, inner(4095))).toBe(BAD);
  });

  it.each([54, 55, 56, 57])('opcode %i takes inner 0x8100 and nothing else', async (op) => {
    const setting = (innerEthertype: number, outerEthertype = 0, vportId = 1): Promise<number> => card.status(op, encodeVlanSetting({ vportId, outerEthertype, innerEthertype }));
    expect(await setting(1)).toBe(OK);
    if (op <= 55) expect(flags() & DEVF_VLAN_STRIP).toBe(op === 54 ? DEVF_VLAN_STRIP : 0);
    expect([await setting(0), await setting(2), await setting(3), await setting(0, 1), await setting(1, 1), await setting(1, 0, 2)]).toEqual([BAD, BAD, BAD, BAD, BAD, BAD]);
    expect(await card.status(op, bytes(15))).toBe(BAD);
  });
});
