/** The report of `info` for people. */
import { VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE, VFIO_IRQ_INFO_NORESIZE } from '@emudev/vfio-user-protocol';
import { capabilityName } from '@emudev/vfio-user-client';
import { createColors } from 'picocolors';
import { hex } from './lspci/fields.ts';
import { formatSize } from './numbers.ts';
import type { DeviceReport, RegionReport } from './survey.ts';

const NAME_WIDTH = 12;
/** picocolors by itself also colours where the variable CI is set: whoever reads a pipe gets none. */
const colors = createColors((process.stdout.isTTY as boolean | undefined) === true && process.env['NO_COLOR'] === undefined);

export function infoText(report: DeviceReport): string {
  const { server, device, pci } = report;
  const lines = [
    row('server', `version ${server.version}, looks like ${server.looksLike}`),
    row('', `takes ${formatSize(server.maxDataXferBytes)} a transfer, ${server.maxMsgFds} descriptors a message, ${server.maxDmaMaps} DMA maps, pages of ${pageSizes(server.pageSizes)}${server.writeMultiple ? ', REGION_WRITE_MULTI' : ''}`),
    ...pci === null ? [row('device', 'no PCI configuration space')] : [
      row('device', `${hex(pci.vendorId, 4)}:${hex(pci.deviceId, 4)}${pci.revision === 0 ? '' : ` rev ${hex(pci.revision, 2)}`}, subsystem ${hex(pci.subsystemVendorId, 4)}:${hex(pci.subsystemId, 4)}, class ${hex(pci.classCode, 6)}`),
      row('', `${pci.className}: ${pci.name}`),
    ],
    row('', `flags: ${flags(device.flags, [[VFIO_DEVICE_FLAGS_RESET, 'RESET'], [VFIO_DEVICE_FLAGS_PCI, 'PCI']])}`),
    ...list('regions', report.regions.flatMap(regionLines)),
    ...list('interrupts', report.irqs.map((irq) => `${irq.name.padEnd(8)}${String(irq.count).padStart(5)}  ${irqFlags(irq.flags)}`)),
    ...list('capabilities', (pci?.capabilities ?? []).map(({ id, offset, extended }) => `[${hex(offset, extended ? 3 : 2)}] ${capabilityName(id, extended)}`)),
    row('migration', report.migration === null ? 'no' : `yes: ${[report.migration.stopCopy ? 'stop-copy' : '', report.migration.preCopy ? 'pre-copy' : '', report.migration.peerToPeer ? 'peer-to-peer' : ''].filter((word) => word !== '').join(', ')}`),
    row('dirty pages', report.dirtyLogging ? 'can be logged' : 'no log'),
  ];
  return `${lines.join('\n')}\n`;
}

function row(name: string, text: string): string {
  return `${colors.bold(name.padEnd(NAME_WIDTH))}  ${text}`;
}

function list(name: string, entries: readonly string[]): string[] {
  return entries.length === 0 ? [row(name, 'none')] : entries.map((entry, index) => row(index === 0 ? name : '', entry));
}

function regionLines(region: RegionReport): string[] {
  const { name, sizeBytes, readable, writable, areas, areaCount, fileOffset, file, ioFds, ioFdCount } = region;
  const access = `${readable ? 'r' : '-'}${writable ? 'w' : '-'}${areaCount > 0 ? 'm' : '-'}`;
  const passed = file === null ? '' : `  file ${colors.cyan(file.name)} (${formatSize(file.sizeBytes)}) from 0x${fileOffset.toString(16)}`;
  return [
    `${name.padEnd(8)}${formatSize(sizeBytes).padStart(5)}  ${access}${passed}`,
    ...areas.map((area) => `          mappable 0x${area.offset.toString(16)} + ${formatSize(area.sizeBytes)}`),
    ...more(areaCount - areas.length, 'mappable areas'),
    ...ioFds.map((entry) => `          ${entry.kind} 0x${entry.offset.toString(16)} + ${formatSize(entry.sizeBytes)}${entry.datamatch === undefined || (entry.flags & 1) === 0 ? '' : `, value 0x${entry.datamatch.toString(16)}`}`),
    ...more(ioFdCount - ioFds.length, 'descriptors for writes'),
  ];
}

function more(count: number, what: string): string[] {
  return count > 0 ? [`          … and ${count} more ${what}`] : [];
}

function flags(value: number, names: readonly (readonly [number, string])[]): string {
  const known = names.filter(([bit]) => (value & bit) !== 0);
  const rest = known.reduce((left, [bit]) => left & ~bit, value) >>> 0;
  return [...known.map(([, name]) => name), ...rest === 0 ? [] : [`0x${rest.toString(16)}`]].join(' ') || 'none';
}

function irqFlags(value: number): string {
  return flags(value, [[VFIO_IRQ_INFO_EVENTFD, 'EVENTFD'], [VFIO_IRQ_INFO_MASKABLE, 'MASKABLE'], [VFIO_IRQ_INFO_AUTOMASKED, 'AUTOMASKED'], [VFIO_IRQ_INFO_NORESIZE, 'NORESIZE']]);
}

/** A bitmap: each power of two it has. */
function pageSizes(bitmap: number): string {
  const sizes = Array.from({ length: 53 }, (_, exponent) => 2 ** exponent).filter((size) => Math.floor(bitmap / size) % 2 === 1);
  return sizes.map(formatSize).join('/') || 'no size';
}
