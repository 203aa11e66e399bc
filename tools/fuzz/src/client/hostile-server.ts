/** One connection of a client, served badly: wrong answers, none, too many, and commands of the server's own. */
import { linux } from '@emudev/linux';
import {
  encodeDmaRead, encodeDmaWrite, FrameReader, HEADER_BYTES, isCommand, isPosted, isReply, MAX_FRAME_BYTES, ProtocolError, putHeader, VFIO_USER_DMA_MAP, VFIO_USER_DMA_READ, VFIO_USER_DMA_WRITE,
  VFIO_USER_F_ERROR, VFIO_USER_F_NO_REPLY, VFIO_USER_F_TYPE_REPLY, VFIO_USER_VERSION, type DmaDialect, type Frame,
} from '@emudev/vfio-user-protocol';
import type { Descriptors } from '../descriptors.ts';
import { FuzzFailure } from '../failure.ts';
import { ANSWER_DEADLINE_MS, BATCH_BYTES } from '../limits.ts';
import { mutate, type Outgoing } from '../mutate.ts';
import { Random } from '../random.ts';
import type { Recorder } from '../recorder.ts';
import type { SessionOutcome } from '../run.ts';
import { StreamModel } from '../stream-model.ts';
import { goodReply } from './replies.ts';

const RECEIVE_BYTES = 1 << 18;
const received = new Uint8Array(RECEIVE_BYTES);
const NO_FDS: readonly number[] = [];
const FLOOD = 400;
const KEPT_MAPS = 32;

export class HostileServer {
  readonly #fd: number;
  readonly #random: Random;
  readonly #descriptors: Descriptors;
  readonly #recorder: Recorder;
  readonly #sane: boolean;
  /** One wrong reply in so many; floods of commands as often. */
  readonly #wrongness: number;
  readonly #reader = new FrameReader({ maxFrameBytes: MAX_FRAME_BYTES, maxFds: 253 });
  readonly #twinReader = new FrameReader({ maxFrameBytes: MAX_FRAME_BYTES, maxFds: 253 });
  readonly #poll = new Int32Array(2);
  readonly #inbox: { readonly frame: Frame; readonly from: number }[] = [];
  readonly #flood = new Uint8Array(BATCH_BYTES);
  /** Of what goes to the client, on the stream that has the server's commands. */
  readonly #model = new StreamModel(MAX_FRAME_BYTES);
  /** Where the client has mapped memory. */
  #mapped: bigint[] = [];
  #twin = -1;
  #twinGiven = -1;
  #closed = false;
  #messages = 0;
  #replies = 0;
  #errors = 0;
  #negotiated = 0;
  /** Something was sent that a client may take as a reason to say no more. */
  #disturbed = false;

  /** Owns `fd`. */
  constructor(fd: number, seed: number, sane: boolean, descriptors: Descriptors, recorder: Recorder) {
    this.#fd = fd;
    this.#random = new Random(seed);
    this.#sane = sane;
    this.#descriptors = descriptors;
    this.#recorder = recorder;
    this.#wrongness = this.#random.pick([30, 100, 300, 1000]);
  }

