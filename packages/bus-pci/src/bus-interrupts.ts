/** `BusDevice.interrupts`: who hears of a device's interrupts. */
import type { Sys } from '@emudev/linux';
import { VFIO_IRQ_INFO_AUTOMASKED, VFIO_PCI_MSIX_IRQ_INDEX } from '@emudev/vfio-user-protocol';
import { BusError } from './errors.ts';
import { InterruptListener } from './interrupt-listener.ts';
import type { BusInterrupt, InterruptOptions } from './interrupt-listener.ts';
import { MAX_IRQ_VECTORS } from './limits.ts';
import type { BusInterruptInfo, PciTransport } from './transport.ts';

/** Indexes are VFIO's: 0 INTx, 1 MSI, 2 MSI-X, 3 error, 4 request. A function uses one of the first three at a time. */
export class BusInterrupts {
  readonly #transport: PciTransport;
  readonly #sys: Sys;
  readonly #listeners = new Set<InterruptListener>();
  /** What is connected: descriptor by vector, by index. */
  readonly #connected = new Map<number, Map<number, number>>();
  /** Vectors of INTx, MSI or MSI-X that the device has set up; it takes a `clear` to set up others. */
  #enabled: { readonly index: number; readonly vectors: number } | undefined;
  #changing: Promise<unknown> = Promise.resolve();
  /** Why nobody is signalled any more. */
  #ended: BusError | undefined;

  /** For `BusDevice`. */
  constructor(transport: PciTransport, sys: Sys) {
    this.#transport = transport;
    this.#sys = sys;
  }

  /** Vectors and VFIO_IRQ_INFO_* flags of an index. */
  info(index: number): Promise<BusInterruptInfo> {
    return this.#transport.interrupt(index);
  }

  /**
   * The device signals `fds[i]` for vector `start + i` (-1 disconnects). The descriptors stay the caller's, and open until they are disconnected.
   * What an earlier call for the index (or for another one, of which nothing is connected any more) has set up is cleared where that is needed.
   */
  setEventfds(index: number, start: number, fds: readonly number[]): Promise<void> {
    return this.#change(() => this.#connect(index, start, fds));
  }

  /** Disconnects all vectors of an index. */
  clear(index: number): Promise<void> {
    return this.#change(() => this.#clear(index));
  }

  /** Holds vectors back. */
  mask(index: number, start: number, count = 1): Promise<void> {
    return this.#transport.maskInterrupts(index, start, count, true);
  }

  /** Lets vectors through again. */
  unmask(index: number, start: number, count = 1): Promise<void> {
    return this.#transport.maskInterrupts(index, start, count, false);
  }

  /**
   * Calls back with the interrupts of these vectors until the listener is disposed of. A vector is called back for once at a time: what comes
   * meanwhile adds up. Where the device masks as it signals (INTx) it is unmasked when the callback is done.
   */
  async onInterrupt(index: number, vectors: readonly number[], callback: (interrupt: BusInterrupt) => void | Promise<void>, options: InterruptOptions = {}): Promise<InterruptListener> {
    if (vectors.length === 0 || new Set(vectors).size !== vectors.length) throw new BusError('ERR_BUS_ARGUMENT', 'vectors to listen to: at least one, each once');
    const { count, flags } = await this.info(index);
    const outside = vectors.find((vector) => !Number.isInteger(vector) || vector < 0 || vector >= Math.min(count, MAX_IRQ_VECTORS));
    if (outside !== undefined) throw new BusError('ERR_BUS_RANGE', `vector ${outside} of interrupt index ${index}, which has ${count}`);
    const listener = new InterruptListener(this.#sys, vectors, callback, options, {
      unmask: (flags & VFIO_IRQ_INFO_AUTOMASKED) === 0 ? undefined : (vector) => this.unmask(index, vector),
      disconnect: (eventfds) => this.#disconnect(index, eventfds),
      closed: () => { this.#listeners.delete(listener); },
    });
    this.#listeners.add(listener);
    try {
      await this.#change(() => {
        // It had to wait for its turn, and has no eventfds any more.
        if (this.#ended !== undefined) throw this.#ended;
        return this.#connectAll(index, listener.eventfds);
      });
    } catch (error) {
      listener.end();
      throw error;
    }
    return listener;
  }

  /** For `BusDevice`: the device has ended, and signals nobody any more. `error`: what the listeners are told; undefined where that was asked for. */
  end(error?: BusError): void {
    this.#ended ??= error ?? new BusError('ERR_BUS_CLOSED', 'the device is closed');
    for (const listener of [...this.#listeners]) listener.end(error);
    this.#connected.clear();
  }

  /** One call from the lowest to the highest vector: the device may set up no more later. Between them others may be connected. */
  #connectAll(index: number, eventfds: ReadonlyMap<number, number>): Promise<void> {
    const start = Math.min(...eventfds.keys());
    const count = Math.max(...eventfds.keys()) - start + 1;
    const others = this.#connected.get(index);
    return this.#connect(index, start, Array.from({ length: count }, (_, i) => eventfds.get(start + i) ?? others?.get(start + i) ?? -1));
  }

  async #connect(index: number, start: number, fds: readonly number[]): Promise<void> {
    const exclusive = index <= VFIO_PCI_MSIX_IRQ_INDEX;
    const enabled = exclusive ? this.#enabled : undefined;
    const end = start + fds.length;
    // Only then: there are devices to which a second clear does harm (the sample mtty of Linux 6.1).
    if (enabled !== undefined && (this.#connected.get(enabled.index)?.size ?? 0) === 0 && (enabled.index !== index || end > enabled.vectors)) await this.#clear(enabled.index);
    await this.#transport.setInterrupts(index, start, fds);
    const connected = this.#connected.get(index) ?? new Map<number, number>();
    this.#connected.set(index, connected);
    fds.forEach((fd, i) => {
      if (fd === -1) connected.delete(start + i);
      else connected.set(start + i, fd);
    });
    if (exclusive) this.#enabled = { index, vectors: Math.max(end, this.#enabled?.index === index ? this.#enabled.vectors : 0) };
  }

  async #clear(index: number): Promise<void> {
    await this.#transport.clearInterrupts(index);
    this.#connected.delete(index);
    if (this.#enabled?.index === index) this.#enabled = undefined;
  }

  /** Those that are still this listener's. */
  #disconnect(index: number, eventfds: ReadonlyMap<number, number>): Promise<void> {
    return this.#change(async () => {
      for (const [vector, fd] of eventfds) {
        if (this.#connected.get(index)?.get(vector) === fd) await this.#connect(index, vector, [-1]);
      }
    });
  }

  #change<T>(change: () => Promise<T>): Promise<T> {
    const changed = this.#changing.then(change);
    this.#changing = changed.catch(() => {});
    return changed;
  }
}
