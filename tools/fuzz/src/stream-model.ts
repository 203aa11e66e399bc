/**
 * What a peer must make of the bytes sent to it: which of them are commands that have to be answered, in which order. Written apart
 * from the framing of the protocol package, so that the two cannot share a mistake.
 *
 * | state   | 16 bytes of header are there                       | payload is complete        |
 * | ------- | -------------------------------------------------- | -------------------------- |
 * | header  | size within bounds → payload; else → broken        | –                          |
 * | payload | –                                                  | expected answer noted, → header |
 * | broken  | forbidden: the peer closes                        | forbidden                  |
 */
const HEADER_BYTES = 16;
const TYPE_MASK = 15;
const REPLY = 1;
const NO_REPLY = 16;

export interface Expected {
  readonly id: number;
  readonly command: number;
}

export class StreamModel {
  /** Commands without an answer yet, oldest first. */
  readonly expected: Expected[] = [];
  messages = 0;
  broken = false;
  #maxBytes: number;
  readonly #header = new Uint8Array(HEADER_BYTES);
  readonly #view = new DataView(this.#header.buffer);
  #have = 0;
  #payloadLeft = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  set maxBytes(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes until the message that has begun is complete. */
  get missing(): number {
    if (this.#have === 0) return 0;
    return this.#have < HEADER_BYTES ? HEADER_BYTES - this.#have : this.#payloadLeft;
  }

  feed(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length && !this.broken) {
      if (this.#have < HEADER_BYTES) {
        this.#header[this.#have++] = bytes[at++]!;
        if (this.#have === HEADER_BYTES) this.#headerDone();
      } else {
        const take = Math.min(this.#payloadLeft, bytes.length - at);
        at += take;
        this.#payloadLeft -= take;
        if (this.#payloadLeft === 0) this.#messageDone();
      }
    }
  }

  #headerDone(): void {
    const size = this.#view.getUint32(4, true);
    if (size < HEADER_BYTES || size > this.#maxBytes) {
      this.broken = true;
      return;
    }
    this.#payloadLeft = size - HEADER_BYTES;
    if (this.#payloadLeft === 0) this.#messageDone();
  }

  #messageDone(): void {
    this.#have = 0;
    this.messages++;
    const flags = this.#view.getUint32(8, true);
    if ((flags & TYPE_MASK) !== REPLY && (flags & NO_REPLY) === 0) this.expected.push({ id: this.#view.getUint16(0, true), command: this.#view.getUint16(2, true) });
  }
}
