/**
 * Doorbells: what a provider makes them of, and how the control thread hears any of them.
 *
 * | kind | rung by                                      | heard by                                                      |
 * | ---- | -------------------------------------------- | ------------------------------------------------------------- |
 * | mem  | a store into the word, by anybody            | polling; `watchDoorbell` too where the provider notifies (`trapped`) |
 * | fd   | a count added to the eventfd (KVM, a client) | `watchDoorbell`, poll(2)                                       |
 * | trap | the provider's register handler              | `watchDoorbell`                                               |
 *
 * A mem doorbell is made of a page in the window (see DoorbellPages of iavf-emu): there is nothing to own beyond the page.
 */
import { Window } from '@emudev/dma';
import { linux, OwnedFd, type Sys } from '@emudev/linux';
import type { DoorbellInfo } from './device.ts';
import { EmudevError } from './errors.ts';

/** A doorbell of kind `trap`. The provider's register handler rings it. */
export class TrapDoorbell implements Disposable {
  readonly info: DoorbellInfo & { readonly kind: 'trap' };
  readonly #subscribers = new Set<{ callback: (value: number) => void }>();
  readonly #onError: (error: unknown) => void;

  /** `onError` hears what a subscriber throws, e.g. `port.error`: a guest's store does not fail for it. */
  constructor(id: number, onError: (error: unknown) => void) {
    this.#onError = onError;
    this.info = {
      kind: 'trap',
      id,
      subscribe: (callback) => {
        const entry = { callback };
        this.#subscribers.add(entry);
        return { [Symbol.dispose]: () => { this.#subscribers.delete(entry); } };
      },
    };
  }

  /** The guest has stored `value`. Nobody listens: nothing happens, as with hardware whose queue is off. */
  ring(value: number): void {
    for (const entry of [...this.#subscribers]) {
      // One that another has just disposed of hears nothing any more.
      if (!this.#subscribers.has(entry)) continue;
      try {
        entry.callback(value);
      } catch (error) {
        this.#onError(error);
      }
    }
  }

  /** Forgets all subscribers: nobody is called back any more. */
  [Symbol.dispose](): void {
    this.#subscribers.clear();
  }
}

/** A doorbell of kind `fd`: an eventfd that a provider gives to its consumer (`PciDevice.ioFds`) and to the back end. */
export class FdDoorbell implements Disposable {
  readonly info: DoorbellInfo & { readonly kind: 'fd' };
  readonly #fd: OwnedFd;
  readonly #sys: Sys;

  /** LinuxError when there is no descriptor left. */
  constructor(id: number, sys: Sys = linux) {
    this.#sys = sys;
    this.#fd = new OwnedFd(sys.eventfd(), sys);
    this.info = { kind: 'fd', id, fd: this.#fd.fd };
  }

  /** For a provider whose guest's store has come as a message after all. */
  ring(): void {
    this.#sys.eventfdSignal(this.#fd.fd);
  }

  /** Whoever watches has stopped. */
  [Symbol.dispose](): void {
    this.#fd.close();
  }
}

/** How a doorbell is watched. */
export interface WatchDoorbellOptions {
  /** Keeps the process alive while it watches; false by default. */
  readonly ref?: boolean;
  readonly sys?: Sys;
  /** Where a mem doorbell's word lies; the process's window by default. */
  readonly i32?: Int32Array;
}

/**
 * Calls `onRing` on the control thread whenever the doorbell has rung, until disposed. `value` is what was stored, or undefined where an
 * eventfd cannot say. Rings that come together may be one call; the latest value is never missed. `onRing` must not throw. Dispose before
 * the doorbell's owner does.
 * EMUDEV_UNSUPPORTED for a mem doorbell of which nobody hears: poll its word.
 */
export function watchDoorbell(info: DoorbellInfo, onRing: (value: number | undefined) => void, options: WatchDoorbellOptions = {}): Disposable {
  switch (info.kind) {
    case 'trap':
      return info.subscribe(onRing);
    case 'fd':
      return watchFd(info.fd, onRing, options);
    case 'mem':
      if (!info.trapped) {
        throw new EmudevError('EMUDEV_UNSUPPORTED', `doorbell ${info.id} is a plain word of memory, of whose stores nobody hears: poll the word at window offset ${info.offset}`);
      }
      return watchWord(info.offset, onRing, options);
  }
}

function watchFd(fd: number, onRing: (value: number | undefined) => void, { sys = linux, ref = false }: WatchDoorbellOptions): Disposable {
  return sys.watch(fd, { readable: true }, () => {
    if (sys.eventfdDrain(fd) > 0) onRing(undefined);
  }, { ref });
}

/** The provider stores and notifies; what it stored before the wait began is found by comparing. */
function watchWord(offset: number, onRing: (value: number | undefined) => void, { i32, ref = false }: WatchDoorbellOptions): Disposable {
  const window = i32 === undefined ? Window.open() : undefined;
  const words = i32 ?? window!.i32;
  const word = offset >>> 2;
  let watching = true;
  // A wait alone does not keep the process alive.
  const alive = ref ? setInterval(() => {}, 0x7fff_ffff) : undefined;
  const listen = async (): Promise<void> => {
    let seen = Atomics.load(words, word);
    for (;;) {
      const waited = Atomics.waitAsync(words, word, seen);
      await waited.value;
      if (!watching) return;
      seen = Atomics.load(words, word);
      onRing(seen >>> 0);
    }
  };
  void listen();
  return {
    [Symbol.dispose]: () => {
      if (!watching) return;
      watching = false;
      clearInterval(alive);
      // Ends our own wait; another's look at the word costs it nothing.
      Atomics.notify(words, word);
      window?.[Symbol.dispose]();
    },
  };
}
