/** What each command does. One function per command; a reply is a whole message, descriptors apart. */
import {
  badRequest, COMMANDS, commandName, decodeDeviceGetInfo, decodeDmaMap, decodeDmaUnmap, decodeGetIrqInfo, decodeGetRegionInfo, decodeMigDataRead, decodeMigDataWrite, decodeRegionRead, decodeRegionWrite,
  decodeRegionWriteMulti, decodeSetIrqs, encodeDeviceInfo, encodeDmaUnmapReply, encodeErrorReply, encodeIrqInfo, encodeMessage, encodeMigDataReadReply, encodeRegionInfo, encodeRegionWriteMultiReply,
  HEADER_BYTES, newMessage, newRegionReadReply, newRegionWriteReply, REGION_DATA_AT, VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET,
  VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_USER_DEVICE_FEATURE, VFIO_USER_DEVICE_GET_INFO, VFIO_USER_DEVICE_GET_IRQ_INFO, VFIO_USER_DEVICE_GET_REGION_INFO, VFIO_USER_DEVICE_GET_REGION_IO_FDS,
  VFIO_USER_DEVICE_RESET, VFIO_USER_DEVICE_SET_IRQS, VFIO_USER_DMA_MAP, VFIO_USER_DMA_UNMAP, VFIO_USER_F_ERROR, VFIO_USER_F_TYPE_REPLY, VFIO_USER_MIG_DATA_READ, VFIO_USER_MIG_DATA_WRITE, VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE,
  VFIO_USER_REGION_WRITE_MULTI, type EffectiveCapabilities, type Frame, type PeerProfile, type RegionData,
} from '@emudev/vfio-user-protocol';
import type { RemoteMemory } from '@emudev/dma';
import type { DmaTable } from './dma-table.ts';
import { deviceFeature as deviceFeaturePayload } from './features.ts';
import { regionIoFds } from './io-fds.ts';
import type { DeviceMigration } from './migration.ts';
import type { Regions } from './regions.ts';
import { setIrqs, type IrqContext } from './set-irqs.ts';

/** What a command works on: the session, as far as commands may see it. */
export interface CommandContext extends IrqContext {
  readonly regions: Regions;
  readonly dma: DmaTable;
  readonly maxDataXferBytes: number;
  /** undefined where the device cannot be migrated. */
  readonly migration: DeviceMigration | undefined;
  /** What the client can receive, known since it has negotiated. */
  readonly capabilities: EffectiveCapabilities | undefined;
  readonly peer: PeerProfile | undefined;
  /** How memory without a descriptor is reached; undefined where the client serves no DMA messages. */
  readonly messages: RemoteMemory | undefined;
  reset(reason: 'reset' | 'flr'): Promise<void>;
  /** A fault that is nobody's error reply. */
  report(what: string): void;
}

export type Reply = Uint8Array | { readonly message: Uint8Array; readonly fds: readonly number[] };
/** `fds` came with the command; a handler that keeps one removes it from the list, the rest is closed afterwards. */
type Handler = (context: CommandContext, frame: Frame, fds: number[]) => Reply | Promise<Reply>;

/** Of the header. */
const ERRNO_AT = 12;

const withPayload = (frame: Frame, payload: Uint8Array): Uint8Array => encodeMessage(frame.id, frame.command, VFIO_USER_F_TYPE_REPLY, payload);
const headerOnly = (frame: Frame): Uint8Array => newMessage(frame.id, frame.command, VFIO_USER_F_TYPE_REPLY, 0);

const getInfo: Handler = ({ device }, frame) => {
  decodeDeviceGetInfo(frame.payload);
  const flags = VFIO_DEVICE_FLAGS_PCI | (device.resettable ? VFIO_DEVICE_FLAGS_RESET : 0);
  return withPayload(frame, encodeDeviceInfo({ flags, numRegions: VFIO_PCI_NUM_REGIONS, numIrqs: VFIO_PCI_NUM_IRQS }));
};

const getRegionInfo: Handler = ({ regions }, frame) => {
  const { argsz, index } = decodeGetRegionInfo(frame.payload);
  const { payload, complete } = encodeRegionInfo(regions.info(index), argsz);
  const fd = complete ? regions.backingFd(index) : -1;
  return { message: withPayload(frame, payload), fds: fd === -1 ? [] : [fd] };
};

