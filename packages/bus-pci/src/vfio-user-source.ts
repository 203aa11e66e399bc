/** Devices behind vfio-user sockets. */
import { opendir } from 'node:fs/promises';
import { join } from 'node:path';
import { linux } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import { VfioUserClient } from '@emudev/vfio-user-client';
import type { ConnectOptions } from '@emudev/vfio-user-client';
import { formatAddress } from './address.ts';
import type { PciAddress, VfioUserAddress } from './address.ts';
import { asBusError } from './client-error.ts';
import type { DeviceSource } from './device-source.ts';
import { BusError } from './errors.ts';
import type { FoundDevice } from './found.ts';
import { MAX_SOCKET_PATH_BYTES, MAX_SOCKETS } from './limits.ts';
import { scanVfioUser } from './scan-vfio-user.ts';
import type { PciTransport } from './transport.ts';
import { VfioUserTransport } from './vfio-user-transport.ts';

/** For a `VfioUserSource`. */
export interface VfioUserSourceOptions {
  /** Sockets that are listed, there or not. */
  readonly paths?: readonly string[];
  /** Every socket in this directory is listed, too. */
  readonly directory?: string;
  /** Of each connection: see `VfioUserClient.connect`. */
  readonly client?: Pick<ConnectOptions, 'timeoutMs' | 'spin' | 'ref' | 'twinSocket' | 'dmaDialect'>;
  readonly sys?: Sys;
}

/** ENOENT, ENOTDIR, ECONNREFUSED, ECONNRESET, ENOTCONN: nobody listens there, or not any more. */
const NOBODY: ReadonlySet<number> = new Set([2, 20, 111, 104, 107]);

/** Sockets of vfio-user servers. A scan looks whether a socket is there, and connects to none: the server has room for one client. */
export class VfioUserSource implements DeviceSource {
  readonly kinds: readonly PciAddress['kind'][] = ['vfio-user'];
  readonly #paths: readonly string[];
  readonly #directory: string | undefined;
  readonly #client: VfioUserSourceOptions['client'];
  readonly #sys: Sys;

  constructor({ paths = [], directory, client = {}, sys = linux }: VfioUserSourceOptions = {}) {
    this.#paths = paths;
    this.#directory = directory;
    this.#client = client;
    this.#sys = sys;
  }

  /** The paths, the sockets in the directory, and `wanted` ones. ERR_BUS_UNUSABLE where the directory cannot be read or has more than `MAX_SOCKETS`. */
  async scan(signal?: AbortSignal, wanted: readonly PciAddress[] = []): Promise<readonly FoundDevice[]> {
    const paths = [...this.#paths, ...await this.#listed(signal)];
    return scanVfioUser([...paths.map((path): VfioUserAddress => ({ kind: 'vfio-user', path })), ...wanted.filter((address) => address.kind === 'vfio-user')], signal);
  }

  /** Connects. ERR_BUS_GONE where nobody listens, ERR_BUS_BUSY where the server does not answer (it has another client), ERR_BUS_UNUSABLE. */
  async open(address: PciAddress, signal?: AbortSignal): Promise<PciTransport> {
    signal?.throwIfAborted();
    if (address.kind !== 'vfio-user') throw new BusError('ERR_BUS_UNUSABLE', `${formatAddress(address)} is no vfio-user socket`);
    try {
      const client = await VfioUserClient.connect(address.path, { ...this.#client, sys: this.#sys, ...(signal === undefined ? {} : { signal }) });
      const giveUp = (): void => { client.close(); };
      signal?.addEventListener('abort', giveUp, { once: true });
      try {
        return await VfioUserTransport.of(address, client, this.#sys, this.#client?.ref ?? true);
      } finally {
        signal?.removeEventListener('abort', giveUp);
      }
    } catch (error) {
      signal?.throwIfAborted();
      // It has room for one client: another one waits in the queue of the socket.
      const converted = asBusError(error, { ERR_VFU_CLIENT_TIMEOUT: 'ERR_BUS_BUSY' });
      if (!(converted instanceof BusError)) throw error;
      const { code, message, errno } = converted;
      const isGone = code === 'ERR_BUS_GONE' && NOBODY.has(errno);
      throw new BusError(code === 'ERR_BUS_BUSY' || isGone ? code : 'ERR_BUS_UNUSABLE', `${formatAddress(address)}: ${message}`, { errno, cause: error });
    }
  }

  async #listed(signal: AbortSignal | undefined): Promise<readonly string[]> {
    const paths: string[] = [];
    if (this.#directory === undefined) return paths;
    try {
      for await (const entry of await opendir(this.#directory)) {
        signal?.throwIfAborted();
        const path = join(this.#directory, entry.name);
        if (!entry.isSocket() || Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) continue;
        if (paths.push(path) > MAX_SOCKETS) throw new BusError('ERR_BUS_UNUSABLE', `${this.#directory} has more than ${MAX_SOCKETS} sockets`);
      }
    } catch (error) {
      if (error instanceof BusError || signal?.aborted === true) throw error;
      const { code, errno } = error as NodeJS.ErrnoException;
      throw new BusError('ERR_BUS_UNUSABLE', `cannot list ${this.#directory}: ${code ?? String(error)}`, { errno: errno === undefined ? undefined : Math.abs(errno), cause: error });
    }
    return paths;
  }
}
