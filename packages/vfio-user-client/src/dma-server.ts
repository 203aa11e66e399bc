/** Answers the device's DMA_READ and DMA_WRITE messages from the consumer's memory, one after the other. */
import {
  EOPNOTSUPP, ENOSYS, VFIO_USER_DMA_READ, VFIO_USER_DMA_WRITE, VFIO_USER_F_TYPE_REPLY,
  commandName, decodeDmaRead, decodeDmaWrite, encodeDmaReadReply, encodeDmaWriteReply, encodeErrorReply, encodeMessage, isPosted,
} from '@emudev/vfio-user-protocol';
import type { DmaDialect, Frame } from '@emudev/vfio-user-protocol';
import type { Connection } from './connection.ts';
import type { DirtyTracker } from './dirty-tracker.ts';
import type { DmaMaps, DmaSegment } from './dma-maps.ts';
import { badServer, ClientError, errnoOf } from './errors.ts';
import { MAX_SERVER_REQUESTS, MAX_SERVER_REQUEST_BYTES } from './limits.ts';
import { hex } from './link.ts';

/**
 * Memory that this library does not hold: maps without `memory`. Called only for ranges that are mapped with the permission; what
 * it throws becomes the error reply (its `errno`, or EIO). A message that crosses maps comes in one call per map.
 */
export interface DmaHandler {
  /** Fills `into` from [iova, iova + into.length). */
  read(iova: bigint, into: Uint8Array): void | Promise<void>;
  /** Stores `from` at [iova, iova + from.length); the bytes are valid until it resolves. */
  write(iova: bigint, from: Uint8Array): void | Promise<void>;
}

export interface DmaServerOptions {
  readonly handler: DmaHandler | undefined;
  readonly dialect: DmaDialect;
  /** The `max_data_xfer_size` announced: a longer message is E2BIG. */
  readonly maxBytes: number;
}

export class DmaServer {
  readonly #connection: Connection;
  readonly #maps: DmaMaps;
  readonly #dirty: DirtyTracker;
  readonly #options: DmaServerOptions;
  readonly #queue: Frame[] = [];
  #queuedBytes = 0;
  #running = false;

  constructor(connection: Connection, maps: DmaMaps, dirty: DirtyTracker, options: DmaServerOptions) {
    this.#connection = connection;
    this.#maps = maps;
    this.#dirty = dirty;
    this.#options = options;
  }

  /** Takes a command of the server. Throws a ClientError when it sends more than is bearable. */
  command(frame: Frame): void {
    // No command of a server carries descriptors.
    this.#connection.closeFds(frame.fds);
    if (this.#queue.length >= MAX_SERVER_REQUESTS || this.#queuedBytes + frame.size > MAX_SERVER_REQUEST_BYTES) {
      throw badServer(`more DMA messages (${this.#queue.length}) are waiting than can be held`);
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
    const { dialect, maxBytes } = this.#options;
    // CLIENT: address and count are the server's; the decoder bounds the count, the maps decide about the address.
    switch (frame.command) {
      case VFIO_USER_DMA_READ: {
        const { address, count } = decodeDmaRead(frame.payload, dialect, maxBytes);
        const segments = this.#permit(address, count, 'read');
        const data = new Uint8Array(count);
        for (const { iova, at, lengthBytes, memory } of segments) {
          if (memory !== undefined) data.set(memory, at);
          else await this.#handler.read(iova, data.subarray(at, at + lengthBytes));
        }
        return encodeMessage(frame.id, frame.command, VFIO_USER_F_TYPE_REPLY, encodeDmaReadReply(address, data, dialect));
      }
      case VFIO_USER_DMA_WRITE: {
        const { address, count, data } = decodeDmaWrite(frame.payload, dialect, maxBytes);
        for (const { iova, at, lengthBytes, memory } of this.#permit(address, count, 'write')) {
          const piece = data.subarray(at, at + lengthBytes);
          try {
            if (memory !== undefined) memory.set(piece);
            else await this.#handler.write(iova, piece);
          } finally {
            // After the write, so that who takes the log and then copies the page gets the bytes; and also when a part of it failed.
            this.#dirty.mark(iova, lengthBytes);
          }
        }
        return encodeMessage(frame.id, frame.command, VFIO_USER_F_TYPE_REPLY, encodeDmaWriteReply({ address, count }, dialect));
      }
      default:
        throw new ClientError('ERR_VFU_CLIENT_REFUSED', `the server sent ${commandName(frame.command)}`, { errno: ENOSYS });
    }
  }

  get #handler(): DmaHandler {
    const { handler } = this.#options;
    if (handler === undefined) throw new ClientError('ERR_VFU_CLIENT_REFUSED', 'no memory handler', { errno: EOPNOTSUPP });
    return handler;
  }

  #permit(address: bigint, count: number, access: 'read' | 'write'): readonly DmaSegment[] {
    const segments = this.#maps.segments(address, count, access);
    if (typeof segments === 'number') throw new ClientError('ERR_VFU_CLIENT_REFUSED', `the device may not ${access} ${count} bytes at ${hex(address)}`, { errno: segments });
    // Before the first byte is copied.
    if (segments.some((segment) => segment.memory === undefined)) void this.#handler;
    return segments;
  }
}
