/**
 * One direction of a connection: from one socket to another, message by message, unchanged.
 *
 * Which message descriptors belong to is known because a receive does not reach beyond the message it is for: first the header, then
 * what the header says is left. (Where small messages follow each other the first receive asks for as much as the last one had, at most
 * 36 bytes: no message that carries descriptors is shorter.) A whole message leaves by one sendmsg; servers exist that read it by one recv.
 *
 * | state   | bytes come                                   | stalls for 20 ms       | end of stream              | sink is gone |
 * | ------- | -------------------------------------------- | ---------------------- | -------------------------- | ------------ |
 * | whole   | held until the message is complete, sent     | what there is, is sent | what there is, is sent     | → broken     |
 * | long    | (larger than what is held) sent as they come | –                      | → ended                    | → broken     |
 * | raw     | (size field below 16) sent as they come; one | –                      | → ended                    | → broken     |
 * |         | byte per receive, so that descriptors stay   |                        |                            |              |
 * |         | on the very byte they were sent with         |                        |                            |              |
 * | ended   | cannot                                       | –                      | –                          | –            |
 * | broken  | not read any more                            | –                      | not seen                   | –            |
 */
import type { Sys } from '@emudev/linux';
import { HEADER_BYTES, MAX_FDS_PER_MESSAGE } from '@emudev/vfio-user-protocol';
import { INITIAL_BUFFER_BYTES, MAX_CAPTURED_BYTES, MAX_HELD_RUNS, MAX_PLAUSIBLE_MESSAGE_BYTES, MAX_WHOLE_MESSAGE_BYTES } from '../limits.ts';

export interface Forwarded {
  /** The message, or as much of it as is kept; a view that is overwritten after the call. */
  readonly bytes: Uint8Array;
  /** What was on the wire. */
  readonly size: number;
  /** whole: header and payload. cut: the stream ended within it, or it is too long to be kept. raw: no message, just bytes. */
  readonly framing: 'whole' | 'cut' | 'raw';
  /** performance.now() when its last byte had come. */
  readonly atMs: number;
}

export interface ForwarderEvents {
  /** Descriptors have been passed on with bytes of the message that is reported next; they are closed after the call, which must not throw. */
  descriptors(fds: readonly number[]): void;
  /** A whole message with descriptors, before it is sent: those to send instead. Those left out are the callee's from now on. */
  exchange(message: Uint8Array, fds: readonly number[]): readonly number[];
  /** The sink has all of it. */
  forwarded(message: Forwarded): void;
  /** The stream is passed on, but it is not what the protocol allows. */
  anomaly(what: string): void;
}

/** Bytes up to `end` (in the buffer), with descriptors on the first of them. */
interface Segment {
  end: number;
  fds: readonly number[];
}

const NO_FDS: readonly number[] = [];
const RAW_BYTES = 4096;
/** DEVICE_SET_IRQS is the shortest message with descriptors. */
const MAX_EXPECTED_BYTES = 36;

export class Forwarder {
  readonly #sys: Sys;
  readonly #source: number;
  readonly #sink: number;
  readonly #events: ForwarderEvents;
  #buffer: Uint8Array = new Uint8Array(new ArrayBuffer(INITIAL_BUFFER_BYTES));
  #view = new DataView(this.#buffer.buffer);
  /** Bytes of the present message in the buffer; of those, bytes the sink has taken. */
  #filled = 0;
  #sent = 0;
  /** Size of the present message; 0 until its header is there. */
  #size = 0;
  /** Long messages: bytes of it that went through before those in the buffer, and its beginning. */
  #passed = 0;
  #beginning: Uint8Array | undefined;
  #raw = false;
  /** What is ready to leave, and descriptors that came since. */
  #segments: Segment[] = [];
  #fds: number[] = [];
  /** Descriptors of the last receive: they belong to the last message that begins in it. */
  #fresh: number[] = [];
  #freshAt = 0;
  /** Bytes the first receive of a message asks for. */
  #expected = HEADER_BYTES;
  #state: 'open' | 'ended' | 'broken' = 'open';
  #sourceEnded = false;
  #atMs = 0;

  constructor(sys: Sys, source: number, sink: number, events: ForwarderEvents) {
    this.#sys = sys;
    this.#source = source;
    this.#sink = sink;
    this.#events = events;
  }

  /** ended: the source has sent everything, and the sink has it. broken: the sink takes no more. */
  get state(): 'open' | 'ended' | 'broken' {
    return this.#state;
  }

