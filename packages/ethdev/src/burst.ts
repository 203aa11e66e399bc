/**
 * A burst of frames: an array of fixed records plus an arena for their bytes, both in the DMA window, so that kernels and
 * TypeScript of every port read and write the same memory. All forwarding streams of an lcore take turns with one burst, which is reused
 * for ever: the hot path allocates nothing, and with many ports the memory that every frame goes through is in the nearest cache.
 *
 * Life of a frame: a port's `rxBurst` fills records from index 0 (bytes in the arena, or anywhere in the window that stays valid
 * until the next `rxBurst` on the same queue); an engine may look at and change them; another port's `txBurst` consumes them
 * before it returns. Nobody keeps a record or an address beyond that. What `txBurst` does not accept is dropped and counted by
 * the stream.
 *
 * Record, 32 bytes, little-endian:
 * ```
 * 0   u32  data      window offset of the first byte
 * 4   u32  length    bytes, without FCS
 * 8   u32  flags     FRAME_*
 * 12  u16  vlanTci   with FRAME_RX_VLAN (stripped) or FRAME_TX_VLAN (to insert)
 * 14  u16  segment   payload bytes per segment (MSS), with FRAME_TX_TSO
 * 16  u16  l2Length  bytes: Ethernet header with tags that are in the data
 * 18  u16  l3Length  bytes: IP header with options / extension headers
 * 20  u16  l4Length  bytes: TCP or UDP header
 * 22  u16  reserved
 * 24  u32  rssHash   with FRAME_RX_RSS; or loan, with FRAME_LENT
 * 28  u16  queue     Rx queue it came from
 * 30  u16  reserved
 * ```
 *
 * A lent frame (FRAME_LENT) saves a copy of its payload: only its first LENT_HEAD_BYTES are at `data`, the others are at `loan`, in the
 * sender's memory, and their room at `data` is free.
 * - Only a port that was told so (`PortConfig.peerTakesLoans`) lends, and the stream then calls its `takeBack` in the same loop of the lcore:
 *   it holds no later than that, because afterwards the sender may have its memory back.
 * - Whoever decides anything decides by what is at `data`: the sender can change the rest at any time. So it is read once, by whoever
 *   delivers it, and a checksum over it is summed up in the pass that copies.
 * - With FRAME_TX_L4_CSUM, that checksum is inserted where the frame is delivered: its field is at `data`, but the sum over it takes all of
 *   the payload. It is put into the field at `data` only when the frame is made whole, and the record then says so.
 */

/** Bytes of a record. */
export const FRAME_RECORD_BYTES = 32;
/** Byte offset in a record of u32 data, the window offset of the frame's first byte. */
export const FRAME_DATA = 0;
/** Byte offset in a record of u32 length, bytes without FCS. */
export const FRAME_LENGTH = 4;
/** Byte offset in a record of u32 flags, FRAME_RX_*, FRAME_TX_*, FRAME_L4_*, FRAME_IPV6. */
export const FRAME_FLAGS = 8;
/** Byte offset in a record of u16 vlanTci. */
export const FRAME_VLAN_TCI = 12;
/** Byte offset in a record of u16 segment, payload bytes of each frame that `FRAME_TX_TSO` cuts. */
export const FRAME_SEGMENT = 14;
/** Byte offset in a record of u16 l2Length, bytes. */
export const FRAME_L2_LENGTH = 16;
/** Byte offset in a record of u16 l3Length, bytes. */
export const FRAME_L3_LENGTH = 18;
/** Byte offset in a record of u16 l4Length, bytes. */
export const FRAME_L4_LENGTH = 20;
/** Byte offset in a record of u32 rssHash. */
export const FRAME_RSS_HASH = 24;
/** Byte offset in a record of u32 loan, the window offset of a lent frame's bytes from LENT_HEAD_BYTES on. */
export const FRAME_LOAN = 24;
/** Byte offset in a record of u16 queue, the Rx queue the frame came from. */
export const FRAME_QUEUE = 28;

/** Received: a tag was removed, it is in vlanTci. */
export const FRAME_RX_VLAN: number = 1 << 0;
/** Received: the port has verified the IPv4 header's checksum. */
export const FRAME_RX_IP_GOOD: number = 1 << 1;
/** Received: the IPv4 header's checksum is wrong. */
export const FRAME_RX_IP_BAD: number = 1 << 2;
/** Received: the port has verified the TCP, UDP or SCTP checksum. */
export const FRAME_RX_L4_GOOD: number = 1 << 3;
/** Received: the TCP, UDP or SCTP checksum is wrong. */
export const FRAME_RX_L4_BAD: number = 1 << 4;
/** Received: rssHash is set. */
export const FRAME_RX_RSS: number = 1 << 5;

/** To send: the IPv4 header's checksum is left to the port that transmits. Only what that port's txCapabilities promise may be left; l2, l3 and l4Length are set. */
export const FRAME_TX_IPV4_CSUM: number = 1 << 16;
/** The L4 checksum field holds the pseudo-header sum (with length); finish it over [l2+l3, end). */
export const FRAME_TX_L4_CSUM: number = 1 << 17;
/** Cut the payload into `segment`-sized frames. The pseudo-header sum is without length; IP lengths are undefined. */
export const FRAME_TX_TSO: number = 1 << 18;
/** With L4_CSUM or TSO: the L4 protocol is TCP. */
export const FRAME_L4_TCP: number = 1 << 19;
/** With L4_CSUM or TSO: the L4 protocol is UDP. */
export const FRAME_L4_UDP: number = 1 << 20;
/** With L4_CSUM: the L4 protocol is SCTP. */
export const FRAME_L4_SCTP: number = 1 << 21;
/** With TSO: the outer-most IP is version 6. */
export const FRAME_IPV6: number = 1 << 22;
/** Insert vlanTci with TPID 0x8100. */
export const FRAME_TX_VLAN: number = 1 << 23;

/** All but the head of the frame is still in its sender's memory, see above; of other flags, only FRAME_TX_L4_CSUM and FRAME_L4_TCP or FRAME_L4_UDP with it may be set. */
export const FRAME_LENT: number = 1 << 24;
/** So much of a lent frame is at `data`; it is more than 48 bytes longer. */
export const LENT_HEAD_BYTES = 64;

/** A port's txCapabilities is a mask of FRAME_TX_IPV4_CSUM, FRAME_TX_L4_CSUM, FRAME_TX_TSO, FRAME_TX_VLAN. */
export const FRAME_TX_MASK: number = FRAME_TX_IPV4_CSUM | FRAME_TX_L4_CSUM | FRAME_TX_TSO | FRAME_TX_VLAN;

/** Frames of a stream's burst, unless its spec says otherwise. */
export const DEFAULT_BURST = 64;
/** Room for a burst of ordinary frames and for two TSO frames of the largest size; an rxBurst stops when the next might not fit. */
export const DEFAULT_ARENA_BYTES: number = 1 << 18;

/** Window offsets of one burst. Plain numbers: it is handed to kernels as it is. */
export interface Burst {
  readonly records: number;
  readonly capacity: number;
  readonly arena: number;
  readonly arenaBytes: number;
}
