/** Control-path events: `diagnostics_channel.subscribe(IAVF_EVENTS_CHANNEL, …)`. Nobody listening, nothing spent. */
import { channel } from 'node:diagnostics_channel';
import type { LinkStatus } from '@emudev/ethdev';
import type { IavfError } from './errors.ts';

export const IAVF_EVENTS_CHANNEL = 'emudev:iavf-pmd';

export type IavfEvent =
  | { readonly type: 'link'; readonly port: string; readonly link: LinkStatus }
  | { readonly type: 'reset'; readonly port: string; readonly by: 'driver' | 'device' }
  /** An EVENT message that has not the form of one. */
  | { readonly type: 'bad-event'; readonly port: string; readonly bytes: number }
  | { readonly type: 'failed'; readonly port: string; readonly error: IavfError };

const events = channel(IAVF_EVENTS_CHANNEL);

export function publish(event: IavfEvent): void {
  events.publish(event);
}
