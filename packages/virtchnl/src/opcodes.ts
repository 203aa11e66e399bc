/** virtchnl opcodes (cookie_high). The numbers follow Linux include/linux/avf/virtchnl.h; several public lists are off. */
export const Opcode = {
  VERSION: 1,
  RESET_VF: 2,
  GET_VF_RESOURCES: 3,
  CONFIG_TX_QUEUE: 4,
  CONFIG_RX_QUEUE: 5,
  CONFIG_VSI_QUEUES: 6,
  CONFIG_IRQ_MAP: 7,
  ENABLE_QUEUES: 8,
  DISABLE_QUEUES: 9,
  ADD_ETH_ADDR: 10,
  DEL_ETH_ADDR: 11,
  ADD_VLAN: 12,
  DEL_VLAN: 13,
  CONFIG_PROMISCUOUS_MODE: 14,
  GET_STATS: 15,
  EVENT: 17,
  CONFIG_RSS_HFUNC: 18,
  CONFIG_RSS_KEY: 23,
  CONFIG_RSS_LUT: 24,
  GET_RSS_HENA_CAPS: 25,
  SET_RSS_HENA: 26,
  ENABLE_VLAN_STRIPPING: 27,
  DISABLE_VLAN_STRIPPING: 28,
  REQUEST_QUEUES: 29,
  GET_SUPPORTED_RXDIDS: 44,
  GET_OFFLOAD_VLAN_V2_CAPS: 51,
  ADD_VLAN_V2: 52,
  DEL_VLAN_V2: 53,
  ENABLE_VLAN_STRIPPING_V2: 54,
  DISABLE_VLAN_STRIPPING_V2: 55,
  ENABLE_VLAN_INSERTION_V2: 56,
  DISABLE_VLAN_INSERTION_V2: 57,
} as const;

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(Opcode).map(([name, value]) => [value, name]));

/** The specification's name of an opcode, or `OP_<n>`. */
export function opcodeName(opcode: number): string {
  return NAMES.get(opcode) ?? `OP_${opcode}`;
}
