/** The server's side of a control channel. */
import { timingSafeEqual } from 'node:crypto';
import { OwnedFd, type Sys } from '@emudev/linux';
import { Attachment } from './attachment.ts';
import { MemifError } from './errors.ts';
import { MAX_LOG2_RING_SIZE, MAX_REGIONS, MAX_SHARED_BYTES } from './limits.ts';
import { MEMIF_VERSION, MODE_ETHERNET, type AddRegionMessage, type AddRingMessage, type InitMessage, type MemifMessage } from './messages.ts';
import { mapPeerRegion } from './regions.ts';
import { Session, disconnectedBy, unexpected, withoutFd, type Interface } from './session.ts';

/** An interface that clients may ask for by its id. */
export interface ServerInterface extends Interface {
  readonly accepting: boolean;
  /** The session that has it now. */
  readonly session: Session | undefined;
  claim(session: Session): void;
}

/** The socket that a session came by. */
export interface Lobby {
  find(id: number): ServerInterface | undefined;
  /** Largest queue counts of its interfaces. */
  queues(): { rx: number; tx: number };
  /** A session has an interface: it waits no more. */
  left(session: ServerSession): void;
  /** It is over without one. `error`: why. */
  refused(session: ServerSession, error: MemifError | undefined): void;
}

/**
 * | state     | INIT                | ADD_REGION, ADD_RING | CONNECT     | DISCONNECT, end of stream, anything else |
 * | --------- | ------------------- | -------------------- | ----------- | ---------------------------------------- |
 * | stranger  | → client, or over   | forbidden: whose?    | forbidden   | → over                                   |
 * | client    | forbidden: it has one | more of it         | → connected | → over                                   |
 * | connected | forbidden           | forbidden: lcores are at it | forbidden | → over                            |
 *
 * What is forbidden ends the session.
 */
export class ServerSession extends Session {
  readonly #sys: Sys;
  readonly #lobby: Lobby;
  readonly #attachment = new Attachment();
  #interface: ServerInterface | undefined;
  #state: 'stranger' | 'client' | 'connected' = 'stranger';

  constructor(sys: Sys, socket: number, lobby: Lobby) {
    super(sys, socket);
    this.#sys = sys;
    this.#lobby = lobby;
  }

  /** HELLO. */
  greet(name: string): void {
    const { rx, tx } = this.#lobby.queues();
    this.channel.send({
      type: 'hello', name, minVersion: MEMIF_VERSION, maxVersion: MEMIF_VERSION,
      maxRegion: MAX_REGIONS - 1, maxS2cRing: tx - 1, maxC2sRing: rx - 1, maxLog2RingSize: MAX_LOG2_RING_SIZE,
    });
  }

  receive(message: MemifMessage, fd: OwnedFd | undefined): void | Promise<void> {
    if (message.type === 'disconnect') {
      void this.end(disconnectedBy(message), false);
      return;
    }
    if (message.type !== 'addRegion' && message.type !== 'addRing') withoutFd(fd, message);
    if (this.#state === 'stranger' && message.type === 'init') return this.#init(message);
    if (this.#state !== 'client') throw unexpected(message);
    switch (message.type) {
      case 'addRegion':
        this.#addRegion(message, fd);
        break;
      case 'addRing':
        this.#addRing(message, fd);
        break;
      case 'connect':
        this.#connect(message.interfaceName);
        return;
      default:
        throw unexpected(message);
    }
    this.channel.send({ type: 'ack' });
  }

  async #init(message: InitMessage): Promise<void> {
    if (message.version !== MEMIF_VERSION) throw new MemifError('ERR_MEMIF_REFUSED', `version 0x${message.version.toString(16)}: want 0x${MEMIF_VERSION.toString(16)}`);
    const found = this.#lobby.find(message.id);
    if (found === undefined || !found.accepting) throw new MemifError('ERR_MEMIF_REFUSED', `no interface with id ${message.id}`);
    if (message.mode !== MODE_ETHERNET) throw new MemifError('ERR_MEMIF_REFUSED', `interface mode ${message.mode}: want ${MODE_ETHERNET}, Ethernet`);
    // CLIENT: takes the same time for every wrong secret.
    if (!timingSafeEqual(message.secret, found.secret)) throw new MemifError('ERR_MEMIF_REFUSED', 'the secret is missing or wrong');
    const previous = found.session;
    if (previous !== undefined) {
      if (!previous.hungUp) throw new MemifError('ERR_MEMIF_REFUSED', `interface ${message.id} is connected`);
      // Killed and started again: its end has not been read yet, or what it left is still being given back.
      await previous.end(undefined);
      if (this.isOver) return;
    }
    if (!found.accepting || found.session !== undefined) throw new MemifError('ERR_MEMIF_REFUSED', `interface ${message.id} has been taken meanwhile`);
    this.#attachment.peerName = message.name;
    this.#interface = found;
    this.#state = 'client';
    found.claim(this);
    this.#lobby.left(this);
    this.channel.send({ type: 'ack' });
  }

  #addRegion(message: AddRegionMessage, fd: OwnedFd | undefined): void {
    const { regions } = this.#attachment;
    if (fd === undefined) throw new MemifError('ERR_MEMIF_PROTOCOL', 'region without a descriptor');
    if (message.index !== regions.length || message.index >= MAX_REGIONS) throw new MemifError('ERR_MEMIF_PROTOCOL', `region ${message.index}: want ${regions.length}, below ${MAX_REGIONS}`);
    regions.push(mapPeerRegion(this.#interface!.dmaWindow, fd.fd, message.sizeBytes, MAX_SHARED_BYTES - this.#attachment.sharedBytes));
  }

  #addRing(message: AddRingMessage, fd: OwnedFd | undefined): void {
    const { direction, index } = message;
    const what = `${direction.toUpperCase()} ring ${index}`;
    if (fd === undefined || !this.#sys.isEventfd(fd.fd)) throw new MemifError('ERR_MEMIF_PROTOCOL', `${what} without an eventfd`);
    const queues = direction === 'c2s' ? this.#interface!.rxQueues : this.#interface!.txQueues;
    if (index >= queues) throw new MemifError('ERR_MEMIF_PROTOCOL', `${what}: there are ${queues}`);
    if (this.#attachment.has(direction, index)) throw new MemifError('ERR_MEMIF_PROTOCOL', `${what} is there already`);
    if (message.privateHeaderBytes !== 0) throw new MemifError('ERR_MEMIF_PROTOCOL', `${what} has a private header`);
    this.#attachment.rings.push({ direction, index, region: message.region, offset: message.offset, log2Size: message.log2Size, eventfd: new OwnedFd(fd.take(), this.#sys) });
  }

  #connect(interfaceName: string): void {
    this.#attachment.peerInterface = interfaceName;
    this.#interface!.prepare(this.#attachment);
    this.channel.send({ type: 'connected', interfaceName: this.#interface!.name });
    this.#state = 'connected';
    this.connected();
    this.#interface!.up(this, this.#attachment);
  }

  protected async release(error: MemifError | undefined): Promise<void> {
    if (this.#interface === undefined) {
      this.#lobby.refused(this, error);
      return;
    }
    await this.#interface.down();
    this.#attachment[Symbol.dispose]();
    this.#interface.over(this, error);
  }
}
