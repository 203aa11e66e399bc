/**
 * The ATQ: requests of the guest. Descriptors are fetched when the tail is written and at no other time, one after the other; one
 * is completed (retval, DD|CMP, head) before its message is handled, and the next is fetched when the handler is done.
 */
import { ADMIN_DESCRIPTOR_BYTES, AdminFlag, AdminOpcode, AdminReturn, MAX_MESSAGE_BYTES, Status, completedDescriptor, decodeAdminDescriptor, encodeAdminDescriptor } from '@emudev/virtchnl';
import type { AdminRing } from './admin-ring.ts';
import type { AdminCounters } from './admin-queue.ts';
import type { MailboxRequest } from './contract.ts';
import { AccessAbandoned, type DmaGate } from './dma-gate.ts';
import { REQUESTS_PER_TURN } from './limits.ts';

export interface SendQueueHost {
  readonly ring: AdminRing;
  readonly gate: DmaGate;
  readonly counters: AdminCounters;
  /** True while so many replies wait for buffers that no further request should be taken. */
  isBackedUp(): boolean;
  /** undefined = dealt with; else resolves when it is. */
  deliver(request: MailboxRequest): Promise<void> | undefined;
  /** The device's own answer to what is no message. */
  reply(opcode: number, status: number): void;
  onError(error: unknown): void;
}

export class SendQueue {
  readonly #host: SendQueueHost;
  readonly #descriptor = new Uint8Array(ADMIN_DESCRIPTOR_BYTES);
  #running = false;
  /** The ring could not be reached; tried again when the guest writes the tail. */
  #stuck = false;

  constructor(host: SendQueueHost) {
    this.#host = host;
  }

  /** The tail was written. */
  doorbell(): void {
    this.#stuck = false;
    this.kick();
  }

  /** Goes on if there is something to do. Synchronous as far as memory and back end are; never two at a time. */
  kick(): void {
    if (this.#running) return;
    void this.#drain();
  }

  async #drain(): Promise<void> {
    const { ring, gate } = this.#host;
    this.#running = true;
    let inTurn = 0;
    try {
      while (!this.#stuck && gate.isOpen && ring.isUsable && ring.head !== ring.tail && !this.#host.isBackedUp()) {
        if (++inTurn > REQUESTS_PER_TURN) {
          inTurn = 0;
          // GUEST: a ring of requests costs one register write, and the guest may refill it at will. The other devices' turn.
          await new Promise((resolve) => { setImmediate(resolve); });
          continue;
        }
        const generation = ring.generation;
        try {
          // One descriptor a turn; awaited only where it is not done yet, so that a plain request is answered within the doorbell's write.
          const pending = this.#one(generation);
          if (pending !== undefined) await pending;
        } catch (error) {
          if (generation !== ring.generation || error instanceof AccessAbandoned) continue;
          // The ring itself is out of reach.
          this.#stuck = true;
          ring.flag();
          this.#host.counters.ringFaults++;
          if (!isGuestFault(error)) this.#host.onError(error);
        }
      }
    } finally {
      this.#running = false;
    }
  }

  /** undefined when the descriptor is dealt with, message included. Throws where the ring cannot be reached. */
  #one(generation: number): Promise<void> | undefined {
    const { ring, gate } = this.#host;
    const at = ring.headAddress;
    // GUEST: the descriptor, copied once.
    return after(gate.read(at, this.#descriptor), () => {
      if (generation !== ring.generation) return undefined;
      const sent = decodeAdminDescriptor(this.#descriptor);
      const wanted = (sent.flags & AdminFlag.BUF) !== 0 ? Math.min(sent.dataLength, MAX_MESSAGE_BYTES) : 0;
      // A copy: the guest reuses its buffer as soon as head has passed the descriptor.
      const payload = new Uint8Array(wanted);
      let retval = sent.opcode === AdminOpcode.SEND_MSG_TO_PF || sent.opcode === AdminOpcode.QUEUE_SHUTDOWN ? AdminReturn.OK as number : AdminReturn.ESRCH;
      const fetchBuffer = retval === AdminReturn.OK && wanted > 0;
      const fetched = fetchBuffer ? attempt(() => gate.read(sent.address, payload), () => { retval = AdminReturn.BAD_ADDR; }) : undefined;
      return after(fetched, () => {
        if (generation !== ring.generation) return undefined;
        const completed = encodeAdminDescriptor(completedDescriptor(sent, retval));
        return after(gate.write(at, completed), () => {
          if (generation !== ring.generation) return undefined;
          ring.advanceHead();
          this.#host.counters.requests++;
          if (retval !== AdminReturn.OK) {
            this.#host.counters.refusedRequests++;
            return undefined;
          }
          if (sent.opcode !== AdminOpcode.SEND_MSG_TO_PF) return undefined;
          if ((sent.flags & AdminFlag.BUF) !== 0 && sent.dataLength > MAX_MESSAGE_BYTES) {
            // No message is longer than a buffer; a truncated one must not be taken for a whole one.
            this.#host.reply(sent.cookieHigh, Status.ERR_PARAM);
            return undefined;
          }
          return this.#host.deliver({ opcode: sent.cookieHigh, payload });
        });
      });
    });
  }
}

/** Runs `next` now if there is nothing to wait for, else then. */
export function after(pending: Promise<void> | undefined, next: () => Promise<void> | undefined): Promise<void> | undefined {
  return pending === undefined ? next() : pending.then(next);
}

/** An access to a guest's buffer: a bad address is the guest's and goes to `onFault`; anything else is thrown on. */
export function attempt(access: () => Promise<void> | undefined, onFault: () => void): Promise<void> | undefined {
  const failed = (error: unknown): void => {
    if (!isGuestFault(error)) throw error;
    onFault();
  };
  try {
    return access()?.catch(failed);
  } catch (error) {
    failed(error);
    return undefined;
  }
}

const EFAULT = 14;

/** A guest's bad address, as opposed to a failure of ours: GuestMemoryError, and whatever else reports EFAULT. */
export function isGuestFault(error: unknown): boolean {
  return error instanceof Error && 'errno' in error && error.errno === EFAULT;
}
