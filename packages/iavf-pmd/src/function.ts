/** What is said to an iavf function over its mailbox, and what it may answer. */
import { randomBytes } from 'node:crypto';
import {
  Capability, EtherAddrType, ITR_NONE, Opcode, RxDescriptorId, VERSION_MAJOR, VERSION_MINOR, VlanSupport, VirtchnlError, decodeEthStats, decodeSupportedRxdids, decodeVersion, decodeVfResources, decodeVlanCaps,
  encodeConfigIrqMap, encodeConfigVsiQueues, encodeEtherAddrList, encodeGetVfResources, encodePromiscuousMode, encodeQueueSelect, encodeRssKey, encodeRssLut,
  encodeVersion, encodeVlanSetting, sriovVsi, PROMISC_MULTICAST, PROMISC_UNICAST,
  type EthStats, type VlanCaps,
} from '@emudev/virtchnl';
import { IavfError } from './errors.ts';
import { BUFFER_BYTES, FCS_BYTES, MAX_FRAME_BYTES, MAX_QUEUE_PAIRS } from './limits.ts';
import type { Mailbox } from './mailbox.ts';
import type { Rings } from './rings.ts';

const WANTED =
  Capability.L2 | Capability.WB_ON_ITR | Capability.ADV_LINK_SPEED | Capability.VLAN_V2 | Capability.RX_POLLING | Capability.RSS_PCTYPE_V2 | Capability.RSS_PF | Capability.USO;
const RSS_KEY_BYTES = 52;
const RSS_LUT_ENTRIES = 64;

/** What the device has granted. */
export interface Grant {
  readonly vsiId: number;
  readonly queuePairs: number;
  readonly capabilities: number;
  /** Longest frame without FCS. */
  readonly maxFrameBytes: number;
  readonly mac: Uint8Array;
  readonly vlan: VlanCaps | undefined;
  readonly shortRxDescriptors: boolean;
}

export const granted = (grant: Grant, capability: number): boolean => (grant.capabilities & capability) !== 0;

/** A reply that has the wrong form is the device's fault, whatever the decoder calls it. */
function decoded<T>(decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    if (error instanceof VirtchnlError) throw new IavfError('ERR_IAVF_BAD_DEVICE', `the device's reply: ${error.message}`, { cause: error });
    throw error;
  }
}

function bad(what: string): IavfError {
  return new IavfError('ERR_IAVF_BAD_DEVICE', what);
}

/** VERSION, GET_VF_RESOURCES, and the VLAN capabilities and descriptor formats where they were granted. `mayBeShort`: Rx descriptors. */
export async function negotiate(mailbox: Mailbox, mayBeShort: boolean): Promise<Grant> {
  const wanted = mayBeShort ? WANTED | Capability.RX_FLEX_DESC : WANTED;
  const version = await mailbox.request(Opcode.VERSION, encodeVersion());
  const { major, minor } = decoded(() => decodeVersion(version));
  if (major !== VERSION_MAJOR || minor > VERSION_MINOR) throw bad(`virtchnl version ${major}.${minor}: want ${VERSION_MAJOR}.${VERSION_MINOR} at most`);
  const reply = await mailbox.request(Opcode.GET_VF_RESOURCES, encodeGetVfResources(minor === 0 ? undefined : wanted));
  const resources = decoded(() => decodeVfResources(reply));
  const vsi = decoded(() => sriovVsi(resources));
  if (resources.queuePairs < 1 || vsi.queuePairs < 1) throw bad('no queue pair granted');
  if (resources.maxVectors < 2) throw bad(`${resources.maxVectors} vectors granted: want at least 2`);
  const maxFrame = resources.maxFrameBytes === 0 ? MAX_FRAME_BYTES : resources.maxFrameBytes;
  if (maxFrame < 64) throw bad(`frames of ${maxFrame} bytes at most`);
  // Only what was asked for: a device that grants more must not talk the driver into it.
  const capabilities = (minor === 0 ? Capability.L2 | Capability.VLAN : resources.capabilities & wanted) >>> 0;
  if ((capabilities & Capability.RSS_PF) !== 0 && (resources.rssKeyBytes !== RSS_KEY_BYTES || resources.rssLutEntries !== RSS_LUT_ENTRIES)) {
    throw bad(`RSS key of ${resources.rssKeyBytes} bytes and table of ${resources.rssLutEntries} entries: want ${RSS_KEY_BYTES} and ${RSS_LUT_ENTRIES}`);
  }
  let vlan: VlanCaps | undefined;
  if ((capabilities & Capability.VLAN_V2) !== 0) {
    const caps = await mailbox.request(Opcode.GET_OFFLOAD_VLAN_V2_CAPS);
    vlan = decoded(() => decodeVlanCaps(caps));
  }
  const formats = (capabilities & Capability.RX_FLEX_DESC) !== 0 ? await supportedFormats(mailbox) : undefined;
  const shortRxDescriptors = formats?.has(RxDescriptorId.LEGACY_16_BYTES) === true;
  return {
    vsiId: vsi.vsiId,
    queuePairs: Math.min(resources.queuePairs, vsi.queuePairs, MAX_QUEUE_PAIRS),
    capabilities,
    // The device's limit is for the frame on the wire, with FCS; what a ring takes has the same limit.
    maxFrameBytes: Math.min(maxFrame, MAX_FRAME_BYTES) - FCS_BYTES,
    mac: usableMac(vsi.mac),
    vlan,
    shortRxDescriptors,
  };
}

