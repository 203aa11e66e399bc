/** A guest that sends anything: one reply each (or the documented none), no crash, and a state block the kernels can trust. */
import {
  encodeConfigIrqMap, encodeConfigVsiQueues, encodeEtherAddrList, encodeGetVfResources, encodePromiscuousMode, encodeQueueSelect, encodeRequestQueues, encodeRssHena, encodeRssKey,
  encodeRssLut, encodeVersion, encodeVlanFilterList, encodeVlanFilterListV2, encodeVlanSetting, Opcode,
} from '@emudev/virtchnl';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  DEV_LUT, DEV_MAC_TABLE, DEV_PAUSED, DEV_QUEUE_PAIRS, DEV_RX_BLOCKS, DEV_TX_BLOCKS, MAC_MAX, MAC_SLOTS, Q_BUFFER, Q_BYTES, Q_DOORBELL, Q_ENABLED, Q_LENGTH, Q_MAX_PACKET, Q_RING,
  Q_STAGE, Q_VECTOR,
} from '../src/layout.ts';
import { Card, LINUX_CAPABILITIES, pair, RAM_BYTES, RAM_IOVA } from './card.ts';

type Request = readonly [opcode: number, payload: Uint8Array];
const small = fc.nat(6);
const vsiId = fc.constantFrom(1, 1, 1, 0);
const bits = fc.oneof(fc.nat(15), fc.nat(0xffff));
const mac = fc.uint8Array({ minLength: 6, maxLength: 6 });
const of = <T>(opcodes: number[], body: fc.Arbitrary<T>, encode: (body: T) => Uint8Array): fc.Arbitrary<Request> =>
  fc.tuple(fc.constantFrom(...opcodes), body.map(encode));

/** Well-formed, mostly meaningful requests, so that deep states are reached. */
const sensible = fc.oneof(
  of([Opcode.VERSION], fc.record({ major: small, minor: small }), encodeVersion),
  of([Opcode.GET_VF_RESOURCES], fc.constantFrom(LINUX_CAPABILITIES, LINUX_CAPABILITIES, 0x0009_0081, undefined), encodeGetVfResources),
  of([Opcode.CONFIG_VSI_QUEUES], fc.record({
    vsiId,
    pairs: fc.array(
      fc.tuple(small, fc.constantFrom(64, 64, 512, 0, 63, 8160), fc.constantFrom(0n, 0n, 0x40n, 0x7f00n, BigInt(RAM_BYTES), -RAM_IOVA)).map(([queue, ringLength, shift]) => {
        const { tx, rx } = pair(queue);
        return { tx: { ...tx, ringLength, ringAddress: tx.ringAddress + shift < 0n ? 0n : tx.ringAddress + shift }, rx: { ...rx, ringLength } };
      }), { maxLength: 5 }),
  }), encodeConfigVsiQueues),
  of([Opcode.CONFIG_IRQ_MAP], fc.array(fc.record({ vsiId, vectorId: small, rxQueues: bits, txQueues: bits, rxItr: small, txItr: small }), { maxLength: 6 }), encodeConfigIrqMap),
  of([Opcode.ENABLE_QUEUES, Opcode.ENABLE_QUEUES, Opcode.DISABLE_QUEUES, Opcode.GET_STATS], fc.record({ vsiId, rxQueues: bits, txQueues: bits }), encodeQueueSelect),
  of([Opcode.ADD_ETH_ADDR, Opcode.ADD_ETH_ADDR, Opcode.DEL_ETH_ADDR], fc.record({ vsiId, addresses: fc.array(fc.record({ address: mac, type: fc.nat(3) }), { maxLength: 200 }) }), encodeEtherAddrList),
  of([Opcode.ADD_VLAN, Opcode.DEL_VLAN], fc.record({ vsiId, vlanIds: fc.array(fc.nat(4200), { maxLength: 20 }) }), encodeVlanFilterList),
  of([Opcode.CONFIG_PROMISCUOUS_MODE], fc.record({ vsiId, flags: small }), encodePromiscuousMode),
  of([Opcode.CONFIG_RSS_KEY], fc.record({ vsiId, key: fc.uint8Array({ minLength: 51, maxLength: 53 }) }), encodeRssKey),
  of([Opcode.CONFIG_RSS_LUT], fc.record({ vsiId, lut: fc.uint8Array({ minLength: 64, maxLength: 64 }) }), encodeRssLut),
  of([Opcode.SET_RSS_HENA], fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), encodeRssHena),
  of([Opcode.ADD_VLAN_V2, Opcode.DEL_VLAN_V2], fc.record({
    vportId: vsiId,
    filters: fc.array(fc.record({ inner: fc.record({ tci: fc.nat(4200), tciMask: fc.constant(0), tpid: fc.constantFrom(0x8100, 0x88a8) }), outer: fc.constant({ tci: 0, tciMask: 0, tpid: 0 }) }), { maxLength: 8 }),
  }), encodeVlanFilterListV2),
  of([54, 55, 56, 57], fc.record({ vportId: vsiId, outerEthertype: fc.nat(1), innerEthertype: small }), encodeVlanSetting),
);
const arbitrary: fc.Arbitrary<Request> = fc.tuple(
  fc.oneof(fc.nat(64), fc.integer({ min: 0, max: 0xffff_ffff })).filter((opcode) => opcode !== Opcode.REQUEST_QUEUES),
  fc.uint8Array({ maxLength: 256 }),
);
/** A sensible request, cut, extended or overwritten. */
const damaged: fc.Arbitrary<Request> = fc.tuple(sensible, fc.nat(300), fc.array(fc.tuple(fc.nat(300), fc.nat(255)), { maxLength: 4 })).map(([[opcode, payload], length, changes]) => {
  const copy = new Uint8Array(length % 3 === 0 ? length : payload.length);
  copy.set(payload.subarray(0, copy.length));
  for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
  return [opcode, copy];
});

