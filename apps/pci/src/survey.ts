/** Everything that an open device says of itself. It is only read. */
import { capabilityName, type BusDevice, type BusRegion, type PciTransport } from '@emudev/bus-pci';

const REGION_NAMES = ['bar0', 'bar1', 'bar2', 'bar3', 'bar4', 'bar5', 'rom', 'config', 'vga'];
const INTERRUPT_NAMES = ['INTx', 'MSI', 'MSI-X', 'error', 'request'];

/** What is shown of an open device. */
export interface Survey {
  readonly revision: number;
  readonly resettable: boolean;
  readonly regions: readonly (BusRegion & { readonly name: string })[];
  readonly interrupts: readonly { readonly name: string; readonly index: number; readonly count: number; readonly flags: number }[];
  readonly capabilities: readonly { readonly id: number; readonly offset: number; readonly extended: boolean; readonly name: string }[];
  /** null: any address. */
  readonly iovaRanges: readonly { readonly first: bigint; readonly last: bigint }[] | null;
  readonly dmaPageBytes: number;
  readonly maxDmaMaps: number;
}

/** Regions and interrupts that the device does not have are left out. */
export async function survey(device: BusDevice, transport: PciTransport): Promise<Survey> {
  const regions: Survey['regions'][number][] = [];
  for (let index = 0; index < transport.regionCount; index++) {
    const region = await transport.region(index);
    if (region.sizeBytes > 0) regions.push({ name: REGION_NAMES[index] ?? `region${index}`, ...region });
  }
  const interrupts: Survey['interrupts'][number][] = [];
  for (let index = 0; index < transport.interruptCount; index++) {
    const { count, flags } = await transport.interrupt(index);
    if (count > 0) interrupts.push({ name: INTERRUPT_NAMES[index] ?? `interrupt${index}`, index, count, flags });
  }
  const { revision } = await device.config.header();
  const named = (extended: boolean) => ({ id, offset }: { readonly id: number; readonly offset: number }): Survey['capabilities'][number] => ({ id, offset, extended, name: capabilityName(id, extended) });
  return {
    revision, resettable: transport.resettable, regions, interrupts,
    capabilities: [...(await device.config.capabilities()).map(named(false)), ...(await device.config.extendedCapabilities()).map(named(true))],
    iovaRanges: transport.iovaRanges ?? null, dmaPageBytes: transport.dmaPageBytes, maxDmaMaps: transport.maxDmaMaps,
  };
}
