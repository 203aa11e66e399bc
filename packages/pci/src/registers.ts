/** Register offsets and bits of the PCI configuration space: PCI Local Bus 3.0 section 6, PCI Express Base 7.5. */

/** Conventional configuration space, and the extended one of PCI Express. */
export const CONFIG_BYTES = 256;
export const CONFIG_EXTENDED_BYTES = 4096;

export const PCI_VENDOR_ID = 0x00;
export const PCI_DEVICE_ID = 0x02;
export const PCI_COMMAND = 0x04;
export const PCI_STATUS = 0x06;
export const PCI_REVISION_ID = 0x08;
export const PCI_CLASS_PROG = 0x09;
export const PCI_CACHE_LINE_SIZE = 0x0c;
export const PCI_HEADER_TYPE = 0x0e;
export const PCI_BASE_ADDRESS_0 = 0x10;
export const PCI_SUBSYSTEM_VENDOR_ID = 0x2c;
export const PCI_SUBSYSTEM_ID = 0x2e;
export const PCI_ROM_ADDRESS = 0x30;
export const PCI_CAPABILITY_LIST = 0x34;
export const PCI_INTERRUPT_LINE = 0x3c;
export const PCI_INTERRUPT_PIN = 0x3d;
/** First byte behind the header: where automatic capability placement begins. */
export const PCI_FIRST_CAPABILITY = 0x40;
/** PCI Express Base 7.6: the extended list always begins here. */
export const PCI_FIRST_EXTENDED_CAPABILITY = 0x100;

export const PCI_COMMAND_IO = 0x0001;
export const PCI_COMMAND_MEMORY = 0x0002;
export const PCI_COMMAND_MASTER = 0x0004;
export const PCI_COMMAND_PARITY = 0x0040;
export const PCI_COMMAND_SERR = 0x0100;
export const PCI_COMMAND_INTX_DISABLE = 0x0400;

/** The function asserts INTx; shown whether or not COMMAND lets it through (PCI Local Bus 3.0, 6.2.3). */
export const PCI_STATUS_INTERRUPT = 0x0008;
export const PCI_STATUS_CAP_LIST = 0x0010;
/** Error bits 8 and 11 to 15: a one clears them. */
export const PCI_STATUS_RW1C = 0xf900;

export const PCI_BAR_IO = 0x1;
export const PCI_BAR_64 = 0x4;
export const PCI_BAR_PREFETCH = 0x8;

export const PCI_CAP_ID_PM = 0x01;
export const PCI_CAP_ID_MSI = 0x05;
export const PCI_CAP_ID_VNDR = 0x09;
export const PCI_CAP_ID_EXP = 0x10;
export const PCI_CAP_ID_MSIX = 0x11;
export const PCI_EXT_CAP_ID_DSN = 0x0003;
export const PCI_EXT_CAP_ID_VNDR = 0x000b;

/** Offsets inside the MSI capability; with a 32-bit address what follows MSI_ADDRESS_HI lies 4 bytes lower. */
export const MSI_CONTROL = 0x02;
export const MSI_ADDRESS = 0x04;
export const MSI_ADDRESS_HI = 0x08;
export const MSI_DATA_64 = 0x0c;
export const MSI_MASK_64 = 0x10;
export const MSI_PENDING_64 = 0x14;
export const MSI_CONTROL_ENABLE = 0x0001;
/** Multiple Message Capable and Enable: logarithms of a number of vectors. */
export const MSI_CONTROL_MMC_SHIFT = 1;
export const MSI_CONTROL_MME_SHIFT = 4;
export const MSI_CONTROL_LOG_MASK = 7;
export const MSI_CONTROL_64 = 0x0080;
export const MSI_CONTROL_MASKING = 0x0100;

/** Offsets inside the MSI-X capability. */
export const MSIX_CONTROL = 0x02;
export const MSIX_TABLE = 0x04;
export const MSIX_PBA = 0x08;
export const MSIX_CONTROL_MASKALL = 0x4000;
export const MSIX_CONTROL_ENABLE = 0x8000;

/** Offsets inside the PCI Express capability. */
export const EXP_DEVCAP = 0x04;
export const EXP_DEVCTL = 0x08;
export const EXP_DEVSTA = 0x0a;
export const EXP_LNKCAP = 0x0c;
export const EXP_LNKCTL = 0x10;
export const EXP_LNKSTA = 0x12;
export const EXP_DEVCAP2 = 0x24;
export const EXP_DEVCTL2 = 0x28;
export const EXP_LNKCAP2 = 0x2c;
export const EXP_LNKCTL2 = 0x30;
export const EXP_BYTES = 0x3c;
export const EXP_DEVCAP_FLR = 0x10000000;
export const EXP_DEVCTL_INITIATE_FLR = 0x8000;

/** Offsets inside the power management capability. */
export const PM_CONTROL = 0x04;
export const PM_BYTES = 0x08;
