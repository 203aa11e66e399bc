import type { Burst } from '../burst.ts';

/** What happens to frames between `rxBurst` and `txBurst`. One per stream; it lives in the lcore. */
export interface Engine {
  /** false: the stream does not poll its Rx queue at all. */
  readonly receives: boolean;
  /** true: `run` leaves every frame as long as it was, and all of them to be sent. */
  readonly keepsLengths?: boolean;
  /**
   * Looks at records [0, count) and leaves the frames to send in records [0, result). A frame it does not want to be sent it
   * simply does not keep. `result` greater than `count` means it made frames of its own.
   */
  run(burst: Burst, count: number): number;
}

/** testpmd's forwarding modes, by their names. MAC addresses are six bytes. */
export type EngineSpec =
  /** As they came. */
  | { readonly name: 'io' }
  /** New source and destination address. */
  | { readonly name: 'mac'; readonly source: Uint8Array; readonly destination: Uint8Array }
  /** Source and destination address change places. */
  | { readonly name: 'macswap' }
  /** Receives and drops. */
  | { readonly name: 'rxonly' }
  /** Sends UDP frames of `frameBytes` (without FCS; 60 to 9728, default 60) as fast as they are taken. */
  | { readonly name: 'txonly'; readonly frameBytes?: number; readonly source?: Uint8Array; readonly destination?: Uint8Array }
  /** Answers ARP requests (for any address, with `mac`) and ICMP echo requests in place; drops everything else. */
  | { readonly name: 'icmpecho'; readonly mac: Uint8Array };
/** The name of an engine. */
export type EngineName = EngineSpec['name'];

/** Does it look at and change addresses at most? Then frames may be lent (FRAME_LENT). */
export function keepsPayload({ name }: EngineSpec): boolean {
  return name === 'io' || name === 'mac' || name === 'macswap';
}
