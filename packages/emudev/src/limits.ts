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
