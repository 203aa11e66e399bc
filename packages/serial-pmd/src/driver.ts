/** Serial cards for a `PciBus`. */
import type { PciDriver } from '@emudev/bus-pci';
import { SerialCard, type InterruptKind } from './card.ts';
import { SerialError } from './errors.ts';

const INTERRUPTS: readonly InterruptKind[] = ['auto', 'intx', 'msi'];
/** 8250, 16450, 16550, 16650, 16750, 16850, 16950 (PCI Code and ID Assignment, base class 07h). */
const PROGRAMMING_INTERFACES = 7;

/** Takes every 16550 serial card that the bus finds. One argument: `interrupt=auto|intx|msi`. */
export const pciDriver: PciDriver<SerialCard> = {
  name: 'serial',
  ids: Array.from({ length: PROGRAMMING_INTERFACES }, (_, i) => ({ classCode: 0x07_0000 + i })),
  probe(device, args) {
    let interrupt: InterruptKind = 'auto';
    for (const [key, value] of args) {
      const kind = INTERRUPTS.find((each) => each === value);
      if (key !== 'interrupt' || kind === undefined) return Promise.reject(new SerialError('ERR_SERIAL_ARGUMENT', `argument '${key}' of a serial card: there is interrupt=${INTERRUPTS.join('|')}`));
      interrupt = kind;
    }
    return SerialCard.open(device, { interrupt });
  },
  remove: (card) => card.close(),
};