const getRegionIoFds: Handler = (context, frame) => {
  const maxMsgFds = Math.min(context.capabilities!.maxMsgFds, context.peer!.maxFds);
  const { payload, fds, leftOut } = regionIoFds(context.device, context.regions, frame.payload, maxMsgFds);
  if (leftOut > 0) context.report(`${leftOut} sub-regions left out: the client takes ${maxMsgFds} descriptors with one message`);
  return { message: withPayload(frame, payload), fds };
};

const getIrqInfo: Handler = ({ device }, frame) => {
  const { index } = decodeGetIrqInfo(frame.payload);
  if (index >= VFIO_PCI_NUM_IRQS) throw badRequest('ERR_VFU_INDEX', `interrupt index ${index} of ${VFIO_PCI_NUM_IRQS}`);
  const irq = device.irqs.find((i) => i.index === index);
  return withPayload(frame, encodeIrqInfo({ index, flags: irq?.flags ?? 0, count: irq?.count ?? 0 }));
};

const setInterrupts: Handler = (context, frame, fds) => {
  const request = decodeSetIrqs(frame.payload, fds.length, (index) => context.vectors.countOf(index));
  const pending = setIrqs(context, request, fds);
  return pending === undefined ? headerOnly(frame) : pending.then(() => headerOnly(frame));
};

const dmaMap: Handler = async (context, frame, fds) => {
  const map = decodeDmaMap(frame.payload, fds.length);
  context.dma.check(map);
  await context.whileQuiesced('dma-map', () => {
    context.dma.map(map, fds, context.messages);
    context.device.memoryChanged();
  });
  return headerOnly(frame);
};

const dmaUnmap: Handler = async (context, frame) => {
  const unmap = decodeDmaUnmap(frame.payload);
  let dirty: Uint8Array | undefined;
  await context.whileQuiesced('dma-unmap', () => {
    dirty = context.dma.unmap(unmap);
    context.device.memoryChanged();
  });
  return withPayload(frame, encodeDmaUnmapReply(unmap, dirty));
};

const regionRead: Handler = ({ device, regions, maxDataXferBytes }, frame) => {
  const access = decodeRegionRead(frame.payload, maxDataXferBytes);
  regions.checkAccess(access, 'read');
  const message = newRegionReadReply(frame.id, access);
  if (access.count === 0) return message;
  const pending = device.read(access.region, access.offset, message.subarray(REGION_DATA_AT));
  return pending instanceof Promise ? pending.then(() => message) : message;
};

const regionWrite: Handler = ({ device, regions, maxDataXferBytes }, frame) => {
  const access = decodeRegionWrite(frame.payload, maxDataXferBytes);
  regions.checkAccess(access, 'write');
  const message = newRegionWriteReply(frame.id, access);
  if (access.count === 0) return message;
  const pending = device.write(access.region, access.offset, access.data);
  return pending instanceof Promise ? pending.then(() => message) : message;
};

/** All entries are checked before the first is executed: a half-executed message could not be reported. */
const regionWriteMulti: Handler = async ({ device, regions }, frame) => {
  const writes: readonly RegionData[] = decodeRegionWriteMulti(frame.payload);
  for (const write of writes) regions.checkAccess(write, 'write');
  for (const write of writes) if (write.count > 0) await device.write(write.region, write.offset, write.data);
  return withPayload(frame, encodeRegionWriteMultiReply(writes.length));
};

const deviceReset: Handler = async (context, frame) => {
  if (!context.device.resettable) throw badRequest('ERR_VFU_COMMAND', 'DEVICE_RESET: the device did not announce it');
  await context.reset('reset');
  return headerOnly(frame);
};

const deviceFeature: Handler = (context, frame) => {
  const payload = deviceFeaturePayload(context, frame.payload);
  return payload instanceof Promise ? payload.then((reply) => withPayload(frame, reply)) : withPayload(frame, payload);
};

function needMigration({ migration }: CommandContext, frame: Frame): DeviceMigration {
  if (migration === undefined) throw badRequest('ERR_VFU_COMMAND', `${commandName(frame.command)}: the device cannot be migrated`);
  return migration;
}