async function supportedFormats(mailbox: Mailbox): Promise<ReadonlySet<number>> {
  const reply = await mailbox.request(Opcode.GET_SUPPORTED_RXDIDS);
  return decoded(() => decodeSupportedRxdids(reply));
}

/** A device without an address leaves the choice to its driver: a random, locally administered one. */
function usableMac(mac: Uint8Array): Uint8Array {
  if (mac.some((byte) => byte !== 0) && (mac[0]! & 1) === 0) return mac;
  const own = Uint8Array.from(randomBytes(6));
  own[0] = (own[0]! & 0xfc) | 0x02;
  return own;
}

export interface QueuePlan {
  readonly rxQueues: number;
  readonly txQueues: number;
  readonly maxFrameBytes: number;
  readonly vlanStrip: boolean;
  readonly promiscuous: boolean;
}

const lowBits = (count: number): number => 2 ** count - 1;

/** Everything before ENABLE_QUEUES. */
export async function configureQueues(mailbox: Mailbox, grant: Grant, rings: Rings, plan: QueuePlan): Promise<void> {
  const { vsiId } = grant;
  if (granted(grant, Capability.RSS_PF)) {
    await mailbox.request(Opcode.CONFIG_RSS_KEY, encodeRssKey({ vsiId, key: Uint8Array.from(randomBytes(RSS_KEY_BYTES)) }));
    await mailbox.request(Opcode.CONFIG_RSS_LUT, encodeRssLut({ vsiId, lut: Uint8Array.from({ length: RSS_LUT_ENTRIES }, (_, i) => i % plan.rxQueues) }));
  }
  await configureVlanStripping(mailbox, grant, plan.vlanStrip);
  // Where no formats are granted the device takes no notice of it, and 0 is what drivers say
  const rxdid = granted(grant, Capability.RX_FLEX_DESC) && !grant.shortRxDescriptors ? RxDescriptorId.LEGACY_32_BYTES : RxDescriptorId.LEGACY_16_BYTES;
  const pairs = Array.from({ length: Math.max(plan.rxQueues, plan.txQueues) }, (_, queueId) => ({
    tx: queueId < plan.txQueues ? { vsiId, queueId, ringLength: rings.lengths.tx, ringAddress: rings.txAddress(queueId) } : { vsiId, queueId, ringLength: 0, ringAddress: 0n },
    rx:
      queueId < plan.rxQueues
        ? { vsiId, queueId, ringLength: rings.lengths.rx, ringAddress: rings.rxAddress(queueId), bufferBytes: BUFFER_BYTES, maxPacketBytes: plan.maxFrameBytes + FCS_BYTES, rxdid }
        : { vsiId, queueId, ringLength: 0, ringAddress: 0n, bufferBytes: 0, maxPacketBytes: plan.maxFrameBytes + FCS_BYTES, rxdid },
  }));
  await mailbox.request(Opcode.CONFIG_VSI_QUEUES, encodeConfigVsiQueues({ vsiId, pairs }));
  // The rings are polled: all queues on vector 1, which is never armed, and the miscellaneous vector last, as every driver sends it.
  await mailbox.request(
    Opcode.CONFIG_IRQ_MAP,
    encodeConfigIrqMap([
      { vsiId, vectorId: 1, rxQueues: lowBits(plan.rxQueues), txQueues: 0, rxItr: 0, txItr: ITR_NONE },
      { vsiId, vectorId: 0, rxQueues: 0, txQueues: 0, rxItr: 0, txItr: 0 },
    ]),
  );
  await mailbox.request(Opcode.ADD_ETH_ADDR, encodeEtherAddrList({ vsiId, addresses: [{ address: grant.mac, type: EtherAddrType.PRIMARY }] }));
  if (plan.promiscuous) await setPromiscuous(mailbox, grant, true);
}

