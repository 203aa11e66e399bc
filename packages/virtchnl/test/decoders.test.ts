/** What holds for every decoder: hostile bytes, every length, and encode ∘ decode. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as v from '../src/index.ts';

const Op = v.Opcode;

interface Codec {
  readonly name: string;
  readonly decode: (payload: Uint8Array) => unknown;
  /** Lengths accepted for a message whose count field says `n`; fixed messages ignore n. */
  readonly accepts: (length: number, n: number) => boolean;
  /** Offset of a u16 element count. */
  readonly countAt?: number;
}

const fixed = (name: string, bytes: number, decode: Codec['decode']): Codec => ({ name, decode, accepts: (length) => length === bytes });
const list = (name: string, countAt: number, head: number, element: number, decode: Codec['decode'], { slack = element, empty = false } = {}): Codec => ({
  name,
  decode,
  countAt,
  accepts: (length, n) => (empty || n > 0) && length >= head + element * n && length <= head + element * n + slack,
});

const CODECS: readonly Codec[] = [
  fixed('VERSION', 8, v.decodeVersion),
  { name: 'GET_VF_RESOURCES request', decode: v.decodeGetVfResources, accepts: (length) => length === 0 || length === 4 },
  list('GET_VF_RESOURCES reply', 0, 20, 16, v.decodeVfResources),
  list('CONFIG_VSI_QUEUES', 2, 8, 64, v.decodeConfigVsiQueues),
  list('CONFIG_IRQ_MAP', 0, 2, 12, v.decodeConfigIrqMap),
  fixed('ENABLE_QUEUES', 12, (p) => v.decodeQueueSelect(p, Op.ENABLE_QUEUES)),
  fixed('DISABLE_QUEUES', 12, (p) => v.decodeQueueSelect(p, Op.DISABLE_QUEUES)),
  fixed('GET_STATS request', 12, (p) => v.decodeQueueSelect(p, Op.GET_STATS)),
  list('ADD_ETH_ADDR', 2, 4, 8, (p) => v.decodeEtherAddrList(p, Op.ADD_ETH_ADDR)),
  list('DEL_ETH_ADDR', 2, 4, 8, (p) => v.decodeEtherAddrList(p, Op.DEL_ETH_ADDR)),
  list('ADD_VLAN', 2, 4, 2, (p) => v.decodeVlanFilterList(p, Op.ADD_VLAN)),
  list('DEL_VLAN', 2, 4, 2, (p) => v.decodeVlanFilterList(p, Op.DEL_VLAN)),
  fixed('CONFIG_PROMISCUOUS_MODE', 4, v.decodePromiscuousMode),
  fixed('GET_STATS reply', 96, v.decodeEthStats),
  fixed('EVENT', 16, (p) => v.decodeEvent(p, true)),
  list('CONFIG_RSS_KEY', 2, 4, 1, v.decodeRssKey, { empty: true }),
  list('CONFIG_RSS_LUT', 2, 4, 1, v.decodeRssLut, { empty: true }),
  fixed('GET_RSS_HENA_CAPS reply', 8, (p) => v.decodeRssHena(p, Op.GET_RSS_HENA_CAPS)),
  fixed('SET_RSS_HENA', 8, (p) => v.decodeRssHena(p, Op.SET_RSS_HENA)),
  fixed('REQUEST_QUEUES', 2, v.decodeRequestQueues),
  fixed('GET_SUPPORTED_RXDIDS reply', 8, v.decodeSupportedRxdids),
  fixed('GET_OFFLOAD_VLAN_V2_CAPS reply', 40, v.decodeVlanCaps),
  list('ADD_VLAN_V2', 2, 8, 32, (p) => v.decodeVlanFilterListV2(p, Op.ADD_VLAN_V2), { slack: 0 }),
  list('DEL_VLAN_V2', 2, 8, 32, (p) => v.decodeVlanFilterListV2(p, Op.DEL_VLAN_V2), { slack: 0 }),
  fixed('ENABLE_VLAN_STRIPPING_V2', 16, (p) => v.decodeVlanSetting(p, Op.ENABLE_VLAN_STRIPPING_V2)),
];

