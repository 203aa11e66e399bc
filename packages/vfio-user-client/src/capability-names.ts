/** Short names of capability ids (PCI Code and ID Assignment specification). */
const CONVENTIONAL: Readonly<Record<number, string>> = {
  0x00: 'null', 0x01: 'power management', 0x02: 'AGP', 0x03: 'vital product data', 0x04: 'slot id', 0x05: 'MSI', 0x06: 'CompactPCI hot swap', 0x07: 'PCI-X', 0x08: 'HyperTransport',
  0x09: 'vendor specific', 0x0a: 'debug port', 0x0b: 'CompactPCI resources', 0x0c: 'hot plug', 0x0d: 'bridge subsystem', 0x0e: 'AGP 8x', 0x0f: 'secure device', 0x10: 'PCI Express',
  0x11: 'MSI-X', 0x12: 'SATA', 0x13: 'advanced features', 0x14: 'enhanced allocation',
};

const EXTENDED: Readonly<Record<number, string>> = {
  0x00: 'null', 0x01: 'advanced error reporting', 0x02: 'virtual channel', 0x03: 'serial number', 0x04: 'power budgeting', 0x0b: 'vendor specific', 0x0d: 'access control',
  0x0e: 'alternative routing ids', 0x0f: 'address translation', 0x10: 'SR-IOV', 0x13: 'page requests', 0x15: 'resizable BARs', 0x16: 'dynamic power', 0x17: 'processing hints',
  0x18: 'latency tolerance', 0x19: 'secondary PCI Express', 0x1b: 'PASID', 0x1d: 'port containment', 0x1e: 'L1 substates', 0x1f: 'precision time', 0x23: 'designated vendor specific',
  0x24: 'resizable VF BARs', 0x25: 'data link feature', 0x26: 'physical layer 16 GT/s', 0x27: 'lane margining', 0x2a: 'physical layer 32 GT/s', 0x2e: 'data object exchange',
  0x2f: 'device 3', 0x30: 'integrity and encryption', 0x31: 'physical layer 64 GT/s',
};

/** `MSI-X`; `capability 0x…` of those that have no name here. `extended`: from 0x100 of the configuration space on. */
export function capabilityName(id: number, extended: boolean): string {
  return (extended ? EXTENDED : CONVENTIONAL)[id] ?? `capability 0x${id.toString(16)}`;
}
