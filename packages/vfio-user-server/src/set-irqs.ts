/** DEVICE_SET_IRQS: descriptors, masks, and interrupts that the client raises itself. */
import type { PciDevice, QuiesceReason } from '@emudev/pci';
import type { SetIrqs } from '@emudev/vfio-user-protocol';
import { requireEventfds } from './eventfds.ts';
import type { MaskAction, MaskEventfds } from './mask-eventfds.ts';
import type { VectorChange, Vectors } from './vectors.ts';
import type { Sys } from '@emudev/linux';

export interface IrqContext {
  readonly sys: Sys;
  readonly device: PciDevice;
  readonly vectors: Vectors;
  readonly maskEventfds: MaskEventfds;
  /** `device.quiesce(reason)`, then `change`, then `device.resume()` whatever happened. */
  whileQuiesced(reason: QuiesceReason, change: () => void | Promise<void>): Promise<void>;
}

/** `fds` that are kept are taken out of the list. */
export function setIrqs(context: IrqContext, request: SetIrqs, fds: number[]): void | Promise<void> {
  const { action, index, start, count, data } = request;
  if (data === 'eventfd') {
    requireEventfds(fds);
    if (action === 'trigger') return setTriggers(context, { index, start, count, fds: fds.length === 0 ? undefined : [...fds] }, fds);
    if (fds.length === 0) context.maskEventfds.remove(action, index, start, count);
    else context.maskEventfds.assign(action, index, start, fds);
    return;
  }
  if (action === 'trigger' && count === 0) return disable(context, index, fds);
  const vectors = Array.from({ length: count }, (_, i) => start + i).filter((_, i) => data === 'none' || data[i] !== 0);
  if (action !== 'trigger') return setMasks(context, action, index, vectors);
  // A loopback test.
  for (const vector of vectors) context.vectors.trigger(index, vector);
}

function setTriggers(context: IrqContext, change: VectorChange, fds: number[]): void | Promise<void> {
  const { device, vectors } = context;
  if (change.fds === undefined && !vectors.assigned(change)) return;
  return context.whileQuiesced('irqs', () => {
    const unused = vectors.apply(change);
    fds.length = 0;
    announce(context, unused, () => { device.irqsChanged(change.index, change.start, change.count); });
  });
}

/** Back to how the index was when the client came. */
async function disable(context: IrqContext, index: number, fds: number[]): Promise<void> {
  const { vectors, maskEventfds } = context;
  const all = { index, start: 0, count: vectors.countOf(index)! };
  for (const action of ['mask', 'unmask'] as const) maskEventfds.remove(action, index, 0, all.count);
  await setTriggers(context, { ...all, fds: undefined }, fds);
  // What has no descriptor has nothing that was held back.
  await setMasks(context, 'unmask', index, Array.from({ length: all.count }, (_, vector) => vector).filter((vector) => vectors.masked(index, vector)));
}

/** By message or because one of the client's eventfds was signalled. */
export function setMasks(context: IrqContext, action: MaskAction, index: number, selected: readonly number[]): void | Promise<void> {
  const { device, vectors } = context;
  const masked = action === 'mask';
  const tell = (): void => {
    for (const [start, count] of runs(selected)) device.irqsMasked?.(index, start, count, masked);
  };
  if (!vectors.maskMoves(index, selected, masked)) {
    vectors.setMasked(index, selected, masked);
    return tell();
  }
  return context.whileQuiesced('irqs', () => {
    const unused = vectors.setMasked(index, selected, masked);
    announce(context, unused, () => {
      const start = selected[0]!;
      device.irqsChanged(index, start, selected.at(-1)! + 1 - start);
      tell();
    });
  });
}

function announce({ sys }: IrqContext, unused: readonly number[], tell: () => void): void {
  try {
    tell();
  } finally {
    for (const fd of unused) sys.close(fd);
  }
}

/** [start, count] of each run of consecutive numbers, which are in ascending order. */
function* runs(numbers: readonly number[]): Generator<[start: number, count: number]> {
  for (let i = 0; i < numbers.length;) {
    const start = i;
    do i++;
    while (i < numbers.length && numbers[i] === numbers[i - 1]! + 1);
    yield [numbers[start]!, i - start];
  }
}
