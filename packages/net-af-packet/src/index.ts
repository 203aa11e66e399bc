/**
 * The packet-socket port: frames to and from a network interface that exists, by packet sockets whose rings of received frames lie in the
 * window. The kernel's own stack goes on seeing what the interface receives.
 *
 * @packageDocumentation
 */
export { AF_PACKET_GONE_CHANNEL, AfPacketPort, driver, type AfPacketArgs } from './port.ts';
export * from './limits.ts';
