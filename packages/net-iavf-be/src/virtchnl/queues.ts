/** CONFIG_VSI_QUEUES, ENABLE_QUEUES, DISABLE_QUEUES. */
import { MAX_FRAME_BYTES } from '@emudev/iavf-emu/contract';
import { Capability, decodeConfigVsiQueues, decodeQueueSelect, encodeSupportedRxdids, Opcode, requireValue, RxDescriptorId, type DecodedQueuePairConfig, type QueueSelect } from '@emudev/virtchnl';
import { noMemory, type Adapter } from '../adapter.ts';
import { RX_DESCRIPTOR_BYTES, SHORT_RX_DESCRIPTOR_BYTES, TX_DESCRIPTOR_BYTES } from '../layout.ts';
import {
  MAX_RING_DESCRIPTORS, MAX_RX_BUFFER_BYTES, MIN_PACKET_BYTES, MIN_RING_DESCRIPTORS, MIN_RX_BUFFER_BYTES, RING_ALIGN_BYTES, RING_DESCRIPTORS_STEP, VSI_ID,
} from '../limits.ts';
import type { Ring } from '../ring.ts';
import { DONE, noBody, operation, type Operation, type Outcome } from './operation.ts';

const OP = Opcode.CONFIG_VSI_QUEUES;

/** Bytes of a descriptor by RXDID. */
const RX_FORMATS: ReadonlyMap<number, number> = new Map([
  [RxDescriptorId.LEGACY_16_BYTES, SHORT_RX_DESCRIPTOR_BYTES],
  [RxDescriptorId.LEGACY_32_BYTES, RX_DESCRIPTOR_BYTES],
]);

/** Without the capability `rxdid` says nothing: drivers leave it 0 and mean 32 bytes. */
const hasFormats = (adapter: Adapter): boolean => ((adapter.capabilities ?? 0) & Capability.RX_FLEX_DESC) !== 0;

function checkRing(half: { readonly ringLength: number; readonly ringAddress: bigint }, name: string): void {
  const { ringLength, ringAddress } = half;
  requireValue(
    ringLength >= MIN_RING_DESCRIPTORS && ringLength <= MAX_RING_DESCRIPTORS && ringLength % RING_DESCRIPTORS_STEP === 0,
    OP, `${name} ring of ${MIN_RING_DESCRIPTORS}..${MAX_RING_DESCRIPTORS} descriptors, a multiple of ${RING_DESCRIPTORS_STEP}`, ringLength,
  );
  requireValue(ringAddress % BigInt(RING_ALIGN_BYTES) === 0n, OP, `${name} ring aligned to ${RING_ALIGN_BYTES}`, `0x${ringAddress.toString(16)}`);
}

/** GUEST: every number of a pair. Fields of a half with ring length 0 say nothing. */
function checkPair({ tx, rx }: DecodedQueuePairConfig, pairs: number, hasFormats: boolean): void {
  requireValue(tx.vsiId === VSI_ID && rx.vsiId === VSI_ID, OP, `VSI ${VSI_ID} in both halves`, `${tx.vsiId}, ${rx.vsiId}`);
  requireValue(tx.queueId === rx.queueId, OP, 'the same queue in both halves', `${tx.queueId}, ${rx.queueId}`);
  requireValue(tx.queueId < pairs, OP, `a queue below ${pairs}`, tx.queueId);
  requireValue(tx.headWriteback === 0, OP, 'no head write-back', tx.headWriteback);
  if (tx.ringLength !== 0) checkRing(tx, 'Tx');
  if (rx.ringLength === 0) return;
  checkRing(rx, 'Rx');
  requireValue(rx.bufferBytes >= MIN_RX_BUFFER_BYTES && rx.bufferBytes <= MAX_RX_BUFFER_BYTES, OP, `Rx buffers of ${MIN_RX_BUFFER_BYTES}..${MAX_RX_BUFFER_BYTES} bytes`, rx.bufferBytes);
  requireValue(rx.maxPacketBytes >= MIN_PACKET_BYTES && rx.maxPacketBytes <= MAX_FRAME_BYTES, OP, `max_pkt_size ${MIN_PACKET_BYTES}..${MAX_FRAME_BYTES}`, rx.maxPacketBytes);
  if (hasFormats) requireValue(RX_FORMATS.has(rx.rxdid), OP, `an RXDID of ${[...RX_FORMATS.keys()].join(', ')}`, rx.rxdid);
  // The CRC capability is not offered.
  requireValue(rx.crcDisable === 0, OP, 'crc_disable 0', rx.crcDisable);
}

/** Keeps bursts away from `rings` and waits for those under way. Returns false if a reset came meanwhile. */
async function quiesce(adapter: Adapter, rings: readonly Ring[]): Promise<boolean> {
  const { generation } = adapter;
  for (const ring of rings) ring.disable();
  await adapter.synchronize();
  await Promise.all(rings.map((ring) => ring.halt()));
  return adapter.generation === generation;
}

