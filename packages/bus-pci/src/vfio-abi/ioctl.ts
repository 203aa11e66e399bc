/**
 * Requests of VFIO and iommufd (include/uapi/linux/vfio.h, iommufd.h): `_IO(';', n)` without a size, so the same on every common
 * architecture. Some numbers mean two things: the descriptor decides.
 */

/** Container: the version of the interface, 0. */
export const VFIO_GET_API_VERSION = 0x3b64;
/** Container: whether it has an extension, such as `VFIO_TYPE1_IOMMU`. */
export const VFIO_CHECK_EXTENSION = 0x3b65;
/** Container, once, after its first group: which kind of IOMMU it drives. */
export const VFIO_SET_IOMMU = 0x3b66;
/** Group: `decodeGroupStatus`. */
export const VFIO_GROUP_GET_STATUS = 0x3b67;
/** Group: joins a container, by a pointer to its descriptor. */
export const VFIO_GROUP_SET_CONTAINER = 0x3b68;
/** Group: leaves its container. */
export const VFIO_GROUP_UNSET_CONTAINER = 0x3b69;
/** Group: opens a device by its name (BDF or UUID, zero-terminated). */
export const VFIO_GROUP_GET_DEVICE_FD = 0x3b6a;
/** Device: `decodeDeviceInfo`. */
export const VFIO_DEVICE_GET_INFO = 0x3b6b;
/** Device: `decodeRegionInfo`. */
export const VFIO_DEVICE_GET_REGION_INFO = 0x3b6c;
/** Device: `decodeIrqInfo`. */
export const VFIO_DEVICE_GET_IRQ_INFO = 0x3b6d;
/** Device: `encodeIrqSet`. */
export const VFIO_DEVICE_SET_IRQS = 0x3b6e;
/** Device: function reset, without an argument. */
export const VFIO_DEVICE_RESET = 0x3b6f;
/** Device: what a hot reset would take along. */
export const VFIO_DEVICE_GET_PCI_HOT_RESET_INFO = 0x3b70;
/** Device: hot reset. */
export const VFIO_DEVICE_PCI_HOT_RESET = 0x3b71;
/** Device: a write to a region whenever an eventfd is signalled. */
export const VFIO_DEVICE_IOEVENTFD = 0x3b74;
/** Device: gets, sets or probes a feature. */
export const VFIO_DEVICE_FEATURE = 0x3b75;
/** Device with a node of its own: the first request on it, `encodeBindIommufd`. */
export const VFIO_DEVICE_BIND_IOMMUFD = 0x3b76;
/** Device with a node of its own: uses an address space of iommufd, `encodeAttach`. */
export const VFIO_DEVICE_ATTACH_IOMMUFD_PT = 0x3b77;
/** Device with a node of its own: `encodeDetach`. */
export const VFIO_DEVICE_DETACH_IOMMUFD_PT = 0x3b78;
/** Container: `decodeType1Info`. */
export const VFIO_IOMMU_GET_INFO = 0x3b70;
/** Container: `encodeDmaMap`. */
export const VFIO_IOMMU_MAP_DMA = 0x3b71;
/** Container: `encodeDmaUnmap`. */
export const VFIO_IOMMU_UNMAP_DMA = 0x3b72;
/** Container: starts, stops and reads the log of dirty pages. */
export const VFIO_IOMMU_DIRTY_PAGES = 0x3b75;
/** iommufd: `encodeIommuDestroy`. */
export const IOMMU_DESTROY = 0x3b80;
/** iommufd: a new address space, `encodeIoasAlloc`. */
export const IOMMU_IOAS_ALLOC = 0x3b81;
/** iommufd: the usable addresses, `encodeIoasRanges`. */
export const IOMMU_IOAS_IOVA_RANGES = 0x3b84;
/** iommufd: `encodeIoasMap`. */
export const IOMMU_IOAS_MAP = 0x3b85;
/** iommufd: `encodeIoasUnmap`. */
export const IOMMU_IOAS_UNMAP = 0x3b86;

/** `VFIO_CHECK_EXTENSION`, `VFIO_SET_IOMMU`: the IOMMU of a PC, first version. */
export const VFIO_TYPE1_IOMMU = 1;
/** The same, where an unmap has to match its maps. */
export const VFIO_TYPE1V2_IOMMU = 3;
/** DMA is coherent with the caches. */
export const VFIO_DMA_CC_IOMMU = 4;
/** Devices without an IOMMU. */
export const VFIO_NOIOMMU_IOMMU = 8;
/** One request unmaps everything. */
export const VFIO_UNMAP_ALL = 9;

/** `GroupStatus.flags`: every device of the group is free or VFIO's. */
export const VFIO_GROUP_FLAGS_VIABLE = 1;
/** `GroupStatus.flags`: the group is in a container. */
export const VFIO_GROUP_FLAGS_CONTAINER_SET = 2;
