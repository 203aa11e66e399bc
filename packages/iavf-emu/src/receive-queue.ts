/**
 * The ARQ: replies and events for the guest, in order, held while the guest has posted no buffer. ARQT is the index the guest
 * consumed last, so the free slots are [head, tail) and the ring is never full.
 */
import { ADMIN_DESCRIPTOR_BYTES, AdminFlag, AdminOpcode, AdminReturn, EventCode, MAX_MESSAGE_BYTES, Opcode, decodeAdminDescriptor, encodeAdminDescriptor, replyDescriptor } from '@emudev/virtchnl';
import type { AdminCounters } from './admin-queue.ts';
import type { AdminRing } from './admin-ring.ts';
import type { MailboxReply } from './contract.ts';
import { AccessAbandoned, type DmaGate } from './dma-gate.ts';
import { MAX_WAITING_MESSAGES } from './limits.ts';
import { LEN_OVERFLOW } from './register-table.ts';
import { after, attempt, isGuestFault } from './send-queue.ts';

export type MailboxMessage = Extract<MailboxReply, { kind: 'message' }>;

export interface ReceiveQueueHost {
  readonly ring: AdminRing;
  readonly gate: DmaGate;
  readonly counters: AdminCounters;
  /** A message is in the guest's hands. */
  onDelivered(): void;
  onError(error: unknown): void;
}

export class ReceiveQueue {
  readonly #host: ReceiveQueueHost;
  readonly #descriptor = new Uint8Array(ADMIN_DESCRIPTOR_BYTES);
  readonly #waiting: MailboxMessage[] = [];
  #running = false;
  #stuck = false;

  constructor(host: ReceiveQueueHost) {
    this.#host = host;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Messages delivered and not yet read: the guest writes ARQT for each. */
  get unconsumed(): number {
    const { ring } = this.#host;
    return ring.isUsable ? (ring.head - ring.tail - 1 + ring.length) % ring.length : 0;
  }

  push(message: MailboxMessage): void {
    const { ring, counters } = this.#host;
    if (!ring.enabled) {
      counters.droppedMessages++;
      return;
    }
    if (isLinkChange(message)) {
      const stale = this.#waiting.findIndex(isLinkChange);
      if (stale !== -1) this.#waiting.splice(stale, 1);
    }
    if (this.#waiting.length >= MAX_WAITING_MESSAGES) {
      counters.droppedMessages++;
      ring.flag(LEN_OVERFLOW);
      return;
    }
    if (message.payload.length > MAX_MESSAGE_BYTES) counters.truncatedMessages++;
    this.#waiting.push({ ...message, payload: message.payload.slice(0, MAX_MESSAGE_BYTES) });
    this.kick();
  }

  /** ARQT was written: buffers. */
  doorbell(): void {
    this.#stuck = false;
    this.kick();
  }

  kick(): void {
    if (this.#running) return;
    void this.#drain();
  }

  clear(): void {
    this.#host.counters.droppedMessages += this.#waiting.length;
    this.#waiting.length = 0;
  }

  async #drain(): Promise<void> {
    const { ring, gate } = this.#host;
    this.#running = true;
    try {
      while (!this.#stuck && this.#waiting.length > 0 && gate.isOpen && ring.isUsable && ring.head !== ring.tail) {
        const generation = ring.generation;
        // Out of the list while under way: nothing else may coalesce, drop or send it.
        const message = this.#waiting.shift()!;
        try {
          const pending = this.#one(message, generation);
          if (pending !== undefined) await pending;
        } catch (error) {
          if (generation !== ring.generation || error instanceof AccessAbandoned) {
            this.#host.counters.droppedMessages++;
            continue;
          }
          this.#waiting.unshift(message);
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

  #one(message: MailboxMessage, generation: number): Promise<void> | undefined {
    const { ring, gate, counters } = this.#host;
    const at = ring.headAddress;
    // GUEST: address and capacity, fetched once.
    return after(gate.read(at, this.#descriptor), () => {
      if (generation !== ring.generation) return this.#drop();
      const posted = decodeAdminDescriptor(this.#descriptor);
      const length = Math.min(message.payload.length, posted.dataLength);
      if (length < message.payload.length) counters.truncatedMessages++;
      let reachable = true;
      const stored = length > 0 ? attempt(() => gate.write(posted.address, message.payload.subarray(0, length)), () => { reachable = false; }) : undefined;
      return after(stored, () => {
        if (generation !== ring.generation) return this.#drop();
        const written = reachable
          ? replyDescriptor(message.opcode, message.status, length, posted.address)
          : { ...posted, opcode: AdminOpcode.SEND_MSG_TO_VF, flags: AdminFlag.DD | AdminFlag.CMP | AdminFlag.ERR, dataLength: 0, returnValue: AdminReturn.BAD_ADDR };
        return after(gate.write(at, encodeAdminDescriptor(written)), () => {
          if (generation !== ring.generation) return this.#drop();
          ring.advanceHead();
          if (reachable) {
            counters.deliveredMessages++;
          } else {
            // A slot with a bad buffer is used up; the message takes the next.
            counters.badBuffers++;
            this.#waiting.unshift(message);
          }
          this.#host.onDelivered();
          return undefined;
        });
      });
    });
  }

  /** The queue went away under a message. */
  #drop(): undefined {
    this.#host.counters.droppedMessages++;
    return undefined;
  }
}

function isLinkChange(message: MailboxMessage): boolean {
  const { payload } = message;
  return message.opcode === Opcode.EVENT && payload.length >= 4 && new DataView(payload.buffer, payload.byteOffset).getInt32(0, true) === EventCode.LINK_CHANGE;
}
