/**
 * Memory that the client mapped without a descriptor, reached with DMA_READ and DMA_WRITE on the same socket. Replies are
 * found by (type, id), so client commands may keep arriving in between.
 */
import {
  decodeDmaReadReply, decodeDmaWriteReply, E2BIG, encodeDmaRead, encodeDmaWrite, encodeMessage, replyErrno, VFIO_USER_DMA_READ, VFIO_USER_DMA_WRITE, VFIO_USER_F_TYPE_COMMAND,
  type DmaDialect, type Frame,
} from '@emudev/vfio-user-protocol';
import { VfioUserServerError } from './errors.ts';

interface Waiting {
  readonly command: number;
  readonly timer: NodeJS.Timeout;
  resolve(frame: Frame): void;
  reject(error: VfioUserServerError): void;
}

const EIO = 5;
const EBUSY = 16;
const ETIMEDOUT = 110;
const IDS = 0x10000;
/** Message ids are 16 bits, and a late reply must not meet a new request: never use more than a fraction of them at once. */
const MAX_OUTSTANDING = 1024;

/**
 * What a client is asked that may speak either dialect: some bytes, with a bit set in the upper half of the count. One that knows counts
 * of 32 bits (QEMU 10.1) does not see it; one of 64 bits (QEMU 11.1) has been asked for 4 GiB, and refuses. Nothing is changed by it.
 */
const PROBE_BYTES = 4;
const PROBE_COUNT: number = 2 ** 32 + PROBE_BYTES;

export class DmaMessages {
  dialect: DmaDialect = 'lvu';
  /** The dialect is a guess: the first access finds out, and until one has, the guess holds. */
  isGuess = false;
  /** The client's max_data_xfer_size. */
  maxBytes = 4096;
  readonly #send: (message: Uint8Array) => void;
  readonly #timeoutMs: number;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;
  #closed = false;
  #probe: Promise<void> | undefined;

  constructor(send: (message: Uint8Array) => void, timeoutMs: number) {
    this.#send = send;
    this.#timeoutMs = timeoutMs;
  }

  get outstanding(): number {
    return this.#waiting.size;
  }

  /** Copies client memory into `into`. @throws VfioUserServerError with the client's errno, ETIMEDOUT, or EIO when it left */
  async read(iova: bigint, into: Uint8Array): Promise<void> {
    if (this.isGuess) await this.#ask(iova);
    for (let at = 0; at < into.length; at += this.maxBytes) {
      const count = Math.min(this.maxBytes, into.length - at);
      const address = iova + BigInt(at);
      const reply = await this.#request(VFIO_USER_DMA_READ, encodeDmaRead({ address, count }));
      const data = this.#checked(address, count, () => decodeDmaReadReply(reply.payload, this.dialect));
      into.set(data.data, at);
    }
  }

  /** Errors as for `read`; bytes of earlier messages of the same call may have been written. */
  async write(iova: bigint, from: Uint8Array): Promise<void> {
    if (this.isGuess) await this.#ask(iova);
    for (let at = 0; at < from.length; at += this.maxBytes) {
      const data = from.subarray(at, Math.min(at + this.maxBytes, from.length));
      const address = iova + BigInt(at);
      const reply = await this.#request(VFIO_USER_DMA_WRITE, encodeDmaWrite(address, data, this.dialect));
      this.#checked(address, data.length, () => decodeDmaWriteReply(reply.payload, this.dialect) ?? { address, count: data.length });
    }
  }

  /** Finds out the dialect; one question at a time, whoever needs the answer. */
  #ask(iova: bigint): Promise<void> {
    this.#probe ??= this.#request(VFIO_USER_DMA_READ, encodeDmaRead({ address: iova & ~BigInt(PROBE_BYTES - 1), count: PROBE_COUNT })).then(
      () => { this.#settle('qemu'); },
      (error: unknown) => {
        if (error instanceof VfioUserServerError && error.errno === E2BIG) this.#settle('lvu');
        // It says nothing about the dialect: the next access asks again.
      },
    ).finally(() => { this.#probe = undefined; });
    return this.#probe;
  }

  #settle(dialect: DmaDialect): void {
    this.dialect = dialect;
    this.isGuess = false;
  }

  /** False for a reply nobody waits for: it came too late, or was never asked for. */
  onReply(frame: Frame): boolean {
    const waiting = this.#waiting.get(frame.id);
    if (waiting?.command !== frame.command) return false;
    this.#forget(frame.id, waiting);
    const errno = replyErrno(frame);
    if (errno === 0) waiting.resolve(frame);
    else waiting.reject(new VfioUserServerError('ERR_SERVER_DMA_MESSAGE', errno, `the client answered a DMA message with errno ${errno}`));
    return true;
  }

  close(): void {
    this.#closed = true;
    for (const [id, waiting] of this.#waiting) {
      this.#forget(id, waiting);
      waiting.reject(new VfioUserServerError('ERR_SERVER_DMA_MESSAGE', EIO, 'the client left before it answered a DMA message'));
    }
  }

  #request(command: number, payload: Uint8Array): Promise<Frame> {
    if (this.#closed) return Promise.reject(new VfioUserServerError('ERR_SERVER_DMA_MESSAGE', EIO, 'no client is there to answer a DMA message'));
    if (this.#waiting.size >= MAX_OUTSTANDING) return Promise.reject(new VfioUserServerError('ERR_SERVER_DMA_MESSAGE', EBUSY, `${MAX_OUTSTANDING} DMA messages are outstanding already`));
    while (this.#waiting.has(this.#nextId)) this.#nextId = (this.#nextId + 1) % IDS;
    const id = this.#nextId;
    this.#nextId = (id + 1) % IDS;
    const { promise, resolve, reject } = Promise.withResolvers<Frame>();
    const timer = setTimeout(() => {
      this.#waiting.delete(id);
      reject(new VfioUserServerError('ERR_SERVER_DMA_MESSAGE', ETIMEDOUT, `no answer to a DMA message within ${this.#timeoutMs} ms`));
    }, this.#timeoutMs);
    this.#waiting.set(id, { command, timer, resolve, reject });
    this.#send(encodeMessage(id, command, VFIO_USER_F_TYPE_COMMAND, payload));
    return promise;
  }

  #forget(id: number, waiting: Waiting): void {
    clearTimeout(waiting.timer);
    this.#waiting.delete(id);
  }

  /** CLIENT: a reply must be about what was asked. The stream itself is still in step, so only this access fails. */
  #checked<T extends { address: bigint; count: number }>(address: bigint, count: number, decode: () => T): T {
    try {
      const reply = decode();
      if (reply.address === address && reply.count === count) return reply;
    } catch (error) {
      throw new VfioUserServerError('ERR_SERVER_DMA_MESSAGE', EIO, 'the client\'s reply to a DMA message is malformed', { cause: error });
    }
    throw new VfioUserServerError('ERR_SERVER_DMA_MESSAGE', EIO, `the client's reply is not about the ${count} bytes at 0x${address.toString(16)} that were asked for`);
  }
}
