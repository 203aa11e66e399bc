/** struct virtio_net_hdr_v1 (virtio 1.2, 5.1.6; include/uapi/linux/virtio_net.h), which Linux puts before frames of TAPs and packet sockets. */

/** Bytes of the header with `num_buffers`, which Linux leaves alone. */
export const VIRTIO_HEADER_BYTES = 12;

/** Byte offsets: u8 flags, u8 gso_type, u16 hdr_len, u16 gso_size, u16 csum_start, u16 csum_offset. */
export const VH_FLAGS = 0;
export const VH_GSO_TYPE = 1;
export const VH_HEADER_LENGTH = 2;
export const VH_GSO_SIZE = 4;
export const VH_CSUM_START = 6;
export const VH_CSUM_OFFSET = 8;

/** The checksum field holds the pseudo-header sum: finish it from csum_start on. */
export const VHF_NEEDS_CSUM = 1;
/** The L4 checksum has been verified. */
export const VHF_DATA_VALID = 2;

export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_TCPV6 = 4;
/** UDP datagrams of gso_size payload bytes each, over either IP. */
export const GSO_UDP_L4 = 5;
/** Flag of gso_type: CWR belongs to the first segment only (RFC 3168 6.1.2). */
export const GSO_ECN = 0x80;

/** What the total length field of an IPv4 packet, and the kernel, can say. */
export const MAX_IP_BYTES = 65_535;
/** Most that one write or read of a frame carries: an IP packet of 64 KiB behind Ethernet and two tags. */
export const MAX_VIRTIO_FRAME_BYTES: number = MAX_IP_BYTES + 14 + 8;
