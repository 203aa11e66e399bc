/** The first two questions of a connection: VERSION, then what kind of device there is. */
import {
  DEVICE_INFO_BYTES, HEADER_BYTES, MAX_VERSION_FRAME_BYTES, VFIO_USER_DEVICE_GET_INFO, VFIO_USER_MAJOR, VFIO_USER_MINOR, VFIO_USER_VERSION,
  checkVersionReply, decodeDeviceInfo, decodeVersion, effectiveCapabilities, encodeDeviceGetInfo, encodeVersion,
} from '@emudev/vfio-user-protocol';
import type { DeviceInfo, EffectiveCapabilities } from '@emudev/vfio-user-protocol';
import { badServer } from './errors.ts';
import { MAX_DMA_MAPS, MAX_IRQ_INDEXES, MAX_MSG_FDS, MAX_REGIONS, MAX_SERVER_DMA_BYTES } from './limits.ts';
import type { RequestOptions } from './requests.ts';

type Request = <T>(command: number, payload: Uint8Array, options: RequestOptions<T>) => Promise<T>;

export async function negotiate(request: Request): Promise<{ readonly server: EffectiveCapabilities; readonly info: DeviceInfo }> {
  const capabilities = { maxMsgFds: MAX_MSG_FDS, maxDataXferSize: MAX_SERVER_DMA_BYTES, maxDmaMaps: MAX_DMA_MAPS, pgsizes: 4096 };
  const server = await request(VFIO_USER_VERSION, encodeVersion({ major: VFIO_USER_MAJOR, minor: VFIO_USER_MINOR, capabilities }), {
    maxReplyBytes: MAX_VERSION_FRAME_BYTES - HEADER_BYTES,
    accept: (payload) => {
      const version = decodeVersion(payload);
      checkVersionReply(version);
      const announced = effectiveCapabilities(version.capabilities);
      // A server must not use a second socket unless asked to.
      if (announced.twinSocket) throw badServer('a twin socket nobody asked for');
      return announced;
    },
  });
  const info = await request(VFIO_USER_DEVICE_GET_INFO, encodeDeviceGetInfo(), {
    maxReplyBytes: DEVICE_INFO_BYTES,
    accept: (payload) => {
      const device = decodeDeviceInfo(payload);
      if (device.numRegions > MAX_REGIONS || device.numIrqs > MAX_IRQ_INDEXES) throw badServer(`a device with ${device.numRegions} regions and ${device.numIrqs} interrupt indexes`);
      return device;
    },
  });
  return { server, info };
}
