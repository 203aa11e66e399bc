/** Random packets, buffers and memory in every mixture, against a plain model: every frame arrives once, in order, or is counted. */
import { test as propertyTest, fc } from '@fast-check/vitest';
import { expect } from 'vitest';
import { MAC } from './card.ts';
import { BLOCK_BYTES, BLOCKS, MixedGuest, type BlockKind } from './mixed-guest.ts';

const RAM = BLOCKS * BLOCK_BYTES;
const KIND = fc.constantFrom<BlockKind>('mapped', 'remote', 'remote', 'none');
const RING_KIND = fc.constantFrom<BlockKind>('mapped', 'remote');
/** Behind the rings; Tx buffers in the upper half, so that what is received does not change what is sent. */
const TX_FROM = RAM / 2;
const RX_BYTES = 1024;

const BUFFER = fc.record({ at: fc.integer({ min: TX_FROM, max: RAM - 4096 }), bytes: fc.integer({ min: 1, max: 1200 }) });
const PACKET = fc.array(BUFFER, { minLength: 1, maxLength: 5 });
const STEP = fc.oneof(
  fc.record({ kind: fc.constant('transmit' as const), packets: fc.array(PACKET, { minLength: 1, maxLength: 10 }) }),
  fc.record({ kind: fc.constant('receive' as const), lengths: fc.array(fc.integer({ min: 60, max: 3000 }), { minLength: 1, maxLength: 20 }) }),
  fc.record({ kind: fc.constant('remap' as const), block: fc.integer({ min: 2, max: BLOCKS - 1 }), to: KIND }),
  fc.record({ kind: fc.constant('restart' as const) }),
);

propertyTest.prop(
  [fc.array(KIND, { minLength: BLOCKS, maxLength: BLOCKS }), RING_KIND, RING_KIND, fc.constantFrom('wasm' as const, 'ts' as const), fc.constantFrom(16, 32), fc.array(STEP, { maxLength: 12 }), fc.integer()],
  { numRuns: 40 },
)('agrees with a model that knows nothing of rings', async (kinds, txKind, rxKind, kernels, descriptorBytes, steps, seed) => {
  kinds[0] = txKind;
  kinds[1] = rxKind;
  await using guest = await MixedGuest.start({ kinds, kernels, txRing: 0, rxRing: 1, bufferBytes: RX_BYTES, descriptorBytes });
  const isThere = (at: number, bytes: number): boolean => {
    for (let block = Math.floor(at / BLOCK_BYTES); block * BLOCK_BYTES < at + bytes; block++) if (guest.kinds[block] === 'none') return false;
    return true;
  };
  // Tx memory: bytes that tell their address.
  guest.write(TX_FROM, new Uint8Array(RAM - TX_FROM).map((_, n) => (n * 7 + (n >> 8) * 13 + seed) & 0xff));
  const buffers = (from: number, count: number): number[] => Array.from({ length: count }, (_, n) => 2 * BLOCK_BYTES + ((from + n) * 1999) % (TX_FROM - 2 * BLOCK_BYTES - RX_BYTES));
  let given = 63;
  let refusals = 0;
  expect(await guest.up(buffers(0, 63))).toBe(0);
  const errors = (): number => guest.stat('rx_q0_errors');
  let number = 0;

  for (const step of steps) {
    if (step.kind === 'remap') await guest.remap(step.block, step.to);
    if (step.kind === 'restart') {
      await guest.card.disable(1, 1);
      await guest.up(buffers(given, 63));
      given += 63;
      refusals = 0;
    }
    if (step.kind === 'transmit') {
      const before = errors();
      const expected: Uint8Array[] = [];
      for (const packet of step.packets) {
        const bytes = packet.reduce((sum, one) => sum + one.bytes, 0);
        if (bytes >= 17 && packet.every((one) => isThere(one.at, one.bytes))) {
          const whole = Buffer.concat(packet.map((one) => guest.read(one.at, one.bytes)));
          expected.push(new Uint8Array(Buffer.concat([whole, Buffer.alloc(Math.max(0, 60 - whole.length))])));
        }
        guest.post(packet);
      }
      const got: Uint8Array[] = [];
      await guest.until('the guest has its descriptors back', () => {
        got.push(...guest.poll());
        return guest.txDone();
      });
      expect(got).toEqual(expected);
      expect(errors() - before).toBe(step.packets.length - expected.length);
    }
    if (step.kind === 'receive' && refusals === 0) {
      const frames = step.lengths.map((length) => {
        const bytes = new Uint8Array(length).map((_, n) => (n * 3 + number) & 0xff);
        bytes.set(MAC);
        bytes.set([2, 0, 0, 0, 0, 9, 0x88, 0xb5, number >> 8, number & 0xff], 6);
        number++;
        return bytes;
      });
      const lost = guest.stat('tx_q0_dropped');
      const delivered = guest.stat('tx_q0_packets');
      const unserved = guest.stat('tx_no_queue_dropped');
      const got: { bytes: Uint8Array; isError: boolean; slot: number }[] = [];
      await guest.buffersShown();
      await guest.sendAll(frames);
      const good = (): Uint8Array[] => got.filter(({ isError }) => !isError).map(({ bytes }) => bytes);
      await guest.until('every frame is here or counted', () => {
        got.push(...guest.receive());
        return good().length === guest.stat('tx_q0_packets') - delivered
          && guest.stat('tx_q0_packets') - delivered + guest.stat('tx_q0_dropped') - lost + guest.stat('tx_no_queue_dropped') - unserved === frames.length;
      });
      // In the order in which they were sent, and as they were sent.
      let next = 0;
      for (const bytes of good()) {
        while (next < frames.length && Buffer.compare(frames[next]!, bytes) !== 0) next++;
        expect(next++).toBeLessThan(frames.length);
      }
      // Memory that is all there loses nothing as long as there are buffers.
      if (guest.kinds.slice(2, BLOCKS / 2).every((kind) => kind !== 'none') && step.lengths.reduce((sum, length) => sum + Math.ceil(length / RX_BYTES), 0) <= 20) expect(good()).toEqual(frames);
      const used = (got.at(-1)?.slot ?? -1) + 1;
      if (guest.stat('tx_fault_buffer') > 0) refusals = 1;
      else if (got.length > 0) {
        const free = (used - guest.rxTail + guest.ringLength) % guest.ringLength;
        const count = (free + guest.ringLength - 1) % guest.ringLength;
        guest.giveBuffers(buffers(given, count));
        given += count;
      }
    }
  }
  expect([guest.card.errors, guest.stat('rx_fault_unreachable'), guest.stat('tx_fault_unreachable')]).toEqual([[], 0, 0]);
});
