/** Everything that a source says of its devices, as plain text: what a recording has to give again. */
import { formatAddress, type DeviceSource } from '@emudev/bus-pci';

/** By address: why it cannot be used, or its regions, interrupts and the head of its configuration space. */
export async function survey(source: DeviceSource): Promise<Record<string, readonly string[]>> {
  const all: Record<string, readonly string[]> = {};
  for (const { address, unusable, kernelDriver, ids } of await source.scan()) {
    const name = formatAddress(address);
    const identity = ids === undefined ? [] : [`${ids.vendor.toString(16)}:${ids.device.toString(16)} class ${ids.classCode.toString(16)}`];
    all[name] = unusable === undefined ? [`by ${kernelDriver}`, ...identity, ...await surveyed(source, address)] : [unusable.reason, ...identity];
  }
  return all;
}

async function surveyed(source: DeviceSource, address: Parameters<DeviceSource['open']>[0]): Promise<string[]> {
  await using device = await source.open(address);
  const lines = [`DMA pages of ${device.dmaPageBytes}, ${device.resettable ? '' : 'not '}resettable`];
  for (let index = 0; index < device.regionCount; index++) {
    const { sizeBytes, readable, writable, areas, type } = await device.region(index);
    const own = type === undefined ? '' : `, type ${type.type}.${type.subtype}`;
    if (sizeBytes > 0) lines.push(`region ${index}: ${sizeBytes} ${readable ? 'r' : '-'}${writable ? 'w' : '-'}${own}${areas.map((area) => `, mapped ${area.offset}+${area.sizeBytes}`).join('')}`);
  }
  for (let index = 0; index < device.interruptCount; index++) {
    const { count, flags } = await device.interrupt(index);
    if (count > 0) lines.push(`interrupt ${index}: ${count}, flags ${flags}`);
  }
  const config = Buffer.alloc(64);
  for (let at = 0; at < config.length; at += 4) await device.read(7, at, config.subarray(at, at + 4));
  return [...lines, `${config.toString('hex', 0, 4)} ${config.toString('hex', 8, 12)} ${config.toString('hex', 44, 48)}`];
}
