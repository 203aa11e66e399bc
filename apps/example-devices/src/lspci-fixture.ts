/** Every kind of capability in one configuration space: something for `lspci -vv` to show. Does nothing. */
import {
  BasicPciDevice, extendedVendorCapability, pciExpressCapability, powerManagementCapability, serialNumberCapability, vendorCapability,
} from '@emudev/pci';

const VENDOR_PAYLOAD_BYTES = 13;
const VSEC_PAYLOAD_BYTES = 13;

export class LspciFixture extends BasicPciDevice {
  constructor() {
    super({
      name: 'lspci-fixture', vendorId: 0xe0de, deviceId: 0x0002, classCode: 0x000000, configBytes: 4096,
      capabilities: [
        powerManagementCapability({ offset: 0x40 }),
        vendorCapability({ payload: new Uint8Array(VENDOR_PAYLOAD_BYTES), offset: 0x48 }),
        pciExpressCapability({ flr: true, offset: 0x58 }),
        serialNumberCapability({ serial: 0xcafe_babe_dead_beefn, offset: 0x100 }),
        extendedVendorCapability({ vsecId: 1, vsecRevision: 1, payload: new Uint8Array(VSEC_PAYLOAD_BYTES), offset: 0x10c }),
        extendedVendorCapability({ vsecId: 2, vsecRevision: 2, payload: new Uint8Array(VSEC_PAYLOAD_BYTES), offset: 0x400 }),
      ],
    });
  }
}
