export const MAX_QUEUES = 16;
export const MIN_MTU = 68;
/** Largest frame without FCS of the class, less the Ethernet header. */
export const MAX_MTU = 9714;
export const DEFAULT_MTU = 1500;
/** Headers of a TSO frame: Ethernet, tags, IP with options or extensions, TCP with options. */
export const MAX_TSO_HEADER_BYTES = 256;
/** IFF_UP and IFF_RUNNING are looked at so often. */
export const LINK_POLL_MS = 500;
