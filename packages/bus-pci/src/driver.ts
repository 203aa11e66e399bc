/** Drivers of PCI devices. */
import type { KeyValue } from '@emudev/emudev';
import type { BusDevice } from './bus-device.ts';
import type { IdMatch } from './id-table.ts';

/** Drives PCI devices of some kind, whatever transport they come by. `H` is what it has made of one. */
export interface PciDriver<H> {
  /** Unique on a bus. */
  readonly name: string;
  /** Devices it is asked about. */
  readonly ids: readonly IdMatch[];
  /**
   * Takes the device into use; `args` are the selector's. 'not-mine': the next driver is asked, and gets the device as if it were just opened. When this rejects, the bus closes the
   * device. When the device goes away meanwhile, the bus does not wait any longer: a handle that comes too late is removed.
   */
  probe(device: BusDevice, args: readonly KeyValue[]): Promise<H | 'not-mine'>;
  /** Ends what `probe` has begun; the device may have gone. The bus closes the device afterwards, also when this rejects. */
  remove(handle: H): Promise<void>;
}
