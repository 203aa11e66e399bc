/** `vf_cap_flags`: requested by the driver in GET_VF_RESOURCES, granted (a subset) in the reply. */
export const Capability = {
  /** Base mode; implies checksum and segmentation offload, Rx checksum and RSS, which have no flag of their own. */
  L2: 0x0000_0001,
  RDMA: 0x0000_0002,
  RSS_AQ: 0x0000_0008,
  RSS_REG: 0x0000_0010,
  WB_ON_ITR: 0x0000_0020,
  REQ_QUEUES: 0x0000_0040,
  /** EVENT carries the link speed in Mb/s instead of an enumeration. */
  ADV_LINK_SPEED: 0x0000_0080,
  INLINE_IPSEC_CRYPTO: 0x0000_0100,
  LARGE_NUM_QPAIRS: 0x0000_0200,
  CRC: 0x0000_0400,
  TC_U32: 0x0000_0800,
  FSUB_PF: 0x0000_4000,
  VLAN_V2: 0x0000_8000,
  /** Single VLAN in L2TAG1. Granted together with VLAN_V2 it confuses Linux: grant one. */
  VLAN: 0x0001_0000,
  RX_POLLING: 0x0002_0000,
  RSS_PCTYPE_V2: 0x0004_0000,
  RSS_PF: 0x0008_0000,
  ENCAP: 0x0010_0000,
  ENCAP_CSUM: 0x0020_0000,
  RX_ENCAP_CSUM: 0x0040_0000,
  ADQ: 0x0080_0000,
  ADQ_V2: 0x0100_0000,
  USO: 0x0200_0000,
  RX_FLEX_DESC: 0x0400_0000,
  ADV_RSS_PF: 0x0800_0000,
  FDIR_PF: 0x1000_0000,
  QOS: 0x2000_0000,
  DCF: 0x4000_0000,
  PTP: 0x8000_0000,
} as const;

/** Names of the flags set in `flags`, lowest bit first, for messages and telemetry. */
export function capabilityNames(flags: number): string[] {
  return Object.entries(Capability).filter(([, bit]) => (flags & bit) !== 0).map(([name]) => name);
}
