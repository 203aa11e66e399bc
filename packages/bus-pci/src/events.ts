/** What happens on a bus: `diagnostics_channel.subscribe(BUS_CHANNEL, …)`. Nobody listening, nothing spent. */
import { channel } from 'node:diagnostics_channel';
import type { Channel } from 'node:diagnostics_channel';
import type { PciAddress } from './address.ts';

/** Name of the node:diagnostics_channel that `BusEvent`s are published on. */
export const BUS_CHANNEL = 'emudev:bus-pci';

/** A device got a driver, lost it, could not be probed or let go of, has gone, is wanted back; a source could not be scanned or watched. */
export type BusEvent =
  | { readonly type: 'driven' | 'undriven'; readonly address: PciAddress; readonly driver: string }
  | { readonly type: 'failed'; readonly address: PciAddress; readonly error: unknown }
  | { readonly type: 'gone' | 'wanted-back'; readonly address: PciAddress }
  | { readonly type: 'source-failed'; readonly kinds: readonly PciAddress['kind'][]; readonly error: unknown };

const events: Channel = channel(BUS_CHANNEL);

export function publish(event: BusEvent): void {
  if (events.hasSubscribers) events.publish(event);
}
