/** Rx checksum verdict (iavf.md 5.3): L3L4P only where the frame has been verified or vouched for, which is always safe. */
import { FRAME_RX_IP_BAD, FRAME_RX_IP_GOOD, FRAME_RX_L4_BAD, FRAME_RX_L4_GOOD } from '@emudev/ethdev';
import { foldSum, sumBytes } from './checksum.ts';
import type { Classified } from './classify.ts';
import type { TwinMemory } from './memory.ts';

export interface Verdict {
  readonly l3l4p: boolean;
  readonly ipe: boolean;
  readonly l4e: boolean;
}
const NO_VERDICT: Verdict = { l3l4p: false, ipe: false, l4e: false };

export function verdict(memory: TwinMemory, frame: number, l3: number, c: Classified, flags: number): Verdict {
  if (c.l4 === 0 || c.hasExtensions) return NO_VERDICT;
  const ip = frame + l3;
  const l4 = frame + c.l4;
  const ipe =
    c.ip === 4 && ((flags & FRAME_RX_IP_BAD) !== 0 || (!(flags & FRAME_RX_IP_GOOD) && foldSum(sumBytes(memory, ip, c.ipv4HeaderBytes)) !== 0xffff));
  if (flags & FRAME_RX_L4_BAD) return { l3l4p: true, ipe, l4e: true };
  if (flags & FRAME_RX_L4_GOOD) return { l3l4p: true, ipe, l4e: false };
  if (c.kind === 'sctp') return NO_VERDICT;
  if (c.kind === 'udp') {
    if (memory.be16(l4 + 4) !== c.l4Bytes) return NO_VERDICT;
    if (memory.be16(l4 + 6) === 0) return c.ip === 4 ? { l3l4p: true, ipe, l4e: false } : NO_VERDICT;
  }
  const addresses = c.ip === 4 ? sumBytes(memory, ip + 12, 8) : sumBytes(memory, ip + 8, 32);
  const sum = addresses + (c.kind === 'udp' ? 17 : 6) + c.l4Bytes + sumBytes(memory, l4, c.l4Bytes);
  return { l3l4p: true, ipe, l4e: foldSum(sum) !== 0xffff };
}
