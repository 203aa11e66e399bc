import { BusDevice, KernelSource, parseAddress, VfioUserSource, type PciAddress } from '@emudev/bus-pci';
import type { Window } from '@emudev/dma';
import type { Sys } from '@emudev/linux';
import { BusTransport, type IavfTransport } from './transport.ts';

/**
 * For `IavfPort.open`: the iavf function at an address of the PCI bus, `0000:06:0d.0` (bound to vfio-pci), a UUID, `vfio-user:PATH`. Opening it rejects with a BusError where it is not there or
 * cannot be had. Throws ERR_BUS_ADDRESS for a text that is none.
 */
export function deviceAt(address: PciAddress | string): (window: Window, sys: Sys) => Promise<IavfTransport> {
  const at = typeof address === 'string' ? parseAddress(address) : address;
  return async (_window, sys) => {
    const source = at.kind === 'vfio-user' ? new VfioUserSource({ sys }) : new KernelSource({ sys });
    return BusTransport.of(await BusDevice.open(source, at, { sys }));
  };
}
