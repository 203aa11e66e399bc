/** DEVICE_GET_REGION_IO_FDS: the descriptors by which a device takes writes into a region, as the wire has them. */
import type { IoFd, PciDevice } from '@emudev/pci';
import { decodeGetRegionIoFds, encodeRegionIoFds, MAX_FDS_PER_MESSAGE, MAX_IO_FD_RECORDS, type IoFdRecord } from '@emudev/vfio-user-protocol';
import { VfioUserServerError } from './errors.ts';
import type { Regions } from './regions.ts';

export interface RegionIoFdsAnswer {
  readonly payload: Uint8Array;
  /** The device's: not ours to close. */
  readonly fds: readonly number[];
  /** Sub-regions that were left out because the client takes no more descriptors with one message; writes to them come as messages. */
  readonly leftOut: number;
}

/** @throws ProtocolError, VfioUserServerError ERR_SERVER_DEVICE where the device's description contradicts itself, and what the device throws */
export function regionIoFds(device: PciDevice, regions: Regions, request: Uint8Array, maxMsgFds: number): RegionIoFdsAnswer {
  const { argsz, index } = decodeGetRegionIoFds(request);
  const sizeBytes = regions.requirePresent(index, 'GET_REGION_IO_FDS');
  const ioFds = device.ioFds?.(index) ?? [];
  const bad = (why: string): never => {
    throw new VfioUserServerError('ERR_SERVER_DEVICE', 22, `${device.name}: descriptors of region ${index}: ${why}`);
  };
  if (ioFds.length > MAX_IO_FD_RECORDS) bad(`${ioFds.length} of them, at most ${MAX_IO_FD_RECORDS}`);
  const room = Math.min(maxMsgFds, MAX_FDS_PER_MESSAGE);
  const fds: number[] = [];
  const records: IoFdRecord[] = [];
  // The device lists them as they were created; on the wire the newest comes first, as libvfio-user has it.
  for (const ioFd of ioFds.toReversed()) {
    check(ioFd, sizeBytes, bad);
    const needed = [ioFd.fd, ...(ioFd.kind === 'shadow' ? [ioFd.memoryFd] : [])].filter((fd) => fd !== -1);
    const added = new Set(needed.filter((fd) => !fds.includes(fd)));
    if (fds.length + added.size > room) continue;
    fds.push(...added);
    records.push(recordOf(ioFd, (fd) => fds.indexOf(fd)));
  }
  const { payload, complete } = encodeRegionIoFds(index, records, argsz);
  return { payload, fds: complete ? fds : [], leftOut: ioFds.length - records.length };
}

function check(ioFd: IoFd, sizeBytes: number, bad: (why: string) => never): void {
  const { offset, fd } = ioFd;
  const whole = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;
  if (!whole(offset) || !whole(ioFd.sizeBytes) || offset + ioFd.sizeBytes > sizeBytes) bad(`${offset}+${ioFd.sizeBytes} is not inside its ${sizeBytes} bytes`);
  if (!Number.isInteger(fd) || fd < -1) bad(`descriptor ${fd}`);
  if (ioFd.kind === 'shadow' && (!Number.isInteger(ioFd.memoryFd) || ioFd.memoryFd < -1 || !whole(ioFd.memoryOffset))) bad(`shadow memory at ${ioFd.memoryOffset} of descriptor ${ioFd.memoryFd}`);
}

function recordOf(ioFd: IoFd, indexOf: (fd: number) => number): IoFdRecord {
  const { offset, sizeBytes, fd, flags } = ioFd;
  const sub = { offset, sizeBytes, flags, fdIndex: indexOf(fd) };
  switch (ioFd.kind) {
    case 'ioeventfd': return { ...sub, kind: 'ioeventfd', datamatch: ioFd.datamatch };
    case 'ioregionfd': return { ...sub, kind: 'ioregionfd', userData: ioFd.userData };
    case 'shadow': return { ...sub, kind: 'shadow', datamatch: ioFd.datamatch, memoryFdIndex: indexOf(ioFd.memoryFd), memoryOffset: ioFd.memoryOffset };
  }
}