function checkBlock(card: Card): void {
  const { u8, u32 } = card.window;
  const pairs = card.deviceWord(DEV_QUEUE_PAIRS);
  expect(pairs).toBe(4);
  expect(card.deviceWord(DEV_PAUSED)).toBe(0);
  for (let i = 0; i < 64; i++) expect(u8[card.device + DEV_LUT + i]).toBeLessThan(pairs);
  const table = card.deviceWord(DEV_MAC_TABLE) >>> 2;
  let filled = 0;
  for (let slot = 0; slot < MAC_SLOTS; slot++) if (u32[table + slot * 2 + 1] !== 0) filled++;
  expect(filled).toBeLessThanOrEqual(MAC_MAX); // so that a look-up ends
  const cells = new Set([0, ...Array.from({ length: card.vectors }, (_, v) => card.cell(v))]);
  for (const [blocks, descriptorBytes, isTx] of [[DEV_TX_BLOCKS, 16, true], [DEV_RX_BLOCKS, 32, false]] as const) {
    for (let queue = 0; queue < 16; queue++) {
      const block = card.deviceWord(blocks) + queue * Q_BYTES;
      const field = (at: number): number => u32[(block + at) >>> 2]!;
      expect(cells.has(field(Q_VECTOR))).toBe(true);
      if (field(Q_ENABLED) === 0) continue;
      expect(queue).toBeLessThan(pairs);
      expect(field(Q_RING) % 16).toBe(0);
      expect(field(Q_RING)).toBeGreaterThanOrEqual(card.ram);
      expect(field(Q_RING) + field(Q_LENGTH) * descriptorBytes).toBeLessThanOrEqual(card.ram + RAM_BYTES);
      expect(field(Q_LENGTH)).toBeGreaterThanOrEqual(64);
      expect(field(Q_DOORBELL)).toBe(isTx ? card.txTail(queue) : card.rxTail(queue));
      if (isTx) expect(field(Q_STAGE)).not.toBe(0);
      else {
        expect(field(Q_BUFFER)).toBeGreaterThanOrEqual(128);
        expect(field(Q_MAX_PACKET)).toBeGreaterThanOrEqual(64);
      }
    }
  }
}

it('answers every request once, whatever it is, and never leaves the state block inconsistent', async () => {
  await using card = await Card.plug();
  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof({ weight: 4, arbitrary: sensible }, { weight: 2, arbitrary: damaged }, { weight: 2, arbitrary }), { minLength: 1, maxLength: 25 }), async (requests) => {
      await card.negotiate();
      for (const [opcode, payload] of requests) {
        const replies = (await card.request(opcode, payload)).filter((m) => m.kind === 'reset' || m.opcode !== Opcode.EVENT || m.payload.length === 0);
        if (opcode === Opcode.RESET_VF) {
          expect(replies).toEqual([{ kind: 'reset' }]);
          await card.provider.reset('family');
        } else {
          expect(replies.map((m) => m.kind === 'message' && m.opcode)).toEqual([opcode]);
          const [reply] = replies;
          expect(reply?.kind === 'message' && [0, -5, -64].includes(reply.status)).toBe(true);
        }
        checkBlock(card);
      }
      await card.provider.reset('function');
    }),
    { numRuns: 60 },
  );
  expect(card.port.xstats().get('virtchnl_failed')).toBe(0n);
  expect(card.errors).toEqual([]);
});

it('answers every length of every opcode once', async () => {
  await using card = await Card.plug();
  await card.negotiate();
  for (let opcode = 0; opcode < 64; opcode++) {
    if (opcode === Opcode.RESET_VF || opcode === Opcode.REQUEST_QUEUES) continue;
    for (let length = 0; length <= 256; length++) {
      for (const fill of [0, 1, 0xff]) await card.ask(opcode, new Uint8Array(length).fill(fill));
    }
  }
  checkBlock(card);
});

it('answers REQUEST_QUEUES once, or resets', async () => {
  await using card = await Card.plug();
  await card.negotiate();
  for (let length = 0; length <= 8; length++) {
    if (length !== 2) expect(await card.status(Opcode.REQUEST_QUEUES, new Uint8Array(length))).toBe(-5);
  }
  for (const wanted of [0, 5, 0xffff]) expect((await card.ask(Opcode.REQUEST_QUEUES, encodeRequestQueues(wanted))).payload).toHaveLength(2);
});