async function configureVlanStripping(mailbox: Mailbox, grant: Grant, on: boolean): Promise<void> {
  if (grant.vlan !== undefined) {
    const { inner, outer } = grant.vlan.stripping;
    const can = (layer: number): boolean => (layer & VlanSupport.ETHERTYPE_8100) !== 0 && (layer & VlanSupport.TOGGLE) !== 0;
    const useInner = can(inner);
    if (!useInner && !can(outer)) return;
    const setting = { vportId: grant.vsiId, innerEthertype: useInner ? VlanSupport.ETHERTYPE_8100 : 0, outerEthertype: useInner ? 0 : VlanSupport.ETHERTYPE_8100 };
    await mailbox.request(on ? Opcode.ENABLE_VLAN_STRIPPING_V2 : Opcode.DISABLE_VLAN_STRIPPING_V2, encodeVlanSetting(setting));
  } else if (granted(grant, Capability.VLAN)) {
    await mailbox.request(on ? Opcode.ENABLE_VLAN_STRIPPING : Opcode.DISABLE_VLAN_STRIPPING);
  }
}

export async function enableQueues(mailbox: Mailbox, grant: Grant, plan: QueuePlan): Promise<void> {
  await mailbox.request(Opcode.ENABLE_QUEUES, encodeQueueSelect({ vsiId: grant.vsiId, rxQueues: lowBits(plan.rxQueues), txQueues: lowBits(plan.txQueues) }));
}

/** No ring is touched by the device once this has resolved, or failed: its reply comes after the last access either way. */
export async function disableQueues(mailbox: Mailbox, grant: Grant, plan: QueuePlan): Promise<void> {
  await mailbox.request(Opcode.DISABLE_QUEUES, encodeQueueSelect({ vsiId: grant.vsiId, rxQueues: lowBits(plan.rxQueues), txQueues: lowBits(plan.txQueues) }));
  await mailbox.request(Opcode.DEL_ETH_ADDR, encodeEtherAddrList({ vsiId: grant.vsiId, addresses: [{ address: grant.mac, type: EtherAddrType.PRIMARY }] }));
}

export async function setPromiscuous(mailbox: Mailbox, grant: Grant, on: boolean): Promise<void> {
  await mailbox.request(Opcode.CONFIG_PROMISCUOUS_MODE, encodePromiscuousMode({ vsiId: grant.vsiId, flags: on ? PROMISC_UNICAST | PROMISC_MULTICAST : 0 }));
}

/** The device's own counters, in the driver's directions. */
export async function readDeviceStats(mailbox: Mailbox, grant: Grant): Promise<EthStats> {
  const reply = await mailbox.request(Opcode.GET_STATS, encodeQueueSelect({ vsiId: grant.vsiId, rxQueues: 0, txQueues: 0 }));
  return decoded(() => decodeEthStats(reply));
}
