/** What a good server would answer. The device is a simple one; state is not kept. */
import {
  type Capabilities, decodeDmaUnmap, decodeVersion, encodeDeviceFeature, encodeDeviceInfo, encodeDmaLoggingReport, encodeDmaUnmapReply, encodeIrqInfo, encodeMigDataReadReply,
  encodeMigDeviceState, encodeMigrationFeature, encodeRegionData, encodeRegionInfo, encodeRegionIoFds, encodeRegionWriteMultiReply, encodeVersion, type Frame, type IoFdRecord, ProtocolError,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_MIGRATION, VFIO_DEVICE_FEATURE_PROBE,
  VFIO_USER_DEVICE_FEATURE, VFIO_USER_DEVICE_GET_INFO, VFIO_USER_DEVICE_GET_IRQ_INFO, VFIO_USER_DEVICE_GET_REGION_INFO, VFIO_USER_DEVICE_GET_REGION_IO_FDS, VFIO_USER_DMA_UNMAP,
  VFIO_USER_MIG_DATA_READ, VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE, VFIO_USER_REGION_WRITE_MULTI, VFIO_USER_VERSION,
} from '@emudev/vfio-user-protocol';
import type { Descriptors } from '../descriptors.ts';
import type { Random } from '../random.ts';

export interface GoodReply {
  readonly payload: Uint8Array;
  /** Borrowed. */
  readonly fds: number[];
}

const NONE = new Uint8Array(0);
const REGION_BYTES = 0x10000;
const VECTORS = [1, 4, 8, 1, 1];
const MIGRATION_CHUNK_BYTES = 1500;

const u32 = (payload: Uint8Array, at: number): number => new DataView(payload.buffer, payload.byteOffset).getUint32(at, true);

/** `twin`: the end of a socket pair to grant a twin socket with. The requests are the client's own and well-formed. */
export function goodReply(request: Frame, descriptors: Descriptors, random: Random, twin: () => number): GoodReply {
  const { command, payload } = request;
  const [sealed, unsealed] = descriptors.memories as [number, number];
  const plain = (bytes: Uint8Array, fds: number[] = []): GoodReply => ({ payload: bytes, fds });
  switch (command) {
    case VFIO_USER_VERSION: {
      const proposed = decodeVersion(payload);
      const granted = proposed.capabilities?.twinSocket?.supported === true;
      const capabilities: Capabilities = {
        maxMsgFds: 16, maxDataXferSize: 1 << 20, maxDmaMaps: 65_535, pgsizes: 4096, migration: { pgsize: 4096 }, writeMultiple: true, ...(granted ? { twinSocket: { supported: true, fdIndex: 0 } } : {}),
      };
      return plain(encodeVersion({ major: 0, minor: Math.min(proposed.minor, 2), capabilities }), granted ? [twin()] : []);
    }
    case VFIO_USER_DEVICE_GET_INFO: return plain(encodeDeviceInfo({ flags: 3, numRegions: 9, numIrqs: 5 }));
    case VFIO_USER_DEVICE_GET_REGION_INFO: {
      const index = u32(payload, 8);
      const areas = index === 1 || index === 2 ? { areas: [{ offset: 0, sizeBytes: 0x1000 }, { offset: 0x4000, sizeBytes: 0x2000 }] } : {};
      const info = encodeRegionInfo({ flags: index === 1 || index === 2 ? 7 : 3, index, sizeBytes: index === 7 ? 4096 : REGION_BYTES, fileOffset: 0, ...areas }, u32(payload, 0));
      return plain(info.payload, info.complete && 'areas' in areas ? [index === 1 ? sealed : unsealed] : []);
    }
    case VFIO_USER_DEVICE_GET_REGION_IO_FDS: {
      const records: IoFdRecord[] = [
        { kind: 'ioeventfd', offset: 0, sizeBytes: 4, fdIndex: 0, flags: 0, datamatch: 0n },
        { kind: 'shadow', offset: 8, sizeBytes: 4, fdIndex: 0, flags: 0, datamatch: 0n, memoryFdIndex: 1, memoryOffset: 0 },
      ];
      const reply = encodeRegionIoFds(u32(payload, 8), records, u32(payload, 0));
      return plain(reply.payload, reply.complete ? [descriptors.eventfds[0]!, sealed] : []);
    }
    case VFIO_USER_DEVICE_GET_IRQ_INFO: return plain(encodeIrqInfo({ flags: 7, index: u32(payload, 8), count: VECTORS[u32(payload, 8)] ?? 0 }));
    case VFIO_USER_REGION_READ: return plain(encodeRegionData(0, 0, new Uint8Array(u32(payload, 12))).map((byte, at) => (at < 16 ? payload[at]! : byte)));
    case VFIO_USER_REGION_WRITE: return plain(payload.slice(0, 16));
    case VFIO_USER_REGION_WRITE_MULTI: return plain(encodeRegionWriteMultiReply(u32(payload, 0)));
    case VFIO_USER_DMA_UNMAP: {
      const unmap = decodeDmaUnmap(payload);
      return plain(unmap.bitmap === undefined ? encodeDmaUnmapReply(unmap) : encodeDmaUnmapReply(unmap, random.bytes(Number(unmap.bitmap.bytes))));
    }
    case VFIO_USER_DEVICE_FEATURE: return plain(featureReply(payload, random));
    case VFIO_USER_MIG_DATA_READ: return plain(encodeMigDataReadReply(random.bytes(random.oneIn(8) ? 0 : Math.min(u32(payload, 4), 1 + random.below(MIGRATION_CHUNK_BYTES)))));
    default: return plain(NONE);
  }
}

function featureReply(payload: Uint8Array, random: Random): Uint8Array {
  const flags = u32(payload, 4);
  if ((flags & VFIO_DEVICE_FEATURE_PROBE) !== 0 || (flags & VFIO_DEVICE_FEATURE_GET) === 0) return payload;
  const feature = flags & 0xffff;
  switch (feature) {
    case VFIO_DEVICE_FEATURE_MIGRATION: return encodeDeviceFeature(feature, VFIO_DEVICE_FEATURE_GET, encodeMigrationFeature(7));
    case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: return encodeDeviceFeature(feature, VFIO_DEVICE_FEATURE_GET, encodeMigDeviceState(2));
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: {
      const view = new DataView(payload.buffer, payload.byteOffset + 8);
      const [iova, length, pageSize] = [0, 8, 16].map((at) => view.getBigUint64(at, true)) as [bigint, bigint, bigint];
      return encodeDeviceFeature(feature, VFIO_DEVICE_FEATURE_GET, encodeDmaLoggingReport({ iova, length, pageSize }, random.bytes(u32(payload, 0) - 32)));
    }
    default: throw new ProtocolError('ERR_VFU_INDEX', 22, 'reply', `feature ${feature}`);
  }
}