/** The client's word on what it can receive counts in both directions: it cuts its own stream to the same pieces. */
const migrationDataMax = ({ capabilities, maxDataXferBytes }: CommandContext): number => Math.min(capabilities?.maxDataXferSize ?? maxDataXferBytes, maxDataXferBytes);

const migDataRead: Handler = async (context, frame) => {
  const migration = needMigration(context, frame);
  const size = decodeMigDataRead(frame.payload, migrationDataMax(context));
  const data = await migration.read(size);
  return withPayload(frame, encodeMigDataReadReply(data, context.peer?.padsMigrationData === true ? size : data.length));
};

const migDataWrite: Handler = async (context, frame) => {
  const migration = needMigration(context, frame);
  await migration.write(decodeMigDataWrite(frame.payload, migrationDataMax(context)));
  return headerOnly(frame);
};

const HANDLERS: ReadonlyMap<number, Handler> = new Map([
  [VFIO_USER_DEVICE_GET_INFO, getInfo],
  [VFIO_USER_DEVICE_GET_REGION_INFO, getRegionInfo],
  [VFIO_USER_DEVICE_GET_REGION_IO_FDS, getRegionIoFds],
  [VFIO_USER_DEVICE_GET_IRQ_INFO, getIrqInfo],
  [VFIO_USER_DEVICE_SET_IRQS, setInterrupts],
  [VFIO_USER_DMA_MAP, dmaMap],
  [VFIO_USER_DMA_UNMAP, dmaUnmap],
  [VFIO_USER_REGION_READ, regionRead],
  [VFIO_USER_REGION_WRITE, regionWrite],
  [VFIO_USER_REGION_WRITE_MULTI, regionWriteMulti],
  [VFIO_USER_DEVICE_RESET, deviceReset],
  [VFIO_USER_DEVICE_FEATURE, deviceFeature],
  [VFIO_USER_MIG_DATA_READ, migDataRead],
  [VFIO_USER_MIG_DATA_WRITE, migDataWrite],
]);

/** @throws typed errors (with errno) for what is refused, and whatever the device throws */
export function execute(context: CommandContext, frame: Frame, fds: number[]): Reply | Promise<Reply> {
  const handler = HANDLERS.get(frame.command);
  // Includes VERSION once more, and commands of the other direction.
  if (handler === undefined) throw badRequest('ERR_VFU_COMMAND', `${commandName(frame.command)} is not served here`);
  context.migration?.check(frame.command);
  return handler(context, frame, fds);
}

/**
 * The body of an error reply for a client that reads the length of a success whatever the flags say: the request's fixed part
 * echoed, and for a read the all-ones that a PCI bus answers with. Empty where success has no body.
 */
function errorBody(frame: Frame, maxDataXferBytes: number): Uint8Array {
  const fixed = COMMANDS.get(frame.command)?.requestBytes ?? 0;
  if (frame.payload.length < fixed) return new Uint8Array(0);
  switch (frame.command) {
    case VFIO_USER_DEVICE_GET_INFO:
    case VFIO_USER_DEVICE_GET_REGION_INFO:
    case VFIO_USER_DEVICE_GET_IRQ_INFO:
    case VFIO_USER_DMA_UNMAP:
    case VFIO_USER_REGION_WRITE:
      return frame.payload.slice(0, fixed);
    case VFIO_USER_REGION_READ: {
      const count = new DataView(frame.payload.buffer, frame.payload.byteOffset).getUint32(12, true);
      const body = new Uint8Array(fixed + (count <= maxDataXferBytes ? count : 0)).fill(0xff);
      body.set(frame.payload.subarray(0, fixed));
      return body;
    }
    default:
      return new Uint8Array(0);
  }
}

/** `maxDataXferBytes`: with a body, for a client that cannot read an error reply without. */
export function errorReply(frame: Frame, errno: number, maxDataXferBytes?: number): Uint8Array {
  const body = maxDataXferBytes === undefined ? undefined : errorBody(frame, maxDataXferBytes);
  if (body === undefined || body.length === 0) return encodeErrorReply(frame.id, frame.command, errno);
  const message = newMessage(frame.id, frame.command, VFIO_USER_F_TYPE_REPLY | VFIO_USER_F_ERROR, body.length);
  new DataView(message.buffer).setUint32(ERRNO_AT, errno, true);
  message.set(body, HEADER_BYTES);
  return message;
}
