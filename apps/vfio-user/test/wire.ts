/** Both ends of a proxied connection as raw bytes and descriptors, for tests. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { linux, type Sys } from '@emudev/linux';
import type { ObservedMessage, TraceObserver } from '../src/trace/observed.ts';
import { TraceProxy } from '../src/trace/proxy.ts';

export function temporaryFolder(): { readonly path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), 'vfio-user-'));
  return { path, [Symbol.dispose]: () => { rmSync(path, { recursive: true, force: true }); } };
}

/** Waits for a condition that no event announces. */
export async function until(condition: () => boolean, what: string, ms = 10_000): Promise<void> {
  for (const end = performance.now() + ms; !condition();) {
    if (performance.now() > end) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A socket read to the last byte: what came, and on which byte descriptors came. */
export class Raw {
  readonly fd: number;
  readonly got: number[] = [];
  /** Offset of the receive that brought them, and the sizes of the (memory) files. */
  readonly files: { readonly at: number; readonly sizes: readonly number[] }[] = [];
  ended = false;
  readonly #buffer = new Uint8Array(new ArrayBuffer(1 << 16));

  constructor(fd: number) {
    this.fd = fd;
  }

  /** One receive of at most `want` bytes; false: nothing there. */
  read(want: number = this.#buffer.length): boolean {
    if (this.ended) return false;
    let got;
    try {
      got = linux.recvmsg(this.fd, this.#buffer.subarray(0, want), 253);
    } catch {
      got = { bytes: 0, fds: [] };
    }
    if (got === undefined) return false;
    if (got.bytes === 0) this.ended = true;
    if (got.fds.length > 0) this.files.push({ at: this.got.length, sizes: got.fds.map((fd) => linux.fstat(fd).sizeBytes) });
    for (const fd of got.fds) linux.close(fd);
    for (let i = 0; i < got.bytes; i++) this.got.push(this.#buffer[i]!);
    return true;
  }

  /** Sends all of it, waiting for room. */
  async send(bytes: Uint8Array, fds: readonly number[] = []): Promise<void> {
    let sent = 0;
    let left = fds;
    await until(() => {
      const n = linux.sendmsg(this.fd, Uint8Array.from(bytes.subarray(sent)), left);
      if (n === undefined) return false;
      sent += n;
      left = [];
      return sent === bytes.length;
    }, 'sending');
  }
}

export interface Recorded extends TraceObserver {
  readonly messages: ObservedMessage[];
  readonly anomalies: string[];
  readonly ends: string[];
}

export function recorder(): Recorded {
  const messages: ObservedMessage[] = [];
  const anomalies: string[] = [];
  const ends: string[] = [];
  return {
    messages, anomalies, ends,
    opened: () => {},
    message: (message) => { messages.push(message); },
    anomaly: (_session, _channel, _from, what) => { anomalies.push(what); },
    closed: (_session, why) => { ends.push(why); },
  };
}

export interface Proxied extends Disposable {
  readonly client: Raw;
  readonly server: Raw;
  readonly proxy: TraceProxy;
  readonly seen: Recorded;
  readonly listen: string;
  readonly connect: string;
  readonly listener: number;
  /** Another client and its server. */
  another(): Promise<{ readonly client: Raw; readonly server: Raw }>;
}

/** A client and a server with the proxy between them. */
export async function proxied(spinUs = 0, sys: Sys = linux): Promise<Proxied> {
  const folder = temporaryFolder();
  const listen = join(folder.path, 'listen');
  const connect = join(folder.path, 'connect');
  const listener = linux.unixListen(connect, 8);
  const seen = recorder();
  const proxy = new TraceProxy({ listen, connect, observer: seen, spinUs, sys });
  const open: Raw[] = [];
  const another = async (): Promise<{ client: Raw; server: Raw }> => {
    const client = new Raw(linux.unixConnect(listen));
    open.push(client);
    let fd: number | undefined;
    await until(() => (fd = linux.unixAccept(listener)) !== undefined, 'the proxy connects');
    const server = new Raw(fd!);
    open.push(server);
    return { client, server };
  };
  const first = await another();
  return {
    ...first, proxy, seen, listen, connect, listener, another,
    [Symbol.dispose]: () => {
      proxy[Symbol.dispose]();
      for (const { fd } of open) if (linux.isValidFd(fd)) linux.close(fd);
      linux.close(listener);
      folder[Symbol.dispose]();
    },
  };
}

export function memfd(lengthBytes: number, name = 'ram'): number {
  const fd = linux.memfdCreate(name, { allowSealing: true });
  linux.ftruncate(fd, lengthBytes);
  return fd;
}
