/**
 * DEVICE_FEATURE (16): which features a device has, and what GET and SET of each do. SET and PROBE echo the request, GET answers
 * with data and the length it really has.
 *
 * | feature                | GET | SET | there for a device                                              |
 * | ---------------------- | --- | --- | --------------------------------------------------------------- |
 * | 1 MIGRATION            | yes |     | with `migration`                                                |
 * | 2 MIG_DEVICE_STATE     | yes | yes | with `migration`                                                |
 * | 6 DMA_LOGGING_START    |     | yes | that `tracksDirtyPages`: a log with gaps would corrupt a guest  |
 * | 7 DMA_LOGGING_STOP     |     | yes | the same                                                        |
 * | 8 DMA_LOGGING_REPORT   | yes |     | the same                                                        |
 *
 * Everything else is EINVAL, as from libvfio-user, also a feature that only this device lacks: to a consumer that is the same.
 */
import type { PciDevice } from '@emudev/pci';
import {
  badRequest, decodeDeviceFeature, decodeDmaLogging, decodeDmaLoggingReport, decodeMigDeviceState, DEVICE_FEATURE_BYTES, encodeDeviceFeature, encodeDmaLoggingReport, encodeMigDeviceState,
  encodeMigrationFeature, MIG_DEVICE_STATE_BYTES, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
  VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_MIGRATION, VFIO_DEVICE_FEATURE_PROBE, VFIO_DEVICE_FEATURE_SET, type DeviceFeature,
} from '@emudev/vfio-user-protocol';
import type { CommandContext } from './commands.ts';

interface Feature {
  readonly needs: 'migration' | 'dirty-log';
  /** The reply's data, not longer than `argsz` allows where that depends on the request. */
  get?(context: CommandContext, request: DeviceFeature): Uint8Array;
  set?(context: CommandContext, request: DeviceFeature): void | Promise<void>;
}

const FEATURES: ReadonlyMap<number, Feature> = new Map<number, Feature>([
  [VFIO_DEVICE_FEATURE_MIGRATION, { needs: 'migration', get: ({ migration }) => encodeMigrationFeature(migration!.flags) }],
  [VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, { needs: 'migration', get: ({ migration }) => encodeMigDeviceState(migration!.number), set: setState }],
  [VFIO_DEVICE_FEATURE_DMA_LOGGING_START, { needs: 'dirty-log', set: startLogging }],
  // Linux sends nothing along, libvfio-user's clients what they sent to START: neither means anything.
  [VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, { needs: 'dirty-log', set: ({ dma }) => { dma.memory.dirtyLog.stop(); } }],
  [VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, { needs: 'dirty-log', get: reportDirtyPages }],
]);

/** The payload of the reply. @throws ProtocolError EINVAL, and whatever the device throws from a hop */
export function deviceFeature(context: CommandContext, payload: Uint8Array): Uint8Array | Promise<Uint8Array> {
  const request = decodeDeviceFeature(payload);
  const feature = FEATURES.get(request.feature);
  if (feature === undefined || !has(context.device, feature)) throw badRequest('ERR_VFU_INDEX', `DEVICE_FEATURE ${request.feature}: the device does not have it`);
  const supported = VFIO_DEVICE_FEATURE_PROBE | (feature.get === undefined ? 0 : VFIO_DEVICE_FEATURE_GET) | (feature.set === undefined ? 0 : VFIO_DEVICE_FEATURE_SET);
  if ((request.operations & ~supported) !== 0) throw badRequest('ERR_VFU_FLAGS', `DEVICE_FEATURE ${request.feature}: operations 0x${request.operations.toString(16)} of 0x${supported.toString(16)}`);
  if ((request.operations & VFIO_DEVICE_FEATURE_PROBE) !== 0) return payload.slice();
  if ((request.operations & VFIO_DEVICE_FEATURE_SET) === 0) {
    const data = feature.get!(context, request);
    needRoom(request, data.length);
    return encodeDeviceFeature(request.feature, request.operations, data);
  }
  const pending = feature.set!(context, request);
  return pending instanceof Promise ? pending.then(() => payload.slice()) : payload.slice();
}

function has(device: PciDevice, feature: Feature): boolean {
  return feature.needs === 'migration' ? device.migration !== undefined : device.tracksDirtyPages === true;
}

function needRoom({ argsz, feature }: DeviceFeature, dataBytes: number): void {
  if (argsz < DEVICE_FEATURE_BYTES + dataBytes) throw badRequest('ERR_VFU_ARGSZ', `DEVICE_FEATURE ${feature}: argsz ${argsz} has no room for ${dataBytes} bytes of data`);
}

function setState(context: CommandContext, request: DeviceFeature): void | Promise<void> {
  const migration = context.migration!;
  const state = decodeMigDeviceState(request.data);
  needRoom(request, MIG_DEVICE_STATE_BYTES);
  // Being there already disturbs nobody.
  if (migration.pathTo(state).length === 0) return;
  return context.whileQuiesced('migration', () => migration.goTo(state));
}

function startLogging({ dma }: CommandContext, request: DeviceFeature): void {
  const { pageSize, ranges } = decodeDmaLogging(request.data);
  needRoom(request, request.data.length);
  dma.memory.dirtyLog.start(pageSize, ranges);
}

/** Any range, any page size; all checks, for room too, come before the log is read: reading clears. */
function reportDirtyPages({ dma }: CommandContext, request: DeviceFeature): Uint8Array {
  const report = decodeDmaLoggingReport(request.data, request.argsz);
  return encodeDmaLoggingReport(report, dma.memory.dirtyLog.report(report.iova, report.length, report.pageSize));
}
