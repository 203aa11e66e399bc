/** Queue pairs of one port, a packet socket each. */
export const MAX_QUEUE_PAIRS = 16;
/** A ring slot: bytes for a frame and what the kernel writes before it. A longer frame is fetched by a system call of its own. */
export const MIN_FRAME_SLOT_BYTES = 256;
/** The longest that `framesz` may be. */
export const MAX_FRAME_SLOT_BYTES = 65_536;
/** What the kernel puts before a frame in its slot: struct tpacket2_hdr, a sockaddr_ll, a virtio-net header, and alignment. */
export const SLOT_OVERHEAD_BYTES = 128;
/** The kernel allocates a ring in blocks of contiguous memory. */
export const DEFAULT_BLOCK_BYTES = 65_536;
/** The most that `blocksz` may be. */
export const MAX_BLOCK_BYTES: number = 1 << 20;
/** Slots of a ring. */
export const DEFAULT_FRAME_COUNT = 512;
/** The most that `framecnt` may be. */
export const MAX_FRAME_COUNT = 16_384;
/** A queue's ring. */
export const MAX_RING_BYTES: number = 64 << 20;
/** What a socket may hold of frames too long for the ring, and of frames sent that are still on their way. */
export const SOCKET_BUFFER_BYTES: number = 4 << 20;
/** Smallest MTU, that of IPv4 (RFC 791). */
export const MIN_MTU = 68;
/** Largest frame without FCS of the class, less the Ethernet header. */
export const MAX_MTU = 9714;
/** Frames of one sendmmsg. */
export const TX_BATCH = 64;
/** Headers of a TSO frame: Ethernet, tags, IP with options or extensions, TCP with options. */
export const MAX_TSO_HEADER_BYTES = 256;
/** Flags and drops of the interface are looked at so often. */
export const LINK_POLL_MS = 500;
