import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MEMIF_VERSION, MESSAGE_BYTES, MemifError, SECRET_BYTES, decodeMessage, encodeMessage, type MemifMessage } from '../src/index.ts';

const text = (s: string): string => Buffer.from(s).toString('hex');
const secret = new Uint8Array(SECRET_BYTES);
secret.set([0x73, 0x33, 0x63]);

/** Written down from the structures of memif.h, packed, little-endian. */
const GOLDEN: readonly (readonly [MemifMessage, string])[] = [
  [{ type: 'ack' }, '0100'],
  [
    { type: 'hello', name: 'DPDK 24.11.2', minVersion: MEMIF_VERSION, maxVersion: MEMIF_VERSION, maxRegion: 255, maxS2cRing: 255, maxC2sRing: 7, maxLog2RingSize: 14 },
    `0200${text('DPDK 24.11.2').padEnd(64, '0')}00020002ff00ff0007000e`,
  ],
  [
    { type: 'init', version: MEMIF_VERSION, id: 0x01020304, mode: 0, secret, name: 'VPP' },
    `030000020403020100${text('s3c').padEnd(48, '0')}${text('VPP')}`,
  ],
  [{ type: 'addRegion', index: 1, sizeBytes: 0x1_0040_8100 }, '04000100'.concat('0081400001000000')],
  [{ type: 'addRing', direction: 'c2s', index: 2, region: 1, offset: 0x4080, log2Size: 10, privateHeaderBytes: 0 }, '05000100020001008040'.concat('00000a0000')],
  [{ type: 'addRing', direction: 's2c', index: 0, region: 0, offset: 0, log2Size: 14, privateHeaderBytes: 16 }, '050000000000000000000000'.concat('0e1000')],
  [{ type: 'connect', interfaceName: 'net_memif0' }, `0600${text('net_memif0')}`],
  [{ type: 'connected', interfaceName: 'memif0/0' }, `0700${text('memif0/0')}`],
  [{ type: 'disconnect', code: 0x80000001, reason: 'bye' }, `080001000080${text('bye')}`],
];

describe('golden bytes', () => {
  test.each(GOLDEN)('%j', (message, hex) => {
    const bytes = Buffer.from(hex.padEnd(2 * MESSAGE_BYTES, '0'), 'hex');
    expect(Buffer.from(encodeMessage(message)).toString('hex')).toBe(bytes.toString('hex'));
    expect(decodeMessage(bytes)).toEqual(message);
  });
});

const u8 = fc.nat(0xff);
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffffffff);
const word = (max: number): fc.Arbitrary<string> => fc.string({ unit: fc.constantFrom(...'abcdefghijklmnopqrstuvwxyz 0123456789äß€'), maxLength: max }).filter((s) => Buffer.byteLength(s) <= max);
const messages: fc.Arbitrary<MemifMessage> = fc.oneof(
  fc.record({ type: fc.constant('ack' as const) }),
  fc.record({ type: fc.constant('hello' as const), name: word(31), minVersion: u16, maxVersion: u16, maxRegion: u16, maxS2cRing: u16, maxC2sRing: u16, maxLog2RingSize: u8 }),
  fc.record({ type: fc.constant('init' as const), version: u16, id: u32, mode: u8, secret: fc.uint8Array({ minLength: SECRET_BYTES, maxLength: SECRET_BYTES }), name: word(31) }),
  fc.record({ type: fc.constant('addRegion' as const), index: u16, sizeBytes: fc.nat(Number.MAX_SAFE_INTEGER) }),
  fc.record({ type: fc.constant('addRing' as const), direction: fc.constantFrom('c2s' as const, 's2c' as const), index: u16, region: u16, offset: u32, log2Size: u8, privateHeaderBytes: u16 }),
  fc.record({ type: fc.constantFrom('connect' as const, 'connected' as const), interfaceName: word(31) }),
  fc.record({ type: fc.constant('disconnect' as const), code: u32, reason: word(95) }),
);

test('every message survives encoding and decoding', () => {
  fc.assert(fc.property(messages, (message) => {
    expect(decodeMessage(encodeMessage(message))).toEqual(message);
  }));
});

test('any bytes decode to a message or throw ERR_MEMIF_MESSAGE, and what lies behind them does not matter', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 140 }), fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, undefined), fc.boolean(), (body, type, whole) => {
    const bytes = whole ? new Uint8Array(MESSAGE_BYTES) : new Uint8Array(body.length);
    bytes.set(body.subarray(0, bytes.length));
    if (type !== undefined && bytes.length > 1) bytes.set([type, 0]);
    const around = new Uint8Array(bytes.length + 200).fill(0xa5);
    around.set(bytes, 100);
    const outcome = (view: Uint8Array): unknown => {
      try {
        return decodeMessage(view);
      } catch (error) {
        expect(error).toBeInstanceOf(MemifError);
        return (error as MemifError).code;
      }
    };
    const alone = outcome(bytes);
    expect(outcome(around.subarray(100, 100 + bytes.length))).toEqual(alone);
    if (bytes.length !== MESSAGE_BYTES) expect(alone).toBe('ERR_MEMIF_MESSAGE');
  }), { numRuns: 500 });
});

test('names and reasons that are too long are cut between characters, and leave a NUL', () => {
  const bytes = encodeMessage({ type: 'connect', interfaceName: '€'.repeat(20) });
  expect(bytes[2 + 31]).toBe(0);
  expect(decodeMessage(bytes)).toEqual({ type: 'connect', interfaceName: '€'.repeat(10) });
});

test('what a peer calls itself cannot steer a terminal', () => {
  const bytes = encodeMessage({ type: 'connected', interfaceName: '\x1b[2Jx\u009b\n' });
  expect(decodeMessage(bytes)).toEqual({ type: 'connected', interfaceName: '?[2Jx??' });
});

test('a region larger than numbers are exact is no region', () => {
  const bytes = encodeMessage({ type: 'addRegion', index: 0, sizeBytes: 1 });
  bytes.fill(0xff, 4, 12);
  expect(() => decodeMessage(bytes)).toThrow(expect.objectContaining({ code: 'ERR_MEMIF_MESSAGE' }));
});
