/** DEVICE_GET_IRQ_INFO and DEVICE_SET_IRQS: what interrupts the device has, and who hears of them. */
import {
  IRQ_INFO_BYTES, MAX_FDS_PER_MESSAGE, MAX_IRQ_VECTORS, VFIO_USER_DEVICE_GET_IRQ_INFO, VFIO_USER_DEVICE_SET_IRQS,
  decodeIrqInfo, encodeGetIrqInfo, encodeSetIrqs,
} from '@emudev/vfio-user-protocol';
import type { IrqAction, IrqInfo, SetIrqs } from '@emudev/vfio-user-protocol';
import { badArgument, badServer } from './errors.ts';
import { IrqState } from './irq-state.ts';
import { InterruptSubscription } from './interrupt-subscription.ts';
import type { Interrupt, SubscribeOptions } from './interrupt-subscription.ts';
import { checkIndex, HEADER_ONLY, isIndex } from './link.ts';
import type { Link, Requester } from './link.ts';
import type { CallOptions } from './requests.ts';

/** How many vectors from `start` on, or one boolean per vector. */
export type VectorChoice = number | readonly boolean[];

/**
 * `VfioUserClient.irqs`: the device's interrupts by index (VFIO_PCI_*_IRQ_INDEX: 0 INTx, 1 MSI, 2 MSI-X, 3 error, 4 request) and
 * vector. ERR_VFU_CLIENT_ARGUMENT before anything is sent, ERR_VFU_CLIENT_REFUSED with the server's `errno`.
 */
export class Interrupts {
  readonly #link: Link;
  readonly #state: IrqState;

  constructor(link: Link) {
    this.#link = link;
    this.#state = new IrqState(link.sys);
  }

