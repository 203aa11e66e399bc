/** A control channel in the hands of a test: it says what it likes. */
import { setTimeout as sleep } from 'node:timers/promises';
import { LinuxError, linux } from '@emudev/linux';
import { MESSAGE_BYTES, SECRET_BYTES, decodeMessage, encodeMessage, type InitMessage, type MemifMessage } from '@emudev/net-memif';

export const INIT: InitMessage = { type: 'init', version: 0x0200, id: 0, mode: 0, secret: new Uint8Array(SECRET_BYTES), name: 'raw' };

export class RawPeer implements Disposable {
  readonly socket: number;

  /** Connects to a socket, or owns one that is connected. */
  constructor(socket: string | number) {
    this.socket = typeof socket === 'number' ? socket : linux.unixConnect(socket, { type: 'seqpacket' });
  }

  send(message: MemifMessage | Uint8Array, fds: readonly number[] = []): void {
    linux.sendmsg(this.socket, message instanceof Uint8Array ? message : encodeMessage(message), fds);
  }

  /** The next message; 'closed' at the end. Descriptors are closed. */
  async next(): Promise<MemifMessage | 'closed'> {
    const into = new Uint8Array(MESSAGE_BYTES);
    for (const deadline = performance.now() + 10_000; performance.now() < deadline; await sleep(1)) {
      try {
        const got = linux.recvmsg(this.socket, into, 8);
        if (got === undefined) continue;
        for (const fd of got.fds) linux.close(fd);
        return got.bytes === 0 ? 'closed' : decodeMessage(into.subarray(0, got.bytes));
      } catch (error) {
        if (error instanceof LinuxError && error.code === 'ECONNRESET') return 'closed';
        throw error;
      }
    }
    throw new Error('nothing came');
  }

  /** The reason of the DISCONNECT that is to come next but acknowledgements, and that the end follows. */
  async refusal(): Promise<string> {
    for (;;) {
      const message = await this.next();
      if (message === 'closed') return 'closed without a word';
      if (message.type !== 'disconnect') continue;
      const end = await this.next();
      return end === 'closed' ? message.reason : `${message.reason}, then ${end.type}`;
    }
  }

  [Symbol.dispose](): void {
    linux.close(this.socket);
  }
}
