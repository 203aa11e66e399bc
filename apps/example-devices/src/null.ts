/** The least there can be: ids, and nothing else. */
import { BasicPciDevice } from '@emudev/pci';

export class NullDevice extends BasicPciDevice {
  constructor() {
    super({ name: 'null', vendorId: 0xe0de, deviceId: 0x0001, classCode: 0xff0000 });
  }
}
