/** BAR0 registers of an iavf function, spelled as in the datasheet; all 32 bits wide. */
export const QTX_TAIL1 = 0x0000;
export const QRX_TAIL1 = 0x2000;
export const VFINT_DYN_CTLN1 = 0x3800;
export const VFINT_ICR0_ENA1 = 0x5000;
export const VFINT_DYN_CTL01 = 0x5c00;
export const VF_ARQBAH1 = 0x6000;
export const VF_ATQH1 = 0x6400;
export const VF_ATQLEN1 = 0x6800;
export const VF_ARQBAL1 = 0x6c00;
export const VF_ARQT1 = 0x7000;
export const VF_ARQH1 = 0x7400;
export const VF_ATQBAH1 = 0x7800;
export const VF_ATQBAL1 = 0x7c00;
export const VF_ARQLEN1 = 0x8000;
export const VF_ATQT1 = 0x8400;
export const VFGEN_RSTAT = 0x8800;

/** VF_ATQLEN1, VF_ARQLEN1. */
export const AQ_ENABLE = 0x8000_0000;
/** Heads and tails of the admin queues have ten bits. */
export const AQ_INDEX_MASK = 0x3ff;
/** VFGEN_RSTAT bits 1:0. */
export const RSTAT_MASK = 3;
export const RSTAT_COMPLETED = 1;
export const RSTAT_ACTIVE = 2;
/** VFINT_ICR0_ENA1: the admin queue raises vector 0. */
export const ICR0_ENA1_ADMINQ = 0x4000_0000;
/** VFINT_DYN_CTL: INTENA, and ITR_INDX 3 (leave the throttle alone). */
export const DYN_CTL_ARM = 0x19;
export const DYN_CTL_DISARM = 0x18;

/* ---- configuration space ---------------------------------------------------------------------------------------------------- */
export const PCI_VENDOR_ID = 0x00;
export const PCI_COMMAND = 0x04;
export const PCI_COMMAND_MEMORY = 0x2;
export const PCI_COMMAND_MASTER = 0x4;
export const INTEL = 0x8086;
export const ADAPTIVE_VF = 0x1889;
