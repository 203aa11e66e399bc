/** Numbers of the wire, spelled as in the vfio-user specification and linux/vfio.h so that grep finds them everywhere. */

// Commands (message header, bytes 2..3).

/** Command 1, client to server: version and capabilities; the first message. */
export const VFIO_USER_VERSION = 1;
/** Command 2, client to server: memory the device may use. */
export const VFIO_USER_DMA_MAP = 2;
/** Command 3, client to server: memory the device may no longer use. */
export const VFIO_USER_DMA_UNMAP = 3;
/** Command 4, client to server: what kind of device, and how many regions and interrupt indexes. */
export const VFIO_USER_DEVICE_GET_INFO = 4;
/** Command 5, client to server: size and access of one region. */
export const VFIO_USER_DEVICE_GET_REGION_INFO = 5;
/** Command 6, client to server: descriptors that stand for writes into a region. */
export const VFIO_USER_DEVICE_GET_REGION_IO_FDS = 6;
/** Command 7, client to server: vectors of one interrupt index. */
export const VFIO_USER_DEVICE_GET_IRQ_INFO = 7;
/** Command 8, client to server: connects, fires, masks and unmasks vectors. */
export const VFIO_USER_DEVICE_SET_IRQS = 8;
/** Command 9, client to server: reads from a region. */
export const VFIO_USER_REGION_READ = 9;
/** Command 10, client to server: writes to a region. */
export const VFIO_USER_REGION_WRITE = 10;
/** Command 11, server to client: reads the client's memory. */
export const VFIO_USER_DMA_READ = 11;
/** Command 12, server to client: writes the client's memory. */
export const VFIO_USER_DMA_WRITE = 12;
/** Command 13, client to server: function reset. */
export const VFIO_USER_DEVICE_RESET = 13;
/** Command 15, client to server: several small writes in order. (14 was USER_DIRTY_PAGES until 2023; DEVICE_FEATURE 6..8 replaced it, and nobody answers it any more.) */
export const VFIO_USER_REGION_WRITE_MULTI = 15;
/** Command 16, client to server: probes, gets or sets a feature of linux/vfio.h. */
export const VFIO_USER_DEVICE_FEATURE = 16;
/** Command 17, client to server: the next piece of the device's state. */
export const VFIO_USER_MIG_DATA_READ = 17;
/** Command 18, client to server: a piece of state for the device. */
export const VFIO_USER_MIG_DATA_WRITE = 18;

// Header flags (bytes 8..11).

/** Header flags, bits 0..3: the message type. */
export const VFIO_USER_F_TYPE_MASK = 0x0f;
/** Header flags: a command. */
export const VFIO_USER_F_TYPE_COMMAND = 0;
/** Header flags: a reply. */
export const VFIO_USER_F_TYPE_REPLY = 1;
/** Header flags, bit 4: the sender of this command wants no reply. */
export const VFIO_USER_F_NO_REPLY = 0x10;
/** Header flags, bit 5: the command failed; the header's error field says why. */
export const VFIO_USER_F_ERROR = 0x20;

/** Every message begins with a header of this many bytes. */
export const HEADER_BYTES = 16;

/** Major version of the protocol spoken here; another one cannot be talked to. */
export const VFIO_USER_MAJOR = 0;
/** Minor version spoken here: 0.2 (0.1 Rust peers, 0.0 QEMU). */
export const VFIO_USER_MINOR = 2;

// DEVICE_GET_INFO flags.

/** DEVICE_GET_INFO flags: DEVICE_RESET works. */
export const VFIO_DEVICE_FLAGS_RESET = 1;
/** DEVICE_GET_INFO flags: a PCI device. */
export const VFIO_DEVICE_FLAGS_PCI = 2;

// DEVICE_GET_REGION_INFO flags, indexes and capabilities.

/** DEVICE_GET_REGION_INFO flags: the region can be read. */
export const VFIO_REGION_INFO_FLAG_READ = 1;
/** DEVICE_GET_REGION_INFO flags: the region can be written. */
export const VFIO_REGION_INFO_FLAG_WRITE = 2;
/** DEVICE_GET_REGION_INFO flags: the region, or parts of it, can be mapped. */
export const VFIO_REGION_INFO_FLAG_MMAP = 4;
/** DEVICE_GET_REGION_INFO flags: a capability chain follows the fixed part. */
export const VFIO_REGION_INFO_FLAG_CAPS = 8;

