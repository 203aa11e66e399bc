/** What the messages of a session have told about it: who speaks, how large regions are, which device this is. */
import {
  decodeDeviceInfo, decodeRegionInfo, decodeVersion, E2BIG, effectiveCapabilities, guessPeer, irqIndexName, regionName, VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_USER_DEVICE_GET_INFO, VFIO_USER_DEVICE_GET_IRQ_INFO, VFIO_USER_DEVICE_GET_REGION_INFO, VFIO_USER_DEVICE_SET_IRQS, VFIO_USER_DMA_READ, VFIO_USER_DMA_WRITE, VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE,
  VFIO_USER_VERSION, replyErrno, type DmaDialect,
} from '@emudev/vfio-user-protocol';
import { MAX_KNOWN_REGIONS } from '../limits.ts';
import type { Half } from './exchanges.ts';

const ACCESS_BYTES = 16;

export class SessionFacts {
  dmaDialect: DmaDialect | undefined;
  numRegions: number | undefined;
  numIrqs: number | undefined;
  /** By region. */
  readonly sizes: Map<number, number> = new Map<number, number>();
  maxDataBytes: number | undefined;
  vendor: number | undefined;
  device: number | undefined;

  request({ header, payload }: Half): void {
    if (header.command === VFIO_USER_VERSION) this.#learn(() => { this.dmaDialect = guessPeer(decodeVersion(payload)).dmaDialect; });
  }

  reply(request: Half, { header, payload }: Half): void {
    if (header.command === VFIO_USER_DMA_READ) this.#learnDialect(request, replyErrno(header));
    if (replyErrno(header) !== 0) return;
    switch (header.command) {
      case VFIO_USER_DMA_WRITE:
        // The client's word, whatever its VERSION made us think: QEMU speaks the one up to 10.1 and the other from 11.1 on.
        this.dmaDialect = payload.length === 0 ? 'qemu' : 'lvu';
        return;
      case VFIO_USER_VERSION:
        this.#learn(() => { this.maxDataBytes = effectiveCapabilities(decodeVersion(payload).capabilities).maxDataXferSize; });
        return;
      case VFIO_USER_DEVICE_GET_INFO:
        this.#learn(() => ({ numRegions: this.numRegions, numIrqs: this.numIrqs } = decodeDeviceInfo(payload)));
        return;
      case VFIO_USER_DEVICE_GET_REGION_INFO:
        this.#learn(() => {
          const { index, sizeBytes } = decodeRegionInfo(payload);
          if (this.sizes.size < MAX_KNOWN_REGIONS || this.sizes.has(index)) this.sizes.set(index, sizeBytes);
        });
        return;
      case VFIO_USER_REGION_READ:
        this.#learnIds(request.payload, payload);
    }
  }

  /** Why the server may have refused; undefined where nothing known explains it. */
  explain({ header, payload }: Half): string | undefined {
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    switch (header.command) {
      case VFIO_USER_REGION_READ:
      case VFIO_USER_REGION_WRITE: {
        if (payload.length < ACCESS_BYTES) return undefined;
        const region = view.getUint32(8, true);
        const count = view.getUint32(12, true);
        const size = this.sizes.get(region);
        const end = view.getBigUint64(0, true) + BigInt(count);
        if (this.numRegions !== undefined && region >= this.numRegions) return `region ${region} of ${this.numRegions}`;
        if (size !== undefined && end > BigInt(size)) return `0x${end.toString(16)} is beyond the 0x${size.toString(16)} bytes of ${regionName(region)}`;
        if (this.maxDataBytes !== undefined && count > this.maxDataBytes) return `${count} bytes, the server takes ${this.maxDataBytes}`;
        return undefined;
      }
      case VFIO_USER_DEVICE_GET_REGION_INFO: return this.#index(view, this.numRegions, 'region');
      case VFIO_USER_DEVICE_GET_IRQ_INFO:
      case VFIO_USER_DEVICE_SET_IRQS: return this.#index(view, this.numIrqs, 'interrupt index');
      default: return undefined;
    }
  }

  #index(view: DataView, count: number | undefined, what: string): string | undefined {
    if (view.byteLength < 12 || count === undefined) return undefined;
    const index = view.getUint32(8, true);
    if (index >= count) return `${what} ${index} of ${count}`;
    return what === 'region' ? regionName(index) : irqIndexName(index);
  }

  /** A server that asks for 4 GiB and some bytes wants to know the same: who sees 32 bits of the count answers, who sees 64 refuses. */
  #learnDialect({ payload }: Half, errno: number): void {
    if (payload.length !== ACCESS_BYTES || new DataView(payload.buffer, payload.byteOffset, payload.byteLength).getUint32(12, true) === 0) return;
    if (errno === 0) this.dmaDialect = 'qemu';
    else if (errno === E2BIG) this.dmaDialect = 'lvu';
  }

  /** Registers are named by device: its ids are in the first bytes of the configuration space. */
  #learnIds(request: Uint8Array, reply: Uint8Array): void {
    if (request.length < ACCESS_BYTES || reply.length < ACCESS_BYTES + 2) return;
    const asked = new DataView(request.buffer, request.byteOffset, request.byteLength);
    if (asked.getUint32(8, true) !== VFIO_PCI_CONFIG_REGION_INDEX || asked.getUint32(4, true) !== 0) return;
    const offset = asked.getUint32(0, true);
    const data = new DataView(reply.buffer, reply.byteOffset + ACCESS_BYTES, reply.length - ACCESS_BYTES);
    if (offset === 0) this.vendor = data.getUint16(0, true);
    if (offset === 0 && data.byteLength >= 4) this.device = data.getUint16(2, true);
    if (offset === 2) this.device = data.getUint16(0, true);
  }

  /** What is malformed teaches nothing. */
  #learn(learn: () => void): void {
    try {
      learn();
    } catch {
      // The message is shown as malformed; the peers will say what they make of it.
    }
  }
}
