/**
 * Control-path events on node:diagnostics_channel, e.g.
 * `diagnosticsChannel.subscribe('emudev:vfio-user-server:disconnect', (event) => …)`. No subscriber, no cost.
 */
import { channel, type Channel } from 'node:diagnostics_channel';
import type { EffectiveCapabilities } from '@emudev/vfio-user-protocol';
import type { DisconnectReason } from './errors.ts';

interface SessionEvent {
  readonly device: string;
  /** Counts connections of one server, from 1. */
  readonly session: number;
}
/** A client has completed VERSION: what it announced, and how it is served. */
export interface NegotiatedEvent extends SessionEvent {
  /** Profile the session is served with: 'qemu', 'cloud-hypervisor', 'libvfio-user', 'spdk'. */
  readonly peer: string;
  readonly minor: number;
  readonly capabilities: EffectiveCapabilities;
  /** 'none': the client serves no DMA messages. */
  readonly dmaDialect: 'lvu' | 'qemu' | 'none';
}
/** A command has failed; the client got `errno`. */
export interface RequestErrorEvent extends SessionEvent {
  readonly command: string;
  readonly messageId: number;
  /** What was replied (or would have been, to a posted command). */
  readonly errno: number;
  /** True where the error carried no errno: a defect in a handler, answered EIO. */
  readonly unexpected: boolean;
  readonly error: unknown;
}
/** A session has ended and everything of the client is released. `error` is what ended it, if anything. */
export interface DisconnectEvent extends SessionEvent {
  readonly reason: DisconnectReason;
  readonly error?: unknown;
}
/** Something that belongs to no request: a failing accept, a device that threw from detach or resume, a reply nobody asked for. */
export interface FaultEvent {
  readonly device: string;
  readonly session?: number;
  readonly what: string;
  readonly error?: unknown;
}

/** Events by name: each is published on the node:diagnostics_channel `emudev:vfio-user-server:NAME`. */
export interface ServerEvents {
  connect: SessionEvent;
  negotiated: NegotiatedEvent;
  'request-error': RequestErrorEvent;
  disconnect: DisconnectEvent;
  fault: FaultEvent;
}

const named = (name: string): Channel => channel(`emudev:vfio-user-server:${name}`);
const CHANNELS: Readonly<Record<keyof ServerEvents, Channel>> = {
  connect: named('connect'),
  negotiated: named('negotiated'),
  'request-error': named('request-error'),
  disconnect: named('disconnect'),
  fault: named('fault'),
};

export function publish<K extends keyof ServerEvents>(name: K, event: ServerEvents[K]): void {
  const to = CHANNELS[name];
  if (to.hasSubscribers) to.publish(event);
}
