/** DEVICE_GET_REGION_IO_FDS: eventfds and sockets that a consumer hands to KVM instead of sending writes as messages. */
import { OwnedFd } from '@emudev/linux';
import { REGION_IO_FDS_BYTES, VFIO_USER_DEVICE_GET_REGION_IO_FDS, decodeRegionIoFds, encodeGetRegionIoFds, regionIoFdsBytes } from '@emudev/vfio-user-protocol';
import type { IoFdRecord, RegionIoFds } from '@emudev/vfio-user-protocol';
import { badServer, ClientError } from './errors.ts';
import { IO_FDS_ATTEMPTS, IO_FDS_FIRST_ROOM } from './limits.ts';
import { hex } from './link.ts';
import type { Link } from './link.ts';
import type { Region } from './region.ts';
import type { CallOptions } from './requests.ts';

/** A part of a region and what stands for writes into it. Descriptors are those of `IoFds`; undefined where the server gave none. */
export type IoFd = { readonly offset: number; readonly sizeBytes: number; readonly fd: number | undefined; readonly flags: number } & (
  | { readonly kind: 'ioeventfd'; readonly datamatch: bigint }
  | { readonly kind: 'ioregionfd'; readonly userData: bigint }
  /** The value written is stored at `memoryOffset` of the file `memoryFd` before `fd` is signalled. The file is the server's: it can shrink it unless it is sealed. */
  | { readonly kind: 'shadow'; readonly datamatch: bigint; readonly memoryFd: number | undefined; readonly memoryOffset: number }
);

/** Owns its descriptors: several entries may share one. */
export class IoFds implements Disposable {
  /** In the order of the server: the newest first. */
  readonly entries: readonly IoFd[];
  readonly #owned: readonly OwnedFd[];

  constructor(entries: readonly IoFd[], owned: readonly OwnedFd[]) {
    this.entries = entries;
    this.#owned = owned;
  }

  /** Closes the descriptors: whoever was given one (KVM) keeps its own. */
  [Symbol.dispose](): void {
    for (const fd of this.#owned) fd.close();
  }
}

export async function askIoFds(link: Link, region: Region, call: CallOptions): Promise<IoFds> {
  let argsz = regionIoFdsBytes(IO_FDS_FIRST_ROOM);
  // Sub-regions may be added between two questions, but not for ever.
  for (let attempt = 0; attempt < IO_FDS_ATTEMPTS; attempt++) {
    const { reply, ioFds } = await ask(link, region, argsz, call);
    if (ioFds !== undefined) return ioFds;
    argsz = reply.argsz;
  }
  throw new ClientError('ERR_VFU_CLIENT_SHORT', `region ${region.index}: the answer does not fit, although its size was asked for ${IO_FDS_ATTEMPTS} times`);
}

function ask(link: Link, region: Region, argsz: number, call: CallOptions): Promise<{ readonly reply: RegionIoFds; readonly ioFds: IoFds | undefined }> {
  return link.request(VFIO_USER_DEVICE_GET_REGION_IO_FDS, encodeGetRegionIoFds(region.index, argsz), {
    ...call,
    maxReplyBytes: argsz,
    accept: (payload, takeFds) => {
      const fds = takeFds().map((fd) => new OwnedFd(fd, link.sys));
      try {
        // CLIENT: the decoder has bounded the number of records and the indexes of descriptors.
        const reply = decodeRegionIoFds(payload, fds.length);
        if (reply.index !== region.index) throw badServer(`descriptors of region ${reply.index} in answer to ${region.index}`);
        const complete = reply.count === 0 || payload.length > REGION_IO_FDS_BYTES;
        if (!complete && reply.argsz <= argsz) throw badServer(`${reply.count} sub-regions left out although there was room for them`);
        if (!complete && fds.length > 0) throw badServer(`${fds.length} descriptors without a sub-region`);
        const entries = reply.records.map((record) => entryOf(record, region, fds));
        if (!complete) return { reply, ioFds: undefined };
        return { reply, ioFds: new IoFds(entries, fds) };
      } catch (error) {
        for (const fd of fds) fd.close();
        throw error;
      }
    },
  });
}

function entryOf(record: IoFdRecord, region: Region, fds: readonly OwnedFd[]): IoFd {
  const { offset, sizeBytes, fdIndex, flags } = record;
  if (offset > region.sizeBytes || sizeBytes > region.sizeBytes - offset) {
    throw badServer(`sub-region ${hex(offset)}+${hex(sizeBytes)} is outside region ${region.index} of ${hex(region.sizeBytes)} bytes`);
  }
  const fd = fds[fdIndex]?.fd;
  switch (record.kind) {
    case 'ioeventfd':
      return { kind: record.kind, offset, sizeBytes, fd, flags, datamatch: record.datamatch };
    case 'ioregionfd':
      return { kind: record.kind, offset, sizeBytes, fd, flags, userData: record.userData };
    case 'shadow':
      return { kind: record.kind, offset, sizeBytes, fd, flags, datamatch: record.datamatch, memoryFd: fds[record.memoryFdIndex]?.fd, memoryOffset: record.memoryOffset };
  }
}
