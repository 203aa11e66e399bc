/** One connection to a server that is told everything but the truth, and what has to come back all the same. */
import { linux } from '@emudev/linux';
import {
  decodeVersion, encodeDmaReadReply, encodeDmaWriteReply, encodeErrorReply, encodeMessage, encodeRegionRead, FrameReader, HEADER_BYTES, isReply, MAX_FRAME_BYTES, MAX_VERSION_FRAME_BYTES,
  putHeader, VFIO_USER_DMA_READ, VFIO_USER_F_TYPE_REPLY, VFIO_USER_REGION_READ, type DmaDialect, type Frame,
} from '@emudev/vfio-user-protocol';
import type { Descriptors } from '../descriptors.ts';
import { FuzzFailure } from '../failure.ts';
import { ANSWER_DEADLINE_MS, BATCH_BYTES, BATCH_MESSAGES, SESSION_MESSAGES } from '../limits.ts';
import { mutate, type Outgoing } from '../mutate.ts';
import { Random } from '../random.ts';
import type { Recorder } from '../recorder.ts';
import type { SessionOutcome } from '../run.ts';
import { StreamModel } from '../stream-model.ts';
import { Requests } from './requests.ts';

const RECEIVE_BYTES = 1 << 18;
const received = new Uint8Array(RECEIVE_BYTES);
const NO_FDS: readonly number[] = [];
const SYNC_ID = 0xfffe;

export class HostileSession {
  readonly #random: Random;
  /** What is answered to the server depends on timing, and must not shift the choices of what is sent. */
  readonly #answerRandom: Random;
  readonly #descriptors: Descriptors;
  readonly #recorder: Recorder;
  readonly #requests: Requests;
  readonly #model = new StreamModel(MAX_VERSION_FRAME_BYTES);
  readonly #reader = new FrameReader({ maxFrameBytes: MAX_FRAME_BYTES, maxFds: 253 });
  readonly #twinReader = new FrameReader({ maxFrameBytes: MAX_FRAME_BYTES, maxFds: 253 });
  readonly #fd: number;
  readonly #batch = new Uint8Array(BATCH_BYTES);
  readonly #poll = new Int32Array(2);
  /** To commands of the server on the same socket; they go out between two messages of ours. */
  readonly #answers: Uint8Array[] = [];
  /** Framing is broken, sooner or later, in some sessions only: it ends them. */
  readonly #lies: boolean;
  #batchBytes = 0;
  #batchMessages = 0;
  #nextId = 0;
  #twin = -1;
  #dialect: DmaDialect = 'lvu';
  #closed = false;
  #versionReply: Frame | undefined;
  #replies = 0;
  #errors = 0;

  constructor(path: string, seed: number, descriptors: Descriptors, recorder: Recorder) {
    this.#random = new Random(seed);
    this.#answerRandom = new Random(seed ^ 0x5555_5555);
    this.#descriptors = descriptors;
    this.#recorder = recorder;
    this.#requests = new Requests(descriptors, this.#random);
    this.#lies = this.#random.oneIn(8);
    this.#fd = linux.unixConnect(path);
  }

