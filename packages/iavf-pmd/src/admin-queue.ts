/** The two admin queues of an iavf function (ATQ: driver to device, ARQ: device to driver): rings, buffers, registers. */
import type { Window } from '@emudev/dma';
import {
  ADMIN_DESCRIPTOR_BYTES, AdminFlag, AdminOpcode, decodeAdminDescriptor, encodeAdminDescriptor, receiveDescriptor, requestDescriptor, shutdownDescriptor,
  type AdminDescriptor,
} from '@emudev/virtchnl';
import type { DmaBlock, DmaMemory } from './dma-memory.ts';
import { IavfError } from './errors.ts';
import { ADMIN_BUFFER_BYTES, ADMIN_QUEUE_LENGTH, REQUEST_TIMEOUT_MS, SHUTDOWN_TIMEOUT_MS } from './limits.ts';
import {
  AQ_ENABLE, AQ_INDEX_MASK, VF_ARQBAH1, VF_ARQBAL1, VF_ARQH1, VF_ARQLEN1, VF_ARQT1, VF_ATQBAH1, VF_ATQBAL1, VF_ATQH1, VF_ATQLEN1, VF_ATQT1,
} from './registers.ts';
import type { IavfTransport } from './transport.ts';
import { until } from './waiting.ts';

export const ADMIN_MEMORY_BYTES: number = 2 * ADMIN_QUEUE_LENGTH * (ADMIN_DESCRIPTOR_BYTES + ADMIN_BUFFER_BYTES) + 4 * 4096;

/** One message from the device; `payload` is a private copy. */
export interface AdminMessage {
  /** virtchnl opcode. */
  readonly opcode: number;
  /** virtchnl status. */
  readonly status: number;
  readonly payload: Uint8Array;
}

interface Queue {
  readonly ring: DmaBlock;
  readonly buffers: DmaBlock;
}

const next = (index: number): number => (index + 1) % ADMIN_QUEUE_LENGTH;

export class AdminQueues {
  readonly #transport: IavfTransport;
  readonly #window: Window;
  readonly #send: Queue;
  readonly #receive: Queue;
  #toSend = 0;
  #toReceive = 0;

  constructor(transport: IavfTransport, window: Window, memory: DmaMemory) {
    this.#transport = transport;
    this.#window = window;
    const queue = (): Queue => ({ ring: memory.carve(ADMIN_QUEUE_LENGTH * ADMIN_DESCRIPTOR_BYTES), buffers: memory.carve(ADMIN_QUEUE_LENGTH * ADMIN_BUFFER_BYTES) });
    this.#send = queue();
    this.#receive = queue();
  }

