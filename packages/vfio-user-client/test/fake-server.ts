/** The other end of a socket pair: scripted, or a small device. Speaks raw frames, so it can lie. */
import { linux } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { FrameReader } from '@emudev/vfio-user-protocol';
import type { Frame } from '@emudev/vfio-user-protocol';
import { VfioUserClient } from '../src/index.ts';
import type { ConnectOptions } from '../src/index.ts';

export type Handler = (frame: Frame, server: FakeServer) => void;

/** What the server announces unless a test says otherwise. */
export const ANNOUNCED: p.Capabilities = { maxMsgFds: 4, maxDataXferSize: 64 };

export class FakeServer implements Disposable {
  /** Every frame since the greeting. */
  readonly seen: Frame[] = [];
  readonly #fd: number;
  #watch: Disposable | undefined;
  #closed = false;
  #ended: () => void = () => {};
  /** Resolves when the client has closed its end. */
  readonly ended: Promise<void> = new Promise<void>((resolve) => (this.#ended = resolve));

  readonly #handler: Handler;
  readonly #reader = new FrameReader({ maxFrameBytes: p.MAX_FRAME_BYTES, maxFds: 253 });

  constructor(fd: number, handler: Handler) {
    this.#fd = fd;
    this.#handler = handler;
    this.hear();
  }

  /** Reads (again). */
  hear(): void {
    const buffer = new Uint8Array(65_536);
    this.#watch = linux.watch(this.#fd, { readable: true }, () => {
      const got = linux.recvmsg(this.#fd, buffer, 253);
      if (got === undefined) return;
      if (got.bytes === 0) this.close();
      else for (const frame of this.#reader.push(buffer.subarray(0, got.bytes), got.fds).frames) {
        this.seen.push(frame);
        this.#handler(frame, this);
      }
    });
  }

  send(bytes: Uint8Array, fds: readonly number[] = []): void {
    const sent = linux.sendmsg(this.#fd, bytes, fds);
    if (sent !== bytes.length) throw new Error(`the pair took ${sent} of ${bytes.length} bytes`);
  }

  reply(to: Frame, payload: Uint8Array = new Uint8Array(0), fds: readonly number[] = []): void {
    this.send(p.encodeMessage(to.id, to.command, p.VFIO_USER_F_TYPE_REPLY, payload), fds);
  }

  refuse(to: Frame, errno: number): void {
    this.send(p.encodeErrorReply(to.id, to.command, errno));
  }

  /** Does not read any more. */
  deafen(): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.deafen();
    linux.close(this.#fd);
    for (const frame of this.seen) for (const fd of frame.fds) linux.close(fd);
    this.#ended();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Answers VERSION and the first DEVICE_GET_INFO properly and leaves the rest to `handler`. */
export function greet(handler: Handler, info: p.DeviceInfo = { flags: 3, numRegions: 9, numIrqs: 5 }, capabilities: p.Capabilities = ANNOUNCED): Handler {
  let introduced = false;
  return (frame, server) => {
    if (frame.command === p.VFIO_USER_VERSION) server.reply(frame, p.encodeVersion({ major: 0, minor: 2, capabilities: { ...ANNOUNCED, ...capabilities } }));
    else if (frame.command === p.VFIO_USER_DEVICE_GET_INFO && !introduced) {
      introduced = true;
      server.reply(frame, p.encodeDeviceInfo(info));
    } else handler(frame, server);
  };
}

export interface Attached extends Disposable {
  readonly client: VfioUserClient;
  readonly server: FakeServer;
}

/** A client attached to `handler` (behind the greeting). */
export async function attach(handler: Handler, options: ConnectOptions = {}, capabilities: p.Capabilities = ANNOUNCED): Promise<Attached> {
  const [ours, theirs] = linux.unixSocketPair();
  const server = new FakeServer(theirs, greet(handler, undefined, capabilities));
  try {
    const client = await VfioUserClient.connect({ fd: ours }, options);
    server.seen.splice(0);
    return {
      client,
      server,
      [Symbol.dispose]: () => {
        client.close();
        server.close();
      },
    };
  } catch (error) {
    server.close();
    throw error;
  }
}

/** A client whose very first answers come from `handler`. */
export async function connectTo(handler: Handler, options: ConnectOptions = {}): Promise<VfioUserClient> {
  const [ours, theirs] = linux.unixSocketPair();
  using _server = new FakeServer(theirs, handler);
  return await VfioUserClient.connect({ fd: ours }, options);
}

/** Everything an iterable yields. */
export async function collect<T>(from: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const each of from) all.push(each);
  return all;
}
