/** A client that knows only headers: it can say anything, in any pieces, with any descriptors. */
import { linux } from '@emudev/linux';

export interface Message {
  readonly id: number;
  readonly command: number;
  readonly size: number;
  readonly flags: number;
  readonly errno: number;
  readonly payload: Uint8Array;
  readonly fds: readonly number[];
}

export const REQUEST = 0;
export const REPLY = 1;
export const NO_REPLY = 0x10;
export const ERROR = 0x20;

export function header(id: number, command: number, size: number, flags: number = REQUEST, error = 0): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, id, true);
  view.setUint16(2, command, true);
  view.setUint32(4, size, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, error, true);
  return bytes;
}

export function message(id: number, command: number, payload: Uint8Array, flags: number = REQUEST): Uint8Array {
  return concat(header(id, command, 16 + payload.length, flags), payload);
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Little-endian fields: a number is a u32, a bigint a u64, bytes are themselves. */
export function fields(...values: readonly (number | bigint | Uint8Array)[]): Uint8Array {
  return concat(...values.map((value) => {
    if (value instanceof Uint8Array) return value;
    const bytes = new Uint8Array(typeof value === 'bigint' ? 8 : 4);
    if (typeof value === 'bigint') new DataView(bytes.buffer).setBigUint64(0, value, true);
    else new DataView(bytes.buffer).setUint32(0, value, true);
    return bytes;
  }));
}

export const u32 = (bytes: Uint8Array, at: number): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
export const u64 = (bytes: Uint8Array, at: number): bigint => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at, true);

export function version(json: string | undefined, major = 0, minor = 2): Uint8Array {
  const head = new Uint8Array(4);
  new DataView(head.buffer).setUint16(0, major, true);
  new DataView(head.buffer).setUint16(2, minor, true);
  return json === undefined ? head : concat(head, new TextEncoder().encode(`${json}\0`));
}

/** QEMU 10.1's proposal. */
export const QEMU_VERSION: Uint8Array = version('{"capabilities": {"migration": {"pgsize": 4096, "max_bitmap_size": 268435456}, "max_msg_fds": 16, "max_data_xfer_size": 1048576, "pgsizes": 4096, "max_dma_maps": 65535, "write_multiple": true}}', 0, 0);
export const CH_VERSION: Uint8Array = version('{"capabilities":{"max_msg_fds":1,"max_data_xfer_size":1048576,"migration":{"pgsize":4096}}}', 0, 1);
export const LVU_VERSION: Uint8Array = version('{"capabilities":{"max_msg_fds":32,"max_data_xfer_size":1024}}', 0, 2);

export class RawClient {
  readonly fd: number;
  /** Resolves when the server has closed the connection. */
  readonly closed: Promise<void>;
  #watch: Disposable | undefined;
  readonly #queue: Message[] = [];
  readonly #waiters: ((m: Message | undefined) => void)[] = [];
  readonly #buffer = new Uint8Array(new ArrayBuffer(1 << 21));
  #bytes: Uint8Array = new Uint8Array(0);
  #fds: number[] = [];
  #end!: () => void;
  #ended = false;
  #open = true;
  #id = 1;

  constructor(fd: number) {
    this.fd = fd;
    this.closed = new Promise((resolve) => { this.#end = resolve; });
    this.reading = true;
  }

  set reading(on: boolean) {
    this.#watch?.[Symbol.dispose]();
    this.#watch = on ? linux.watch(this.fd, { readable: true }, () => { this.#receive(); }) : undefined;
  }

  static connect(path: string): RawClient {
    return new RawClient(linux.unixConnect(path));
  }

  send(bytes: Uint8Array, fds: readonly number[] = []): void {
    const sent = linux.sendmsg(this.fd, bytes, fds);
    if (sent !== bytes.length) throw new Error(`sent ${String(sent)} of ${bytes.length} bytes`);
  }

  /** As `send`, when the socket has room. */
  async sendPatiently(bytes: Uint8Array, fds: readonly number[] = []): Promise<void> {
    while (linux.sendmsg(this.fd, bytes, fds) === undefined) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Sends and awaits the next message, which must be the reply to it. */
  async request(command: number, payload: Uint8Array, fds: readonly number[] = []): Promise<Message> {
    const id = this.#id++;
    this.send(message(id, command, payload), fds);
    const reply = await this.next();
    if (reply.id !== id || reply.command !== command || (reply.flags & 15) !== REPLY) throw new Error(`expected the reply to ${command}/${id}, got ${reply.command}/${reply.id} flags ${reply.flags}`);
    return reply;
  }

  /** errno of the reply, 0 for success. */
  async errno(command: number, payload: Uint8Array, fds: readonly number[] = []): Promise<number> {
    const reply = await this.request(command, payload, fds);
    for (const fd of reply.fds) linux.close(fd);
    return (reply.flags & ERROR) === 0 ? 0 : reply.errno;
  }

  async next(): Promise<Message> {
    const queued = this.#queue.shift();
    if (queued !== undefined) return queued;
    if (this.#ended) throw new Error('the server has closed the connection');
    const got = await new Promise<Message | undefined>((resolve) => this.#waiters.push(resolve));
    if (got === undefined) throw new Error('the server has closed the connection');
    return got;
  }

  /** Messages received and not yet taken. */
  get received(): number {
    return this.#queue.length;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.reading = false;
    for (const { fds } of this.#queue) for (const fd of fds) linux.close(fd);
    linux.close(this.fd);
  }

  #receive(): void {
    let got;
    try {
      got = linux.recvmsg(this.fd, this.#buffer, 16);
    } catch {
      got = { bytes: 0, fds: [] };
    }
    if (got === undefined) return;
    if (got.bytes === 0) {
      this.reading = false;
      this.#ended = true;
      this.#end();
      for (const waiter of this.#waiters.splice(0)) waiter(undefined);
      return;
    }
    this.#bytes = concat(this.#bytes, this.#buffer.subarray(0, got.bytes));
    this.#fds.push(...got.fds);
    while (this.#bytes.length >= 16 && this.#bytes.length >= u32(this.#bytes, 4)) {
      const size = u32(this.#bytes, 4);
      const view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset);
      const m: Message = {
        id: view.getUint16(0, true), command: view.getUint16(2, true), size, flags: view.getUint32(8, true), errno: view.getUint32(12, true),
        payload: this.#bytes.slice(16, size), fds: this.#fds,
      };
      this.#fds = [];
      this.#bytes = this.#bytes.slice(size);
      const waiter = this.#waiters.shift();
      if (waiter === undefined) this.#queue.push(m);
      else waiter(m);
    }
  }
}
