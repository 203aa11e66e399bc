/** Everything that sysfs, a device or a user can make us read, hold or loop over, in one place. */

/** Longest text of an address or of an entry in an allow or block list. */
export const MAX_SELECTOR_TEXT = 4096;
/** Longest path of a UNIX socket: sun_path (unix(7)) less its closing zero. */
export const MAX_SOCKET_PATH_BYTES = 107;
/** Entries of an allow or block list. */
export const MAX_SELECTORS = 4096;
/** One attribute of sysfs: the kernel's own limit is a page. */
export const MAX_ATTRIBUTE_BYTES = 4096;
/** Entries of one directory of sysfs that are looked at. */
export const MAX_DIRECTORY_ENTRIES = 65_536;
/** Lines of a PCI device's `resource` file: 6 BARs, the ROM, 6 of SR-IOV, 4 of a bridge, and room. */
export const MAX_RESOURCES = 32;
/** What a VFIO structure with its capabilities may take, bytes. */
export const MAX_VFIO_INFO_BYTES = 65_536;
/** Questions until an answer of VFIO has to fit. */
export const MAX_ARGSZ_ATTEMPTS = 4;
/** Capabilities in one chain. */
export const MAX_VFIO_CAPABILITIES = 32;
/** Areas of one sparse-mmap capability, and ranges of one list of usable IOVAs. */
export const MAX_VFIO_RANGES = 1024;
/** Vectors of one SET_IRQS: an MSI-X table has at most 2048 entries. */
export const MAX_IRQ_VECTORS = 2048;
/** How often a mediated device is looked at until it is ready, ms: sysfs does not tell. */
export const MDEV_READY_POLL_MS = 20;
/** What `remove` of a mediated device waits by default for whoever has it open, ms. */
export const MDEV_REMOVE_TIMEOUT_MS = 5000;
/** What taking a PCI function from its kernel driver waits by default for whoever has it open, ms. */
export const UNBIND_TIMEOUT_MS = 5000;
/** Regions that one device may have, and kinds of interrupts: a PCI device has 9 and 5, and a few of its own. */
export const MAX_DEVICE_INDEXES = 1024;
/** DMA maps of one device where the kernel does not say: its own limit by default. */
export const MAX_DMA_MAPS = 65_535;
/** What DMA maps and mapped parts of a region are multiples of, bytes. */
export const DMA_PAGE_BYTES = 4096;
/** Base address registers of a function. */
export const MAX_BARS = 6;
/** Memory for a device that one DMA map holds, bytes: a huge page. */
export const DMA_CHUNK_BYTES = 2_097_152;
/** One announcement of the kernel: its own limits are 2048 for the variables and a page for the path, bytes. */
export const MAX_UEVENT_BYTES = 8192;
/** Announcements of the kernel that are looked at before the event loop has its turn again. */
export const MAX_UEVENTS_PER_TURN = 64;
/** What a PCI function's header and capability list take of its configuration space, bytes. */
export const CONFIG_SPACE_BYTES = 256;
/** Between two looks at devices of which nothing tells that they come and go, ms. */
export const HOT_PLUG_POLL_MS = 1000;
/** Sockets in one directory that are taken for devices. */
export const MAX_SOCKETS = 4096;
