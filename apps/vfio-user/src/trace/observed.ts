/** What the proxy saw, as it is handed to whoever prints or stores it. */
import type { DescriptorInfo } from './descriptors.ts';

export type ChannelName = 'main' | 'twin';
export type Side = 'client' | 'server';

export interface ObservedMessage {
  /** performance.now() when its last byte had come. */
  readonly atMs: number;
  /** Counted from 1, one per client that connected. */
  readonly session: number;
  readonly channel: ChannelName;
  readonly from: Side;
  /** The message, or as much of it as is kept. */
  readonly bytes: Uint8Array;
  /** Its length on the wire. */
  readonly size: number;
  /** whole: header and payload. cut: the stream ended within it, or it is too long to be kept. raw: no message, just bytes. */
  readonly framing: 'whole' | 'cut' | 'raw';
  readonly fds: readonly DescriptorInfo[];
}

export interface TraceObserver {
  opened(session: number, atMs: number): void;
  message(message: ObservedMessage): void;
  /** Passed on all the same. */
  anomaly(session: number, channel: ChannelName, from: Side, what: string, atMs: number): void;
  /** `why`: who ended it, or what went wrong. */
  closed(session: number, why: string, atMs: number): void;
}
