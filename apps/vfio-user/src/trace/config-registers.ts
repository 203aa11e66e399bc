/** The header of a type 0 configuration space (PCI Local Bus 3.0, 6.1 and 6.2), in the form of a dictionary. */
import { parseDictionary, type Register } from './dictionary.ts';

const flags = (names: Readonly<Record<string, number | readonly [number, number]>>): readonly { readonly name: string; readonly bits: number | readonly [number, number] }[] =>
  Object.entries(names).map(([name, bits]) => ({ name, bits }));

const [header] = parseDictionary({
  devices: [{
    name: 'configuration space',
    regions: {
      CONFIG: [
        { name: 'VENDOR_ID', offset: 0x00, size: 2 },
        { name: 'DEVICE_ID', offset: 0x02, size: 2 },
        { name: 'COMMAND', offset: 0x04, size: 2, fields: flags({ IO: 0, MEMORY: 1, MASTER: 2, SPECIAL: 3, INVALIDATE: 4, VGA_PALETTE: 5, PARITY: 6, WAIT: 7, SERR: 8, FAST_BACK: 9, INTX_DISABLE: 10 }) },
        {
          name: 'STATUS', offset: 0x06, size: 2,
          fields: flags({ IMM_READY: 0, INTERRUPT: 3, CAP_LIST: 4, '66MHZ': 5, FAST_BACK: 7, PARITY: 8, DEVSEL: [10, 9], SIG_TARGET_ABORT: 11, REC_TARGET_ABORT: 12, REC_MASTER_ABORT: 13, SIG_SYSTEM_ERROR: 14, DETECTED_PARITY: 15 }),
        },
        { name: 'REVISION_ID', offset: 0x08, size: 1 },
        { name: 'CLASS_PROG', offset: 0x09, size: 1 },
        { name: 'CLASS_DEVICE', offset: 0x0a, size: 2 },
        { name: 'CACHE_LINE_SIZE', offset: 0x0c, size: 1 },
        { name: 'LATENCY_TIMER', offset: 0x0d, size: 1 },
        { name: 'HEADER_TYPE', offset: 0x0e, size: 1 },
        { name: 'BIST', offset: 0x0f, size: 1 },
        { name: 'BASE_ADDRESS', offset: 0x10, size: 4, count: 6 },
        { name: 'CARDBUS_CIS', offset: 0x28, size: 4 },
        { name: 'SUBSYSTEM_VENDOR_ID', offset: 0x2c, size: 2 },
        { name: 'SUBSYSTEM_ID', offset: 0x2e, size: 2 },
        { name: 'ROM_ADDRESS', offset: 0x30, size: 4 },
        { name: 'CAPABILITY_LIST', offset: 0x34, size: 1 },
        { name: 'INTERRUPT_LINE', offset: 0x3c, size: 1 },
        { name: 'INTERRUPT_PIN', offset: 0x3d, size: 1 },
        { name: 'MIN_GNT', offset: 0x3e, size: 1 },
        { name: 'MAX_LAT', offset: 0x3f, size: 1 },
      ],
    },
  }],
}, 'configuration space');

export const CONFIG_REGISTERS: readonly Register[] = header!.regions.get(7)!;
