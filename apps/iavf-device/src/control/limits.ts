/** What a client of the control socket can make the process hold. */

/** Bytes of one request, its newline not counted: a plug request with dozens of devices is a tenth of it. */
export const MAX_REQUEST_BYTES = 65_536;
/** Clients at a time. */
export const MAX_CLIENTS = 16;
/** Devices, or pairs, in one request. */
export const MAX_LIST = 64;
/** Characters of a request's `id`. */
export const MAX_ID = 128;
/** Connections that wait to be accepted. */
export const BACKLOG = 16;