/** undefined = accepted, else the error. */
function attempt(codec: Codec, payload: Uint8Array): unknown {
  try {
    codec.decode(payload);
    return undefined;
  } catch (error) {
    return error;
  }
}

describe.each(CODECS)('$name', (codec) => {
  it('accepts exactly the lengths of the specification, for every count', () => {
    const counts = codec.countAt === undefined ? [0] : [0, 1, 2, 3, 16, 255, 65_535];
    for (const n of counts) {
      for (let length = 0; length <= 256; length++) {
        const payload = new Uint8Array(length);
        let written = n;
        if (codec.countAt !== undefined) {
          if (length >= codec.countAt + 2) new DataView(payload.buffer).setUint16(codec.countAt, n, true);
          else written = -1; // too short to say how many: never acceptable
        }
        const error = attempt(codec, payload);
        const accepted = written >= 0 && codec.accepts(length, written);
        expect(error === undefined, `length ${length}, count ${n}`).toBe(accepted);
        if (!accepted) expect(error).toMatchObject({ name: 'VirtchnlError', status: -5 });
      }
    }
  });

  it('never throws anything but VirtchnlError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(8), (bytes, at) => {
        // Not at offset 0 of its buffer: a decoder must not read beyond its own slice.
        const error = attempt(codec, bytes.subarray(Math.min(at, bytes.length)));
        if (error !== undefined) expect(error).toBeInstanceOf(v.VirtchnlError);
      }),
      { numRuns: 300 },
    );
  });
});

const u8 = fc.integer({ min: 0, max: 0xff });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const i32 = fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff });
const u64 = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
const mac = fc.uint8Array({ minLength: 6, maxLength: 6 });
const layers = { outer: u32, inner: u32 };
const tag = fc.record({ tci: u16, tciMask: u16, tpid: u16 });
const tx = fc.record({ vsiId: u16, queueId: u16, ringLength: u16, ringAddress: u64, headWriteback: u16, headWritebackAddress: u64 });
const rx = fc.record({
  vsiId: u16, queueId: u16, ringLength: u32, ringAddress: u64, bufferBytes: u32, maxPacketBytes: u32,
  headerBytes: u16, splitHeader: u16, crcDisable: u8, rxdid: u8, flags: u8, splitPosition: i32,
});

function roundTrip<T>(name: string, values: fc.Arbitrary<T>, encode: (value: T) => Uint8Array, decode: (payload: Uint8Array) => unknown): void {
  it(`${name}: decoding gives back what was encoded`, () => {
    fc.assert(
      fc.property(values, (value) => {
        expect(decode(encode(value))).toEqual(value);
      }),
      { numRuns: 100 },
    );
  });
}