  /** @throws FuzzFailure */
  run(): SessionOutcome {
    const random = this.#random;
    try {
      if (random.oneIn(20)) this.#withoutNegotiation();
      else if (this.#negotiate()) this.#conversation();
      this.#end();
    } finally {
      for (const fd of [...this.#reader.dispose(), ...this.#twinReader.dispose()]) linux.close(fd);
      if (this.#twin !== -1) linux.close(this.#twin);
      linux.close(this.#fd);
    }
    return { messages: this.#model.messages, replies: this.#replies, errors: this.#errors, closedByPeer: this.#closed, wellFramed: !this.#model.broken };
  }

  #negotiate(): boolean {
    const version = this.#requests.version();
    this.#dialect = version.payload[2] === 0 ? 'qemu' : 'lvu';
    this.#put(version);
    this.#flush();
    this.#settle();
    if (this.#closed || this.#versionReply === undefined) throw new FuzzFailure('a well-formed VERSION was not accepted');
    decodeVersion(this.#versionReply.payload);
    this.#model.maxBytes = MAX_FRAME_BYTES;
    return true;
  }

  /** Anything, before VERSION or instead of it. */
  #withoutNegotiation(): void {
    for (let n = this.#random.below(4); n >= 0; n--) {
      const message = this.#random.oneIn(2) ? this.#requests.version() : this.#requests.next();
      if (this.#random.oneIn(2)) mutate(message, this.#random, this.#descriptors);
      this.#put(message);
    }
    this.#flush();
  }

  #conversation(): void {
    const random = this.#random;
    const mutated = random.pick([0, 2, 4, 16]);
    for (let n = 1 + random.below(2 * SESSION_MESSAGES); n > 0 && !this.#closed && !this.#model.broken; n--) {
      const message = this.#requests.next();
      if (mutated !== 0 && random.oneIn(mutated)) mutate(message, random, this.#descriptors);
      this.#put(message);
    }
    this.#flush();
  }

  /** Puts a message into the stream: with others in one send, or in a send of its own where descriptors go with it. */
  #put(message: Outgoing): void {
    const random = this.#random;
    const { command, flags, payload, fds } = message;
    const id = random.oneIn(50) ? random.u32() & 0xffff : this.#nextId++ & 0x7fff;
    let size = HEADER_BYTES + payload.length;
    // Mostly a few bytes too few or too many: what follows is read as something else.
    if (this.#lies && random.oneIn(1000)) size = random.oneIn(2) ? size + random.below(64) - 32 : random.edge();
    const alone = fds.length > 0 || HEADER_BYTES + payload.length > BATCH_BYTES || random.oneIn(200);
    this.#recorder.add(id, command, flags, payload, fds.length, size === HEADER_BYTES + payload.length ? '' : `size ${size}`);
    if (alone || this.#batchMessages >= BATCH_MESSAGES || this.#batchBytes + HEADER_BYTES + payload.length > BATCH_BYTES) this.#flush();
    if (!alone) {
      this.#encode(this.#batch, this.#batchBytes, id, message, size);
      this.#batchBytes += HEADER_BYTES + payload.length;
      this.#batchMessages++;
      return;
    }
    const bytes = new Uint8Array(HEADER_BYTES + payload.length);
    this.#encode(bytes, 0, id, message, size);
    // Any cut is as good as none, and descriptors come with the first piece.
    const cut = random.oneIn(20) ? 1 + random.below(bytes.length - 1) : bytes.length;
    this.#send(bytes.subarray(0, cut), fds);
    if (cut < bytes.length) this.#send(bytes.subarray(cut), NO_FDS);
  }

  #encode(into: Uint8Array, at: number, id: number, { command, flags, payload }: Outgoing, size: number): void {
    putHeader(into, at, id, command, size >>> 0, flags, 0);
    into.set(payload, at + HEADER_BYTES);
  }

  #flush(): void {
    if (this.#batchBytes === 0) return;
    const bytes = this.#batch.subarray(0, this.#batchBytes);
    this.#batchBytes = 0;
    this.#batchMessages = 0;
    this.#send(bytes, NO_FDS);
  }

  #send(bytes: Uint8Array, fds: readonly number[]): void {
    this.#sendAll(bytes, fds);
    this.#receive();
    this.#sendAnswers();
  }

  /** Everything goes out, and meanwhile everything that comes back is read: neither side may wait for the other. */
  #sendAll(bytes: Uint8Array, fds: readonly number[]): void {
    this.#model.feed(bytes);
    let left = bytes;
    let carried = fds;
    const deadline = performance.now() + ANSWER_DEADLINE_MS;
    while (left.length > 0 && !this.#closed) {
      const sent = this.#trySend(left, carried);
      if (sent === undefined) {
        if (!this.#receive()) this.#wait(1_000_000);
        if (performance.now() > deadline) throw new FuzzFailure('the server does not read, although it is not kept from writing');
        continue;
      }
      left = left.subarray(sent);
      carried = NO_FDS;
    }
  }

  /** Not in the middle of a message of ours. */
  #sendAnswers(): void {
    while (this.#answers.length > 0 && this.#model.missing === 0 && !this.#closed) this.#sendAll(this.#answers.shift()!, NO_FDS);
  }

  #trySend(bytes: Uint8Array, fds: readonly number[]): number | undefined {
    try {
      return linux.sendmsg(this.#fd, bytes, fds);
    } catch {
      // EPIPE, ECONNRESET: what the server has said before is still there to read.
      while (this.#receive());
      this.#closed = true;
      return 0;
    }
  }

  #wait(timeoutNs: number): void {
    this.#poll[0] = this.#fd;
    this.#poll[1] = this.#twin;
    linux.pollIn(this.#poll, this.#twin === -1 ? 1 : 2, timeoutNs);
  }

  /** Reads what is there; false when there was nothing. */
  #receive(): boolean {
    const main = this.#receiveFrom(this.#fd, this.#reader);
    return this.#twin === -1 ? main : this.#receiveFrom(this.#twin, this.#twinReader) || main;
  }

  #receiveFrom(fd: number, reader: FrameReader): boolean {
    let any = false;
    while (!this.#closed) {
      let got;
      try {
        got = linux.recvmsg(fd, received, 253);
      } catch {
        this.#closed = true;
        return any;
      }
      if (got === undefined) return any;
      if (got.bytes === 0) {
        this.#closed = true;
        return any;
      }
      any = true;
      const { frames, error } = reader.push(received.subarray(0, got.bytes), got.fds);
      for (const frame of frames) this.#frame(frame, fd);
      if (error !== undefined) throw new FuzzFailure(`the server sent an impossible message: ${error.message}`);
    }
    return any;
  }

  #frame(frame: Frame, from: number): void {
    if (!isReply(frame.flags)) {
      for (const fd of frame.fds) linux.close(fd);
      if (frame.fds.length > 0) throw new FuzzFailure('the server sent a command with descriptors');
      return this.#answer(frame, from);
    }
    this.#replies++;
    if ((frame.flags & 0x20) !== 0) this.#errors++;
    if (this.#versionReply === undefined && (frame.flags & 0x20) === 0) {
      this.#versionReply = frame;
      if (frame.fds.length === 1) {
        this.#twin = frame.fds[0]!;
        linux.setNonBlocking(this.#twin, true);
      }
    } else {
      for (const fd of frame.fds) linux.close(fd);
    }
    // Behind a size that means nothing, anything may be answered.
    if (this.#model.broken) return;
    const expected = this.#model.expected.shift();
    if (expected === undefined) throw new FuzzFailure(`a reply (id ${frame.id}, command ${frame.command}) that nobody asked for`);
    if (expected.id !== frame.id || expected.command !== frame.command) {
      throw new FuzzFailure(`the reply to id ${expected.id}, command ${expected.command} was due, id ${frame.id}, command ${frame.command} came`);
    }
  }

  /** The server's own commands: answered, answered wrongly, or not at all. */
  #answer(frame: Frame, from: number): void {
    const random = this.#answerRandom;
    const address = frame.payload.length >= 8 ? new DataView(frame.payload.buffer, frame.payload.byteOffset).getBigUint64(0, true) : 0n;
    const count = frame.payload.length >= 12 ? new DataView(frame.payload.buffer, frame.payload.byteOffset).getUint32(8, true) : 0;
    let reply: Uint8Array;
    switch (random.below(40)) {
      case 0: return;
      case 1: reply = encodeErrorReply(frame.id, frame.command, random.edge()); break;
      case 2: reply = encodeMessage(frame.id ^ 1, frame.command, VFIO_USER_F_TYPE_REPLY, random.bytes(random.below(40))); break;
      default: {
        const dialect: DmaDialect = random.oneIn(20) ? random.pick(['lvu', 'qemu']) : this.#dialect;
        const length = random.oneIn(20) ? random.edge() % 0x10000 : count;
        const payload = frame.command === VFIO_USER_DMA_READ ? encodeDmaReadReply(address, new Uint8Array(length), dialect) : encodeDmaWriteReply({ address, count: length }, dialect);
        if (random.oneIn(20) && payload.length > 0) payload[random.below(payload.length)]! ^= 1 << random.below(8);
        reply = encodeMessage(frame.id, frame.command, VFIO_USER_F_TYPE_REPLY, payload);
      }
    }
    if (from === this.#fd) this.#answers.push(reply);
    else this.#sendOnTwin(reply);
  }

  #sendOnTwin(reply: Uint8Array): void {
    try {
      linux.sendmsg(this.#twin, reply, NO_FDS);
    } catch {
      this.#closed = true;
    }
  }

  #end(): void {
    const random = this.#random;
    const how = random.below(10);
    // Gone in the middle of things, with replies unread.
    if (how < 3 || this.#closed) return;
    if (this.#model.missing > 0 && !this.#model.broken) {
      // The server waits for the rest, as it has to.
      this.#send(new Uint8Array(this.#model.missing), NO_FDS);
    }
    if (this.#model.broken) {
      this.#until(() => this.#closed, 'a connection whose stream is broken was not closed');
      return;
    }
    const payload = encodeRegionRead({ offset: 0, region: 7, count: 4 });
    this.#recorder.add(SYNC_ID, VFIO_USER_REGION_READ, 0, payload, 0, 'the last one');
    this.#send(encodeMessage(SYNC_ID, VFIO_USER_REGION_READ, 0, payload), NO_FDS);
    this.#settle();
    if (how === 9 && !this.#closed) {
      linux.shutdownWrite(this.#fd);
      this.#until(() => this.#closed, 'the server did not close after the end of our stream');
    }
  }

  /** Until every answer that is due has come, or the server has closed. */
  #settle(): void {
    this.#until(() => this.#closed || this.#model.broken || this.#model.expected.length === 0, 'an answer did not come');
  }

  #until(done: () => boolean, what: string): void {
    const deadline = performance.now() + ANSWER_DEADLINE_MS;
    while (!done()) {
      if (!this.#receive()) this.#wait(10_000_000);
      this.#sendAnswers();
      if (performance.now() > deadline) {
        const [next] = this.#model.expected;
        throw new FuzzFailure(`${what} within ${ANSWER_DEADLINE_MS} ms${next === undefined ? '' : ` (due: id ${next.id}, command ${next.command})`}`);
      }
    }
  }
}