  /** Until the client has gone. @throws FuzzFailure */
  run(): SessionOutcome {
    const deadline = performance.now() + ANSWER_DEADLINE_MS;
    try {
      while (!this.#closed) {
        if (!this.#receive()) this.#wait(10_000_000);
        for (let next = this.#inbox.shift(); next !== undefined; next = this.#inbox.shift()) {
          try {
            this.#frame(next.frame, next.from);
          } finally {
            for (const own of next.frame.fds) linux.close(own);
          }
        }
        if (performance.now() > deadline) throw new FuzzFailure('the client does not end');
      }
    } finally {
      for (const { frame } of this.#inbox) for (const fd of frame.fds) linux.close(fd);
      for (const fd of [...this.#reader.dispose(), ...this.#twinReader.dispose()]) linux.close(fd);
      for (const fd of [this.#fd, this.#twin, this.#twinGiven]) if (fd !== -1) linux.close(fd);
    }
    return { messages: this.#messages, replies: this.#replies, errors: this.#errors, closedByPeer: this.#disturbed, wellFramed: !this.#model.broken };
  }

  #wait(timeoutNs: number): void {
    this.#poll[0] = this.#fd;
    this.#poll[1] = this.#twin;
    linux.pollIn(this.#poll, this.#twin === -1 ? 1 : 2, timeoutNs);
  }

  #receive(): boolean {
    const main = this.#receiveFrom(this.#fd, this.#reader);
    return this.#twin === -1 || this.#closed ? main : this.#receiveFrom(this.#twin, this.#twinReader) || main;
  }

  #receiveFrom(fd: number, reader: FrameReader): boolean {
    let got;
    try {
      got = linux.recvmsg(fd, received, 253);
    } catch {
      this.#closed = true;
      return true;
    }
    if (got === undefined) return false;
    if (got.bytes === 0) {
      this.#closed = true;
      return true;
    }
    const { frames, error } = reader.push(received.subarray(0, got.bytes), got.fds);
    for (const frame of frames) this.#inbox.push({ frame, from: fd });
    if (error !== undefined) throw new FuzzFailure(`the client sent an impossible message: ${error.message}`);
    return true;
  }

  #frame(frame: Frame, from: number): void {
    if (isReply(frame.flags)) return this.#reply(frame);
    if (!isCommand(frame.flags)) throw new FuzzFailure(`the client sent a message of type ${frame.flags & 15}`);
    if (from === this.#twin) throw new FuzzFailure('the client sent a command on the twin socket');
    if (isPosted(frame.flags)) return;
    if (frame.command === VFIO_USER_DMA_MAP) this.#mapped = [...this.#mapped.slice(-KEPT_MAPS), new DataView(frame.payload.buffer, frame.payload.byteOffset).getBigUint64(16, true)];
    this.#respond(frame);
    this.#negotiated++;
    // Version and device info: before them a client takes no commands.
    if (!this.#sane && this.#negotiated > 2 && this.#random.oneIn(10)) this.#sendFlood();
  }

  /** To a command of ours: each once, in order. */
  #reply(frame: Frame): void {
    this.#replies++;
    if ((frame.flags & VFIO_USER_F_ERROR) !== 0) this.#errors++;
    if (this.#model.broken) return;
    const expected = this.#model.expected.shift();
    if (expected === undefined) throw new FuzzFailure(`a reply (id ${frame.id}, command ${frame.command}) that nobody asked for`);
    if (expected.id !== frame.id || expected.command !== frame.command) {
      throw new FuzzFailure(`the reply to id ${expected.id}, command ${expected.command} was due, id ${frame.id}, command ${frame.command} came`);
    }
  }

  #respond(request: Frame): void {
    const random = this.#random;
    let message: Outgoing;
    let errno = 0;
    try {
      const { payload, fds } = goodReply(request, this.#descriptors, random, () => this.#makeTwin());
      message = { command: request.command, flags: VFIO_USER_F_TYPE_REPLY, payload, fds };
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return this.#sendMessage(request.id, { command: request.command, flags: VFIO_USER_F_TYPE_REPLY | VFIO_USER_F_ERROR, payload: new Uint8Array(0), fds: [] }, error.errno);
    }
    let id = request.id;
    let times = 1;
    if (!this.#sane && random.oneIn(12)) {
      // What every client has to live with.
      message = { ...message, flags: VFIO_USER_F_TYPE_REPLY | VFIO_USER_F_ERROR, payload: random.oneIn(4) ? message.payload : new Uint8Array(0), fds: [] };
      errno = random.edge();
    } else if (!this.#sane && random.oneIn(this.#wrongness)) {
      this.#disturbed = true;
      switch (random.below(8)) {
        case 0: id = random.oneIn(2) ? id ^ 1 : random.u32() & 0xffff; break;
        case 1: times = 2; break;
        case 2: times = 0; break;
        default: mutate(message, random, this.#descriptors);
      }
    }
    if (!this.#sane && request.command === VFIO_USER_VERSION && random.oneIn(4)) {
      // One such reply in a session: left to the mutations, few would have descriptors that nobody asked for.
      this.#disturbed = true;
      message.fds = [...message.fds, ...Array.from({ length: 1 + random.below(3) }, () => this.#descriptors.any(random))];
    }
    for (; times > 0; times--) this.#sendMessage(id, message, errno);
    this.#switchToTwin();
  }

  #makeTwin(): number {
    [this.#twinGiven, this.#twin] = linux.unixSocketPair();
    linux.setNonBlocking(this.#twin, true);
    return this.#twinGiven;
  }

  /** Our end of the pair is all that we keep: the client's own closing must be seen. */
  #switchToTwin(): void {
    if (this.#twinGiven === -1) return;
    linux.close(this.#twinGiven);
    this.#twinGiven = -1;
  }

  #sendMessage(id: number, { command, flags, payload, fds }: Outgoing, errno: number): void {
    const random = this.#random;
    const bytes = new Uint8Array(HEADER_BYTES + payload.length);
    let size = bytes.length;
    if (!this.#sane && random.oneIn(this.#wrongness * 20)) {
      this.#disturbed = true;
      size = random.oneIn(2) ? size + random.below(64) - 32 : random.edge();
    }
    putHeader(bytes, 0, id, command, size >>> 0, flags, errno);
    bytes.set(payload, HEADER_BYTES);
    this.#recorder.add(id, command, flags, payload, fds.length, size === bytes.length ? '' : `size ${size}`);
    this.#messages++;
    const cut = !this.#sane && random.oneIn(20) ? 1 + random.below(bytes.length - 1) : bytes.length;
    // A mutation may have made a command of it; where the twin is for commands, the main stream has none that are answered.
    if (this.#twin === -1) this.#model.feed(bytes);
    this.#sendAll(this.#fd, bytes.subarray(0, cut), fds);
    if (cut < bytes.length) this.#sendAll(this.#fd, bytes.subarray(cut), NO_FDS);
  }

  /** Many commands in one send: DMA messages, mostly well-formed, here and there of ranges that are not mapped. */
  #sendFlood(): void {
    const random = this.#random;
    const to = this.#twin === -1 ? this.#fd : this.#twin;
    let at = 0;
    for (let n = random.below(FLOOD); n > 0; n--) {
      const address = random.oneIn(20) ? random.u64() : this.#mapped.length === 0 ? 0n : random.pick(this.#mapped) + BigInt(random.below(0x10000));
      const dialect: DmaDialect = random.pick(['lvu', 'lvu', 'qemu']);
      const read = random.oneIn(2);
      const payload = read ? encodeDmaRead({ address, count: random.pick([0, 1, 4, 64, 64, 5000]) }) : encodeDmaWrite(address, random.bytes(random.pick([0, 1, 4, 64])), dialect);
      const message: Outgoing = { command: read ? VFIO_USER_DMA_READ : VFIO_USER_DMA_WRITE, flags: random.oneIn(8) ? VFIO_USER_F_NO_REPLY : 0, payload, fds: [] };
      if (random.oneIn(4)) {
        const { flags } = message;
        mutate(message, random, this.#descriptors);
        message.fds = [];
        // Reserved types, and replies on a stream of commands, end the connection: other places try those.
        message.flags = flags;
      }
      const size = HEADER_BYTES + message.payload.length;
      if (at + size > this.#flood.length) break;
      const id = random.u32() & 0xffff;
      putHeader(this.#flood, at, id, message.command, size, message.flags, 0);
      this.#flood.set(message.payload, at + HEADER_BYTES);
      this.#recorder.add(id, message.command, message.flags, message.payload, 0);
      this.#messages++;
      at += size;
    }
    const bytes = this.#flood.slice(0, at);
    // Before it is sent: the answers may come meanwhile.
    this.#model.feed(bytes);
    this.#sendAll(to, bytes, NO_FDS);
  }

  /** What arrives meanwhile is read, so that neither side waits for the other, and looked at later. */
  #sendAll(to: number, bytes: Uint8Array, fds: readonly number[]): void {
    let left = bytes;
    let carried = fds;
    const deadline = performance.now() + ANSWER_DEADLINE_MS;
    while (left.length > 0 && !this.#closed) {
      let sent;
      try {
        sent = linux.sendmsg(to, left, carried);
      } catch {
        this.#closed = true;
        return;
      }
      if (sent === undefined) {
        if (!this.#receive()) this.#wait(1_000_000);
        if (performance.now() > deadline) throw new FuzzFailure('the client does not read');
        continue;
      }
      left = left.subarray(sent);
      carried = NO_FDS;
    }
  }
}
