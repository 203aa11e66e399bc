/** Control-path events: `diagnostics_channel.subscribe(CHANNEL, …)`. Nobody listening, nothing spent. */
import { channel } from 'node:diagnostics_channel';
import type { Channel } from 'node:diagnostics_channel';
import type { Closed } from './connection.ts';
import type { ReconnectEvent } from './reconnect.ts';

/** Name of the node:diagnostics_channel that `ClientEvent`s are published on. */
export const CHANNEL = 'emudev:vfio-user-client';

/** A request sent, a message received, a reconnect's progress, the end: `command` and `flags` are numbers of the vfio-user header. */
export type ClientEvent =
  | { readonly type: 'request'; readonly command: number; readonly payloadBytes: number; readonly fds: number; readonly posted: boolean }
  | { readonly type: 'frame'; readonly id: number; readonly command: number; readonly flags: number; readonly error: number; readonly payloadBytes: number; readonly fds: number }
  | { readonly type: 'reconnect'; readonly event: ReconnectEvent }
  | { readonly type: 'closed'; readonly closed: Closed };

export const events: Channel = channel(CHANNEL);

export function publish(event: ClientEvent): void {
  events.publish(event);
}
