export const MAX_QUEUES = 16;
export const MIN_MTU = 68;
/** Largest frame without FCS of the class, less the Ethernet header. */
export const MAX_MTU = 9714;
export const DEFAULT_MTU = 1500;
/** struct virtio_net_hdr_v1. */
export const VNET_HEADER_BYTES = 12;
/** What the kernel takes in one write: an IP packet of 64 KiB behind Ethernet and two tags. */
export const MAX_WRITE_BYTES: number = 65_535 + 14 + 8;
/** IFF_UP and IFF_RUNNING are looked at so often. */
export const LINK_POLL_MS = 500;
