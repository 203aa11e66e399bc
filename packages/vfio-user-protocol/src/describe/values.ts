/** How single values are written for people: symbolic names where there are any, else numbers. Everything returned is printable ASCII. */
import {
  VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_PROBE, VFIO_DEVICE_FEATURE_SET, VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE, VFIO_DMA_UNMAP_FLAG_ALL, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_NORESIZE, VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_BOOL, VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE, VFIO_MIGRATION_P2P, VFIO_MIGRATION_PRE_COPY, VFIO_MIGRATION_STOP_COPY, VFIO_REGION_INFO_FLAG_CAPS, VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, VFIO_USER_F_DMA_REGION_FILE_IO, VFIO_USER_F_DMA_REGION_MMAP, VFIO_USER_F_ERROR, VFIO_USER_F_NO_REPLY,
  VFIO_USER_F_TYPE_COMMAND, VFIO_USER_F_TYPE_MASK, VFIO_USER_F_TYPE_REPLY,
} from '../constants.ts';

type BitNames = readonly (readonly [bit: number, name: string])[];

export const DEVICE_FLAGS: BitNames = [[VFIO_DEVICE_FLAGS_RESET, 'RESET'], [VFIO_DEVICE_FLAGS_PCI, 'PCI']];
export const REGION_FLAGS: BitNames = [
  [VFIO_REGION_INFO_FLAG_READ, 'READ'], [VFIO_REGION_INFO_FLAG_WRITE, 'WRITE'], [VFIO_REGION_INFO_FLAG_MMAP, 'MMAP'], [VFIO_REGION_INFO_FLAG_CAPS, 'CAPS'],
];
export const IRQ_INFO_FLAGS: BitNames = [
  [VFIO_IRQ_INFO_EVENTFD, 'EVENTFD'], [VFIO_IRQ_INFO_MASKABLE, 'MASKABLE'], [VFIO_IRQ_INFO_AUTOMASKED, 'AUTOMASKED'], [VFIO_IRQ_INFO_NORESIZE, 'NORESIZE'],
];
export const SET_IRQS_FLAGS: BitNames = [
  [VFIO_IRQ_SET_ACTION_MASK, 'MASK'], [VFIO_IRQ_SET_ACTION_UNMASK, 'UNMASK'], [VFIO_IRQ_SET_ACTION_TRIGGER, 'TRIGGER'],
  [VFIO_IRQ_SET_DATA_NONE, 'NONE'], [VFIO_IRQ_SET_DATA_BOOL, 'BOOL'], [VFIO_IRQ_SET_DATA_EVENTFD, 'EVENTFD'],
];
export const DMA_MAP_FLAGS: BitNames = [
  [VFIO_DMA_MAP_FLAG_READ, 'READ'], [VFIO_DMA_MAP_FLAG_WRITE, 'WRITE'], [VFIO_USER_F_DMA_REGION_MMAP, 'MMAP'], [VFIO_USER_F_DMA_REGION_FILE_IO, 'FILE_IO'],
];
export const DMA_UNMAP_FLAGS: BitNames = [[VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, 'GET_DIRTY_BITMAP'], [VFIO_DMA_UNMAP_FLAG_ALL, 'ALL']];
export const FEATURE_OPERATIONS: BitNames = [[VFIO_DEVICE_FEATURE_GET, 'GET'], [VFIO_DEVICE_FEATURE_SET, 'SET'], [VFIO_DEVICE_FEATURE_PROBE, 'PROBE']];
export const MIGRATION_FLAGS: BitNames = [[VFIO_MIGRATION_STOP_COPY, 'STOP_COPY'], [VFIO_MIGRATION_P2P, 'P2P'], [VFIO_MIGRATION_PRE_COPY, 'PRE_COPY']];
/** KVM's own (KVM_IOEVENTFD_FLAG_*); without CCW, which no PCI device has. */
export const IOEVENTFD_FLAGS: BitNames = [[1, 'DATAMATCH'], [2, 'PIO'], [4, 'DEASSIGN']];
export const IOREGIONFD_FLAGS: BitNames = [[1, 'PIO'], [2, 'POSTED_WRITES']];

