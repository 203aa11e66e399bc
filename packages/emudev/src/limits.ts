/** Everything that somebody outside can make this package allocate or loop over. */

/** Pairs of one device argument string (DPDK's RTE_KVARGS_MAX). */
export const MAX_ARG_PAIRS = 32;
/** Characters of one device argument string. */
export const MAX_VDEV_TEXT = 4096;
/** Characters of a device name (DPDK's RTE_DEV_NAME_MAX_LEN). */
export const MAX_DEVICE_NAME = 64;
/** Messages a channel holds for a back end that is busy or not there yet. */
export const DEFAULT_CHANNEL_LIMIT = 256;
/** Devices of one registry. */
export const MAX_DEVICES = 1024;
/** How long a back end may take to lock. Longer than it waits for its own lcores (`QUIESCENCE_DEADLINE_MS` of @emudev/dma): who knows more about the fault is heard first. Less than the 5 s that QEMU waits for a reply. */
export const LOCK_DEADLINE_MS = 4000;
/** How long any other hook of a back end may take before the device goes on without it. */
export const HOOK_DEADLINE_MS = 5000;
/** How long a device that is to keep still waits for what a guest's store has begun: longer than one DMA message may take to be answered. */
export const ORDER_DEADLINE_MS = 8000;
/** Orders of a guest that have not begun. */
export const MAX_WAITING_ORDERS = 1024;
/** Least bytes of record space of one event ring. */
export const MIN_EVENT_RING_BYTES = 64;
/** Most bytes of record space of one event ring. */
export const MAX_EVENT_RING_BYTES = 0x100_0000;
/** Bytes of one record of an event ring. */
export const MAX_EVENT_RECORD_BYTES = 65_536;