  /** Power-on order of all drivers: head, tail, length with ENABLE, base; the base must read back. */
  async enable(): Promise<void> {
    const t = this.#transport;
    this.#toSend = 0;
    this.#toReceive = 0;
    this.#window.u8.fill(0, this.#send.ring.offset, this.#send.ring.offset + this.#send.ring.bytes);
    for (let i = 0; i < ADMIN_QUEUE_LENGTH; i++) this.#post(i);
    const program = async (head: number, tail: number, length: number, low: number, high: number, ring: DmaBlock): Promise<void> => {
      const lowHalf = Number(ring.iova & 0xffff_ffffn);
      await t.write32(head, 0);
      await t.write32(tail, 0);
      await t.write32(length, (ADMIN_QUEUE_LENGTH | AQ_ENABLE) >>> 0);
      await t.write32(low, lowHalf);
      await t.write32(high, Number(ring.iova >> 32n));
      const seen = await t.read32(low);
      if (seen !== lowHalf) throw new IavfError('ERR_IAVF_BAD_DEVICE', `admin queue base: wrote 0x${lowHalf.toString(16)}, read back 0x${seen.toString(16)}`);
    };
    await program(VF_ATQH1, VF_ATQT1, VF_ATQLEN1, VF_ATQBAL1, VF_ATQBAH1, this.#send.ring);
    await program(VF_ARQH1, VF_ARQT1, VF_ARQLEN1, VF_ARQBAL1, VF_ARQBAH1, this.#receive.ring);
    await t.write32(VF_ARQT1, ADMIN_QUEUE_LENGTH - 1);
  }

  /** Sends a virtchnl request and returns when the device has taken it. `awaitTaken: false` for RESET_VF, which clears the head. */
  async send(opcode: number, payload: Uint8Array, options: { awaitTaken?: boolean } = {}): Promise<void> {
    if (payload.length > ADMIN_BUFFER_BYTES) throw new IavfError('ERR_IAVF_CONFIG', `message ${opcode} of ${payload.length} bytes: want at most ${ADMIN_BUFFER_BYTES}`);
    const { buffers } = this.#send;
    const at = this.#toSend * ADMIN_BUFFER_BYTES;
    this.#window.u8.set(payload, buffers.offset + at);
    await this.#publish(requestDescriptor(opcode, payload.length, buffers.iova + BigInt(at)), REQUEST_TIMEOUT_MS, options.awaitTaken ?? true);
  }

  async #publish(descriptor: AdminDescriptor, timeoutMs: number, awaitTaken: boolean): Promise<void> {
    const slot = this.#send.ring.offset + this.#toSend * ADMIN_DESCRIPTOR_BYTES;
    this.#window.u8.set(encodeAdminDescriptor(descriptor), slot);
    this.#toSend = next(this.#toSend);
    await this.#transport.write32(VF_ATQT1, this.#toSend);
    if (!awaitTaken) return;
    // The head register tells that a descriptor is done, not its DD flag.
    await until(`admin queue took message ${descriptor.cookieHigh}`, timeoutMs, async () => ((await this.#transport.read32(VF_ATQH1)) & AQ_INDEX_MASK) === this.#toSend);
  }

  #post(index: number): void {
    const { ring, buffers } = this.#receive;
    this.#window.u8.set(encodeAdminDescriptor(receiveDescriptor(buffers.iova + BigInt(index * ADMIN_BUFFER_BYTES), ADMIN_BUFFER_BYTES)), ring.offset + index * ADMIN_DESCRIPTOR_BYTES);
  }

  /**
   * Takes what the device has delivered: at most a ring of messages. Throws ERR_IAVF_BAD_DEVICE for an index outside the ring or
   * a message longer than its buffer; a descriptor that is no message is skipped.
   */
  async receive(): Promise<AdminMessage[]> {
    const register = await this.#transport.read32(VF_ARQH1);
    const head = register & AQ_INDEX_MASK;
    if (head >= ADMIN_QUEUE_LENGTH) throw new IavfError('ERR_IAVF_BAD_DEVICE', `ARQ head 0x${register.toString(16)}: want below ${ADMIN_QUEUE_LENGTH}`);
    const messages: AdminMessage[] = [];
    let consumed = -1;
    const { ring, buffers } = this.#receive;
    while (this.#toReceive !== head) {
      consumed = this.#toReceive;
      const at = ring.offset + consumed * ADMIN_DESCRIPTOR_BYTES;
      // One copy of the descriptor and of the message: the device may change both at any time.
      const descriptor = decodeAdminDescriptor(this.#window.u8.slice(at, at + ADMIN_DESCRIPTOR_BYTES));
      if (descriptor.dataLength > ADMIN_BUFFER_BYTES) {
        throw new IavfError('ERR_IAVF_BAD_DEVICE', `reply to message ${descriptor.cookieHigh} of ${descriptor.dataLength} bytes: want at most ${ADMIN_BUFFER_BYTES}`);
      }
      if (descriptor.opcode === AdminOpcode.SEND_MSG_TO_VF && (descriptor.flags & AdminFlag.ERR) === 0) {
        const start = buffers.offset + consumed * ADMIN_BUFFER_BYTES;
        messages.push({ opcode: descriptor.cookieHigh, status: descriptor.cookieLow, payload: this.#window.u8.slice(start, start + descriptor.dataLength) });
      }
      this.#post(consumed);
      this.#toReceive = next(this.#toReceive);
    }
    if (consumed >= 0) await this.#transport.write32(VF_ARQT1, consumed);
    return messages;
  }

  /** Says goodbye (if the queue is alive) and leaves all registers zero. */
  async disable(driverUnloading: boolean): Promise<void> {
    const t = this.#transport;
    if (((await t.read32(VF_ATQLEN1)) & AQ_ENABLE) !== 0) {
      await this.#publish(shutdownDescriptor(driverUnloading), SHUTDOWN_TIMEOUT_MS, true);
    }
    for (const register of [VF_ATQH1, VF_ATQT1, VF_ATQLEN1, VF_ATQBAL1, VF_ATQBAH1, VF_ARQH1, VF_ARQT1, VF_ARQLEN1, VF_ARQBAL1, VF_ARQBAH1]) await t.write32(register, 0);
  }
}
