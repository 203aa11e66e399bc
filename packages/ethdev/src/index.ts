/**
 * The network port class: bursts, ports, lcores, forwarding engines.
 *
 * @packageDocumentation
 */
export * from './burst.ts';
export * from './port.ts';