/** 'READ|WRITE'; bits without a name in hexadecimal; '0' for none. */
export function flagNames(value: number, names: BitNames): string {
  const parts: string[] = [];
  let rest = value;
  for (const [bit, name] of names) {
    if ((rest & bit) !== 0) {
      parts.push(name);
      rest = (rest & ~bit) >>> 0;
    }
  }
  if (rest !== 0) parts.push(`0x${rest.toString(16)}`);
  return parts.length === 0 ? '0' : parts.join('|');
}

const REGIONS: readonly string[] = ['BAR0', 'BAR1', 'BAR2', 'BAR3', 'BAR4', 'BAR5', 'ROM', 'CONFIG', 'VGA'];
const IRQ_INDEXES: readonly string[] = ['INTX', 'MSI', 'MSIX', 'ERR', 'REQ'];
const MIGRATION_STATES: readonly string[] = ['ERROR', 'STOP', 'RUNNING', 'STOP_COPY', 'RESUMING', 'RUNNING_P2P', 'PRE_COPY', 'PRE_COPY_P2P'];
const FEATURES: readonly string[] = [
  'PCI_VF_TOKEN', 'MIGRATION', 'MIG_DEVICE_STATE', 'LOW_POWER_ENTRY', 'LOW_POWER_ENTRY_WITH_WAKEUP', 'LOW_POWER_EXIT', 'DMA_LOGGING_START', 'DMA_LOGGING_STOP',
  'DMA_LOGGING_REPORT', 'MIG_DATA_SIZE', 'BUS_MASTER',
];

/** 'BAR0' to 'BAR5', 'ROM', 'CONFIG', 'VGA'; the number of any other region. */
export function regionName(index: number): string {
  return REGIONS[index] ?? String(index);
}

/** 'INTX', 'MSI', 'MSIX', 'ERR', 'REQ'; the number of any other interrupt index. */
export function irqIndexName(index: number): string {
  return IRQ_INDEXES[index] ?? String(index);
}

/** 'RUNNING', 'STOP_COPY', ...; the number of anything else. */
export function migrationStateName(state: number): string {
  return MIGRATION_STATES[state] ?? String(state);
}

/** 'MIGRATION', 'DMA_LOGGING_START', ...; the number of any other feature. */
export function featureName(feature: number): string {
  return FEATURES[feature] ?? String(feature);
}

/** The flags of a message header: 'COMMAND', 'COMMAND|NO_REPLY', 'REPLY', 'REPLY|ERROR'; reserved types as 'TYPE_2'. */
export function headerFlagNames(flags: number): string {
  const type = flags & VFIO_USER_F_TYPE_MASK;
  const name = type === VFIO_USER_F_TYPE_COMMAND ? 'COMMAND' : type === VFIO_USER_F_TYPE_REPLY ? 'REPLY' : `TYPE_${type}`;
  const rest = (flags & ~VFIO_USER_F_TYPE_MASK) >>> 0;
  return rest === 0 ? name : `${name}|${flagNames(rest, [[VFIO_USER_F_NO_REPLY, 'NO_REPLY'], [VFIO_USER_F_ERROR, 'ERROR']])}`;
}

export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** 1, 2, 4 or 8 bytes as a little-endian number of full width, more or other lengths byte by byte, cut after `maxBytes`. */
export function dataText(data: Uint8Array, maxBytes: number): string {
  switch (data.length) {
    case 0: return 'none';
    case 1: case 2: case 4: case 8: return `0x${hexDigits(Uint8Array.from(data).reverse())}`;
  }
  return bytesText(data, maxBytes);
}

/** Byte by byte in hexadecimal, cut after `maxBytes`. */
export function bytesText(data: Uint8Array, maxBytes: number): string {
  return data.length > maxBytes ? `${hexDigits(data.subarray(0, maxBytes))}...` : hexDigits(data);
}

function hexDigits(data: Uint8Array): string {
  let text = '';
  for (const byte of data) text += byte.toString(16).padStart(2, '0');
  return text;
}

/** '3 of 64 bits set'. */
export function bitmapText(bitmap: Uint8Array): string {
  let set = 0;
  for (let byte of bitmap) {
    for (; byte !== 0; byte &= byte - 1) set++;
  }
  return `${set} of ${8 * bitmap.length} bits set`;
}

/** A peer's text, fit for a terminal: whatever is no printable ASCII is escaped, control sequences and text direction included. */
export function printable(text: string): string {
  return text.replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