  /** The sink does not take what is there: nothing is read until it does. */
  get blocked(): boolean {
    return this.#segments.length > 0 && this.#state === 'open';
  }

  /** Wants to hear when the source is readable. */
  get reading(): boolean {
    return this.#state === 'open' && !this.#sourceEnded && this.#segments.length === 0;
  }

  /** Part of a message is held back, waiting for the rest. */
  get holding(): boolean {
    return this.#state === 'open' && this.#filled > this.#sent && this.#segments.length === 0;
  }

  /** Moves at most one message. False: there is nothing to move now. Throws (LinuxError) only where descriptors were lost. */
  pump(): boolean {
    if (this.#state !== 'open') return false;
    if (this.#segments.length > 0) {
      this.#flush();
      return this.#segments.length === 0;
    }
    if (this.#sourceEnded) return false;
    if (this.#raw) return this.#pumpRaw();
    for (let moved = false; ; moved = true) {
      if (this.#size === 0 && this.#filled >= HEADER_BYTES) {
        this.#openMessage();
        if (this.#raw) {
          this.#fds.push(...this.#fresh.splice(0));
          this.#send();
          return true;
        }
      }
      if (this.#fresh.length > 0 && (this.#size === 0 || this.#passed + this.#filled <= this.#size)) this.#adopt(this.#fresh.splice(0));
      if (this.#size > 0 && this.#passed + this.#filled >= this.#size) {
        this.#closeMessage();
        return true;
      }
      if (this.#size > MAX_WHOLE_MESSAGE_BYTES && this.#filled > this.#sent && (this.#passed > 0 || this.#filled === MAX_WHOLE_MESSAGE_BYTES)) {
        this.#passPiece();
        return true;
      }
      if (this.#segments.length >= MAX_HELD_RUNS) {
        // Held back, they would use up the descriptors that other sessions need.
        this.#send();
        return true;
      }
      const want = this.#size === 0 ? this.#expected : Math.min(this.#size - this.#passed, MAX_WHOLE_MESSAGE_BYTES);
      if (this.#receive(want - this.#filled) === 0) return moved || this.#sourceEnded;
    }
  }

  /** Sends what is held back of a message that does not go on. */
  unhold(): void {
    if (this.holding) this.#send();
  }

  /** Closes descriptors that never left. */
  dispose(): void {
    this.#break();
  }

  /** Bytes received behind those in the buffer; 0: none for now, or the stream has ended. */
  #receive(want: number): number {
    let got;
    try {
      got = this.#sys.recvmsg(this.#source, this.#buffer.subarray(this.#filled, this.#filled + want), MAX_FDS_PER_MESSAGE);
    } catch {
      // ECONNRESET: whoever went left something unread. For us it is the end of what it sent.
      this.#endSource();
      return 0;
    }
    if (got === undefined) return 0;
    if (got.fds.length > 0) {
      this.#freshAt = this.#filled;
      if (this.#raw) this.#adopt(got.fds);
      else this.#fresh.push(...got.fds);
    }
    if (got.fdsTruncated) throw new Error('descriptors were lost: this process has too many open files (ulimit -n)');
    if (got.bytes === 0) {
      this.#endSource();
      return 0;
    }
    this.#filled += got.bytes;
    return got.bytes;
  }

  #adopt(fds: readonly number[]): void {
    // A sendmsg carries 253 at most, and descriptors only on its first byte: what came before leaves by one of its own.
    if (this.#raw || this.#fds.length + fds.length > MAX_FDS_PER_MESSAGE) this.#cutSegment(this.#freshAt);
    this.#fds.push(...fds);
  }

  #openMessage(): void {
    const size = this.#view.getUint32(4, true);
    if (size < HEADER_BYTES) {
      this.#raw = true;
      this.#events.anomaly(`a header says that its message has ${size} bytes: from here on the stream is passed on byte by byte, undecoded`);
      return;
    }
    if (size > MAX_PLAUSIBLE_MESSAGE_BYTES) this.#events.anomaly(`a header says that its message has ${size} bytes`);
    this.#size = size;
    const room = Math.min(size, MAX_WHOLE_MESSAGE_BYTES);
    if (room <= this.#buffer.length) return;
    const larger = new Uint8Array(new ArrayBuffer(Math.min(MAX_WHOLE_MESSAGE_BYTES, Math.max(room, 2 * this.#buffer.length))));
    larger.set(this.#buffer.subarray(0, this.#filled));
    this.#buffer = larger;
    this.#view = new DataView(larger.buffer);
  }

  #closeMessage(): void {
    this.#atMs = performance.now();
    if (this.#fds.length > 0 && this.#sent === 0 && this.#segments.length === 0 && this.#passed === 0) {
      this.#fds = [...this.#events.exchange(this.#buffer.subarray(0, this.#size), this.#fds)];
    }
    this.#send();
  }

  /** A piece of a message that is too long to be held. */
  #passPiece(): void {
    this.#atMs = performance.now();
    this.#send();
  }

  /** One byte per receive: a run ends where descriptors arrive, so that they leave on the byte they came with. */
  #pumpRaw(): boolean {
    while (this.#filled < RAW_BYTES && this.#segments.length < MAX_HELD_RUNS && this.#receive(1) > 0);
    if (this.#filled === this.#sent) return this.#sourceEnded;
    this.#send();
    return true;
  }

  #endSource(): void {
    if (this.#sourceEnded) return;
    if (this.#fresh.length > 0) this.#adopt(this.#fresh.splice(0));
    this.#sourceEnded = true;
    this.#atMs = performance.now();
    if (this.#filled > this.#sent) this.#send();
    else if (this.#segments.length === 0) this.#finish();
  }

  /** What follows the message in the buffer is the next one's. */
  #cutSegment(end: number = this.#size === 0 ? this.#filled : Math.min(this.#filled, this.#size - this.#passed)): void {
    const from = this.#segments.at(-1)?.end ?? this.#sent;
    if (end <= from) return;
    this.#segments.push({ end, fds: this.#fds });
    this.#fds = [];
  }

  /** Everything in the buffer is ready to leave. */
  #send(): void {
    this.#cutSegment();
    this.#flush();
  }

  #flush(): void {
    try {
      for (let head = this.#segments[0]; head !== undefined; head = this.#segments[0]) {
        const taken = this.#sys.sendmsg(this.#sink, this.#buffer.subarray(this.#sent, head.end), head.fds);
        if (taken === undefined) return;
        const { fds } = head;
        head.fds = NO_FDS;
        if (fds.length > 0) this.#events.descriptors(fds);
        for (const fd of fds) this.#sys.close(fd);
        this.#sent += taken;
        if (this.#sent < head.end) return;
        this.#segments.shift();
      }
    } catch {
      // EPIPE, ECONNRESET: nobody is there to take it.
      this.#break();
      return;
    }
    this.#delivered();
  }

  /** The sink has everything that was ready. */
  #delivered(): void {
    if (this.#raw) {
      this.#report('raw', this.#buffer.subarray(0, this.#filled), this.#filled);
      this.#reset();
    } else if (this.#size > 0 && this.#passed + this.#filled >= this.#size) {
      const kept = this.#beginning ?? this.#buffer.subarray(0, this.#size);
      this.#report(kept.length === this.#size ? 'whole' : 'cut', kept, this.#size);
      this.#expected = this.#size <= MAX_EXPECTED_BYTES ? this.#size : HEADER_BYTES;
      this.#reset(this.#filled - (this.#size - this.#passed));
    } else if (this.#filled === MAX_WHOLE_MESSAGE_BYTES || this.#passed > 0) {
      this.#beginning ??= this.#buffer.slice(0, MAX_CAPTURED_BYTES);
      this.#passed += this.#filled;
      this.#filled = 0;
      this.#sent = 0;
    }
    if (this.#sourceEnded) this.#finish();
  }

  /** `left`: bytes at the end of the buffer that begin the next message. */
  #reset(left = 0): void {
    if (left > 0) this.#buffer.copyWithin(0, this.#filled - left, this.#filled);
    this.#filled = left;
    this.#sent = 0;
    this.#size = 0;
    this.#passed = 0;
    this.#beginning = undefined;
  }

  #report(framing: Forwarded['framing'], bytes: Uint8Array, size: number): void {
    if (size > 0) this.#events.forwarded({ bytes, size, framing, atMs: this.#atMs });
  }

  #finish(): void {
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    const inside = this.#passed + this.#filled;
    this.#report('cut', this.#beginning ?? this.#buffer.subarray(0, this.#filled), inside);
    this.#reset();
    this.#closeFds();
  }

  #break(): void {
    if (this.#state === 'open') this.#state = 'broken';
    this.#closeFds();
  }

  #closeFds(): void {
    for (const { fds } of this.#segments) for (const fd of fds) this.#sys.close(fd);
    this.#segments = [];
    for (const fd of [...this.#fds, ...this.#fresh]) this.#sys.close(fd);
    this.#fds = [];
    this.#fresh = [];
  }
}
