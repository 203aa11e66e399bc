/** GET_VF_RESOURCES (3) and REQUEST_QUEUES (29). RESET_VF (2) has neither body nor reply. */
import { VirtchnlError } from './errors.ts';
import { Opcode } from './opcodes.ts';
import { exactLength, headerPresent, listLength, MessageWriter, someElements, viewOf } from './wire.ts';

/** Drivers search the reply for a VSI of this type. */
export const VSI_SRIOV = 6;

const HEADER_BYTES = 20;
const VSI_BYTES = 16;

/** Driver: the capabilities it would like (mask of Capability); without them an empty body, as version 1.0 has it. */
export function encodeGetVfResources(capabilities?: number): Uint8Array {
  if (capabilities === undefined) return new Uint8Array(0);
  const out = new MessageWriter(Opcode.GET_VF_RESOURCES, 4);
  out.u32(0, capabilities >>> 0);
  return out.bytes;
}

/** The requested mask, or undefined for an empty body. Throws VirtchnlError (-5) on any length but 0 and 4. */
export function decodeGetVfResources(payload: Uint8Array): number | undefined {
  if (payload.length === 0) return undefined;
  exactLength(Opcode.GET_VF_RESOURCES, payload, 4);
  return viewOf(payload).getUint32(0, true);
}

/** A virtual station interface of the card (struct virtchnl_vsi_resource): what rings and filters belong to. */
export interface VsiResource {
  readonly vsiId: number;
  readonly queuePairs: number;
  readonly type: number;
  readonly qsetHandle: number;
  /** Six bytes; all zero lets the driver invent one. */
  readonly mac: Uint8Array;
}

/** Reply to GET_VF_RESOURCES (struct virtchnl_vf_resource): what the card has; `capabilities` is the mask of Capability it grants. */
export interface VfResources {
  readonly queuePairs: number;
  /** Including vector 0. */
  readonly maxVectors: number;
  /** Called max_mtu, but it is the largest frame; 0 = not said. */
  readonly maxFrameBytes: number;
  readonly capabilities: number;
  readonly rssKeyBytes: number;
  readonly rssLutEntries: number;
  readonly vsis: readonly VsiResource[];
}

/** Device: 20 + 16 n bytes. */
export function encodeVfResources(resources: VfResources): Uint8Array {
  const out = new MessageWriter(Opcode.GET_VF_RESOURCES, HEADER_BYTES + VSI_BYTES * resources.vsis.length);
  out.u16(0, resources.vsis.length);
  out.u16(2, resources.queuePairs);
  out.u16(4, resources.maxVectors);
  out.u16(6, resources.maxFrameBytes);
  out.u32(8, resources.capabilities >>> 0);
  out.u32(12, resources.rssKeyBytes);
  out.u32(16, resources.rssLutEntries);
  resources.vsis.forEach((vsi, i) => {
    const at = HEADER_BYTES + VSI_BYTES * i;
    out.u16(at, vsi.vsiId);
    out.u16(at + 2, vsi.queuePairs);
    out.i32(at + 4, vsi.type);
    out.u16(at + 8, vsi.qsetHandle);
    out.raw(at + 10, vsi.mac, 6);
  });
  return out.bytes;
}

/** Throws VirtchnlError (-5) where the length does not fit the number of VSIs (old devices send one VSI too many) or there is none. */
export function decodeVfResources(payload: Uint8Array): VfResources {
  headerPresent(Opcode.GET_VF_RESOURCES, payload, HEADER_BYTES);
  const view = viewOf(payload);
  const count = view.getUint16(0, true);
  someElements(Opcode.GET_VF_RESOURCES, count);
  listLength(Opcode.GET_VF_RESOURCES, payload, HEADER_BYTES + VSI_BYTES * count, HEADER_BYTES + VSI_BYTES * (count + 1));
  const vsis = Array.from({ length: count }, (_, i): VsiResource => {
    const at = HEADER_BYTES + VSI_BYTES * i;
    return {
      vsiId: view.getUint16(at, true),
      queuePairs: view.getUint16(at + 2, true),
      type: view.getInt32(at + 4, true),
      qsetHandle: view.getUint16(at + 8, true),
      mac: payload.slice(at + 10, at + 16),
    };
  });
  return {
    queuePairs: view.getUint16(2, true),
    maxVectors: view.getUint16(4, true),
    maxFrameBytes: view.getUint16(6, true),
    capabilities: view.getUint32(8, true),
    rssKeyBytes: view.getUint32(12, true),
    rssLutEntries: view.getUint32(16, true),
    vsis,
  };
}

/** The VSI a driver works with. Throws VirtchnlError where the device offers none of type VSI_SRIOV. */
export function sriovVsi(resources: VfResources): VsiResource {
  const vsi = resources.vsis.find((v) => v.type === VSI_SRIOV);
  if (vsi === undefined) {
    throw new VirtchnlError('ERR_VIRTCHNL_VALUE', { opcode: Opcode.GET_VF_RESOURCES, expected: `a VSI of type ${VSI_SRIOV}`, seen: resources.vsis.map((v) => v.type).join(', ') });
  }
  return vsi;
}

/** REQUEST_QUEUES, both ways: how many pairs the driver wants, or (only in a refusal) how many it could have. */
export function encodeRequestQueues(queuePairs: number): Uint8Array {
  const out = new MessageWriter(Opcode.REQUEST_QUEUES, 2);
  out.u16(0, queuePairs);
  return out.bytes;
}

/** The number of pairs. Throws VirtchnlError (-5) unless the payload has 2 bytes. */
export function decodeRequestQueues(payload: Uint8Array): number {
  exactLength(Opcode.REQUEST_QUEUES, payload, 2);
  return viewOf(payload).getUint16(0, true);
}
