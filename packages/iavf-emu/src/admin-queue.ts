import type { MailboxReply, MailboxRequest } from './contract.ts';
import { AdminRing } from './admin-ring.ts';
import type { DmaGate } from './dma-gate.ts';
import { REPLIES_BEFORE_BACK_PRESSURE } from './limits.ts';
import { ReceiveQueue } from './receive-queue.ts';
import type { RegisterFile, RegisterHandler, RegisterHandlers } from './registers.ts';
import { SendQueue } from './send-queue.ts';
import { LEN_ENABLE } from './register-table.ts';

/** What the admin queues have done since the device was made. */
export interface AdminCounters {
  requests: number;
  /** Descriptors completed with an error: unknown opcode, bad buffer address. */
  refusedRequests: number;
  deliveredMessages: number;
  /** Messages to the guest that were lost: queue disabled or reset, or the device's limit. */
  droppedMessages: number;
  truncatedMessages: number;
  /** Receive slots whose buffer the guest had not mapped. */
  badBuffers: number;
  /** A ring could not be reached. */
  ringFaults: number;
}

export interface AdminQueueHost {
  readonly gate: DmaGate;
  deliver(request: MailboxRequest): Promise<void> | undefined;
  /** A message is in the guest's hands: latch the cause, raise vector 0. */
  onDelivered(): void;
  /** ARQT was written. */
  onConsumed(): void;
  onError(error: unknown): void;
}

/** Both admin queues: what a guest writes to their registers, and the mailbox messages in between. */
export class AdminQueue {
  readonly counters: AdminCounters = { requests: 0, refusedRequests: 0, deliveredMessages: 0, droppedMessages: 0, truncatedMessages: 0, badBuffers: 0, ringFaults: 0 };
  readonly handlers: RegisterHandlers;
  readonly #host: AdminQueueHost;
  #atq!: AdminRing;
  #arq!: AdminRing;
  #send!: SendQueue;
  #receive!: ReceiveQueue;

  constructor(host: AdminQueueHost) {
    this.#host = host;
    const length = (ring: () => AdminRing, disabled: () => void): RegisterHandler => ({
      write: (_index, raw, before) => {
        // 0 → 1 touches no memory: the base is written after it. 1 → 0 ends the use of the ring.
        if ((before & LEN_ENABLE) !== 0 && (raw & LEN_ENABLE) === 0) {
          ring().invalidate();
          disabled();
        }
      },
    });
    const head = (ring: () => AdminRing): RegisterHandler => ({ write: () => { ring().invalidate(); } });
    this.handlers = {
      VF_ATQH1: head(() => this.#atq),
      VF_ARQH1: head(() => this.#arq),
      VF_ATQLEN1: length(() => this.#atq, () => {}),
      VF_ARQLEN1: length(() => this.#arq, () => { this.#receive.clear(); }),
      VF_ATQT1: { write: () => { this.#send.doorbell(); } },
      VF_ARQT1: {
        write: () => {
          this.#host.onConsumed();
          this.#receive.doorbell();
          // Requests may have waited for replies to drain.
          this.#send.kick();
        },
      },
    };
  }

  /** The register file is made of the handlers of its users, so it comes second. */
  bind(registers: RegisterFile): void {
    const { gate } = this.#host;
    this.#atq = new AdminRing(registers, 'VF_ATQ');
    this.#arq = new AdminRing(registers, 'VF_ARQ');
    const onError = (error: unknown): void => { this.#host.onError(error); };
    this.#receive = new ReceiveQueue({
      ring: this.#arq, gate, counters: this.counters, onError,
      onDelivered: () => {
        this.#host.onDelivered();
        this.#send.kick();
      },
    });
    this.#send = new SendQueue({
      ring: this.#atq, gate, counters: this.counters, onError,
      isBackedUp: () => this.#receive.waiting >= REPLIES_BEFORE_BACK_PRESSURE,
      deliver: (request) => this.#host.deliver(request),
      reply: (opcode, status) => { this.#receive.push({ kind: 'message', opcode, status, payload: new Uint8Array(0) }); },
    });
  }

  get unconsumed(): number {
    return this.#receive.unconsumed;
  }

  /** Messages waiting for receive buffers. */
  get waiting(): number {
    return this.#receive.waiting;
  }

  send(message: Extract<MailboxReply, { kind: 'message' }>): void {
    this.#receive.push(message);
  }

  /** The gate has opened. */
  kick(): void {
    this.#receive.kick();
    this.#send.kick();
  }

  /** All registers zero, everything queued forgotten, transfers under way void. */
  clear(): void {
    this.#atq.clear();
    this.#arq.clear();
    this.#receive.clear();
  }
}
