import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseIpv4 } from '../src/address.ts';
import { BROADCAST_MAC, GUEST_MAC, HOST_IP, at16, at32, bytes, check, ethernet, ipv4, u32, udp4 } from './fixtures/packets.ts';
import { Talk } from './fixtures/talk.ts';

let talk: Talk;
beforeEach(async () => {
  talk = await Talk.start({ dhcp: { first: parseIpv4('10.0.2.15'), last: parseIpv4('10.0.2.17') }, mtu: 1400, dns: parseIpv4('10.0.2.3'), lease: 600 });
});
afterEach(async () => {
  await talk[Symbol.asyncDispose]();
});

const [DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM] = [1, 2, 3, 4, 5, 6, 7, 8];
const ip = (text: string): number[] => text.split('.').map(Number);
interface Message {
  readonly mac?: readonly number[];
  readonly requested?: string;
  readonly server?: readonly number[];
  readonly current?: string;
  readonly broadcast?: boolean;
  readonly relay?: string;
}
const clientMac = (n: number): number[] => [0x52, 0x54, 0, 0, 0, n];

function message(type: number, m: Message = {}): Uint8Array {
  const current = ip(m.current ?? '0.0.0.0');
  const options = [53, 1, type, ...(m.requested ? [50, 4, ...ip(m.requested)] : []), ...(m.server ? [54, 4, ...m.server] : []), 0, 55, 3, 1, 3, 6, 255];
  const mac = m.mac ?? GUEST_MAC;
  const body = bytes(1, 1, 6, 0, u32(0xabcd1234), 0, 3, m.broadcast ? 0x80 : 0, 0, current, [0, 0, 0, 0], [0, 0, 0, 0], ip(m.relay ?? '0.0.0.0'), mac, new Array<number>(10 + 192).fill(0), u32(0x63825363), options);
  const destination = m.current ? HOST_IP : [255, 255, 255, 255];
  return ethernet(0x0800, ipv4(17, udp4(68, 67, body, current, destination), { source: current, destination }), { to: BROADCAST_MAC, from: mac });
}

interface Reply {
  readonly type: number;
  readonly address: string;
  readonly options: Map<number, number[]>;
  readonly to: number[];
  readonly destination: string;
}
function ask(type: number, m: Message = {}): Reply | undefined {
  const answer = talk.ask(message(type, m));
  if (answer === undefined) return undefined;
  const { l4, to, destination } = check(answer);
  expect([at16(l4, 0), at16(l4, 2), l4[8], at32(l4, 12)]).toEqual([67, 68, 2, 0xabcd1234]);
  expect([...l4.slice(8 + 28, 8 + 34)]).toEqual([...(m.mac ?? GUEST_MAC)]);
  expect(l4.length).toBeGreaterThanOrEqual(308);
  const options = new Map<number, number[]>();
  for (let at = 8 + 240; l4[at] !== 255; at += 2 + l4[at + 1]!) options.set(l4[at]!, [...l4.slice(at + 2, at + 2 + l4[at + 1]!)]);
  return { type: options.get(53)![0]!, address: [...l4.slice(24, 28)].join('.'), options, to, destination: destination.join('.') };
}
const lease = (n: number): string => {
  const offered = ask(DISCOVER!, { mac: clientMac(n) })!;
  expect(ask(REQUEST!, { mac: clientMac(n), requested: offered.address, server: HOST_IP })).toMatchObject({ type: ACK, address: offered.address });
  return offered.address;
};

