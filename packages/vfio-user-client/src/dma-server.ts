/** Answers the device's DMA_READ and DMA_WRITE messages from the consumer's memory, one after the other. */
import {
  EOPNOTSUPP, ENOSYS, VFIO_USER_DMA_READ, VFIO_USER_DMA_WRITE, VFIO_USER_F_TYPE_REPLY,
  commandName, decodeDmaRead, decodeDmaWrite, encodeDmaReadReply, encodeDmaWriteReply, encodeErrorReply, encodeMessage, isPosted,
} from '@emudev/vfio-user-protocol';
import type { DmaDialect, Frame } from '@emudev/vfio-user-protocol';
import type { Connection } from './connection.ts';
import type { DmaMaps } from './dma-maps.ts';
import { ClientError, errnoOf } from './errors.ts';
import { MAX_SERVER_DMA_BYTES, MAX_SERVER_REQUESTS, MAX_SERVER_REQUEST_BYTES } from './limits.ts';

/**
 * Memory that was mapped without a descriptor. Called only for ranges that are mapped with the permission; what it throws
 * becomes the error reply (its `errno`, or EIO).
 */
export interface DmaHandler {
  read(iova: bigint, into: Uint8Array): void | Promise<void>;
  write(iova: bigint, from: Uint8Array): void | Promise<void>;
}

export class DmaServer {
  readonly #connection: Connection;
  readonly #maps: DmaMaps;
  readonly #handler: DmaHandler | undefined;
  readonly #dialect: DmaDialect;
  readonly #queue: Frame[] = [];
  #queuedBytes = 0;
  #running = false;

  constructor(connection: Connection, maps: DmaMaps, handler: DmaHandler | undefined, dialect: DmaDialect) {
    this.#connection = connection;
    this.#maps = maps;
    this.#handler = handler;
    this.#dialect = dialect;
  }

  /** Takes a command of the server. Throws a ClientError when it sends more than is bearable. */
  command(frame: Frame): void {
    // No command of a server carries descriptors.
    this.#connection.closeFds(frame.fds);
    if (this.#queue.length >= MAX_SERVER_REQUESTS || this.#queuedBytes + frame.size > MAX_SERVER_REQUEST_BYTES) {
      throw new ClientError('ERR_VFU_CLIENT_BAD_SERVER', `more DMA messages (${this.#queue.length}) are waiting than can be held`);
    }
    this.#queue.push(frame);
    this.#queuedBytes += frame.size;
    if (!this.#running) void this.#run();
  }

  /** Forgets what waits; an answer that is being made is dropped. */
  close(): void {
    this.#queue.length = 0;
  }

  async #run(): Promise<void> {
    this.#running = true;
    // The entry stays in the queue while it is worked on: it counts.
    for (let frame = this.#queue[0]; frame !== undefined; frame = this.#queue[0]) {
      let reply: Uint8Array;
      try {
        reply = await this.#answer(frame);
      } catch (error) {
        reply = encodeErrorReply(frame.id, frame.command, errnoOf(error));
      }
      // A server that does not read its answers gets no more of them; what it asks meanwhile fills the queue.
      while (this.#queue.length > 0 && this.#connection.isFull(reply.length)) await this.#connection.progress();
      // Closed meanwhile: close() has emptied the queue.
      if (this.#queue.shift() === undefined) break;
      this.#queuedBytes -= frame.size;
      if (!isPosted(frame.flags)) this.#connection.send(reply);
    }
    this.#running = false;
  }

  async #answer(frame: Frame): Promise<Uint8Array> {
    // CLIENT: address and count are the server's; the decoder bounds the count, the maps decide about the address.
    switch (frame.command) {
      case VFIO_USER_DMA_READ: {
        const { address, count } = decodeDmaRead(frame.payload, this.#dialect, MAX_SERVER_DMA_BYTES);
        const handler = this.#permit(address, count, 'read');
        const data = new Uint8Array(count);
        if (count > 0) await handler.read(address, data);
        return encodeMessage(frame.id, frame.command, VFIO_USER_F_TYPE_REPLY, encodeDmaReadReply(address, data, this.#dialect));
      }
      case VFIO_USER_DMA_WRITE: {
        const { address, count, data } = decodeDmaWrite(frame.payload, this.#dialect, MAX_SERVER_DMA_BYTES);
        const handler = this.#permit(address, count, 'write');
        if (count > 0) await handler.write(address, data);
        return encodeMessage(frame.id, frame.command, VFIO_USER_F_TYPE_REPLY, encodeDmaWriteReply({ address, count }, this.#dialect));
      }
      default:
        throw new ClientError('ERR_VFU_CLIENT_REFUSED', `the server sent ${commandName(frame.command)}`, { errno: ENOSYS });
    }
  }

  #permit(address: bigint, count: number, access: 'read' | 'write'): DmaHandler {
    const errno = this.#maps.check(address, count, access);
    if (errno !== 0) throw new ClientError('ERR_VFU_CLIENT_REFUSED', `the device may not ${access} ${count} bytes at 0x${address.toString(16)}`, { errno });
    if (this.#handler === undefined) throw new ClientError('ERR_VFU_CLIENT_REFUSED', 'no memory handler', { errno: EOPNOTSUPP });
    return this.#handler;
  }
}
