/**
 * The state that the control thread and the lcores share, in the DMA window: one device block and, per queue pair, one Tx and one
 * Rx queue block. The control half writes configuration (only while the device is paused and the lcores are quiescent, or before
 * a queue is enabled; words that stand alone, such as flags, vectors and the pointers to filter tables, at any time); the data
 * path writes heads and counters. Kernels (src/kernels) and their TypeScript twins (src/twins) use
 * these offsets; src/kernels/layout.ts mirrors them for AssemblyScript and a test compares the two.
 *
 * Direction names are the guest's: its *Tx* ring is what our `rxBurst` reads, its *Rx* ring is what our `txBurst` fills.
 */

/* ---- device block -------------------------------------------------------------------------------------------------------- */
export const DEV_PAUSED = 0; // u32: not 0 = every burst returns 0 without touching guest memory; PAUSED_*
export const DEV_IOTLB = 4; // u32: window offset of the device's IOTLB (@emudev/dma)
export const DEV_FLAGS = 8; // u32: DEVF_*
export const DEV_MAX_FRAME = 12; // u32: largest frame without FCS, either way (9728)
export const DEV_QUEUE_PAIRS = 16; // u32: granted pairs
export const DEV_PEER_TX_CAPS = 20; // u32: FRAME_TX_* the forwarding peer does for us: leave that much undone
export const DEV_MAC_TABLE = 24; // u32: window offset: MAC_SLOTS * 8 bytes, open-addressed set, see below
export const DEV_VLAN_BITMAP = 28; // u32: window offset: 512 bytes, bit v = VLAN v is wanted
export const DEV_RSS_TABLE = 32; // u32: window offset: Toeplitz, RSS_INPUT_BYTES * 256 u32: table[i][b] = XOR share of input byte i of value b
export const DEV_TX_BLOCKS = 36; // u32: window offset of 16 Tx queue blocks
export const DEV_RX_BLOCKS = 40; // u32: window offset of 16 Rx queue blocks
export const DEV_RX_KICK = 44; // u32: out: bit q = Rx queue q got a write-back in the last txBurst (raise its vector)
export const DEV_HENA = 48; // u64: hash-enable bits (iavf packet classifier types)
export const DEV_LUT = 56; // 64 bytes: RSS look-up table, entry = Rx queue
export const DEV_TX_LOCK = 120; // u32: not 0 = an lcore fills Rx rings, a number for its turn; taken only where several do
export const DEV_LENDS = 124; // u32: 1 = the forwarding peer takes lent frames (FRAME_LENT)
export const DEV_STATS = 128; // u64[]: DEVS_* counters
/** Answers of the first pass of txBurst for its second one, SCRATCH_ENTRIES frames at a time (the kernels' own). */
export const DEV_SCRATCH = 256;
export const SCRATCH_ENTRIES = 32;
export const SCRATCH_ENTRY_BYTES = 32;
export const SCRATCH_QW0 = 0; // u64: of the write-back
export const SCRATCH_STATUS = 8; // u64: qw1 of the write-back without the length
export const SCRATCH_QUEUE = 16; // u32: Rx queue, or SCRATCH_DISCARD + DEVS_*: not delivered, and counted so when its turn comes
export const SCRATCH_SUM_FROM = 20; // u32: where the bytes begin whose checksum is verified when the frame is copied; 0 = all has been said
export const SCRATCH_SEED = 24; // u64: the sum of what else that checksum covers
/** Of SCRATCH_SUM_FROM: the frame is lent. */
export const SCRATCH_LENT: number = 1 << 30;
export const SCRATCH_DISCARD = 0x100;
/** Buffers of the run in hand that page tables have been asked for already, in the order of their descriptors. Those of Tx rings: STAGE_AHEAD. */
export const SCRATCH_AHEAD: number = DEV_SCRATCH + SCRATCH_ENTRIES * SCRATCH_ENTRY_BYTES;
export const AHEAD_ENTRIES = 64;
export const AHEAD_ENTRY_BYTES = 16;
export const AHEAD_PAGE = 8; // u32: window offset of the page, behind the u64 IOVA
export const AHEAD_SLOT = 12; // u32: of the IOTLB, to be marked as used
export const DEV_BYTES: number = SCRATCH_AHEAD + AHEAD_ENTRIES * AHEAD_ENTRY_BYTES;

