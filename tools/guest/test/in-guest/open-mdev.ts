/** Runs inside the guest: opens the mediated device whose UUID is the argument through VFIO (linux/vfio.h) and prints what it is. */
import { openSync, readSync, readlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename } from 'node:path';

interface Koffi {
  load(library: string): { func(name: string, result: string, args: string[]): (...args: unknown[]) => number };
}

// The one that @emudev/linux has: that its prebuilt library loads in the guest is part of what is tested.
const koffi = createRequire(import.meta.resolve('@emudev/linux'))('koffi') as Koffi;
const libc = koffi.load('libc.so.6');
const ioctlPointer = libc.func('ioctl', 'int', ['int', 'ulong', 'void *']);
const ioctlValue = libc.func('ioctl', 'int', ['int', 'ulong', 'int64']);

const VFIO_GET_API_VERSION = 0x3b64;
const VFIO_SET_IOMMU = 0x3b66;
const VFIO_GROUP_SET_CONTAINER = 0x3b68;
const VFIO_GROUP_GET_DEVICE_FD = 0x3b6a;
const VFIO_DEVICE_GET_INFO = 0x3b6b;
const VFIO_DEVICE_GET_REGION_INFO = 0x3b6c;
const VFIO_TYPE1V2_IOMMU = 3;
const VFIO_PCI_CONFIG_REGION_INDEX = 7;

function done(what: string, result: number): number {
  if (result < 0) throw new Error(`${what} failed`);
  return result;
}

const uuid = process.argv[2]!;
const container = openSync('/dev/vfio/vfio', 'r+');
const apiVersion = done('VFIO_GET_API_VERSION', ioctlValue(container, VFIO_GET_API_VERSION, 0));
const group = openSync(`/dev/vfio/${basename(readlinkSync(`/sys/bus/mdev/devices/${uuid}/iommu_group`))}`, 'r+');
done('VFIO_GROUP_SET_CONTAINER', ioctlPointer(group, VFIO_GROUP_SET_CONTAINER, Int32Array.of(container)));
done('VFIO_SET_IOMMU', ioctlValue(container, VFIO_SET_IOMMU, VFIO_TYPE1V2_IOMMU));
const device = done('VFIO_GROUP_GET_DEVICE_FD', ioctlPointer(group, VFIO_GROUP_GET_DEVICE_FD, Buffer.from(`${uuid}\0`)));

// struct vfio_device_info: argsz, flags, num_regions, num_irqs, cap_offset
const info = Uint32Array.of(20, 0, 0, 0, 0);
done('VFIO_DEVICE_GET_INFO', ioctlPointer(device, VFIO_DEVICE_GET_INFO, info));
// struct vfio_region_info: argsz, flags, index, cap_offset, then size and offset of 64 bits
const region = new DataView(new ArrayBuffer(32));
region.setUint32(0, 32, true);
region.setUint32(8, VFIO_PCI_CONFIG_REGION_INDEX, true);
done('VFIO_DEVICE_GET_REGION_INFO', ioctlPointer(device, VFIO_DEVICE_GET_REGION_INFO, new Uint8Array(region.buffer)));
const config = Buffer.alloc(16);
readSync(device, config, 0, config.length, Number(region.getBigUint64(24, true)));

console.log(JSON.stringify({ node: process.version, apiVersion, regions: info[2], irqs: info[3], config: config.toString('hex') }));
