/** Register offsets and bits of the PCI configuration space: PCI Local Bus 3.0 section 6, PCI Express Base 7.5. */

/** Conventional configuration space, bytes. */
export const CONFIG_BYTES = 256;
/** Configuration space with the extended part of PCI Express, bytes. */
export const CONFIG_EXTENDED_BYTES = 4096;

/** Vendor ID, 16 bits (PCI Local Bus 3.0, 6.2.1; so for the identity registers that follow). */
export const PCI_VENDOR_ID = 0x00;
/** Device ID, 16 bits. */
export const PCI_DEVICE_ID = 0x02;
/** COMMAND, 16 bits (6.2.2). */
export const PCI_COMMAND = 0x04;
/** STATUS, 16 bits (6.2.3). */
export const PCI_STATUS = 0x06;
/** Revision ID, 8 bits. */
export const PCI_REVISION_ID = 0x08;
/** Class code, 24 bits: programming interface here, subclass and base class in the next two bytes. */
export const PCI_CLASS_PROG = 0x09;
/** Cache line size, 8 bits, in units of 4 bytes; software's to use. */
export const PCI_CACHE_LINE_SIZE = 0x0c;
/** Header type, 8 bits: layout of the header, bit 7 for a multi-function device. */
export const PCI_HEADER_TYPE = 0x0e;
/** The first base address register, 32 bits; BAR n is 4n bytes further (6.2.5). */
export const PCI_BASE_ADDRESS_0 = 0x10;
/** Subsystem vendor ID, 16 bits (6.2.4). */
export const PCI_SUBSYSTEM_VENDOR_ID = 0x2c;
/** Subsystem ID, 16 bits (6.2.4). */
export const PCI_SUBSYSTEM_ID = 0x2e;
/** Expansion ROM base address, 32 bits, bit 0 enables it (6.2.5.2). */
export const PCI_ROM_ADDRESS = 0x30;
/** Capabilities pointer, 8 bits: offset of the first capability, 0 for none (6.7). */
export const PCI_CAPABILITY_LIST = 0x34;
/** Interrupt line, 8 bits; software's to use. */
export const PCI_INTERRUPT_LINE = 0x3c;
/** Interrupt pin, 8 bits: 0 none, 1 to 4 INTA to INTD. */
export const PCI_INTERRUPT_PIN = 0x3d;
/** First byte behind the header: where automatic capability placement begins. */
export const PCI_FIRST_CAPABILITY = 0x40;
/** PCI Express Base 7.6: the extended list always begins here. */
export const PCI_FIRST_EXTENDED_CAPABILITY = 0x100;

/** COMMAND: decodes I/O addresses. */
export const PCI_COMMAND_IO = 0x0001;
/** COMMAND: decodes memory addresses. */
export const PCI_COMMAND_MEMORY = 0x0002;
/** COMMAND: may be bus master, which DMA and message-signalled interrupts need. */
export const PCI_COMMAND_MASTER = 0x0004;
/** COMMAND: responds to parity errors. */
export const PCI_COMMAND_PARITY = 0x0040;
/** COMMAND: may drive SERR#. */
export const PCI_COMMAND_SERR = 0x0100;
/** COMMAND: must not assert INTx. */
export const PCI_COMMAND_INTX_DISABLE = 0x0400;

/** The function asserts INTx; shown whether or not COMMAND lets it through (PCI Local Bus 3.0, 6.2.3). */
export const PCI_STATUS_INTERRUPT = 0x0008;
/** STATUS: there is a capability list. */
export const PCI_STATUS_CAP_LIST = 0x0010;
/** Error bits 8 and 11 to 15: a one clears them. */
export const PCI_STATUS_RW1C = 0xf900;

/** BAR: an I/O range. */
export const PCI_BAR_IO = 0x1;
/** BAR: 64 bits wide, the upper half in the next register. */
export const PCI_BAR_64 = 0x4;
/** BAR: prefetchable, reads have no side effects. */
export const PCI_BAR_PREFETCH = 0x8;

/** Capability ID: power management. */
export const PCI_CAP_ID_PM = 0x01;
/** Capability ID: message-signalled interrupts. */
export const PCI_CAP_ID_MSI = 0x05;
/** Capability ID: vendor-specific. */
export const PCI_CAP_ID_VNDR = 0x09;
/** Capability ID: PCI Express. */
export const PCI_CAP_ID_EXP = 0x10;
/** Capability ID: MSI-X. */
export const PCI_CAP_ID_MSIX = 0x11;
/** Extended capability ID: device serial number. */
export const PCI_EXT_CAP_ID_DSN = 0x0003;
/** Extended capability ID: vendor-specific (VSEC). */
export const PCI_EXT_CAP_ID_VNDR = 0x000b;

