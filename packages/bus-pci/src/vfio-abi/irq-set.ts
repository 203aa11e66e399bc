/** struct vfio_irq_set: connects interrupts to eventfds, masks, unmasks and triggers them. */
import {
  VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_BOOL, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
} from '@emudev/vfio-user-protocol';
import { BusError } from '../errors.ts';
import { MAX_IRQ_VECTORS } from '../limits.ts';
import { putFd, putU32, sized } from './bytes.ts';

const FIXED_BYTES = 20;

/** What `encodeIrqSet` encodes. */
export interface VfioIrqSet {
  readonly index: number;
  /** First vector. */
  readonly start: number;
  readonly action: 'mask' | 'unmask' | 'trigger';
  /**
   * A number: so many vectors, without data; 0 with `trigger` disables the index. Booleans: act on those that are true. Descriptors of eventfds, -1 to
   * take one away.
   */
  readonly data: number | { readonly bools: readonly boolean[] } | { readonly eventfds: readonly number[] };
}

const ACTIONS = { mask: VFIO_IRQ_SET_ACTION_MASK, unmask: VFIO_IRQ_SET_ACTION_UNMASK, trigger: VFIO_IRQ_SET_ACTION_TRIGGER };

/** The argument of `VFIO_DEVICE_SET_IRQS`. ERR_BUS_ARGUMENT for more than `MAX_IRQ_VECTORS` or what is no number, no descriptor. */
export function encodeIrqSet({ index, start, action, data }: VfioIrqSet): Uint8Array {
  const count = typeof data === 'number' ? data : 'bools' in data ? data.bools.length : data.eventfds.length;
  if (!Number.isInteger(count) || count < 0 || count > MAX_IRQ_VECTORS) throw new BusError('ERR_BUS_ARGUMENT', `${count} vectors; there are at most ${MAX_IRQ_VECTORS}`);
  const kind = typeof data === 'number' ? VFIO_IRQ_SET_DATA_NONE : 'bools' in data ? VFIO_IRQ_SET_DATA_BOOL : VFIO_IRQ_SET_DATA_EVENTFD;
  const { bytes, view } = sized(FIXED_BYTES + (kind === VFIO_IRQ_SET_DATA_NONE ? 0 : kind === VFIO_IRQ_SET_DATA_BOOL ? count : 4 * count));
  putU32(view, 4, kind | ACTIONS[action], 'flags');
  putU32(view, 8, index, 'index');
  putU32(view, 12, start, 'start');
  putU32(view, 16, count, 'count');
  if (typeof data !== 'number') {
    if ('bools' in data) data.bools.forEach((on, i) => { bytes[FIXED_BYTES + i] = Number(on); });
    else data.eventfds.forEach((fd, i) => { putFd(view, FIXED_BYTES + 4 * i, fd, -1); });
  }
  return bytes;
}
