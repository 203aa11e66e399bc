/** The two kinds of sources as one: a device is opened by whichever has it. */
import { KernelSource, VfioUserSource, type FoundDevice, type PciAddress, type PciTransport, type Sysfs } from '@emudev/bus-pci';

/** A server that answers does so at once; one that serves somebody else never does. */
const CONNECT_TIMEOUT_MS = 2000;

export interface Devices {
  /** All of the kernel's, and the sockets among these addresses. */
  scan(...wanted: readonly PciAddress[]): Promise<readonly FoundDevice[]>;
  open(address: PciAddress): Promise<PciTransport>;
}

export function devices(sysfs: Sysfs): Devices {
  const kernel = new KernelSource({ sysfs });
  const sockets = new VfioUserSource({ client: { timeoutMs: CONNECT_TIMEOUT_MS } });
  return {
    scan: async (...wanted) => [...await kernel.scan(), ...await sockets.scan(undefined, wanted)],
    open: (address) => (address.kind === 'vfio-user' ? sockets : kernel).open(address),
  };
}
