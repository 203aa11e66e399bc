/**
 * Fields of the descriptors the driver and the device exchange, spelled as in the XL710/E810 datasheets (VF receive and transmit
 * descriptors, legacy 32-byte write-back). Rx masks apply to the low 32 bits of qword 1, Tx command bits to the CMD field.
 */

/* ---- receive write-back, qword 1 -------------------------------------------------------------------------------------------- */
export const RXS_DD = 0x1;
export const RXS_EOP = 0x2;
export const RXS_L2TAG1P = 0x4;
export const RXS_L3L4P = 0x8;
/** Bits 13:12; 3 = qword 0 carries an RSS hash. */
export const RXS_FLTSTAT_MASK = 0x3000;
export const RXS_FLTSTAT_RSS = 0x3000;
export const RXS_RXE = 0x80000;
export const RXS_IPE = 0x400000;
export const RXS_L4E = 0x800000;
export const RX_PTYPE_SHIFT = 30;
export const RX_PTYPE_MASK = 0xff;
export const RX_LENGTH_SHIFT = 38;
export const RX_LENGTH_MASK = 0x3fff;

/** Packet types without a tunnel: IPv4 22..28, IPv6 88..94; UDP, TCP and SCTP are 2, 4 and 5 above the first of each. */
export const PTYPE_IPV4_FIRST = 22;
export const PTYPE_IPV4_LAST = 28;
export const PTYPE_IPV6_FIRST = 88;
export const PTYPE_IPV6_LAST = 94;

/* ---- transmit, qword 1 ------------------------------------------------------------------------------------------------------ */
/** The device rewrites DTYPE to this on a descriptor that had RS. */
export const TXD_DONE = 0xf;
export const TXD_DTYPE_CONTEXT = 1;
export const TXC_EOP = 0x001;
export const TXC_RS = 0x002;
export const TXC_ICRC = 0x004;
export const TXC_IL2TAG1 = 0x008;
export const TXC_IPV6 = 0x020;
export const TXC_IPV4 = 0x040;
export const TXC_IPV4_CSUM = 0x060;
export const TXC_TCP = 0x100;
export const TXC_SCTP = 0x200;
export const TXC_UDP = 0x300;
export const TX_CMD_SHIFT = 4;
export const TX_OFFSET_SHIFT = 16;
export const TX_LENGTH_SHIFT = 34;
export const TX_L2TAG1_SHIFT = 48;
/** Context descriptor: CMD bit, TSO LEN and MSS. */
export const TXX_TSO = 0x01;
export const TXX_LENGTH_SHIFT = 30;
export const TXX_MSS_SHIFT = 50;
