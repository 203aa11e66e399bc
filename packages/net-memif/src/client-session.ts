/** The client's side of a control channel: it brings the memory. */
import { OwnedFd, type Sys } from '@emudev/linux';
import { Attachment } from './attachment.ts';
import { MemifError } from './errors.ts';
import { MEMIF_COOKIE, RING_COOKIE, ringBytes } from './layout.ts';
import { OUR_NAME } from './listener.ts';
import { MAX_LOG2_RING_SIZE } from './limits.ts';
import { MEMIF_VERSION, MODE_ETHERNET, type Direction, type HelloMessage, type MemifMessage } from './messages.ts';
import { createRegion } from './regions.ts';
import { Session, disconnectedBy, unexpected, withoutFd, type Interface } from './session.ts';

const CACHE_LINE = 64;
const wholeLines = (bytes: number): number => Math.ceil(bytes / CACHE_LINE) * CACHE_LINE;

/** An interface that looks for a server. */
export interface ClientInterface extends Interface {
  readonly bufferBytes: number;
  readonly log2RingSize: number;
}

/** Where everything is in the one region of a client: C2S rings, S2C rings, the buffers of each in that order. */
export interface RegionPlan {
  readonly sizeBytes: number;
  readonly rings: readonly { readonly direction: Direction; readonly index: number; readonly offset: number; readonly buffers: { readonly offset: number; readonly strideBytes: number; readonly bytes: number } }[];
}

/** Plans a region; numbers as in the arguments of the port. */
export function planRegion(c2s: number, s2c: number, log2Size: number, bufferBytes: number): RegionPlan {
  const ringStride = wholeLines(ringBytes(log2Size));
  const strideBytes = wholeLines(bufferBytes);
  const buffersOfRing = strideBytes * 2 ** log2Size;
  const count = c2s + s2c;
  const rings = Array.from({ length: count }, (_, i) => ({
    direction: i < c2s ? 'c2s' as const : 's2c' as const,
    index: i < c2s ? i : i - c2s,
    offset: i * ringStride,
    buffers: { offset: count * ringStride + i * buffersOfRing, strideBytes, bytes: bufferBytes },
  }));
  return { sizeBytes: count * (ringStride + buffersOfRing), rings };
}

/** What the server has to acknowledge before the next is sent. */
interface Step {
  readonly message: MemifMessage;
  readonly fd?: number;
}

/**
 * | state      | HELLO         | ACK                                       | CONNECTED   | DISCONNECT, end of stream, anything else |
 * | ---------- | ------------- | ----------------------------------------- | ----------- | ---------------------------------------- |
 * | new        | → introducing | forbidden                                 | forbidden   | → over                                   |
 * | introducing | forbidden    | sends the next of INIT, ADD_REGION, ADD_RING…, CONNECT; forbidden after CONNECT | → connected | → over |
 * | connected  | forbidden     | forbidden                                 | forbidden   | → over                                   |
 *
 * What is forbidden ends the session. CONNECTED is forbidden before CONNECT.
 */
export class ClientSession extends Session {
  readonly #sys: Sys;
  readonly #interface: ClientInterface;
  readonly #attachment = new Attachment();
  #steps: Step[] = [];
  #memory: OwnedFd | undefined;
  #state: 'new' | 'introducing' | 'connected' = 'new';

  constructor(sys: Sys, socket: number, of: ClientInterface) {
    super(sys, socket);
    this.#sys = sys;
    this.#interface = of;
  }

  receive(message: MemifMessage, fd: OwnedFd | undefined): void {
    withoutFd(fd, message);
    if (message.type === 'disconnect') {
      void this.end(disconnectedBy(message), false);
      return;
    }
    if (this.#state === 'new' && message.type === 'hello') {
      this.#hello(message);
      this.#state = 'introducing';
      this.#next();
    } else if (this.#state === 'introducing' && message.type === 'ack' && this.#steps.length > 0) {
      this.#next();
    } else if (this.#state === 'introducing' && message.type === 'connected' && this.#steps.length === 0) {
      this.#attachment.peerInterface = message.interfaceName;
      // Not before: a server sets all indices of all rings to 0 until now.
      this.#interface.prepare(this.#attachment);
      this.#state = 'connected';
      this.#memory?.close();
      this.connected();
      this.#interface.up(this, this.#attachment);
    } else {
      throw unexpected(message);
    }
  }

  #next(): void {
    const { message, fd } = this.#steps.shift()!;
    this.channel.send(message, fd);
  }

  #hello(hello: HelloMessage): void {
    if (hello.minVersion > MEMIF_VERSION || hello.maxVersion < MEMIF_VERSION) {
      throw new MemifError('ERR_MEMIF_REFUSED', `versions 0x${hello.minVersion.toString(16)} to 0x${hello.maxVersion.toString(16)}: want 0x${MEMIF_VERSION.toString(16)}`);
    }
    const { name, id, secret, dmaWindow: window, rxQueues, txQueues, bufferBytes, log2RingSize } = this.#interface;
    this.#attachment.peerName = hello.name;
    const log2Size = Math.min(hello.maxLog2RingSize, log2RingSize, MAX_LOG2_RING_SIZE);
    // CLIENT: the server says the largest index; at least one ring each way then.
    const plan = planRegion(Math.min(hello.maxC2sRing + 1, txQueues), Math.min(hello.maxS2cRing + 1, rxQueues), log2Size, bufferBytes);
    const { region, fd } = createRegion(window, this.#sys, plan.sizeBytes);
    this.#memory = fd;
    this.#attachment.regions.push(region);
    this.#steps = [
      { message: { type: 'init', version: MEMIF_VERSION, id, mode: MODE_ETHERNET, secret, name: OUR_NAME } },
      { message: { type: 'addRegion', index: 0, sizeBytes: plan.sizeBytes }, fd: fd.fd },
    ];
    for (const { direction, index, offset, buffers } of plan.rings) {
      window.u32[(region.mapping.offset + offset + RING_COOKIE) >>> 2] = MEMIF_COOKIE;
      const eventfd = new OwnedFd(this.#sys.eventfd(), this.#sys);
      this.#attachment.rings.push({ direction, index, region: 0, offset, log2Size, eventfd, buffers });
      this.#steps.push({ message: { type: 'addRing', direction, index, region: 0, offset, log2Size, privateHeaderBytes: 0 }, fd: eventfd.fd });
    }
    this.#steps.push({ message: { type: 'connect', interfaceName: name } });
  }

  protected async release(error: MemifError | undefined): Promise<void> {
    await this.#interface.down();
    this.#memory?.close();
    this.#attachment[Symbol.dispose]();
    this.#interface.over(this, error);
  }
}
