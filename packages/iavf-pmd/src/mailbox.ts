/** virtchnl over the admin queues: one request at a time, its reply matched by opcode, events handed on as they come. */
import type { Window } from '@emudev/dma';
import { OwnedFd, type Sys } from '@emudev/linux';
import { Opcode, opcodeName, statusName } from '@emudev/virtchnl';
import { ADMIN_MEMORY_BYTES, AdminQueues, type AdminMessage } from './admin-queue.ts';
import type { DmaMemory } from './dma-memory.ts';
import { IavfError } from './errors.ts';
import { FIRST_POLL_MS, IDLE_POLL_MS, MAX_POLL_MS, REQUEST_TIMEOUT_MS, RESET_TIMEOUT_MS } from './limits.ts';
import {
  AQ_ENABLE, DYN_CTL_ARM, DYN_CTL_DISARM, ICR0_ENA1_ADMINQ, RSTAT_ACTIVE, RSTAT_COMPLETED, RSTAT_MASK, VFGEN_RSTAT, VFINT_DYN_CTL01, VFINT_ICR0_ENA1, VF_ARQLEN1,
} from './registers.ts';
import type { IavfTransport } from './transport.ts';
import { until } from './waiting.ts';

export { ADMIN_MEMORY_BYTES };

export interface MailboxEvents {
  /** An EVENT message's payload. */
  event(payload: Uint8Array): void;
  /** The queues are found disabled although nobody has asked for it: the device has reset itself without a word. */
  resetSeen(): void;
  /** The device cannot be believed any more, or is gone. Told once. */
  failed(error: IavfError): void;
}

interface Waiting {
  readonly opcode: number;
  resolve(message: AdminMessage): void;
  reject(error: IavfError): void;
}

export class Mailbox {
  readonly #transport: IavfTransport;
  readonly #queues: AdminQueues;
  readonly #events: MailboxEvents;
  readonly #fd: OwnedFd;
  readonly #watch: Disposable;
  #waiting: Waiting | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #draining: Promise<void> | undefined;
  #drainAgain = false;
  #enabled = false;
  #failure: IavfError | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pollMs: number = FIRST_POLL_MS;
  #stale = 0n;

