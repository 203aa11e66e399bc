/**
 * Serves any `PciDevice` of @emudev/pci over vfio-user: sessions, DMA table, interrupts, reset. Made for stock QEMU (10.1 and
 * later) and Cloud Hypervisor; tested against hostile clients.
 *
 * Reading order: `server.ts` (listening), `session.ts` (one client, state table), `commands.ts` (what each command does).
 *
 * @packageDocumentation
 */
export { inheritedSocketKind, listenFds, type InheritedSocket } from './activation.ts';
export { VfioUserServer, type AllowedPeers, type SessionObserver, type VfioUserServerOptions } from './server.ts';
export type { SessionCounters, SessionState, SessionView } from './session.ts';
export { VfioUserServerError, type DisconnectReason, type ServerErrorCode } from './errors.ts';
export { DEFAULT_LIMITS, type ServerLimits } from './limits.ts';
export type { DisconnectEvent, FaultEvent, NegotiatedEvent, RequestErrorEvent, ServerEvents } from './events.ts';
