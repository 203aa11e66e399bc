import type { Host } from './host.ts';

const ARP_BYTES = 28;

/** RFC 826, with RFC 5227: an address probe for ours is answered (the address is taken), everything not asking for us is not. */
export function answerArp(host: Host, frame: number, arp: number, end: number): number {
  const { view, u8, init } = host;
  if (end - arp < ARP_BYTES) {
    host.count('malformed');
    return 0;
  }
  // Ethernet and IPv4, 6 and 4 byte addresses, request.
  if (view.getUint32(arp) !== 0x00010800 || view.getUint32(arp + 4) !== 0x06040001) return 0;
  if (view.getUint32(arp + 24) !== init.ip) {
    host.count('not_for_us');
    return 0;
  }
  host.turnAround(frame);
  view.setUint16(arp + 6, 2);
  const sender = view.getUint32(arp + 14);
  for (let i = 0; i < 6; i++) {
    u8[arp + 18 + i] = u8[arp + 8 + i]!;
    u8[arp + 8 + i] = init.mac[i]!;
  }
  view.setUint32(arp + 14, init.ip);
  view.setUint32(arp + 24, sender);
  host.count('arp_replies');
  return arp + ARP_BYTES - frame;
}
