/**
 * Of a frame like the two before it the kernel takes over what it has found out about them. So after two equal frames comes one that
 * differs from them in a single bit of its headers, and for each bit the guest must get what the twin delivers, who looks at every frame.
 */
import { describe, expect, it } from 'vitest';
import { FRAME_RX_IP_GOOD, FRAME_RX_L4_GOOD } from '@emudev/ethdev';
import { DEV_HENA, DEV_STATS, DEVF_VLAN_PRUNING, DEVF_VLAN_STRIP, DEVS_RX_FILTERED, DEVS_RX_RUNT, QS_PACKETS } from '../src/layout.ts';
import { bothWays, implementations } from './both-ways.ts';
import { frameOf, MAC, type FrameOptions } from './frames.ts';
import { CHUNK_IOVA, Rig } from './rig.ts';

const rig = new Rig();
const both = implementations(rig);
const BURST = 63;
const HEADER_BITS = 60 * 8;
const VOUCHED = FRAME_RX_IP_GOOD | FRAME_RX_L4_GOOD;

function deliver(frames: readonly { readonly bytes: Uint8Array; readonly flags: number }[], flags: number, hena?: bigint): { packets: number; filtered: number } {
  rig.reset();
  rig.mapGuest();
  rig.addMac(MAC);
  if (hena !== undefined) rig.set64(rig.device + DEV_HENA, hena);
  rig.setLut((n) => n & 1);
  rig.setFlags(flags);
  for (const queue of [0, 1]) {
    rig.enableRx(queue, { length: 64 });
    for (let n = 0; n < 64; n++) rig.set64(rig.rxDescriptor(queue, n), CHUNK_IOVA + BigInt(queue * 0x40000 + n * 2048));
    rig.setTail(rig.rxBlock(queue), 63);
  }
  rig.fillBurst(frames);
  bothWays(rig, both, (kernels) => [kernels.txBurst(rig.device, rig.burst.records, frames.length)]);
  return {
    packets: [0, 1].reduce((sum, queue) => sum + rig.stat(rig.rxBlock(queue), QS_PACKETS), 0),
    filtered: Number(rig.get64(rig.device + DEV_STATS + 8 * DEVS_RX_FILTERED)),
  };
}

describe('a frame that differs from those before it in one bit', () => {
  /** Only a SYN is hashed. */
  const synOnly = 1n << 32n;
  const kinds: readonly { readonly what: string; readonly options: FrameOptions; readonly vouched: number; readonly hena?: bigint; readonly etherType?: number }[] = [
    { what: 'TCP', options: { protocol: 'tcp', payload: 20 }, vouched: 0 },
    { what: 'TCP, vouched for', options: { protocol: 'tcp', payload: 20 }, vouched: VOUCHED },
    { what: 'TCP, summed while it is copied', options: { protocol: 'tcp', payload: 300 }, vouched: 0 },
    { what: 'a SYN', options: { protocol: 'tcp', payload: 20, tcpFlags: 0x02 }, vouched: VOUCHED },
    { what: 'a SYN, which alone is hashed', options: { protocol: 'tcp', payload: 20, tcpFlags: 0x02 }, vouched: VOUCHED, hena: synOnly },
    { what: 'UDP', options: { protocol: 'udp', payload: 30 }, vouched: 0 },
    { what: 'tagged', options: { protocol: 'tcp', payload: 20, vlan: 5 }, vouched: 0 },
    { what: 'of an unknown EtherType', options: { protocol: 'udp', payload: 30 }, vouched: 0, etherType: 0x88b5 },
    { what: 'IPv6', options: { ip: 6, protocol: 'udp', payload: 30 }, vouched: 0 },
  ];
  it.each(kinds)('$what: is taken for what it is', ({ options, vouched, hena, etherType }) => {
    const frame = frameOf(options).bytes;
    let filtered = 0;
    for (let bit = 0; bit < HEADER_BITS; bit += BURST / 3) {
      if (etherType !== undefined) frame.writeUInt16BE(etherType, 12);
      const frames = Array.from({ length: BURST }, (_, n) => {
        const bytes = Buffer.from(frame);
        const which = bit + Math.floor(n / 3);
        if (n % 3 === 2 && which < HEADER_BITS) bytes[which >> 3]! ^= 1 << (which & 7);
        return { bytes, flags: vouched };
      });
      const result = deliver(frames, DEVF_VLAN_STRIP | DEVF_VLAN_PRUNING, hena);
      expect(result.packets + result.filtered).toBe(BURST);
      filtered += result.filtered;
    }
    // Of a tagged frame every one: no VLAN is on the list. Else the flipped bits of the address, but for the one that makes it a group's.
    expect(filtered).toBeGreaterThan(40);
  });

  it('is another length', () => {
    const frame = frameOf({ protocol: 'tcp', payload: 200 }).bytes;
    const frames = [frame, frame, frame.subarray(0, 100), frame, frame, Buffer.concat([frame, Buffer.alloc(6)]), frame.subarray(0, 20)].map((bytes) => ({ bytes, flags: 0 }));
    expect(deliver(frames, 0).packets).toBe(frames.length);
  });

  it('is nothing at all, where the bytes of one of them lie', () => {
    const frame = frameOf({ protocol: 'tcp', payload: 200 }).bytes;
    const nothing = Buffer.alloc(0);
    const tagged = frameOf({ protocol: 'tcp', payload: 20, vlan: 5 }).bytes;
    const frames = [nothing, frame, frame, tagged, nothing, frame, frame, frame, nothing].map((bytes) => ({ bytes, flags: 0 }));
    expect(deliver(frames, DEVF_VLAN_STRIP).packets).toBe(frames.length - 3);
    expect(Number(rig.get64(rig.device + DEV_STATS + 8 * DEVS_RX_RUNT))).toBe(3);
  });

  it('is nothing at all, from the start', () => {
    const frames = [0, 1].map(() => ({ bytes: Buffer.alloc(0), flags: 0 }));
    expect(deliver(frames, 0).packets).toBe(0);
    expect(Number(rig.get64(rig.device + DEV_STATS + 8 * DEVS_RX_RUNT))).toBe(frames.length);
  });
});
