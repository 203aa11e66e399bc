/** VERSION, RESET_VF, GET_VF_RESOURCES, REQUEST_QUEUES: what a guest is granted. */
import { MAX_FRAME_BYTES } from '@emudev/iavf-emu/contract';
import {
  Capability, decodeGetVfResources, decodeRequestQueues, decodeVersion, encodeRequestQueues, encodeVersion, encodeVfResources, Opcode, VERSION_MAJOR, VERSION_MINOR, VSI_SRIOV,
} from '@emudev/virtchnl';
import type { Adapter } from '../adapter.ts';
import { RSS_KEY_BYTES, RSS_LUT_ENTRIES } from '../layout.ts';
import { VSI_ID } from '../limits.ts';
import { noBody, operation, type Operation } from './operation.ts';

/** Granted when asked for. VLAN is not among them: it stands in for VLAN_V2. Nor is RX_FLEX_DESC: see `grantCapabilities`. */
export const OFFERED_CAPABILITIES: number =
  Capability.L2 | Capability.WB_ON_ITR | Capability.REQ_QUEUES | Capability.ADV_LINK_SPEED | Capability.VLAN_V2 | Capability.RX_POLLING | Capability.RSS_PCTYPE_V2 | Capability.RSS_PF;

/** The subset of a driver's wishes that it gets; `undefined` is a driver of version 1.0, which cannot say. */
export function grantCapabilities(requested: number | undefined): number {
  if (requested === undefined) return Capability.L2 | Capability.VLAN;
  // VLAN and VLAN_V2 together make Linux behave inconsistently: grant one.
  const vlan = (requested & Capability.VLAN_V2) === 0 ? requested & Capability.VLAN : 0;
  // The drivers of Linux and DPDK ask for VLAN as well, want flexible formats (RXDID 2 and 22) and take less care of the case that there are none: they keep what they have had.
  const formats = (requested & Capability.VLAN) === 0 ? requested & Capability.RX_FLEX_DESC : 0;
  return ((requested & OFFERED_CAPABILITIES) | Capability.L2 | vlan | formats) >>> 0;
}

function resources(adapter: Adapter): Uint8Array {
  return encodeVfResources({
    queuePairs: adapter.pairs,
    maxVectors: adapter.emudev.info.numVectors,
    maxFrameBytes: MAX_FRAME_BYTES,
    capabilities: adapter.capabilities ?? 0,
    rssKeyBytes: RSS_KEY_BYTES,
    rssLutEntries: RSS_LUT_ENTRIES,
    vsis: [{ vsiId: VSI_ID, queuePairs: adapter.pairs, type: VSI_SRIOV, qsetHandle: 0, mac: adapter.mac }],
  });
}

export const resourceOperations: readonly Operation[] = [
  // Changes no state: Linux sends it at run time when it thinks the queue is stuck.
  operation(Opcode.VERSION, 'always', decodeVersion, (_adapter, { minor }) => ({
    payload: encodeVersion({ major: VERSION_MAJOR, minor: Math.min(minor, VERSION_MINOR) }),
  })),
  operation(Opcode.RESET_VF, 'always', noBody, () => ({ silent: true, reset: true })),
  // Repeatable at any time. Whether there is a mask is told by the length, because the version survives a reset.
  operation(Opcode.GET_VF_RESOURCES, 'always', decodeGetVfResources, (adapter, requested) => {
    const granted = grantCapabilities(requested);
    if (adapter.capabilities !== granted) {
      adapter.capabilities = granted;
      // A driver of the older kind expects stripping to be on and turns it off; one of the newer kind asks for it.
      adapter.setVlanStripping((granted & Capability.VLAN) !== 0);
    }
    return { payload: resources(adapter), linkEvent: true };
  }),
  operation(Opcode.REQUEST_QUEUES, Capability.REQ_QUEUES, decodeRequestQueues, (adapter, wanted) => {
    if (wanted === 0) return { payload: encodeRequestQueues(adapter.pairs) };
    if (wanted > adapter.maxPairs) return { payload: encodeRequestQueues(adapter.maxPairs) };
    adapter.requestPairs(wanted);
    return { silent: true, reset: true, announceReset: true };
  }),
];
