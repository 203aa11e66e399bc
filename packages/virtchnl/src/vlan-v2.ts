/** The VLAN_V2 family: GET_OFFLOAD_VLAN_V2_CAPS (51), ADD/DEL_VLAN_V2 (52, 53), stripping and insertion (54 to 57). */
import { Opcode } from './opcodes.ts';
import { exactLength, headerPresent, listLength, MessageWriter, someElements, viewOf } from './wire.ts';

/** Bits of `VlanCaps`; 0 = unsupported. */
export const VlanSupport = {
  ETHERTYPE_8100: 0x0000_0001,
  ETHERTYPE_88A8: 0x0000_0002,
  ETHERTYPE_9100: 0x0000_0004,
  TAG_LOCATION_L2TAG1: 0x0000_0100,
  TAG_LOCATION_L2TAG2: 0x0000_0200,
  TAG_LOCATION_L2TAG2_2: 0x0000_0400,
  PRIO: 0x0100_0000,
  FILTER_MASK: 0x1000_0000,
  ETHERTYPE_AND: 0x2000_0000,
  ETHERTYPE_XOR: 0x4000_0000,
  TOGGLE: 0x8000_0000,
} as const;

/** Masks of VlanSupport for the outer and the inner tag. */
export interface VlanLayers {
  readonly outer: number;
  readonly inner: number;
}

/** Reply to GET_OFFLOAD_VLAN_V2_CAPS (struct virtchnl_vlan_caps); every `ethertypeInit` is what is on before the driver says anything. */
export interface VlanCaps {
  readonly filtering: VlanLayers & { readonly ethertypeInit: number; readonly maxFilters: number };
  readonly stripping: VlanLayers;
  readonly insertion: VlanLayers;
  readonly ethertypeInit: number;
  /** 1 = stripping and insertion may use different ethertypes. */
  readonly ethertypeMatch: number;
}

const CAPS_BYTES = 40;

/** Device: 40 bytes. */
export function encodeVlanCaps(caps: VlanCaps): Uint8Array {
  const out = new MessageWriter(Opcode.GET_OFFLOAD_VLAN_V2_CAPS, CAPS_BYTES);
  out.u32(0, caps.filtering.outer);
  out.u32(4, caps.filtering.inner);
  out.u32(8, caps.filtering.ethertypeInit);
  out.u16(12, caps.filtering.maxFilters);
  out.u32(16, caps.stripping.outer);
  out.u32(20, caps.stripping.inner);
  out.u32(24, caps.insertion.outer);
  out.u32(28, caps.insertion.inner);
  out.u32(32, caps.ethertypeInit);
  out.u8(36, caps.ethertypeMatch);
  return out.bytes;
}

/** Throws VirtchnlError (-5) unless the payload has 40 bytes. */
export function decodeVlanCaps(payload: Uint8Array): VlanCaps {
  exactLength(Opcode.GET_OFFLOAD_VLAN_V2_CAPS, payload, CAPS_BYTES);
  const view = viewOf(payload);
  const layers = (at: number): VlanLayers => ({ outer: view.getUint32(at, true), inner: view.getUint32(at + 4, true) });
  return {
    filtering: { ...layers(0), ethertypeInit: view.getUint32(8, true), maxFilters: view.getUint16(12, true) },
    stripping: layers(16),
    insertion: layers(24),
    ethertypeInit: view.getUint32(32, true),
    ethertypeMatch: view.getUint8(36),
  };
}

/** A tag to filter for (struct virtchnl_vlan). */
export interface VlanTag {
  readonly tci: number;
  readonly tciMask: number;
  /** Ethertype as a number (0x8100), not in network order; 0 = this layer is not part of the filter. */
  readonly tpid: number;
}
/** A filter of ADD_VLAN_V2 (struct virtchnl_vlan_filter). */
export interface VlanFilter {
  readonly inner: VlanTag;
  readonly outer: VlanTag;
}
/** Body of ADD_VLAN_V2 and DEL_VLAN_V2 (struct virtchnl_vlan_filter_list_v2). */
export interface VlanFilterListV2 {
  readonly vportId: number;
  readonly filters: readonly VlanFilter[];
}

/** The layer is not part of the filter. */
export const NO_VLAN_TAG: VlanTag = { tci: 0, tciMask: 0, tpid: 0 };

const LIST_HEADER_BYTES = 8;
const FILTER_BYTES = 32;

/** Driver: 8 + 32 n bytes. */
export function encodeVlanFilterListV2(list: VlanFilterListV2): Uint8Array {
  const out = new MessageWriter(Opcode.ADD_VLAN_V2, LIST_HEADER_BYTES + FILTER_BYTES * list.filters.length);
  out.u16(0, list.vportId);
  out.u16(2, list.filters.length);
  const tag = (at: number, { tci, tciMask, tpid }: VlanTag): void => {
    out.u16(at, tci);
    out.u16(at + 2, tciMask);
    out.u16(at + 4, tpid);
  };
  list.filters.forEach((filter, i) => {
    const at = LIST_HEADER_BYTES + FILTER_BYTES * i;
    tag(at, filter.inner);
    tag(at + 8, filter.outer);
  });
  return out.bytes;
}

/** `opcode` (52 or 53) names the message in errors. Throws VirtchnlError (-5) on a wrong length or an empty list. */
export function decodeVlanFilterListV2(payload: Uint8Array, opcode: number): VlanFilterListV2 {
  headerPresent(opcode, payload, LIST_HEADER_BYTES);
  const view = viewOf(payload);
  const count = view.getUint16(2, true);
  someElements(opcode, count);
  // The newer structures were sized properly: needed and legacy length are the same.
  listLength(opcode, payload, LIST_HEADER_BYTES + FILTER_BYTES * count, LIST_HEADER_BYTES + FILTER_BYTES * count);
  const tag = (at: number): VlanTag => ({ tci: view.getUint16(at, true), tciMask: view.getUint16(at + 2, true), tpid: view.getUint16(at + 4, true) });
  const filters = Array.from({ length: count }, (_, i): VlanFilter => {
    const at = LIST_HEADER_BYTES + FILTER_BYTES * i;
    return { inner: tag(at), outer: tag(at + 8) };
  });
  return { vportId: view.getUint16(0, true), filters };
}

/** Body of the stripping and insertion messages (struct virtchnl_vlan_setting): the layer with an ethertype is switched. */
export interface VlanSetting {
  readonly vportId: number;
  /** Masks of VlanSupport.ETHERTYPE_*. */
  readonly outerEthertype: number;
  readonly innerEthertype: number;
}

const SETTING_BYTES = 16;

/** Driver: ENABLE/DISABLE_VLAN_STRIPPING_V2 and ENABLE/DISABLE_VLAN_INSERTION_V2. */
export function encodeVlanSetting(setting: VlanSetting): Uint8Array {
  const out = new MessageWriter(Opcode.ENABLE_VLAN_STRIPPING_V2, SETTING_BYTES);
  out.u32(0, setting.outerEthertype);
  out.u32(4, setting.innerEthertype);
  out.u16(8, setting.vportId);
  return out.bytes;
}

/** `opcode` (54 to 57) names the message in errors. */
export function decodeVlanSetting(payload: Uint8Array, opcode: number): VlanSetting {
  exactLength(opcode, payload, SETTING_BYTES);
  const view = viewOf(payload);
  return { outerEthertype: view.getUint32(0, true), innerEthertype: view.getUint32(4, true), vportId: view.getUint16(8, true) };
}
