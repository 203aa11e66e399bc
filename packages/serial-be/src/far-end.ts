/** What a port is connected to: a pseudo terminal, a socket, standard input and output. */

/** The other end of the line, for the back end. */
export interface FarEnd {
  /** Where a person finds it. */
  readonly place: string;
  /** It is standard input and output of this process. */
  readonly ownsStdio?: boolean;
  /** Takes (copies) what it can at once, and says how many bytes. Fewer than all: `writable` is called when there may be room. Only while somebody is there. */
  write(bytes: Uint8Array): number;
  /** Bytes come by `data` from now on, or stop coming; what has been read already may still come. Off at first. */
  setReading(on: boolean): void;
  /** Nothing is left behind. No event comes after it. */
  close(): void;
}

/** What a far end reports. */
export interface FarEndEvents {
  /** Somebody has come, or has gone. Nobody is there at first. */
  present(present: boolean): void;
  /** At most READ_BYTES; valid during the call. */
  data(bytes: Uint8Array): void;
  /** After a `write` that took fewer bytes than all: there may be room again. */
  writable(): void;
  /** The far end sends a break, behind the bytes before it. */
  break(): void;
  /** Something that somebody may want to know of; nothing stops for it. */
  report(event: 'refused' | 'failed', message: string): void;
}