/** Nobody is there: what is sent to the guest is lost. */
export const PAUSED_AWAY = 1;
/** Its memory or interrupts are being changed: what is sent to the guest had better wait. */
export const PAUSED_FOR_NOW = 2;

export const DEVF_UNICAST_PROMISC: number = 1 << 0;
export const DEVF_MULTICAST_PROMISC: number = 1 << 1;
/** At least one non-zero VLAN filter is programmed: prune tagged frames that are not in the bitmap. */
export const DEVF_VLAN_PRUNING: number = 1 << 2;
/** Strip 0x8100 tags from what the guest receives (L2TAG1). */
export const DEVF_VLAN_STRIP: number = 1 << 3;

/** Counters of the whole device, u64 each at DEV_STATS + 8 * n. */
export const DEVS_RX_FILTERED = 0; // to the guest: not addressed to it (not a loss)
export const DEVS_RX_NO_QUEUE = 1; // to the guest: its RSS queue is not enabled (counted as discard)
export const DEVS_RX_OVERSIZE = 2; // to the guest: longer than the device or the ring takes (discard; not counted in the queue again)
export const DEVS_RX_RUNT = 3; // to the guest: shorter than an Ethernet header (discard)

/** MAC set: key = 48-bit address as a little-endian number | 1 << 63 (so 0 = empty); slot = (low32 ^ (key >> 32)) * 0x9E3779B1 >>> 20 & mask. */
export const MAC_SLOTS = 1024;
export const MAC_MAX = 512;
export const RSS_INPUT_BYTES = 36; // IPv6 src, dst, two ports
export const RSS_TABLE_BYTES: number = RSS_INPUT_BYTES * 256 * 4;
export const RSS_KEY_BYTES = 52;
export const RSS_LUT_ENTRIES = 64;

/* ---- queue block, both directions ------------------------------------------------------------------------------------------ */
export const Q_ENABLED = 0; // u32
export const Q_RING = 4; // u32: window offset of the ring; 0 = not mapped (then the queue is not enabled)
export const Q_LENGTH = 8; // u32: descriptors
export const Q_HEAD = 12; // u32: next descriptor of ours
export const Q_DOORBELL = 16; // u32: window offset of the tail word (guest-written: bounds-check every value)
export const Q_VECTOR = 20; // u32: Int32 index of the vector's cells, 0 = no interrupt
export const Q_FAULT = 24; // u32: QFAULT_*: set once by the data path, which then leaves the queue alone
export const Q_BUFFER = 28; // u32: Rx: databuffer_size in bytes
export const Q_MAX_PACKET = 32; // u32: Rx: max_pkt_size (includes FCS: frame + 4 must fit)
export const Q_STAGE = 36; // u32: Tx: window offset of STAGE_BYTES where a TSO frame is gathered
export const Q_TSO_OFFSET = 40; // u32: Tx: payload bytes of the staged frame already emitted; staged frame active while Q_TSO_TOTAL != 0
export const Q_TSO_TOTAL = 44; // u32: Tx: payload bytes of the staged frame
export const Q_TSO_STATE = 48; // 8 bytes: Tx: TSOS_* of the staged frame (the kernels' own)
export const Q_LENT = 56; // u32: Tx: descriptors before Q_HEAD to be given back when the payload of the burst in hand has been copied
export const Q_STATS = 64; // u64[]: QS_*
export const Q_BAD_BUFFERS = 128; // u32: Rx: unmapped buffers met in a row; QFAULT_BUFFER at RX_BAD_BUFFER_LIMIT
export const Q_ITR = 132; // u32: window offset of the interval between two interrupts (guest-written, 12 bits, 2 us), 0 = none
export const Q_RX_ADDRESSES = 136; // u64[5]: Rx: buffer addresses of the frame being written, fetched once (the kernels' own)
export const Q_BOUNCED = 176; // u32: 1 = of a shadow ring: who brings the frames from there to the guest raises the vector, not the data path
export const Q_SHORT = 188; // u32: Rx: 1 = descriptors of SHORT_RX_DESCRIPTOR_BYTES
export const Q_BYTES = 192;

