/** Numbers of linux/vfio.h that name the parts of a PCI device: region and interrupt indexes, and their flags. */

/** `RegionDescription.index` (VFIO_PCI_*_REGION_INDEX). BAR n is index n. */
export const REGION_BAR0 = 0;
export const REGION_BAR1 = 1;
export const REGION_BAR2 = 2;
export const REGION_BAR3 = 3;
export const REGION_BAR4 = 4;
export const REGION_BAR5 = 5;
export const REGION_ROM = 6;
export const REGION_CONFIG = 7;
export const REGION_VGA = 8;
/** VFIO_PCI_NUM_REGIONS */
export const NUM_REGIONS = 9;

/** `IrqDescription.index` (VFIO_PCI_*_IRQ_INDEX). */
export const IRQ_INTX = 0;
export const IRQ_MSI = 1;
export const IRQ_MSIX = 2;
export const IRQ_ERR = 3;
export const IRQ_REQ = 4;
/** VFIO_PCI_NUM_IRQS */
export const NUM_IRQS = 5;

/** `IrqDescription.flags` (VFIO_IRQ_INFO_*). */
export const IRQ_INFO_EVENTFD = 1;
export const IRQ_INFO_MASKABLE = 2;
export const IRQ_INFO_AUTOMASKED = 4;
export const IRQ_INFO_NORESIZE = 8;
