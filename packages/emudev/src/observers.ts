import { channel } from 'node:diagnostics_channel';
import type { EmudevEvents } from './device.ts';

/** `node:diagnostics_channel` that every event of every emulated device is published on, as `EmudevDiagnostic`. */
export const EMUDEV_DIAGNOSTICS = 'emudev.device';

/** One event, as it is published. */
export interface EmudevDiagnostic {
  readonly device: string;
  readonly event: keyof EmudevEvents;
  readonly args: readonly unknown[];
}

const diagnostics = channel(EMUDEV_DIAGNOSTICS);

type Observer = (...args: never[]) => void;

/** The observers of one device. They are told, not asked: one that throws is reported to the `error` observers and goes on. */
export class Observers {
  readonly #device: string;
  readonly #byEvent = new Map<keyof EmudevEvents, Set<Observer>>();

  constructor(device: string) {
    this.#device = device;
  }

  on<K extends keyof EmudevEvents>(event: K, observer: (...args: EmudevEvents[K]) => void): Disposable {
    // One wrapper per registration, so that registering a function twice takes two disposals.
    const entry: Observer = (...args) => { observer(...(args as EmudevEvents[K])); };
    const set = this.#byEvent.get(event) ?? new Set<Observer>();
    this.#byEvent.set(event, set);
    set.add(entry);
    return { [Symbol.dispose]: () => { set.delete(entry); } };
  }

  emit<K extends keyof EmudevEvents>(event: K, ...args: EmudevEvents[K]): void {
    if (diagnostics.hasSubscribers) diagnostics.publish({ device: this.#device, event, args } satisfies EmudevDiagnostic);
    for (const observer of [...(this.#byEvent.get(event) ?? [])]) {
      try {
        observer(...(args as never[]));
      } catch (error) {
        // An error observer that throws has nobody left to tell.
        if (event !== 'error') this.emit('error', error);
      }
    }
  }
}
