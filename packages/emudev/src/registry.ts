import type { Emudev, EmudevProvider, ProviderPort } from './device.ts';
import { systemClock, type Deadlines, type EmudevClock } from './clock.ts';
import { EmulatedDevice } from './emulated-device.ts';
import { EmudevError } from './errors.ts';
import { HOOK_DEADLINE_MS, LOCK_DEADLINE_MS, MAX_DEVICE_NAME, MAX_DEVICES } from './limits.ts';
import type { EmudevRegistryLike } from './vdev.ts';

/** Deadlines of every device of a registry, in milliseconds. */
export interface EmudevRegistryOptions {
  /** How long a back end may take to lock before `lock` and `suspend` reject with EMUDEV_TIMEOUT; `LOCK_DEADLINE_MS` by default. */
  readonly lockDeadlineMs?: number;
  /** How long any other hook may take before it counts as failed with EMUDEV_TIMEOUT and the device goes on; `HOOK_DEADLINE_MS` by default. */
  readonly hookDeadlineMs?: number;
  /** What these are measured with; the process's timers by default. */
  readonly clock?: EmudevClock;
}

/** The emulated devices of a process (or of a test). Names are unique while in use; an id is never used twice. */
export class EmudevRegistry implements EmudevRegistryLike {
  readonly #byName = new Map<string, EmulatedDevice>();
  readonly #deadlines: Deadlines;
  #nextId = 0;

  constructor(options: EmudevRegistryOptions = {}) {
    this.#deadlines = { lockDeadlineMs: LOCK_DEADLINE_MS, hookDeadlineMs: HOOK_DEADLINE_MS, clock: systemClock, ...options };
  }

  /** Reserves `name` for a provider's device. EMUDEV_EXISTS, EMUDEV_BAD_ARG (name), EMUDEV_RANGE (too many). */
  allocate(name: string, provider: EmudevProvider): ProviderPort {
    if (!/^[\w.:-]+$/.test(name) || name.length > MAX_DEVICE_NAME) {
      throw new EmudevError('EMUDEV_BAD_ARG', `a device name is 1..${MAX_DEVICE_NAME} letters, digits, '_', '.', ':' or '-', not '${name}'`);
    }
    if (this.#byName.has(name)) throw new EmudevError('EMUDEV_EXISTS', `there is an emulated device ${name} already`);
    if (this.#byName.size >= MAX_DEVICES) throw new EmudevError('EMUDEV_RANGE', `there are ${MAX_DEVICES} emulated devices already, which is the limit`);
    const device = new EmulatedDevice(name, this.#nextId++, provider, this.#deadlines);
    this.#byName.set(name, device);
    return device.port;
  }

  /** Frees the name. The device is closed, or was never configured: EMUDEV_BAD_STATE otherwise. */
  release(name: string): void {
    const device = this.#byName.get(name);
    if (device === undefined) throw new EmudevError('EMUDEV_NOENT', `there is no emulated device ${name}`);
    if (device.state !== 'closed' && device.state !== 'allocated') {
      throw new EmudevError('EMUDEV_BAD_STATE', `${name} is ${device.state}: close it before releasing it`);
    }
    this.#byName.delete(name);
  }

  /** The device of this name, in whatever state; undefined where there is none. */
  byName(name: string): Emudev | undefined {
    return this.#byName.get(name);
  }

  /** The device with this `info.id`; undefined where there is none, or it was released. */
  byId(id: number): Emudev | undefined {
    return this.list().find((device) => device.info.id === id);
  }

  /** All devices that were not released, in the order of their allocation. */
  list(): readonly Emudev[] {
    return [...this.#byName.values()];
  }
}
