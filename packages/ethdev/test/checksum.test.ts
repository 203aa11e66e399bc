import fc from 'fast-check';
import { expect, test } from 'vitest';
import { checksumOf, foldSum, sumWindowWords, sumWords, updateChecksum } from '@emudev/ethdev';

test('the example of RFC 1071', () => {
  // 0001 f203 f4f5 f6f7 sums to 2ddf0, which folds to ddf2.
  expect(foldSum(sumWords(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7), 0, 8))).toBe(0xddf2);
});

test('by words and by bytes are the same sum, at any even or odd offset and length', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 0, maxLength: 200 }), fc.nat(7), fc.nat(70_000), (bytes, offset, seed) => {
      const u8 = new Uint8Array(new ArrayBuffer(256));
      u8.fill(0xa5);
      u8.set(bytes, offset);
      const u32 = new Uint32Array(u8.buffer);
      expect(checksumOf(sumWindowWords(u32, u8, offset, bytes.length, seed))).toBe(checksumOf(sumWords(u8, offset, bytes.length, seed)));
    }),
  );
});

test('an update gives what summing again gives', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 20, maxLength: 40 }), fc.integer({ min: 0, max: 9 }), fc.nat(0xffff), (bytes, word, value) => {
      const even = bytes.slice(0, bytes.length & ~1);
      even[0] = 0x45; // An all-zero header has two checksums.
      const view = new DataView(even.buffer);
      const at = word === 0 ? 2 : word * 2;
      const before = checksumOf(sumWords(even, 0, even.length));
      const was = view.getUint16(at);
      view.setUint16(at, value);
      expect(updateChecksum(before, was, value)).toBe(checksumOf(sumWords(even, 0, even.length)));
    }),
  );
});