/** Region index of BAR 0; BAR n is index n. */
export const VFIO_PCI_BAR0_REGION_INDEX = 0;
/** Region index of BAR 5. */
export const VFIO_PCI_BAR5_REGION_INDEX = 5;
/** Region index of the expansion ROM. */
export const VFIO_PCI_ROM_REGION_INDEX = 6;
/** Region index of configuration space. */
export const VFIO_PCI_CONFIG_REGION_INDEX = 7;
/** Region index of the legacy VGA ranges. */
export const VFIO_PCI_VGA_REGION_INDEX = 8;
/** Fixed region indexes of a PCI device; device-specific regions follow. */
export const VFIO_PCI_NUM_REGIONS = 9;

/** Region capability 1: the parts of the region that can be mapped. */
export const VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1;
/** Region capability 2: type and subtype of a device-specific region. */
export const VFIO_REGION_INFO_CAP_TYPE = 2;
/** Region capability 3: the MSI-X table may be mapped along with the rest. */
export const VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3;

// DEVICE_GET_IRQ_INFO flags and indexes.

/** DEVICE_GET_IRQ_INFO flags: vectors can be signalled through eventfds. */
export const VFIO_IRQ_INFO_EVENTFD = 1;
/** DEVICE_GET_IRQ_INFO flags: vectors can be masked and unmasked. */
export const VFIO_IRQ_INFO_MASKABLE = 2;
/** DEVICE_GET_IRQ_INFO flags: signalling a vector masks it (INTx). */
export const VFIO_IRQ_INFO_AUTOMASKED = 4;
/** DEVICE_GET_IRQ_INFO flags: vectors are enabled as one set; to add one, all have to be disabled first. */
export const VFIO_IRQ_INFO_NORESIZE = 8;

/** Interrupt index of INTx. */
export const VFIO_PCI_INTX_IRQ_INDEX = 0;
/** Interrupt index of MSI. */
export const VFIO_PCI_MSI_IRQ_INDEX = 1;
/** Interrupt index of MSI-X. */
export const VFIO_PCI_MSIX_IRQ_INDEX = 2;
/** Interrupt index of the error that the device cannot recover from; one vector. */
export const VFIO_PCI_ERR_IRQ_INDEX = 3;
/** Interrupt index of the device's request to be given back; one vector. */
export const VFIO_PCI_REQ_IRQ_INDEX = 4;
/** Interrupt indexes of a PCI device. */
export const VFIO_PCI_NUM_IRQS = 5;

// DEVICE_SET_IRQS flags.

/** DEVICE_SET_IRQS flags: the action is for every vector of the range. */
export const VFIO_IRQ_SET_DATA_NONE = 1;
/** DEVICE_SET_IRQS flags: one byte per vector says whether the action is for it. */
export const VFIO_IRQ_SET_DATA_BOOL = 2;
/** DEVICE_SET_IRQS flags: one eventfd per vector comes along, or none to take them away. */
export const VFIO_IRQ_SET_DATA_EVENTFD = 4;
/** DEVICE_SET_IRQS flags: the bits of which exactly one says what data there is. */
export const VFIO_IRQ_SET_DATA_TYPE_MASK = 7;
/** DEVICE_SET_IRQS flags: hold vectors back. */
export const VFIO_IRQ_SET_ACTION_MASK = 8;
/** DEVICE_SET_IRQS flags: let vectors through again, and deliver what came meanwhile. */
export const VFIO_IRQ_SET_ACTION_UNMASK = 16;
/** DEVICE_SET_IRQS flags: fire, or with eventfds: connect. */
export const VFIO_IRQ_SET_ACTION_TRIGGER = 32;
/** DEVICE_SET_IRQS flags: the bits of which exactly one says what to do. */
export const VFIO_IRQ_SET_ACTION_TYPE_MASK = 0x38;

// DMA_MAP / DMA_UNMAP flags.

