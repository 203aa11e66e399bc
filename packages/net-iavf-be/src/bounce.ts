import type { Window } from '@emudev/dma';
import { isReachable, SHADOW_TAIL_BYTES, type BounceHost, type BouncedRing } from './bounced-ring.ts';
import { BouncedRxRing } from './bounced-rx.ts';
import { BouncedTxRing } from './bounced-tx.ts';
import { BOUNCE_BYTES } from './limits.ts';
import type { Direction, RingConfig } from './ring.ts';

/** A bounced ring that has not begun; undefined: its memory cannot be reached, or there is no room for the shadow. */
export function openBouncedRing(window: Window, direction: Direction, { address, descriptors, descriptorBytes, bufferBytes }: RingConfig, host: BounceHost): BouncedRing | undefined {
  const memory = host.memory();
  const bytes = descriptors * descriptorBytes;
  if (!isReachable(memory, address, bytes)) return undefined;
  const area = memory.bounce?.(BOUNCE_BYTES);
  if (area === undefined) return undefined;
  try {
    const offset = window.alloc(SHADOW_TAIL_BYTES + bytes, SHADOW_TAIL_BYTES);
    const shadow = { offset, [Symbol.dispose]: () => { window.free(offset); } };
    const parts = { window, address, descriptors, descriptorBytes, bufferBytes, host, shadow, area };
    return direction === 'tx' ? new BouncedTxRing(parts) : new BouncedRxRing(parts);
  } catch {
    area[Symbol.dispose]();
    return undefined;
  }
}
