/** Control-path events: `diagnostics_channel.subscribe(IAVF_EVENTS_CHANNEL, …)`. Nobody listening, nothing spent. */
import { channel } from 'node:diagnostics_channel';
import type { LinkStatus } from '@emudev/ethdev';
import type { IavfError } from './errors.ts';

/** Name of the node:diagnostics_channel that `IavfEvent`s are published on. */
export const IAVF_EVENTS_CHANNEL = 'emudev:iavf-pmd';

/** What happens to a port by itself: its link, a reset by either side, an event that cannot be read, its end. */
export type IavfEvent =
  | { readonly type: 'link'; readonly port: string; readonly link: LinkStatus }
  | { readonly type: 'reset'; readonly port: string; readonly by: 'driver' | 'device' }
  /** It copies frames from and to the other ports of the pool it was given: that is full, or (`error`) the device could not be shown it. */
  | { readonly type: 'own-buffers'; readonly port: string; readonly error: unknown }
  /** An EVENT message that has not the form of one. */
  | { readonly type: 'bad-event'; readonly port: string; readonly bytes: number }
  | { readonly type: 'failed'; readonly port: string; readonly error: IavfError };

const events = channel(IAVF_EVENTS_CHANNEL);

export function publish(event: IavfEvent): void {
  events.publish(event);
}
