/** Short names of capability ids (PCI Code and ID Assignment specification). */
const CONVENTIONAL: Readonly<Record<number, string>> = {
  0x01: 'power management', 0x03: 'vital product data', 0x05: 'MSI', 0x07: 'PCI-X', 0x09: 'vendor specific', 0x0d: 'bridge subsystem', 0x10: 'PCI Express', 0x11: 'MSI-X',
  0x12: 'SATA', 0x13: 'advanced features', 0x14: 'enhanced allocation',
};

const EXTENDED: Readonly<Record<number, string>> = {
  0x01: 'advanced error reporting', 0x02: 'virtual channel', 0x03: 'serial number', 0x0b: 'vendor specific', 0x0d: 'access control', 0x0e: 'alternative routing ids',
  0x0f: 'address translation', 0x10: 'SR-IOV', 0x13: 'page requests', 0x15: 'resizable BARs', 0x17: 'processing hints', 0x18: 'latency tolerance', 0x19: 'secondary PCI Express',
  0x1b: 'PASID', 0x1d: 'port containment', 0x1e: 'L1 substates', 0x1f: 'precision time', 0x23: 'designated vendor specific', 0x25: 'data link feature',
};

export function capabilityName(id: number, extended: boolean): string {
  return (extended ? EXTENDED : CONVENTIONAL)[id] ?? `capability 0x${id.toString(16)}`;
}
