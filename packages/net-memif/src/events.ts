/** node:diagnostics_channel on which every `MemifEvent` is published. */
export const MEMIF_CHANNEL = 'emudev:net-memif';

/** What happens to a port by itself. */
export type MemifEvent =
  /** The link is up. */
  | { readonly kind: 'connected'; readonly port: string; readonly peer: string; readonly peerInterface: string }
  /** The link is down, or a peer did not get that far. `reason` is undefined where the peer just went. */
  | { readonly kind: 'disconnected'; readonly port: string; readonly reason: string | undefined }
  /** A peer of a server's socket did not get as far as an interface. */
  | { readonly kind: 'refused'; readonly socket: string; readonly reason: string }
  /** A client cannot reach its server; told when the reason changes. */
  | { readonly kind: 'unreachable'; readonly port: string; readonly reason: string }
  /** An lcore that is to let go of shared memory passes no checkpoint: it stays mapped until it does. */
  | { readonly kind: 'lcore-late'; readonly port: string; readonly reason: string }
  /** A listening socket could not accept, and tries again soon. */
  | { readonly kind: 'accept-failed'; readonly socket: string; readonly reason: string };
