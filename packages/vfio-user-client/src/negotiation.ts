/** The first two questions of a connection: VERSION, then what kind of device there is. */
import { OwnedFd } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import {
  DEVICE_INFO_BYTES, HEADER_BYTES, MAX_FDS_PER_MESSAGE, MAX_VERSION_FRAME_BYTES, VFIO_USER_DEVICE_GET_INFO, VFIO_USER_MAJOR, VFIO_USER_MINOR, VFIO_USER_VERSION,
  checkVersionReply, decodeDeviceInfo, decodeVersion, effectiveCapabilities, encodeDeviceGetInfo, encodeVersion,
} from '@emudev/vfio-user-protocol';
import type { Capabilities, DeviceInfo, EffectiveCapabilities } from '@emudev/vfio-user-protocol';
import { badArgument, badServer } from './errors.ts';
import { MAX_DMA_MAPS, MAX_IRQ_INDEXES, MAX_MSG_FDS, MAX_REGIONS, MAX_SERVER_DMA_BYTES } from './limits.ts';
import type { Requester } from './link.ts';
import type { CallOptions } from './requests.ts';

/** What this side says it can receive; absent keys take the defaults of `limits.ts`. */
export type AnnouncedCapabilities = Omit<Capabilities, 'twinSocket'>;

export interface Proposal {
  readonly minor: number;
  readonly capabilities: AnnouncedCapabilities & { readonly maxMsgFds: number; readonly maxDataXferSize: number };
  /** Ask for a socket of its own for the server's commands. */
  readonly twinSocket: boolean;
}

/** Fills in the defaults. ERR_VFU_CLIENT_ARGUMENT for what cannot be kept. */
export function proposalOf(options: { readonly minor?: number; readonly capabilities?: AnnouncedCapabilities; readonly twinSocket?: boolean }): Proposal {
  const { minor = VFIO_USER_MINOR, twinSocket = false } = options;
  const capabilities = { maxMsgFds: MAX_MSG_FDS, maxDataXferSize: MAX_SERVER_DMA_BYTES, maxDmaMaps: MAX_DMA_MAPS, pgsizes: 4096, ...options.capabilities };
  const { maxMsgFds, maxDataXferSize } = capabilities;
  if (!Number.isInteger(minor) || minor < 0 || minor > VFIO_USER_MINOR) throw badArgument(`minor version ${minor}: this is 0..${VFIO_USER_MINOR}`);
  if (!Number.isInteger(maxMsgFds) || maxMsgFds < 0 || maxMsgFds > MAX_FDS_PER_MESSAGE) throw badArgument(`maxMsgFds ${maxMsgFds}: at most ${MAX_FDS_PER_MESSAGE}`);
  if (!Number.isInteger(maxDataXferSize) || maxDataXferSize < 1 || maxDataXferSize > MAX_SERVER_DMA_BYTES) throw badArgument(`maxDataXferSize ${maxDataXferSize}: within 1..${MAX_SERVER_DMA_BYTES}`);
  if (twinSocket && maxMsgFds === 0) throw badArgument('a twin socket comes as a descriptor: maxMsgFds must not be 0');
  return { minor, capabilities, twinSocket };
}

export interface Agreement {
  readonly minor: number;
  readonly server: EffectiveCapabilities;
}

/** VERSION. `onTwin` gets the server's twin socket, and owns it, before any later message is looked at. */
export function negotiateVersion(link: Requester, sys: Sys, proposal: Proposal, onTwin: (fd: number) => void, call: CallOptions = {}): Promise<Agreement> {
  const { minor, twinSocket } = proposal;
  const capabilities: Capabilities = { ...proposal.capabilities, ...(twinSocket ? { twinSocket: { supported: true } } : {}) };
  return link.request(VFIO_USER_VERSION, encodeVersion({ major: VFIO_USER_MAJOR, minor, capabilities }), {
    ...call,
    maxReplyBytes: MAX_VERSION_FRAME_BYTES - HEADER_BYTES,
    accept: (payload, takeFds) => {
      const version = decodeVersion(payload);
      checkVersionReply(version, minor);
      const server = effectiveCapabilities(version.capabilities);
      if (!server.twinSocket) return { minor: version.minor, server };
      // A server must not use a second socket unless asked to.
      if (!twinSocket) throw badServer('a twin socket nobody asked for');
      const fds = takeFds();
      // CLIENT: the index is the server's, and so is what the descriptor really is.
      const index = version.capabilities?.twinSocket?.fdIndex;
      const twin = index === undefined ? undefined : fds[index];
      for (const fd of fds) if (fd !== twin) sys.close(fd);
      if (twin === undefined) throw badServer(`a twin socket as descriptor ${index} of ${fds.length}`);
      using owned = new OwnedFd(twin, sys);
      if (sys.unixSocketKind(twin) !== 'connected') throw badServer('a twin socket that is no connected socket');
      onTwin(owned.take());
      return { minor: version.minor, server };
    },
  });
}

/** DEVICE_GET_INFO. */
export function askDeviceInfo(link: Requester, call: CallOptions = {}): Promise<DeviceInfo> {
  return link.request(VFIO_USER_DEVICE_GET_INFO, encodeDeviceGetInfo(), {
    ...call,
    maxReplyBytes: DEVICE_INFO_BYTES,
    accept: (payload) => {
      const device = decodeDeviceInfo(payload);
      if (device.numRegions > MAX_REGIONS || device.numIrqs > MAX_IRQ_INDEXES) throw badServer(`a device with ${device.numRegions} regions and ${device.numIrqs} interrupt indexes`);
      return device;
    },
  });
}
