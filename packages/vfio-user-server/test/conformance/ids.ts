/**
 * Every rule of the suite by its id. The rules are those that libvfio-user's tests established, in the order of the commands;
 * a file has exactly the rows of its section (`conformance` refuses to run otherwise), and ids.test.ts finds a file that is missing.
 */
function ids(prefix: string, first: number, last: number): string[] {
  return Array.from({ length: last - first + 1 }, (_, i) => `${prefix}${first + i}`);
}

export type Section = 'version' | 'framing' | 'device-info' | 'region-info' | 'io-fds' | 'irq-info' | 'set-irqs' | 'region-access' | 'dma-map' | 'dma-unmap' | 'guest-memory' | 'migration' | 'dirty-pages' | 'quiesce';

export const SECTIONS: Readonly<Record<Section, readonly string[]>> = {
  version: ids('V', 1, 16),
  framing: ids('H', 1, 11),
  'device-info': ids('I', 1, 3),
  'region-info': ids('R', 1, 13),
  'io-fds': ids('F', 1, 16),
  'irq-info': ids('Q', 1, 4),
  'set-irqs': ids('S', 1, 20),
  'region-access': ids('A', 1, 15),
  'dma-map': ids('D', 1, 9),
  'dma-unmap': ids('U', 1, 10),
  'guest-memory': [...ids('G', 1, 7), ...ids('M', 1, 4)],
  migration: ids('G', 10, 29),
  'dirty-pages': ids('L', 1, 18),
  quiesce: ids('Z', 1, 7),
};

/** Rules about capabilities and configuration space: beside the package that keeps them. */
export const PCI_FILE = '../../../pci/test/conformance.test.ts';
export const PCI_IDS: readonly string[] = ids('P', 1, 25);