/** MSI capability: Message Control, 16 bits (PCI Local Bus 3.0, 6.8.1). With a 32-bit address, what follows `MSI_ADDRESS_HI` lies 4 bytes lower. */
export const MSI_CONTROL = 0x02;
/** MSI capability: message address, lower 32 bits. */
export const MSI_ADDRESS = 0x04;
/** MSI capability: message address, upper 32 bits, where `MSI_CONTROL_64` is set. */
export const MSI_ADDRESS_HI = 0x08;
/** MSI capability: message data, 16 bits. */
export const MSI_DATA_64 = 0x0c;
/** MSI capability: mask bits, one per vector, where `MSI_CONTROL_MASKING` is set. */
export const MSI_MASK_64 = 0x10;
/** MSI capability: pending bits, one per vector, where `MSI_CONTROL_MASKING` is set. */
export const MSI_PENDING_64 = 0x14;
/** MSI Message Control: MSI Enable. */
export const MSI_CONTROL_ENABLE = 0x0001;
/** MSI Message Control: Multiple Message Capable, logarithm of the vectors there are; 3 bits from here. */
export const MSI_CONTROL_MMC_SHIFT = 1;
/** MSI Message Control: Multiple Message Enable, logarithm of the vectors granted; 3 bits from here. */
export const MSI_CONTROL_MME_SHIFT = 4;
/** Mask of either logarithm, once shifted down. */
export const MSI_CONTROL_LOG_MASK = 7;
/** MSI Message Control: the message address has 64 bits. */
export const MSI_CONTROL_64 = 0x0080;
/** MSI Message Control: per-vector masking. */
export const MSI_CONTROL_MASKING = 0x0100;

/** MSI-X capability: Message Control, 16 bits (PCI Local Bus 3.0, 6.8.2). */
export const MSIX_CONTROL = 0x02;
/** MSI-X capability: offset of the table, its BAR in the lowest 3 bits. */
export const MSIX_TABLE = 0x04;
/** MSI-X capability: offset of the pending-bit array, its BAR in the lowest 3 bits. */
export const MSIX_PBA = 0x08;
/** MSI-X Message Control: Function Mask, all vectors are masked. */
export const MSIX_CONTROL_MASKALL = 0x4000;
/** MSI-X Message Control: MSI-X Enable. */
export const MSIX_CONTROL_ENABLE = 0x8000;

/** PCI Express capability: Device Capabilities, 32 bits (PCI Express Base 7.5.3). */
export const EXP_DEVCAP = 0x04;
/** PCI Express capability: Device Control, 16 bits. */
export const EXP_DEVCTL = 0x08;
/** PCI Express capability: Device Status, 16 bits. */
export const EXP_DEVSTA = 0x0a;
/** PCI Express capability: Link Capabilities, 32 bits. */
export const EXP_LNKCAP = 0x0c;
/** PCI Express capability: Link Control, 16 bits. */
export const EXP_LNKCTL = 0x10;
/** PCI Express capability: Link Status, 16 bits. */
export const EXP_LNKSTA = 0x12;
/** PCI Express capability: Device Capabilities 2, 32 bits. */
export const EXP_DEVCAP2 = 0x24;
/** PCI Express capability: Device Control 2, 16 bits. */
export const EXP_DEVCTL2 = 0x28;
/** PCI Express capability: Link Capabilities 2, 32 bits. */
export const EXP_LNKCAP2 = 0x2c;
/** PCI Express capability: Link Control 2, 16 bits. */
export const EXP_LNKCTL2 = 0x30;
/** Bytes of a version 2 PCI Express capability. */
export const EXP_BYTES = 0x3c;
/** Device Capabilities: Function Level Reset exists. */
export const EXP_DEVCAP_FLR = 0x10000000;
/** Device Control: writing a one starts a Function Level Reset; reads as zero. */
export const EXP_DEVCTL_INITIATE_FLR = 0x8000;

/** Power management capability: Power Management Control/Status, 16 bits. */
export const PM_CONTROL = 0x04;
/** Bytes of a power management capability. */
export const PM_BYTES = 0x08;
