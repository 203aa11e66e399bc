/**
 * Makes and removes mediated devices: `create` and `remove` below a parent's `mdev_supported_types`
 * (Documentation/driver-api/vfio-mediated-device.rst of Linux).
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { parseUuid } from './address.ts';
import { parseDecimal } from './attributes.ts';
import { BusError, quoted } from './errors.ts';
import type { BusErrorCode } from './errors.ts';
import { MDEV_READY_POLL_MS, MDEV_REMOVE_TIMEOUT_MS } from './limits.ts';
import { MDEV_DEVICES } from './scan-mdev.ts';
import type { Sysfs, SysfsPath } from './sysfs.ts';
import { within } from './time-limit.ts';
import { iommuGroupOf, vfioObstacle } from './vfio-node.ts';

/** A type of mediated device that a parent makes. */
export interface MdevType {
  readonly parent: string;
  /** `mtty-2`: the parent's driver and its name for the type. */
  readonly id: string;
  /** `vfio-pci` of those that are PCI functions. */
  readonly api: string;
  /** How many more can be made. The types of one parent draw on the same resources: making one changes the others. */
  readonly available: number;
  /** Not every parent has these two. */
  readonly name?: string;
  readonly description?: string;
  /** UUIDs of the devices of this type. */
  readonly devices: readonly string[];
  /** Why none can be made: its files cannot be read, or say something malformed. `available` is 0 then, and `api` and `devices` are empty. */
  readonly unusable?: string;
}

const PARENTS: SysfsPath = ['class', 'mdev_bus'];

/** What `create` fails with: the parent's driver chooses how it says that nothing is left. */
const CREATE_ERRORS: ReadonlyMap<number, BusErrorCode> = new Map([
  [17, 'ERR_BUS_MDEV_EXISTS'], // EEXIST
  [22, 'ERR_BUS_MDEV_BAD_UUID'], // EINVAL
  [28, 'ERR_BUS_MDEV_NO_INSTANCES'], // ENOSPC
  [87, 'ERR_BUS_MDEV_NO_INSTANCES'], // EUSERS
  [12, 'ERR_BUS_MDEV_NO_INSTANCES'], // ENOMEM
  [2, 'ERR_BUS_MDEV_GONE'], // ENOENT
  [19, 'ERR_BUS_MDEV_GONE'], // ENODEV
]);
/** ENOENT, ENODEV, EAGAIN: somebody else is removing it, or has. */
const REMOVE_ERRORS: ReadonlyMap<number, BusErrorCode> = new Map([2, 19, 11].map((errno) => [errno, 'ERR_BUS_MDEV_GONE']));

/** The mediated devices of a machine. Errors of the system that have no code of their own are ERR_BUS_SYSFS. */
export class MdevManager {
  readonly #sysfs: Sysfs;

  constructor(sysfs: Sysfs) {
    this.#sysfs = sysfs;
  }

  /** The names of the devices that can make mediated ones; none where the kernel has no mdev. */
  async parents(): Promise<readonly string[]> {
    return await this.#sysfs.list(PARENTS) ?? [];
  }

  /** The types of one parent, those included that cannot be used (`unusable`). ERR_BUS_MDEV_GONE where there is no such parent. */
  async types(parent: string): Promise<readonly MdevType[]> {
    const ids = await this.#sysfs.list([...PARENTS, parent, 'mdev_supported_types']);
    if (ids === undefined) throw new BusError('ERR_BUS_MDEV_GONE', `there is no parent ${quoted(parent)} of mediated devices`);
    const types: MdevType[] = [];
    for (const id of ids) {
      const type = await this.#type(parent, id).catch((error: unknown) => unusable(parent, id, error));
      if (type !== undefined) types.push(type);
    }
    return types;
  }