/** DMA_MAP flags: the device may read. */
export const VFIO_DMA_MAP_FLAG_READ = 1;
/** DMA_MAP flags: the device may write. */
export const VFIO_DMA_MAP_FLAG_WRITE = 2;
/** DMA_MAP flags: the server is to map the descriptor that came along. */
export const VFIO_USER_F_DMA_REGION_MMAP = 4;
/** DMA_MAP flags: the server is to use pread and pwrite on the descriptor that came along. */
export const VFIO_USER_F_DMA_REGION_FILE_IO = 8;
/** DMA_UNMAP flags: the reply is to say which pages were written. */
export const VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP = 1;
/** DMA_UNMAP flags: everything; address and size are 0. */
export const VFIO_DMA_UNMAP_FLAG_ALL = 2;

// DEVICE_FEATURE flags and numbers.

/** DEVICE_FEATURE flags, bits 0..15: the number of the feature. */
export const VFIO_DEVICE_FEATURE_MASK = 0xffff;
/** DEVICE_FEATURE flags: read the feature. */
export const VFIO_DEVICE_FEATURE_GET = 0x10000;
/** DEVICE_FEATURE flags: write the feature. */
export const VFIO_DEVICE_FEATURE_SET = 0x20000;
/** DEVICE_FEATURE flags: ask only whether the operations given along are possible. */
export const VFIO_DEVICE_FEATURE_PROBE = 0x40000;
/** Feature 1, GET: how the device can be migrated (VFIO_MIGRATION_*). */
export const VFIO_DEVICE_FEATURE_MIGRATION = 1;
/** Feature 2, GET and SET: the migration state the device is in. */
export const VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2;
/** Feature 6, SET: begin to log the pages the device writes. */
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6;
/** Feature 7, SET: end the log. */
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7;
/** Feature 8, GET: which pages of a range were written; they are clean afterwards. */
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8;
/** MIGRATION flags: the state can be read while the device is stopped. */
export const VFIO_MIGRATION_STOP_COPY = 1;
/** MIGRATION flags: the states in which the device answers others and starts nothing exist. */
export const VFIO_MIGRATION_P2P = 2;
/** MIGRATION flags: the state can be read while the device runs, too. */
export const VFIO_MIGRATION_PRE_COPY = 4;

// GET_REGION_IO_FDS sub-region types.

/** Sub-region type 0: an eventfd, signalled at a write (KVM_IOEVENTFD). */
export const VFIO_USER_IO_FD_TYPE_IOEVENTFD = 0;
/** Sub-region type 1: a socket on which reads and writes arrive as commands (never merged in Linux). */
export const VFIO_USER_IO_FD_TYPE_IOREGIONFD = 1;
/** Sub-region type 2: an eventfd, and a file in which the value written is found (libvfio-user's extension). */
export const VFIO_USER_IO_FD_TYPE_IOEVENTFD_SHADOW = 2;

// Linux errno values that travel in error replies.

/** Operation not permitted (errno(3); so for the numbers that follow). */
export const EPERM = 1;
/** No such file or directory; here: no such mapping. */
export const ENOENT = 2;
/** Input/output error: what an error without a number becomes. */
export const EIO = 5;
/** Argument list too long; here: more bytes than max_data_xfer_size. */
export const E2BIG = 7;
/** Permission denied. */
export const EACCES = 13;
/** Bad address. */
export const EFAULT = 14;
/** Device or resource busy. */
export const EBUSY = 16;
/** File exists; here: an overlapping mapping. */
export const EEXIST = 17;
/** No such device. */
export const ENODEV = 19;
/** Invalid argument: the usual answer to a bad request. */
export const EINVAL = 22;
/** No space left. */
export const ENOSPC = 28;
/** Function not implemented. */
export const ENOSYS = 38;
/** Protocol error. */
export const EPROTO = 71;
/** Operation not supported. */
export const EOPNOTSUPP = 95;
/** Not connected. */
export const ENOTCONN = 107;
/** Timed out. */
export const ETIMEDOUT = 110;
/** Largest errno the kernel can produce (MAX_ERRNO); anything above, or 0 with the Error flag, reads as EINVAL. */
export const MAX_ERRNO = 4095;
