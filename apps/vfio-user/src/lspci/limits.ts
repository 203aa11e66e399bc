/** What a device can make the decoder print, in one place. */

/** Text of one configuration space; a real card's is below 32 KiB. */
export const MAX_LSPCI_CHARS = 1_048_576;
