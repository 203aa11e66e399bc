/** Addresses as the command line writes them. Every parser throws an Error that says what a good value looks like. */

/** An IPv4 address as an unsigned 32-bit number. */
export function parseIpv4(text: string): number {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) <= 255)) throw new Error('must be an IPv4 address as in 10.0.2.2');
  return parts.reduce((address, part) => address * 256 + Number(part), 0);
}

export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => String((address >>> shift) & 255)).join('.');
}

export interface Ipv4Network {
  readonly ip: number;
  readonly mask: number;
}

/** ADDRESS/PREFIX; without a prefix /24. */
export function parseIpv4Network(text: string): Ipv4Network {
  const [address = '', prefix = '24', ...more] = text.split('/');
  const bits = /^\d{1,2}$/.test(prefix) ? Number(prefix) : NaN;
  if (!(bits >= 1 && bits <= 30) || more.length > 0) throw new Error('must be an IPv4 address with a prefix of 1 to 30 bits, as in 10.0.2.2/24');
  const ip = parseIpv4(address);
  const mask = (0xffffffff << (32 - bits)) >>> 0;
  const host = (ip & ~mask) >>> 0;
  if (ip >>> 24 === 0 || ip >>> 24 === 127 || ip >>> 24 >= 224 || host === 0 || host === ~mask >>> 0) throw new Error('must be the address of a host, not of a network, a group or a loopback');
  return { ip, mask };
}

/** Sixteen bytes; `::` and the dotted last part are understood. */
export function parseIpv6(text: string): Uint8Array {
  const bad = (): never => {
    throw new Error('must be an IPv6 address as in fd00::2');
  };
  const groups = (part: string): number[] =>
    part === ''
      ? []
      : part.split(':').flatMap((group, i, all) => {
          if (group.includes('.') && i === all.length - 1) {
            const ipv4 = parseIpv4(group);
            return [ipv4 >>> 16, ipv4 & 0xffff];
          }
          return /^[\da-fA-F]{1,4}$/.test(group) ? [Number.parseInt(group, 16)] : [bad()];
        });
  const halves = text.split('::');
  if (halves.length > 2) bad();
  const head = groups(halves[0]!);
  const tail = halves.length === 2 ? groups(halves[1]!) : [];
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) bad();
  const all = [...head, ...new Array<number>(missing).fill(0), ...tail];
  return Uint8Array.from(all.flatMap((group) => [group >>> 8, group & 255]));
}

/** fe80::/64 with the interface identifier made from the MAC (RFC 4291, appendix A). */
export function linkLocalOf(mac: Uint8Array): Uint8Array {
  return Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0]! ^ 2, mac[1]!, mac[2]!, 0xff, 0xfe, mac[3]!, mac[4]!, mac[5]!);
}
