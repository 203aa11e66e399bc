/** Names of regions and interrupt indexes (linux/vfio.h, VFIO_PCI_*_INDEX). */

const REGION_NAMES: readonly string[] = ['bar0', 'bar1', 'bar2', 'bar3', 'bar4', 'bar5', 'rom', 'config', 'vga'];
const IRQ_NAMES: readonly string[] = ['INTx', 'MSI', 'MSI-X', 'ERR', 'REQ'];

export function regionName(index: number): string {
  return REGION_NAMES[index] ?? `region${index}`;
}

export function irqName(index: number): string {
  return IRQ_NAMES[index] ?? `irq${index}`;
}

/** The index that a name or number on the command line means; undefined: neither. */
export function regionIndex(text: string): number | undefined {
  const named = REGION_NAMES.indexOf(text.toLowerCase());
  if (named >= 0) return named;
  const number = /^(?:region)?(\d{1,3})$/.exec(text);
  return number === null ? undefined : Number(number[1]);
}