  /** Vectors of an interrupt index and VFIO_IRQ_INFO_* flags. */
  async info(index: number, call: CallOptions = {}): Promise<IrqInfo> {
    checkIndex(index, this.#link.info.numIrqs, 'interrupt index');
    return this.#ask(this.#link, index, call);
  }

  /**
   * Lets the device signal eventfds: `fds[i]` for vector `start + i`. They stay the caller's and must stay open until the promise
   * settles. More than the server takes at a time go in several messages; when one is refused, the earlier ones hold.
   */
  setEventfds(index: number, start: number, fds: readonly number[], call: CallOptions = {}): Promise<void> {
    return this.#connect('trigger', index, start, fds, call);
  }

  /** Disconnects vectors [start, start + count). */
  removeEventfds(index: number, start: number, count: number, call: CallOptions = {}): Promise<void> {
    return this.#set({ action: 'trigger', index, start, count, data: 'eventfd' }, [], call);
  }

  /** Signalling `fds[i]` unmasks vector `start + i`, as the resample eventfd of KVM does for INTx. Borrowed as in `setEventfds`. */
  setUnmaskEventfds(index: number, start: number, fds: readonly number[], call: CallOptions = {}): Promise<void> {
    return this.#connect('unmask', index, start, fds, call);
  }

  /** Signalling `fds[i]` masks vector `start + i`. Borrowed as in `setEventfds`. */
  setMaskEventfds(index: number, start: number, fds: readonly number[], call: CallOptions = {}): Promise<void> {
    return this.#connect('mask', index, start, fds, call);
  }

  /** Undoes `setUnmaskEventfds` for vectors [start, start + count). */
  removeUnmaskEventfds(index: number, start: number, count: number, call: CallOptions = {}): Promise<void> {
    return this.#set({ action: 'unmask', index, start, count, data: 'eventfd' }, [], call);
  }

  /** Undoes `setMaskEventfds` for vectors [start, start + count). */
  removeMaskEventfds(index: number, start: number, count: number, call: CallOptions = {}): Promise<void> {
    return this.#set({ action: 'mask', index, start, count, data: 'eventfd' }, [], call);
  }

  /** Disables a whole index: no vector of it has an eventfd any more. */
  disable(index: number, call: CallOptions = {}): Promise<void> {
    return this.#set({ action: 'trigger', index, start: 0, count: 0, data: 'none' }, [], call);
  }

  /** Fires vectors as if the device had (loopback test). */
  trigger(index: number, start: number, vectors: VectorChoice = 1, call: CallOptions = {}): Promise<void> {
    return this.#act('trigger', index, start, vectors, call);
  }

  /** The device holds these vectors back until they are unmasked; what is raised meanwhile stays pending. */
  mask(index: number, start: number, vectors: VectorChoice = 1, call: CallOptions = {}): Promise<void> {
    return this.#act('mask', index, start, vectors, call);
  }

  /** What was pending is delivered. */
  unmask(index: number, start: number, vectors: VectorChoice = 1, call: CallOptions = {}): Promise<void> {
    return this.#act('unmask', index, start, vectors, call);
  }

  /**
   * Connects vectors to eventfds of its own. The subscription is an async iterable, or calls `onInterrupt`; dispose of it to
   * disconnect the vectors again.
   */
  async subscribe(index: number, vectors: readonly number[], options: SubscribeOptions = {}): Promise<InterruptSubscription> {
    checkIndex(index, this.#link.info.numIrqs, 'interrupt index');
    if (vectors.length === 0 || new Set(vectors).size !== vectors.length) throw badArgument('vectors to subscribe to: at least one, each once');
    for (const vector of vectors) checkIndex(vector, MAX_IRQ_VECTORS, 'vector');
    return InterruptSubscription.open(this.#link, this, index, [...vectors].sort((a, b) => a - b), options);
  }

  /** Interrupts as they come, until the loop is left: `for await (const { vector, count } of irqs.interrupts(2, 0, 1))`. */
  async *interrupts(index: number, ...vectors: readonly number[]): AsyncGenerator<Interrupt, void, undefined> {
    await using subscription = await this.subscribe(index, vectors);
    yield* subscription;
  }

  /** What another connection says about every index. */
  async describe(to: Requester): Promise<IrqInfo[]> {
    const all: IrqInfo[] = [];
    for (let index = 0; index < this.#link.info.numIrqs; index++) all.push(await this.#ask(to, index, {}));
    return all;
  }

  /** Tells another connection of every eventfd and mask the last one had. */
  async replay(to: Requester): Promise<void> {
    for (const { request, fds } of this.#state.requests(this.#fdsPerMessage)) await send(to, request, fds, {});
  }

  /** The connection has ended. */
  close(): void {
    this.#state.close();
  }

  get #fdsPerMessage(): number {
    return Math.min(this.#link.server.maxMsgFds, MAX_FDS_PER_MESSAGE);
  }

  #ask(to: Requester, index: number, call: CallOptions): Promise<IrqInfo> {
    return to.request(VFIO_USER_DEVICE_GET_IRQ_INFO, encodeGetIrqInfo(index), {
      ...call,
      maxReplyBytes: IRQ_INFO_BYTES,
      accept: (payload) => {
        const info = decodeIrqInfo(payload);
        if (info.index !== index || info.count > MAX_IRQ_VECTORS) throw badServer(`interrupt index ${info.index} with ${info.count} vectors in answer to ${index}`);
        return info;
      },
    });
  }

  async #connect(action: IrqAction, index: number, start: number, fds: readonly number[], call: CallOptions): Promise<void> {
    if (fds.length === 0) throw badArgument('no descriptors: there is a call that takes them away');
    const step = this.#fdsPerMessage;
    if (step === 0) throw badArgument('the server takes no descriptors');
    for (let at = 0; at < fds.length; at += step) {
      const some = fds.slice(at, at + step);
      await this.#set({ action, index, start: start + at, count: some.length, data: 'eventfd' }, some, call);
    }
  }

  #act(action: IrqAction, index: number, start: number, vectors: VectorChoice, call: CallOptions): Promise<void> {
    const [count, data] = typeof vectors === 'number' ? [vectors, 'none' as const] : [vectors.length, Uint8Array.from(vectors, Number)];
    return this.#set({ action, index, start, count, data }, [], call);
  }

  async #set(request: SetIrqs, fds: readonly number[], call: CallOptions): Promise<void> {
    const { index, start, count } = request;
    if (!isIndex(index, this.#link.info.numIrqs) || !isIndex(start, MAX_IRQ_VECTORS) || !isIndex(count, MAX_IRQ_VECTORS + 1)) {
      throw badArgument(`vectors ${start}+${count} of interrupt index ${index}`);
    }
    if (!this.#link.reconnects) return send(this.#link, request, fds, call);
    // Kept before it is sent: the caller may close his as soon as the promise has settled.
    const change = this.#state.prepare(request, fds);
    try {
      await send(this.#link, request, change.fds, call);
    } catch (error) {
      change.drop();
      throw error;
    }
    change.apply();
  }
}

function send(to: Requester, request: SetIrqs, fds: readonly number[], call: CallOptions): Promise<void> {
  return to.request(VFIO_USER_DEVICE_SET_IRQS, encodeSetIrqs(request), { ...call, ...HEADER_ONLY, fds });
}