/** A ring the guest made unusable; latched, visible in xstats, cleared by the next DISABLE or reset. */
export const QFAULT_NONE = 0;
export const QFAULT_TAIL = 1; // tail outside the ring
export const QFAULT_RING_UNMAPPED = 2; // a DMA unmap took the ring away
export const QFAULT_NEVER_EOP = 3; // a whole ring of descriptors without EOP
export const QFAULT_BUFFER = 4; // Rx: one unmapped or read-only buffer after the other

/** Fields of Q_TSO_STATE, relative to it. Lengths are OFFSET's own units, which have been checked against the staged bytes. */
export const TSOS_L2_WORDS = 0; // u8: 2-byte words
export const TSOS_L3_WORDS = 1; // u8: 4-byte words
export const TSOS_L4_WORDS = 2; // u8: 4-byte words
export const TSOS_FLAGS = 3; // u8: TSOF_*
export const TSOS_MSS = 4; // u16
export const TSOS_VLAN_TCI = 6; // u16
export const TSOF_IPV6 = 1;
export const TSOF_UDP = 2;
export const TSOF_TAG = 4; // insert TSOS_VLAN_TCI into the bytes
export const TSOF_TAG_PEER = 8; // leave the insertion to the peer

export const QS_PACKETS = 0;
export const QS_BYTES = 1;
export const QS_UNICAST = 2;
export const QS_MULTICAST = 3;
export const QS_BROADCAST = 4;
export const QS_DISCARDS = 5; // Rx: not enough buffers, or a buffer was unmapped; Tx: segments of a frame that DISABLE or a reset cut short (DUMMY frames are not counted)
export const QS_ERRORS = 6; // Tx: malformed descriptors, unmapped buffers, MSS 0, lengths out of range; Rx: unmapped buffers
export const QS_INTERRUPTS = 7; // raised for this queue

/** Largest TSO frame that is staged: 18-bit TSO LEN plus headers. */
export const STAGE_FRAME_BYTES: number = (1 << 18) + 1024;
/** Private copy of the descriptors of the packet being assembled: they are fetched once, whatever the guest does meanwhile. */
export const STAGE_DESCRIPTORS: number = STAGE_FRAME_BYTES;
/** As SCRATCH_AHEAD; that is another lcore's, which sends to the guest. */
export const STAGE_AHEAD: number = STAGE_DESCRIPTORS + 8192 * 16;
/** CRC32c table, filled at the first SCTP checksum (kernels own no data segment). */
export const STAGE_CRC_TABLE: number = STAGE_AHEAD + AHEAD_ENTRIES * AHEAD_ENTRY_BYTES;
/** What Q_STAGE points to. */
export const STAGE_BYTES: number = STAGE_CRC_TABLE + 1024;
/** Longer frames are lent: what it takes to do so is worth a copy of some hundred bytes. */
export const LEND_ABOVE_BYTES = 256;
/** A guest's Tx frame is at least this long; shorter ones are padded to 60 on the way out. */
export const MIN_TX_FRAME_BYTES = 17;
export const PADDED_FRAME_BYTES = 60;
export const MAX_RX_BUFFERS = 5;
export const RX_BAD_BUFFER_LIMIT = 8;
/** MSS outside of this range is malformed (hardware: malicious-driver event). */
export const TSO_MIN_MSS = 64;
export const TSO_MAX_MSS = 9668;
/** A TSO frame is handed over uncut only up to what an IP length field can say. */
export const TSO_HANDOVER_IP_BYTES = 65535;
export const TX_DESCRIPTOR_BYTES = 16;
export const RX_DESCRIPTOR_BYTES = 32;
/** Where the guest's driver has asked for RXDID 0: four of them in a cache line. */
export const SHORT_RX_DESCRIPTOR_BYTES = 16;
