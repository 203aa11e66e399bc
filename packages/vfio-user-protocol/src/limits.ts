/** Everything a peer can make us allocate or loop over, in one place. */
import { HEADER_BYTES } from './constants.ts';

/** `max_data_xfer_size` announced by default: the largest count of a region or DMA access. */
export const MAX_DATA_XFER_BYTES = 1_048_576;
/** Header, the 16 fixed bytes of an access, and the data. */
export const MAX_FRAME_BYTES: number = HEADER_BYTES + 16 + MAX_DATA_XFER_BYTES;
/** A VERSION message with its JSON; QEMU's has about 214 bytes. */
export const MAX_VERSION_FRAME_BYTES: number = HEADER_BYTES + 4096;
/** `argsz` above this is EINVAL where it sizes a reply. */
export const MAX_ARGSZ_BYTES = 1_048_576;
/** SCM_MAX_FD of the kernel: no message can carry more. */
export const MAX_FDS_PER_MESSAGE = 253;
/** `max_msg_fds` announced by default: QEMU rejects more than 16. */
export const DEFAULT_MAX_MSG_FDS = 16;
/** Largest `max_msg_fds` accepted from a peer; what is sent stays below SCM_MAX_FD anyway. */
export const MAX_ANNOUNCED_MSG_FDS = 1024;
/** `max_dma_maps` announced by default: QEMU rejects more. */
export const DEFAULT_MAX_DMA_MAPS = 65_535;
/** Sparse mmap areas of one region. */
export const MAX_SPARSE_AREAS = 256;
/** Elements of one capability chain. */
export const MAX_REGION_CAPABILITIES = 16;
/** Entries of one REGION_WRITE_MULTI; QEMU collects at most 200. */
export const MAX_WRITE_MULTI = 1024;
/** Vectors of one interrupt index: the size of an MSI-X table. */
export const MAX_IRQ_VECTORS = 2048;
/** Sub-regions of one DEVICE_GET_REGION_IO_FDS reply. */
export const MAX_IO_FD_RECORDS = 1024;
/** Ranges of one DMA_LOGGING_START; the kernel's own limit (LOG_MAX_RANGES) is a page of them. */
export const MAX_DMA_LOGGING_RANGES = 256;
