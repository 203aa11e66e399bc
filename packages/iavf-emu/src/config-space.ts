import { ConfigSpace, MsixRegion, msixCapability, pciExpressCapability, type ConfigSpaceHooks } from '@emudev/pci';
import { BAR0_BYTES } from './register-table.ts';

export const BAR3_BYTES = 0x4000;
const MSIX_TABLE_OFFSET = 0;
const MSIX_PBA_OFFSET = 0x1000;

/** Configuration space of an Intel Ethernet Adaptive Virtual Function. */
export function iavfConfigSpace(vectors: number, hooks: ConfigSpaceHooks): ConfigSpace {
  return new ConfigSpace(
    {
      sizeBytes: 4096,
      vendorId: 0x8086,
      deviceId: 0x1889,
      subsystemVendorId: 0x8086,
      subsystemId: 0x0000,
      revision: 0x02,
      classCode: 0x020000,
      interruptPin: 0, // a virtual function has no INTx
      bars: [
        { index: 0, kind: 'memory64', sizeBytes: BAR0_BYTES, prefetchable: true },
        { index: 3, kind: 'memory64', sizeBytes: BAR3_BYTES, prefetchable: true },
      ],
      capabilities: [
        // FreeBSD reads message control from the fixed offset 0x72.
        msixCapability({ vectors, table: { bar: 3, offset: MSIX_TABLE_OFFSET }, pba: { bar: 3, offset: MSIX_PBA_OFFSET }, offset: 0x70 }),
        pciExpressCapability({ flr: true, offset: 0xa0 }),
      ],
    },
    hooks,
  );
}

/** BAR3. A consumer keeps the table itself and hands over eventfds; this one answers whoever looks. */
export function iavfMsixRegion(vectors: number): MsixRegion {
  return new MsixRegion({ vectors, sizeBytes: BAR3_BYTES, tableOffset: MSIX_TABLE_OFFSET, pbaOffset: MSIX_PBA_OFFSET });
}