describe('round trips', () => {
  roundTrip('VERSION', fc.record({ major: u32, minor: u32 }), v.encodeVersion, v.decodeVersion);
  roundTrip('GET_VF_RESOURCES request', fc.option(u32, { nil: undefined }), v.encodeGetVfResources, v.decodeGetVfResources);
  roundTrip(
    'GET_VF_RESOURCES reply',
    fc.record({
      queuePairs: u16, maxVectors: u16, maxFrameBytes: u16, capabilities: u32, rssKeyBytes: u32, rssLutEntries: u32,
      vsis: fc.array(fc.record({ vsiId: u16, queuePairs: u16, type: i32, qsetHandle: u16, mac }), { minLength: 1, maxLength: 4 }),
    }),
    v.encodeVfResources, v.decodeVfResources,
  );
  roundTrip('CONFIG_VSI_QUEUES', fc.record({ vsiId: u16, pairs: fc.array(fc.record({ tx, rx }), { minLength: 1, maxLength: 16 }) }), v.encodeConfigVsiQueues, v.decodeConfigVsiQueues);
  roundTrip(
    'CONFIG_IRQ_MAP',
    fc.array(fc.record({ vsiId: u16, vectorId: u16, rxQueues: u16, txQueues: u16, rxItr: u16, txItr: u16 }), { minLength: 1, maxLength: 64 }),
    v.encodeConfigIrqMap, v.decodeConfigIrqMap,
  );
  roundTrip('queue selection', fc.record({ vsiId: u16, rxQueues: u32, txQueues: u32 }), v.encodeQueueSelect, (p) => v.decodeQueueSelect(p, Op.ENABLE_QUEUES));
  roundTrip(
    'ADD_ETH_ADDR',
    fc.record({ vsiId: u16, addresses: fc.array(fc.record({ address: mac, type: fc.nat(3) }), { minLength: 1, maxLength: v.MAX_ETH_ADDRS, size: 'large' }) }),
    v.encodeEtherAddrList, (p) => v.decodeEtherAddrList(p, Op.ADD_ETH_ADDR),
  );
  roundTrip('ADD_VLAN', fc.record({ vsiId: u16, vlanIds: fc.array(u16, { minLength: 1, maxLength: 200 }) }), v.encodeVlanFilterList, (p) => v.decodeVlanFilterList(p, Op.ADD_VLAN));
  roundTrip('CONFIG_PROMISCUOUS_MODE', fc.record({ vsiId: u16, flags: u16 }), v.encodePromiscuousMode, v.decodePromiscuousMode);
  roundTrip(
    'GET_STATS reply',
    fc.record({
      rxBytes: u64, rxUnicast: u64, rxMulticast: u64, rxBroadcast: u64, rxDiscards: u64, rxUnknownProtocol: u64,
      txBytes: u64, txUnicast: u64, txMulticast: u64, txBroadcast: u64, txDiscards: u64, txErrors: u64,
    }),
    v.encodeEthStats, v.decodeEthStats,
  );
  roundTrip('CONFIG_RSS_KEY', fc.record({ vsiId: u16, key: fc.uint8Array({ maxLength: 64 }) }), v.encodeRssKey, v.decodeRssKey);
  roundTrip('CONFIG_RSS_LUT', fc.record({ vsiId: u16, lut: fc.uint8Array({ maxLength: 600 }) }), v.encodeRssLut, v.decodeRssLut);
  roundTrip('SET_RSS_HENA', u64, v.encodeRssHena, (p) => v.decodeRssHena(p, Op.SET_RSS_HENA));
  roundTrip('GET_SUPPORTED_RXDIDS reply', fc.uniqueArray(fc.integer({ min: 0, max: 63 })).map((ids) => new Set(ids)), v.encodeSupportedRxdids, v.decodeSupportedRxdids);
  roundTrip('REQUEST_QUEUES', u16, v.encodeRequestQueues, v.decodeRequestQueues);
  roundTrip(
    'GET_OFFLOAD_VLAN_V2_CAPS reply',
    fc.record({
      filtering: fc.record({ ...layers, ethertypeInit: u32, maxFilters: u16 }), stripping: fc.record(layers), insertion: fc.record(layers), ethertypeInit: u32, ethertypeMatch: u8,
    }),
    v.encodeVlanCaps, v.decodeVlanCaps,
  );
  roundTrip(
    'ADD_VLAN_V2',
    fc.record({ vportId: u16, filters: fc.array(fc.record({ inner: tag, outer: tag }), { minLength: 1, maxLength: 127 }) }),
    v.encodeVlanFilterListV2, (p) => v.decodeVlanFilterListV2(p, Op.ADD_VLAN_V2),
  );
  roundTrip('VLAN setting', fc.record({ vportId: u16, outerEthertype: u32, innerEthertype: u32 }), v.encodeVlanSetting, (p) => v.decodeVlanSetting(p, Op.ENABLE_VLAN_STRIPPING_V2));
  roundTrip(
    'EVENT (Mb/s)',
    fc.oneof(
      fc.record({ kind: fc.constant('link-change' as const), up: fc.boolean(), speedMbps: u32 }),
      fc.record({ kind: fc.constant('reset-impending' as const) }),
      fc.record({ kind: fc.constant('driver-close' as const) }),
      fc.record({ kind: fc.constant('other' as const), code: fc.integer({ min: 4, max: 1000 }), severity: i32 }),
    ),
    (event) => v.encodeEvent(event, true), (p) => v.decodeEvent(p, true),
  );
});
