import type { Window } from '@emudev/dma';
import type { Sys } from '@emudev/linux';
import { ClientError, VfioUserClient, type RegionMapping } from '@emudev/vfio-user-client';
import { IavfError } from './errors.ts';
import { QRX_TAIL1, QTX_TAIL1 } from './registers.ts';
import type { IavfTransport } from './transport.ts';

const BAR0 = 0;
const CONFIG_SPACE = 7;
const MSIX = 2;
/** The registers end at 0xD03F, the doorbell arrays are 16 words each. */
const BAR0_MIN_BYTES = 0x10000;
const DOORBELL_BYTES = 64;

/** An iavf function behind a vfio-user socket. */
export class VfioUserTransport implements IavfTransport {
  readonly closed: Promise<unknown>;
  readonly doorbells: { readonly tx: number; readonly rx: number } | undefined;
  readonly #client: VfioUserClient;
  readonly #mapping: RegionMapping | undefined;

  /** ERR_IAVF_NOT_IAVF where BAR0 or MSI-X is missing; ClientError where there is no server. */
  static async connect(path: string, window: Window, sys: Sys): Promise<VfioUserTransport> {
    const client = await VfioUserClient.connect(path, { sys });
    try {
      const bar = await client.regionInfo(BAR0);
      if (bar.sizeBytes < BAR0_MIN_BYTES) throw new IavfError('ERR_IAVF_NOT_IAVF', `BAR0 has ${bar.sizeBytes} bytes: want at least ${BAR0_MIN_BYTES}`);
      const vectors = await client.irqInfo(MSIX);
      if (vectors.count < 2) throw new IavfError('ERR_IAVF_NOT_IAVF', `${vectors.count} MSI-X vectors: want at least 2`);
      return new VfioUserTransport(client, await mapDoorbells(client, window));
    } catch (error) {
      client.close();
      throw error;
    }
  }

  private constructor(client: VfioUserClient, mapping: RegionMapping | undefined) {
    this.#client = client;
    this.closed = client.closed;
    const tx = mapping?.at(QTX_TAIL1, DOORBELL_BYTES);
    const rx = mapping?.at(QRX_TAIL1, DOORBELL_BYTES);
    if (tx !== undefined && rx !== undefined) {
      this.doorbells = { tx, rx };
      this.#mapping = mapping;
    } else {
      this.doorbells = undefined;
      mapping?.[Symbol.dispose]();
    }
  }

  async readConfig16(offset: number): Promise<number> {
    const [low = 0, high = 0] = await this.#client.read(CONFIG_SPACE, offset, 2);
    return low | (high << 8);
  }

  writeConfig16(offset: number, value: number): Promise<void> {
    return this.#client.write(CONFIG_SPACE, offset, Uint8Array.of(value, value >>> 8));
  }

  read32(offset: number): Promise<number> {
    return this.#client.read32(BAR0, offset);
  }

  write32(offset: number, value: number): Promise<void> {
    return this.#client.write32(BAR0, offset, value);
  }

  post32(offset: number, value: number): Promise<void> {
    return this.#client.write32(BAR0, offset, value, { posted: true });
  }

  dmaMap(iova: bigint, sizeBytes: number, fd: number): Promise<void> {
    return this.#client.dmaMap({ iova, sizeBytes, readable: true, writable: true, fd });
  }

  dmaUnmap(iova: bigint, sizeBytes: number): Promise<void> {
    return this.#client.dmaUnmap(iova, sizeBytes);
  }

  setMiscVector(fd: number | undefined): Promise<void> {
    return fd === undefined ? this.#client.removeIrqEventfds(MSIX, 0, 1) : this.#client.setIrqEventfds(MSIX, 0, [fd]);
  }

  async close(options: { readonly keepDoorbells?: boolean } = {}): Promise<void> {
    this.#client.close();
    await this.#client.closed;
    if (options.keepDoorbells !== true) this.#mapping?.[Symbol.dispose]();
  }
}

/** undefined: the device traps its doorbells, or offers a file that could kill us. */
async function mapDoorbells(client: VfioUserClient, window: Window): Promise<RegionMapping | undefined> {
  try {
    return await client.mapRegion(BAR0, window);
  } catch (error) {
    if (error instanceof ClientError && error.code === 'ERR_VFU_CLIENT_NOT_MAPPABLE') return undefined;
    throw error;
  }
}
