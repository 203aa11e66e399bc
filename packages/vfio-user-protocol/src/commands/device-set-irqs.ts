/**
 * DEVICE_SET_IRQS (8): connects, fires, masks and unmasks vectors. Reply: header only.
 *
 * | action  | NONE                              | BOOL                 | EVENTFD with fds       | EVENTFD without   |
 * | ------- | --------------------------------- | -------------------- | ---------------------- | ----------------- |
 * | MASK    | mask the range                    | those that are true  | signalling it masks    | remove that fd    |
 * | UNMASK  | unmask the range, deliver pending | those that are true  | signalling it unmasks  | remove that fd    |
 * | TRIGGER | fire each; 0 + 0 disables all     | those that are true  | attach, replacing      | de-assign range   |
 */
import { getU32, putU32 } from '../bytes.ts';
import {
  VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_TYPE_MASK, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_IRQ_SET_DATA_TYPE_MASK, VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX,
} from '../constants.ts';
import { badRequest } from '../errors.ts';
import { needArgsz } from '../payload.ts';

/** Fixed part of a DEVICE_SET_IRQS request: argsz, flags, index, start, count, u32 each; bools follow with DATA_BOOL. */
export const SET_IRQS_BYTES = 20;

/** VFIO_IRQ_SET_ACTION_MASK, _UNMASK or _TRIGGER. */
export type IrqAction = 'mask' | 'unmask' | 'trigger';

/** A DEVICE_SET_IRQS request about vectors [start, start + count) of one index (struct vfio_irq_set). */
export interface SetIrqs {
  readonly action: IrqAction;
  readonly index: number;
  readonly start: number;
  readonly count: number;
  /** 'none', 'eventfd' (with `count` descriptors or without any), or one byte per vector (non-zero: this one). */
  readonly data: 'none' | 'eventfd' | Uint8Array;
}

const ACTION_FLAGS: Readonly<Record<IrqAction, number>> = {
  mask: VFIO_IRQ_SET_ACTION_MASK,
  unmask: VFIO_IRQ_SET_ACTION_UNMASK,
  trigger: VFIO_IRQ_SET_ACTION_TRIGGER,
};

/** The request's payload. Descriptors, with 'eventfd', go along with the message. */
export function encodeSetIrqs(request: SetIrqs): Uint8Array {
  const bools = typeof request.data === 'string' ? undefined : request.data;
  const type = request.data === 'none' ? VFIO_IRQ_SET_DATA_NONE : request.data === 'eventfd' ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_BOOL;
  const bytes = new Uint8Array(SET_IRQS_BYTES + (bools?.length ?? 0));
  putU32(bytes, 0, bytes.length);
  putU32(bytes, 4, ACTION_FLAGS[request.action] | type);
  putU32(bytes, 8, request.index);
  putU32(bytes, 12, request.start);
  putU32(bytes, 16, request.count);
  if (bools !== undefined) bytes.set(bools, SET_IRQS_BYTES);
  return bytes;
}

/**
 * Decodes and validates a request with `fdCount` descriptors against the vectors that exist: `vectorsOf(index)` is their number,
 * undefined for an index the device does not have. Disabling (TRIGGER, NONE, 0, 0) is accepted for every existing index, one
 * without vectors included: consumers disable what they never enabled. Everything refused is EINVAL, as the specification has it.
 */
export function decodeSetIrqs(payload: Uint8Array, fdCount: number, vectorsOf: (index: number) => number | undefined): SetIrqs {
  // Some clients count 4 bytes per descriptor in argsz, as the kernel interface does: only its lower bound means something.
  needArgsz(payload, SET_IRQS_BYTES, 'SET_IRQS');
  const flags = getU32(payload, 4);
  const index = getU32(payload, 8);
  const start = getU32(payload, 12);
  const count = getU32(payload, 16);
  const vectors = vectorsOf(index);
  if (vectors === undefined) throw badRequest('ERR_VFU_INDEX', `SET_IRQS: no interrupt index ${index}`);
  const action = actionOf(flags);
  const data = dataOf(flags, payload, count);
  const disable = action === 'trigger' && data === 'none' && count === 0 && start === 0;
  if (!disable) {
    if (count === 0) throw badRequest('ERR_VFU_RANGE', 'SET_IRQS: count 0 is only for TRIGGER with DATA_NONE from vector 0');
    // Also where start is beyond the last one: the difference is then negative.
    if (count > vectors - start) {
      throw badRequest('ERR_VFU_RANGE', `SET_IRQS: vectors ${start}+${count} of index ${index}, which has ${vectors}`);
    }
  }
  if ((index === VFIO_PCI_ERR_IRQ_INDEX || index === VFIO_PCI_REQ_IRQ_INDEX) && (action !== 'trigger' || count > 1)) {
    throw badRequest('ERR_VFU_FLAGS', `SET_IRQS: index ${index} has one vector and takes only TRIGGER`);
  }
  if (fdCount > 0 && (data !== 'eventfd' || fdCount !== count)) {
    throw badRequest('ERR_VFU_FDS', `SET_IRQS: ${fdCount} descriptors for ${count} vectors, flags 0x${flags.toString(16)}`);
  }
  return { action, index, start, count, data };
}

function actionOf(flags: number): IrqAction {
  if ((flags & ~(VFIO_IRQ_SET_ACTION_TYPE_MASK | VFIO_IRQ_SET_DATA_TYPE_MASK)) === 0) {
    switch (flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) {
      case VFIO_IRQ_SET_ACTION_MASK: return 'mask';
      case VFIO_IRQ_SET_ACTION_UNMASK: return 'unmask';
      case VFIO_IRQ_SET_ACTION_TRIGGER: return 'trigger';
    }
  }
  throw badRequest('ERR_VFU_FLAGS', `SET_IRQS: flags 0x${flags.toString(16)} do not name exactly one action`);
}

function dataOf(flags: number, payload: Uint8Array, count: number): SetIrqs['data'] {
  switch (flags & VFIO_IRQ_SET_DATA_TYPE_MASK) {
    case VFIO_IRQ_SET_DATA_NONE: return 'none';
    case VFIO_IRQ_SET_DATA_EVENTFD: return 'eventfd';
    case VFIO_IRQ_SET_DATA_BOOL: {
      const bools = payload.subarray(SET_IRQS_BYTES);
      if (bools.length !== count) throw badRequest('ERR_VFU_PAYLOAD', `SET_IRQS: ${bools.length} bools for ${count} vectors`);
      return bools;
    }
    default: throw badRequest('ERR_VFU_FLAGS', `SET_IRQS: flags 0x${flags.toString(16)} do not name exactly one data type`);
  }
}
