/** Numbers of linux/vfio.h that name the parts of a PCI device: region and interrupt indexes, and their flags. */

/** VFIO_PCI_BAR0_REGION_INDEX, a `RegionDescription.index`; BAR n is index n. */
export const REGION_BAR0 = 0;
/** VFIO_PCI_BAR1_REGION_INDEX. */
export const REGION_BAR1 = 1;
/** VFIO_PCI_BAR2_REGION_INDEX. */
export const REGION_BAR2 = 2;
/** VFIO_PCI_BAR3_REGION_INDEX. */
export const REGION_BAR3 = 3;
/** VFIO_PCI_BAR4_REGION_INDEX. */
export const REGION_BAR4 = 4;
/** VFIO_PCI_BAR5_REGION_INDEX. */
export const REGION_BAR5 = 5;
/** VFIO_PCI_ROM_REGION_INDEX: the expansion ROM. */
export const REGION_ROM = 6;
/** VFIO_PCI_CONFIG_REGION_INDEX: configuration space. */
export const REGION_CONFIG = 7;
/** VFIO_PCI_VGA_REGION_INDEX: the legacy VGA ranges. */
export const REGION_VGA = 8;
/** VFIO_PCI_NUM_REGIONS: the fixed indexes; device-specific regions follow. */
export const NUM_REGIONS = 9;

/** VFIO_PCI_INTX_IRQ_INDEX, an `IrqDescription.index`: the level-triggered pin. */
export const IRQ_INTX = 0;
/** VFIO_PCI_MSI_IRQ_INDEX: message-signalled interrupts. */
export const IRQ_MSI = 1;
/** VFIO_PCI_MSIX_IRQ_INDEX: message-signalled interrupts with a table. */
export const IRQ_MSIX = 2;
/** VFIO_PCI_ERR_IRQ_INDEX: the device reports an error it cannot recover from. */
export const IRQ_ERR = 3;
/** VFIO_PCI_REQ_IRQ_INDEX: the device asks to be given back (hot unplug). */
export const IRQ_REQ = 4;
/** VFIO_PCI_NUM_IRQS: how many indexes there are. */
export const NUM_IRQS = 5;

/** VFIO_IRQ_INFO_EVENTFD, a bit of `IrqDescription.flags`: vectors are signalled through eventfds. */
export const IRQ_INFO_EVENTFD = 1;
/** VFIO_IRQ_INFO_MASKABLE: vectors can be masked and unmasked by SET_IRQS. */
export const IRQ_INFO_MASKABLE = 2;
/** VFIO_IRQ_INFO_AUTOMASKED: signalling a vector masks it until the consumer unmasks it (INTx). */
export const IRQ_INFO_AUTOMASKED = 4;
/** VFIO_IRQ_INFO_NORESIZE: vectors are enabled as one set; to add one, all have to be disabled first. */
export const IRQ_INFO_NORESIZE = 8;