  async #type(parent: string, id: string): Promise<MdevType | undefined> {
    const read = (attribute: string): Promise<string | undefined> => this.#sysfs.read([...typePath(parent, id), attribute]);
    const [api, available, name, description] = [await read('device_api'), await read('available_instances'), await read('name'), await read('description')];
    const devices = await this.#sysfs.list([...typePath(parent, id), 'devices']);
    // The parent may be unloaded meanwhile.
    if (api === undefined || available === undefined) return undefined;
    return {
      parent, id, api, available: parseDecimal(available, 0, `available_instances of ${id}`), devices: devices ?? [],
      ...(name === undefined ? {} : { name }),
      ...(description === undefined ? {} : { description }),
    };
  }

  /**
   * Makes a device and resolves to its UUID, a new one unless given. It is there then; `waitReady` says when it can be opened. ERR_BUS_MDEV_EXISTS,
   * ERR_BUS_MDEV_BAD_UUID, ERR_BUS_MDEV_NO_INSTANCES, ERR_BUS_MDEV_GONE.
   */
  async create(parent: string, type: string, uuid: string = randomUUID()): Promise<string> {
    let canonical: string;
    try {
      canonical = parseUuid(uuid);
    } catch (cause) {
      throw new BusError('ERR_BUS_MDEV_BAD_UUID', (cause as Error).message, { cause });
    }
    try {
      await this.#sysfs.write([...typePath(parent, type), 'create'], canonical);
    } catch (error) {
      throw renamed(error, CREATE_ERRORS, `${parent} does not make a ${type} ${canonical}`);
    }
    return canonical;
  }

  /**
   * Resolves when the device is bound to its driver and VFIO's node for it is there. ERR_BUS_MDEV_GONE where there is no such
   * device, ERR_BUS_MDEV_BUSY with what is still missing after `timeoutMs`.
   */
  async waitReady(uuid: string, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const path = devicePath(uuid);
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const missing = await this.#missing(path);
      if (missing === undefined) return;
      if (performance.now() >= deadline) throw new BusError('ERR_BUS_MDEV_BUSY', `${uuid} is not ready after ${timeoutMs} ms: ${missing}`);
      await delay(MDEV_READY_POLL_MS, undefined, signal === undefined ? {} : { signal });
    }
  }

  async #missing(path: SysfsPath): Promise<string | undefined> {
    if (!await this.#sysfs.exists(path)) throw new BusError('ERR_BUS_MDEV_GONE', `there is no mediated device ${path.at(-1)!}`);
    if (await this.#sysfs.linkName([...path, 'driver']) === undefined) return 'no driver is bound to it';
    return (await vfioObstacle(this.#sysfs, path, await iommuGroupOf(this.#sysfs, path)))?.detail;
  }

  /**
   * Removes a device. The kernel waits until nobody has it open: close it first. After `timeoutMs` (5000 unless given) ERR_BUS_MDEV_BUSY, but the kernel
   * goes on waiting, with a thread of Node's pool, and removes it when it is closed. ERR_BUS_MDEV_GONE where it is not there any more.
   */
  async remove(uuid: string, { timeoutMs = MDEV_REMOVE_TIMEOUT_MS }: { readonly timeoutMs?: number } = {}): Promise<void> {
    const late = (): BusError => new BusError('ERR_BUS_MDEV_BUSY', `${uuid} is still open somewhere after ${timeoutMs} ms; it goes when it is closed`);
    try {
      await within(this.#sysfs.write([...devicePath(uuid), 'remove'], '1'), timeoutMs, late);
    } catch (error) {
      throw renamed(error, REMOVE_ERRORS, `${uuid} is not removed`);
    }
  }
}

/** One type that is broken says nothing of the others. */
function unusable(parent: string, id: string, error: unknown): MdevType {
  if (!(error instanceof BusError)) throw error;
  return { parent, id, api: '', available: 0, devices: [], unusable: error.message };
}

const typePath = (parent: string, type: string): SysfsPath => [...PARENTS, parent, 'mdev_supported_types', type];
const devicePath = (uuid: string): SysfsPath => [...MDEV_DEVICES, parseUuid(uuid)];

function renamed(error: unknown, codes: ReadonlyMap<number, BusErrorCode>, what: string): unknown {
  const code = error instanceof BusError && error.code === 'ERR_BUS_SYSFS' ? codes.get(error.errno) : undefined;
  return code === undefined ? error : new BusError(code, `${what}: ${(error as BusError).message}`, { errno: (error as BusError).errno, cause: error });
}