describe('a lease', () => {
  test('discover, offer, request, acknowledgement, with everything a client needs', () => {
    const offer = ask(DISCOVER!)!;
    expect(offer).toMatchObject({ type: OFFER, address: '10.0.2.15', to: GUEST_MAC, destination: '10.0.2.15' });
    const ack = ask(REQUEST!, { requested: '10.0.2.15', server: HOST_IP })!;
    expect(ack).toMatchObject({ type: ACK, address: '10.0.2.15' });
    expect(Object.fromEntries(ack.options)).toEqual({ 53: [ACK], 54: HOST_IP, 51: [0, 0, 2, 88], 1: [255, 255, 255, 0], 3: HOST_IP, 6: [10, 0, 2, 3], 26: [5, 120] });
  });

  test('a client that cannot be reached yet is answered by broadcast', () => {
    expect(ask(DISCOVER!, { broadcast: true })).toMatchObject({ to: BROADCAST_MAC, destination: '255.255.255.255' });
  });

  test('is renewed at the address it is used at; a stranger asking for it is refused', () => {
    const address = lease(1);
    expect(ask(REQUEST!, { mac: clientMac(1), current: address })).toMatchObject({ type: ACK, destination: address });
    expect(ask(REQUEST!, { mac: clientMac(2), requested: address })).toMatchObject({ type: NAK, address: '0.0.0.0', to: BROADCAST_MAC });
    expect(ask(REQUEST!, { mac: clientMac(2), requested: '192.168.0.9' })).toMatchObject({ type: NAK });
  });

  test('is the same again after the port was restarted', async () => {
    const address = lease(2);
    await talk.reopen();
    expect(ask(DISCOVER!, { mac: clientMac(2) })).toMatchObject({ address });
    expect(ask(REQUEST!, { mac: clientMac(2), requested: address })).toMatchObject({ type: ACK });
  });

  test('of a wanted address is granted when it is free', () => {
    expect(ask(DISCOVER!, { requested: '10.0.2.17' })).toMatchObject({ address: '10.0.2.17' });
    expect(ask(DISCOVER!, { mac: clientMac(9), requested: '10.0.2.17' })!.address).not.toBe('10.0.2.17');
  });
});

describe('the range', () => {
  test('holds one client per address; when it is full nobody is answered, and that is counted', () => {
    expect(new Set([lease(1), lease(2), lease(3)]).size).toBe(3);
    expect(ask(DISCOVER!, { mac: clientMac(4) })).toBeUndefined();
    expect(talk.count('dhcp_no_address')).toBe(1n);
    // Known clients still are.
    expect(ask(DISCOVER!, { mac: clientMac(2) })).toMatchObject({ type: OFFER });
  });

  test('an address released goes to somebody else only when no other is free', () => {
    const first = lease(1);
    talk.ask(message(RELEASE!, { mac: clientMac(1), current: first, server: HOST_IP }));
    expect(lease(2)).not.toBe(first);
    expect(lease(3)).not.toBe(first);
    expect(lease(4)).toBe(first);
  });

  test('nobody releases the address of another', () => {
    const first = lease(1);
    talk.ask(message(RELEASE!, { mac: clientMac(2), current: first, server: HOST_IP }));
    expect(ask(REQUEST!, { mac: clientMac(2), requested: first })).toMatchObject({ type: NAK });
  });

  test('an address that its client declines is not given out', () => {
    const first = lease(1);
    talk.ask(message(DECLINE!, { mac: clientMac(1), requested: first, server: HOST_IP }));
    expect([lease(1), lease(2)]).not.toContain(first);
    expect(ask(DISCOVER!, { mac: clientMac(3) })).toBeUndefined();
  });

  test('an offer is given back when the client takes the one of another server', () => {
    for (const n of [1, 2, 3]) ask(DISCOVER!, { mac: clientMac(n) });
    expect(ask(DISCOVER!, { mac: clientMac(4) })).toBeUndefined();
    expect(ask(REQUEST!, { mac: clientMac(2), requested: '10.0.9.9', server: [10, 0, 9, 1] })).toBeUndefined();
    expect(ask(DISCOVER!, { mac: clientMac(4) })).toMatchObject({ type: OFFER });
  });
});

test('INFORM is told everything but an address', () => {
  const ack = ask(INFORM!, { current: '10.0.2.200' })!;
  expect(ack).toMatchObject({ type: ACK, address: '0.0.0.0', destination: '10.0.2.200' });
  expect(ack.options.has(51)).toBe(false);
});

test('relayed clients and group addresses are not served', () => {
  expect(ask(DISCOVER!, { relay: '10.0.2.9' })).toBeUndefined();
  expect(talk.ask(message(DISCOVER!, { mac: [0, 0, 0, 0, 0, 0] }))).toBeUndefined();
});