  constructor(transport: IavfTransport, window: Window, memory: DmaMemory, sys: Sys, events: MailboxEvents) {
    this.#transport = transport;
    this.#events = events;
    this.#queues = new AdminQueues(transport, window, memory);
    this.#fd = new OwnedFd(sys.eventfd(), sys);
    this.#watch = sys.watch(this.#fd.fd, { readable: true }, () => {
      sys.eventfdDrain(this.#fd.fd);
      void this.#drain();
    }, { ref: false });
  }

  /** Replies nobody waited for (they came after their time-out). */
  get staleReplies(): bigint {
    return this.#stale;
  }

  /** Waits for the function to be out of reset, then starts the queues and arms vector 0. */
  async enable(): Promise<void> {
    await until('VFGEN_RSTAT active', RESET_TIMEOUT_MS, async () => {
      const state = (await this.#transport.read32(VFGEN_RSTAT)) & RSTAT_MASK;
      return state === RSTAT_ACTIVE || state === RSTAT_COMPLETED;
    });
    await this.#queues.enable();
    await this.#transport.setMiscVector(this.#fd.fd);
    await this.#transport.write32(VFINT_DYN_CTL01, DYN_CTL_ARM);
    await this.#transport.write32(VFINT_ICR0_ENA1, ICR0_ENA1_ADMINQ);
    this.#enabled = true;
    this.#schedule(IDLE_POLL_MS);
  }

  /**
   * Sends a request and resolves with the body of the reply. ERR_IAVF_TIMEOUT without one, ERR_IAVF_REFUSED for a status that is
   * not SUCCESS, ERR_IAVF_GONE and ERR_IAVF_BAD_DEVICE from then on for everything.
   */
  request(opcode: number, payload: Uint8Array = new Uint8Array(0), timeoutMs: number = REQUEST_TIMEOUT_MS): Promise<Uint8Array> {
    return this.#inTurn(async () => {
      const message = await this.#exchange(opcode, payload, timeoutMs);
      if (message.status !== 0) throw new IavfError('ERR_IAVF_REFUSED', `${opcodeName(opcode)}: the device answered ${statusName(message.status)} (${message.status})`);
      return message.payload;
    });
  }

  /** RESET_VF, which has no reply: it is done when the admin queues read as disabled and the function as active. */
  reset(): Promise<void> {
    return this.#inTurn(async () => {
      this.#enabled = false;
      await this.#draining;
      await this.#queues.send(Opcode.RESET_VF, new Uint8Array(0), { awaitTaken: false });
      await this.#awaitReset();
    });
  }

  /** The device has announced that it resets itself: gives up on the reply that is due and waits for the end of the reset. */
  resetByDevice(): Promise<void> {
    this.#waiting?.reject(new IavfError('ERR_IAVF_STATE', 'the device resets itself'));
    return this.#inTurn(async () => {
      this.#enabled = false;
      await this.#draining;
      await this.#awaitReset();
    });
  }

  async #awaitReset(): Promise<void> {
    await until('VF reset', RESET_TIMEOUT_MS, async () => ((await this.#transport.read32(VF_ARQLEN1)) & AQ_ENABLE) === 0);
    await until('VFGEN_RSTAT active after the reset', RESET_TIMEOUT_MS, async () => ((await this.#transport.read32(VFGEN_RSTAT)) & RSTAT_MASK) === RSTAT_ACTIVE);
  }

  /** Disarms vector 0 and shuts the queues down. */
  disable(driverUnloading: boolean): Promise<void> {
    return this.#inTurn(async () => {
      this.#enabled = false;
      clearTimeout(this.#timer);
      await this.#transport.write32(VFINT_ICR0_ENA1, 0);
      await this.#transport.write32(VFINT_DYN_CTL01, DYN_CTL_DISARM);
      await this.#draining;
      await this.#queues.disable(driverUnloading);
    });
  }

  /** Everything that waits, and everything asked from now on, gets `error`. */
  fail(error: IavfError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#enabled = false;
    clearTimeout(this.#timer);
    this.#waiting?.reject(error);
    this.#waiting = undefined;
    this.#events.failed(error);
  }

  /** After the transport has forgotten the eventfd. */
  close(): void {
    this.fail(new IavfError('ERR_IAVF_STATE', 'the port is closed'));
    this.#watch[Symbol.dispose]();
    this.#fd.close();
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(() => {
      if (this.#failure !== undefined) throw this.#failure;
      return work();
    });
    this.#last = turn.catch(() => undefined);
    try {
      return await turn;
    } catch (error) {
      // What a dead connection throws is not the point; that it is dead is.
      throw this.#failure ?? error;
    }
  }

  async #exchange(opcode: number, payload: Uint8Array, timeoutMs: number): Promise<AdminMessage> {
    let timer: NodeJS.Timeout | undefined;
    const reply = new Promise<AdminMessage>((resolve, reject) => {
      this.#waiting = { opcode, resolve, reject };
      timer = setTimeout(() => {
        reject(new IavfError('ERR_IAVF_TIMEOUT', `${opcodeName(opcode)}: no reply within ${timeoutMs} ms`));
      }, timeoutMs);
    });
    reply.catch(() => undefined);
    try {
      await this.#queues.send(opcode, payload);
      this.#pollMs = FIRST_POLL_MS;
      // A device usually answers before the doorbell write has returned.
      void this.#drain();
      return await reply;
    } finally {
      clearTimeout(timer);
      this.#waiting = undefined;
    }
  }

  #schedule(delayMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#look(), delayMs).unref();
  }

  /** The safety net: finds what no interrupt told. */
  async #look(): Promise<void> {
    await this.#drain();
    if (!this.#enabled || this.#waiting !== undefined) return;
    try {
      if (((await this.#transport.read32(VF_ARQLEN1)) & AQ_ENABLE) === 0 && this.#enabled) this.#events.resetSeen();
    } catch {
      // The connection has gone; the transport's `closed` tells.
    }
  }

  /** Empties the ARQ, re-arms, and looks once more if asked meanwhile; one at a time. */
  #drain(): Promise<void> {
    if (this.#draining !== undefined) {
      this.#drainAgain = true;
      return this.#draining;
    }
    if (!this.#enabled) return Promise.resolve();
    this.#draining = this.#drainNow().finally(() => {
      this.#draining = undefined;
      if (!this.#enabled) return;
      if (this.#waiting === undefined) this.#pollMs = IDLE_POLL_MS;
      else this.#pollMs = Math.min(2 * this.#pollMs, MAX_POLL_MS);
      this.#schedule(this.#pollMs);
    });
    return this.#draining;
  }

  async #drainNow(): Promise<void> {
    try {
      do {
        this.#drainAgain = false;
        for (const message of await this.#queues.receive()) this.#deliver(message);
        // An event between the look and the arming is latched by the device and fires now.
        if (this.#enabled) await this.#transport.write32(VFINT_DYN_CTL01, DYN_CTL_ARM);
      } while (this.#drainAgain && this.#enabled);
    } catch (error) {
      if (error instanceof IavfError) this.fail(error);
      else this.fail(new IavfError('ERR_IAVF_GONE', `the mailbox cannot be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error }));
    }
  }

  #deliver(message: AdminMessage): void {
    if (message.opcode === Opcode.EVENT) this.#events.event(message.payload);
    else if (this.#waiting?.opcode === message.opcode) this.#waiting.resolve(message);
    else this.#stale++;
  }
}