function configure(adapter: Adapter, pairs: readonly DecodedQueuePairConfig[]): Outcome {
  for (const { tx, rx } of pairs) {
    const txRing = adapter.tx[tx.queueId]!;
    const rxRing = adapter.rx[rx.queueId]!;
    if (tx.ringLength !== 0) {
      txRing.configure({ address: tx.ringAddress, descriptors: tx.ringLength, descriptorBytes: TX_DESCRIPTOR_BYTES, bufferBytes: 0, maxPacketBytes: 0 });
      // Linux does not write the Tx tail on open: a stale one would replay the previous ring.
      adapter.clearTail(txRing);
    }
    // The Rx tail stays: Linux has written it before this message.
    const descriptorBytes = (hasFormats(adapter) ? RX_FORMATS.get(rx.rxdid) : undefined) ?? RX_DESCRIPTOR_BYTES;
    if (rx.ringLength !== 0) rxRing.configure({ address: rx.ringAddress, descriptors: rx.ringLength, descriptorBytes, bufferBytes: rx.bufferBytes, maxPacketBytes: rx.maxPacketBytes });
  }
  return DONE;
}

function enable(adapter: Adapter, select: QueueSelect, opcode: number): Outcome {
  adapter.requireVsi(opcode, select.vsiId);
  requireValue((select.rxQueues | select.txQueues) !== 0, opcode, 'at least one queue', 'none');
  const rings = adapter.select(opcode, select).filter((ring) => !ring.enabled);
  const memory = adapter.emudev.memTable();
  // All of them or none: find every ring first.
  using pins = new DisposableStack();
  const located = rings.map((ring) => {
    requireValue(ring.configured, opcode, `${ring.direction} queue ${ring.pair} configured`, 'not configured');
    const place = ring.locate(memory);
    pins.use(place);
    requireValue(place !== undefined, opcode, `${ring.direction} ring ${ring.pair} in DMA regions that may be read and written, and room for it`, 'it is not');
    const doorbell = adapter.doorbell(ring);
    if (doorbell === 0) throw new Error(`the doorbell of ${ring.direction} queue ${ring.pair} is not in memory`);
    return { ring, place, doorbell };
  });
  try {
    for (const ring of rings) ring.reserve();
  } catch (error) {
    throw noMemory(opcode, 'room for a staging buffer', error instanceof Error ? error.message : String(error));
  }
  pins.move();
  for (const { ring, place, doorbell } of located) {
    // The vector's cells may have been unknown when CONFIG_IRQ_MAP came.
    if (ring.vector !== undefined) adapter.setVector(ring, ring.vector);
    ring.enable(place, doorbell);
  }
  // No completed descriptor can be waiting: heads are zero. Rx tails written earlier are found by the next burst.
  return { linkEvent: true };
}

async function disable(adapter: Adapter, select: QueueSelect, opcode: number): Promise<Outcome> {
  adapter.requireVsi(opcode, select.vsiId);
  requireValue((select.rxQueues | select.txQueues) !== 0, opcode, 'at least one queue', 'none');
  const rings = adapter.select(opcode, select);
  // The guest frees the memory when it has the reply, so none comes before the last burst has ended.
  if (await quiesce(adapter, rings)) {
    for (const ring of rings) {
      ring.clear();
      adapter.clearTail(ring);
    }
  }
  return DONE;
}

export const queueOperations: readonly Operation[] = [
  operation(Opcode.GET_SUPPORTED_RXDIDS, Capability.RX_FLEX_DESC, noBody, () => ({ payload: encodeSupportedRxdids(RX_FORMATS.keys()) })),
  operation(OP, 0, decodeConfigVsiQueues, (adapter, { vsiId, pairs }) => {
    adapter.requireVsi(OP, vsiId);
    requireValue(pairs.length <= adapter.pairs, OP, `at most ${adapter.pairs} pairs`, pairs.length);
    for (const pair of pairs) checkPair(pair, adapter.pairs, hasFormats(adapter));
    const inUse = pairs.flatMap(({ tx, rx }) => [...(tx.ringLength !== 0 ? [adapter.tx[tx.queueId]!] : []), ...(rx.ringLength !== 0 ? [adapter.rx[rx.queueId]!] : [])]).filter((ring) => ring.enabled);
    if (inUse.length === 0) return configure(adapter, pairs);
    return quiesce(adapter, inUse).then((still) => {
      if (!still) return DONE;
      for (const ring of inUse) ring.clear();
      return configure(adapter, pairs);
    });
  }),
  operation(Opcode.ENABLE_QUEUES, 0, decodeQueueSelect, enable),
  operation(Opcode.DISABLE_QUEUES, 0, decodeQueueSelect, disable),
];
