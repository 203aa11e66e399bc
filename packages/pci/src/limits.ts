/** PCI Local Bus 3.0, 6.8.1: Multiple Message Capable has no encoding beyond 32 vectors. */
export const MAX_MSI_VECTORS = 32;
/** PCI Local Bus 3.0, 6.8.2: the table size field has 11 bits. */
export const MAX_MSIX_VECTORS = 2048;
/** Sizes are numbers here: the largest power of two that arithmetic on them keeps exact. */
export const MAX_BAR_BYTES: number = 2 ** 52;
/** A 32-bit BAR can express 2 GiB: bit 31 is the last address bit. */
export const MAX_BAR32_BYTES: number = 2 ** 31;
/** PCI Local Bus 3.0, 6.2.5.1: an I/O BAR asks for at most 256 bytes. */
export const MAX_IO_BAR_BYTES = 256;
