/** The two kinds of sources as one: a device is opened by whichever has it. */
import { KernelSource, VfioUserSource, type FoundDevice, type PciAddress, type PciTransport, type Sysfs } from '@emudev/bus-pci';

export interface Devices {
  /** All of the kernel's, and the sockets among these addresses. */
  scan(...wanted: readonly PciAddress[]): Promise<readonly FoundDevice[]>;
  open(address: PciAddress, signal: AbortSignal): Promise<PciTransport>;
}

/** `timeoutMs`: for one answer of a server. One that answers does so at once; one that serves somebody else never does. `vfToken`: for functions that want one. */
export function devices(sysfs: Sysfs, timeoutMs: number, vfToken?: string): Devices {
  const kernel = new KernelSource({ sysfs, ...(vfToken === undefined ? {} : { vfToken }) });
  const sockets = new VfioUserSource({ client: { timeoutMs } });
  return {
    scan: async (...wanted) => [...await kernel.scan(), ...await sockets.scan(undefined, wanted)],
    open: (address, signal) => (address.kind === 'vfio-user' ? sockets : kernel).open(address, signal),
  };
}
