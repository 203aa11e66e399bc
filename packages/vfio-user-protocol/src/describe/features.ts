/** DEVICE_FEATURE's data, which depends on the feature; requests and replies look alike. */
import { getU32, getU64 } from '../bytes.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_MIGRATION, VFIO_DEVICE_FEATURE_PROBE,
} from '../constants.ts';
import { bitmapText, featureName, FEATURE_OPERATIONS, flagNames, hex, MIGRATION_FLAGS, migrationStateName } from './values.ts';
import type { PayloadWalk } from './walk.ts';

export function describeFeature(walk: PayloadWalk): void {
  walk.u32('argsz');
  const flags = getU32(walk.payload, walk.skip(4, 'flags'));
  const feature = flags & VFIO_DEVICE_FEATURE_MASK;
  walk.note('flags', flagNames((flags & ~VFIO_DEVICE_FEATURE_MASK) >>> 0, FEATURE_OPERATIONS));
  walk.note('feature', featureName(feature));
  // A GET request of most features and every probe has no data.
  if (walk.left === 0 || (flags & VFIO_DEVICE_FEATURE_PROBE) !== 0) return;
  switch (feature) {
    case VFIO_DEVICE_FEATURE_MIGRATION: {
      const supported = getU64(walk.payload, walk.skip(8, 'migration flags'));
      walk.note('migration', supported > 0xffff_ffffn ? hex(supported) : flagNames(Number(supported), MIGRATION_FLAGS));
      return;
    }
    case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
      walk.u32('state', migrationStateName);
      walk.u32('data_fd', (fd) => String(fd | 0));
      return;
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP: {
      walk.u64('page_size');
      const ranges = walk.u32('num_ranges');
      walk.reserved('reserved');
      walk.list(ranges, 16, 'ranges', (at, i) => { walk.note(`range[${i}]`, `${hex(getU64(walk.payload, at))}+${hex(getU64(walk.payload, at + 8))}`); });
      return;
    }
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT:
      walk.u64('iova');
      walk.u64('length');
      walk.u64('page_size');
      if (walk.left > 0) walk.note('dirty', bitmapText(walk.payload.subarray(walk.skip(walk.left, 'dirty'))));
      return;
    default:
      walk.data('data', walk.left);
  }
}
