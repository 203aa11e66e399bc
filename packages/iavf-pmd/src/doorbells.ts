import type { Window } from '@emudev/dma';
import { OwnedFd, type Sys } from '@emudev/linux';
import { MAX_QUEUE_PAIRS } from './limits.ts';
import { QRX_TAIL1, QTX_TAIL1 } from './registers.ts';
import type { IavfTransport } from './transport.ts';

/** How an lcore tells the control thread that a tail has moved: plain data for its init. */
export interface DoorbellRelay {
  /** Int32 index of the cell that is 1 while the control thread has not looked yet. */
  readonly dirty: number;
  /** Eventfd to signal when the cell went from 0 to 1. */
  readonly fd: number;
}

/**
 * Where tails are stored. With the device's page in the window a store is all there is to it. Without (the device traps its
 * doorbells) lcores store into a shadow and this object forwards what has changed as posted register writes: one message per tail
 * and turn of the event loop, hundreds of times slower than a store. It works; it is not for traffic.
 */
export class Doorbells implements Disposable {
  readonly relay: DoorbellRelay | undefined;
  readonly #transport: IavfTransport;
  readonly #window: Window;
  readonly #shadow: number;
  readonly #fd: OwnedFd | undefined;
  readonly #watch: Disposable | undefined;
  readonly #forwarded = new Map<number, number>();
  #forwarding = false;
  #closed = false;

  constructor(transport: IavfTransport, window: Window, sys: Sys) {
    this.#transport = transport;
    this.#window = window;
    this.#shadow = window.alloc((2 * MAX_QUEUE_PAIRS + 1) * 4, 64);
    if (transport.doorbells !== undefined) return;
    const fd = new OwnedFd(sys.eventfd(), sys);
    this.#fd = fd;
    this.relay = { dirty: (this.#shadow >>> 2) + 2 * MAX_QUEUE_PAIRS, fd: fd.fd };
    this.#watch = sys.watch(fd.fd, { readable: true }, () => {
      sys.eventfdDrain(fd.fd);
      void this.#forward();
    }, { ref: false });
  }

  /** Window offset of the word an lcore stores the tail in. */
  tx(queue: number): number {
    return this.#transport.doorbells === undefined ? this.#shadow + 4 * queue : this.#transport.doorbells.tx + 4 * queue;
  }

  rx(queue: number): number {
    return this.#transport.doorbells === undefined ? this.#shadow + 4 * (MAX_QUEUE_PAIRS + queue) : this.#transport.doorbells.rx + 4 * queue;
  }

  /** For the control thread, while the queue's lcore is out of the way. */
  async ring(at: number, value: number): Promise<void> {
    Atomics.store(this.#window.u32, at >>> 2, value);
    if (this.relay === undefined) return;
    this.#forwarded.set(at, value);
    await this.#transport.write32(this.#registerOf(at), value);
  }

  #registerOf(at: number): number {
    const index = (at - this.#shadow) / 4;
    return index < MAX_QUEUE_PAIRS ? QTX_TAIL1 + 4 * index : QRX_TAIL1 + 4 * (index - MAX_QUEUE_PAIRS);
  }

  async #forward(): Promise<void> {
    if (this.#forwarding) return;
    this.#forwarding = true;
    const { u32, i32 } = this.#window;
    try {
      // Cleared before the tails are read: a store after that sets it again.
      while (!this.#closed && Atomics.exchange(i32, this.relay!.dirty, 0) !== 0) {
        for (let at = this.#shadow; at < this.#shadow + 8 * MAX_QUEUE_PAIRS; at += 4) {
          const tail = Atomics.load(u32, at >>> 2);
          if (tail === (this.#forwarded.get(at) ?? 0)) continue;
          this.#forwarded.set(at, tail);
          // Resolves when the message has left: a device that does not read slows the relay down, not the memory up.
          await this.#transport.post32(this.#registerOf(at), tail);
          if (this.#closed) return;
        }
      }
    } catch {
      // The connection has gone; whoever owns it hears of that by itself.
    } finally {
      this.#forwarding = false;
    }
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch?.[Symbol.dispose]();
    this.#fd?.close();
    this.#window.free(this.#shadow);
  }
}
