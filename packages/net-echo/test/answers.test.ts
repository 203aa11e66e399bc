import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FRAME_RX_VLAN } from '@emudev/ethdev';
import {
  BROADCAST_MAC, GUEST_IP, GUEST_IP6, GUEST_MAC, HOST_IP, HOST_IP6, HOST_LINK_LOCAL, HOST_MAC, at16, at32, bytes, check, ethernet, icmp4, icmp6, ipv4, ipv6, tcp, u16, u32, udp4, udp6,
} from './fixtures/packets.ts';
import { Talk } from './fixtures/talk.ts';

let talk: Talk;
beforeAll(async () => {
  talk = await Talk.start({ mtu: 9000 });
});
afterAll(async () => {
  await talk[Symbol.asyncDispose]();
});

const arpRequest = (target: readonly number[], sender: readonly number[] = GUEST_IP) =>
  ethernet(0x0806, bytes(0, 1, 8, 0, 6, 4, 0, 1, GUEST_MAC, sender, [0, 0, 0, 0, 0, 0], target), { to: BROADCAST_MAC });
const SOLICITED_NODE = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2];
const UNSPECIFIED = new Array<number>(16).fill(0);
const solicitation = (target: readonly number[], source = GUEST_IP6, hops = 255) =>
  ethernet(0x86dd, ipv6(58, icmp6(135, bytes(0, 0, 0, 0, target, 1, 1, GUEST_MAC), source, SOLICITED_NODE), source, SOLICITED_NODE, hops), { to: [0x33, 0x33, 0xff, 0, 0, 2] });

describe('ARP', () => {
  test('a request for the host is answered, one for somebody else is not', () => {
    const answer = check(talk.ask(arpRequest(HOST_IP))!);
    expect([answer.to, answer.source, answer.destination]).toEqual([GUEST_MAC, HOST_IP, GUEST_IP]);
    expect([...answer.l3.slice(8, 14)]).toEqual(HOST_MAC);
    expect(talk.ask(arpRequest([10, 0, 2, 3]))).toBeUndefined();
  });
  test('a probe for the host (sender 0.0.0.0) hears that the address is taken', () => {
    expect(check(talk.ask(arpRequest(HOST_IP, [0, 0, 0, 0]))!).source).toEqual(HOST_IP);
  });
});

describe('ping', () => {
  test('any size up to the largest frame, IPv4 with options and IPv6, tagged or not', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 9600 }), fc.boolean(), fc.array(fc.nat(0xffff), { maxLength: 2 }), fc.integer({ min: 0, max: 10 }), (size, six, tags, words) => {
        const payload = bytes(u16(1), u16(2), Array.from({ length: size }, (_, i) => (i * 31) & 255));
        const frame = six
          ? ethernet(0x86dd, ipv6(58, icmp6(128, payload)), { tags })
          : ethernet(0x0800, ipv4(1, icmp4(8, payload), { options: new Array<number>(words * 4).fill(1) }), { tags });
        const answer = check(talk.ask(frame)!);
        expect(answer.to).toEqual(GUEST_MAC);
        expect(answer.tags).toEqual(tags);
        expect(answer.source).toEqual(six ? HOST_IP6 : HOST_IP);
        expect(answer.l4[0]).toBe(six ? 129 : 0);
        expect(Buffer.compare(answer.l4.slice(4), payload)).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  test('a tag that the sender took off is on the answer', () => {
    const answer = talk.ask(ethernet(0x0800, ipv4(1, icmp4(8, [0, 1, 0, 1]))), { flags: FRAME_RX_VLAN, vlanTci: 0x2064 });
    expect(check(answer!).tags).toEqual([0x2064]);
  });

  test.each<[string, Uint8Array]>([
    ['a wrong ICMP checksum', ethernet(0x0800, ipv4(1, bytes(8, 0, 1, 1, 0, 1, 0, 1)))],
    ['a fragment', ethernet(0x0800, ipv4(1, icmp4(8, [0, 1, 0, 1]), { fragment: 0x2000 }))],
    ['another address', ethernet(0x0800, ipv4(1, icmp4(8, [0, 1, 0, 1]), { destination: [10, 0, 2, 3] }))],
    ['the broadcast address', ethernet(0x0800, ipv4(1, icmp4(8, [0, 1, 0, 1]), { destination: [10, 0, 2, 255] }), { to: BROADCAST_MAC })],
    ['the host in a broadcast frame', ethernet(0x0800, ipv4(1, icmp4(8, [0, 1, 0, 1])), { to: BROADCAST_MAC })],
    ['from a group', ethernet(0x0800, ipv4(1, icmp4(8, [0, 1, 0, 1]), { source: [224, 0, 0, 1] }))],
    ['from the host itself', ethernet(0x0800, ipv4(1, icmp4(8, [0, 1, 0, 1]), { source: HOST_IP }))],
    ['from a group MAC', ethernet(0x0800, ipv4(1, icmp4(8, [0, 1, 0, 1])), { from: [1, 0, 0, 0, 0, 1] })],
    ['another MAC', ethernet(0x0800, ipv4(1, icmp4(8, [0, 1, 0, 1])), { to: [2, 0, 0, 0, 0, 9] })],
    ['three tags', ethernet(0x0800, ipv4(1, icmp4(8, [0, 1, 0, 1])), { tags: [1, 2, 3] })],
    ['an echo reply', ethernet(0x0800, ipv4(1, icmp4(0, [0, 1, 0, 1])))],
  ])('%s is not answered', (_, frame) => {
    expect(talk.ask(frame)).toBeUndefined();
  });
});

describe('neighbour discovery', () => {
  test.each([['global', HOST_IP6], ['link-local', HOST_LINK_LOCAL]])('a solicitation for the %s address', (_, target) => {
    const answer = check(talk.ask(solicitation(target))!);
    expect([answer.to, answer.source, answer.destination]).toEqual([GUEST_MAC, target, GUEST_IP6]);
    expect([answer.l3[7], answer.l4[0], at32(answer.l4, 4)]).toEqual([255, 136, 0x60000000]);
    expect([...answer.l4.slice(8, 24)]).toEqual(target);
    expect([...answer.l4.slice(24)]).toEqual([2, 1, ...HOST_MAC]);
  });
  test('an address probe from :: is answered to all nodes, unsolicited', () => {
    const answer = check(talk.ask(solicitation(HOST_IP6, UNSPECIFIED))!);
    expect(answer.to).toEqual([0x33, 0x33, 0, 0, 0, 1]);
    expect(answer.destination).toEqual([0xff, 2, ...new Array<number>(13).fill(0), 1]);
    expect(at32(answer.l4, 4)).toBe(0x20000000);
  });
  test('what has crossed a router is not believed; other addresses are not ours', () => {
    expect(talk.ask(solicitation(HOST_IP6, GUEST_IP6, 254))).toBeUndefined();
    expect(talk.ask(solicitation(GUEST_IP6))).toBeUndefined();
  });
  test('a router solicitation hears a prefix and an MTU, but no default router', () => {
    const all = [0xff, 2, ...new Array<number>(13).fill(0), 2];
    const answer = check(talk.ask(ethernet(0x86dd, ipv6(58, icmp6(133, [0, 0, 0, 0], GUEST_IP6, all), GUEST_IP6, all, 255), { to: [0x33, 0x33, 0, 0, 0, 2] }))!);
    expect([answer.source, answer.l4[0], at16(answer.l4, 6)]).toEqual([HOST_LINK_LOCAL, 134, 0]);
    const prefix = answer.l4.slice(24, 56);
    expect([prefix[0], prefix[1], prefix[2], prefix[3]]).toEqual([3, 4, 64, 0xc0]);
    expect([...prefix.slice(16)]).toEqual([...HOST_IP6.slice(0, 8), 0, 0, 0, 0, 0, 0, 0, 0]);
    expect([answer.l4[56], at32(answer.l4, 60)]).toEqual([5, 9000]);
  });
});

describe('UDP', () => {
  test('port 7 echoes, any size, with and without a checksum', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 9000 }), fc.boolean(), fc.boolean(), (size, six, plain) => {
        const payload = Array.from({ length: size }, (_, i) => (i * 7) & 255);
        const segment = six ? udp6(4000, 7, payload) : udp4(4000, 7, payload);
        if (plain && !six) segment.set([0, 0], 6);
        const answer = check(talk.ask(six ? ethernet(0x86dd, ipv6(17, segment)) : ethernet(0x0800, ipv4(17, segment)))!);
        expect([at16(answer.l4, 0), at16(answer.l4, 2)]).toEqual([7, 4000]);
        expect(Buffer.compare(answer.l4.slice(8), Uint8Array.from(payload))).toBe(0);
      }),
      { numRuns: 40 },
    );
  });
  test('port 9 discards, and counts', () => {
    const before = talk.count('udp_discarded');
    expect(talk.ask(ethernet(0x0800, ipv4(17, udp4(4000, 9, [1, 2, 3]))))).toBeUndefined();
    expect(talk.count('udp_discarded')).toBe(before + 1n);
  });
  test('two echo servers do not start a loop', () => {
    expect(talk.ask(ethernet(0x0800, ipv4(17, udp4(7, 7, [1]))))).toBeUndefined();
    expect(talk.ask(ethernet(0x86dd, ipv6(17, udp6(7, 7, [1]))))).toBeUndefined();
  });
  test('a closed port is unreachable, with the packet quoted', () => {
    const request = ipv4(17, udp4(4000, 53, [1, 2, 3, 4]));
    const answer = check(talk.ask(ethernet(0x0800, request))!);
    expect([answer.protocol, answer.l4[0], answer.l4[1]]).toEqual([1, 3, 3]);
    expect([...answer.l4.slice(8)]).toEqual([...request.slice(0, 28)]);
  });
  test('wrong sums and lengths are not answered', () => {
    const damaged = udp4(4000, 7, [1, 2, 3, 4]);
    damaged[9]! ^= 1;
    const long = udp4(4000, 7, [1, 2, 3, 4]);
    long.set(u16(13), 4);
    const no6sum = udp6(4000, 7, [1]);
    no6sum.set([0, 0], 6);
    expect([ethernet(0x0800, ipv4(17, damaged)), ethernet(0x0800, ipv4(17, long)), ethernet(0x86dd, ipv6(17, no6sum))].map((frame) => talk.ask(frame))).toEqual([undefined, undefined, undefined]);
  });
});

describe('TCP', () => {
  test.each([false, true])('a SYN is reset, acknowledged (IPv6: %s)', (six) => {
    const segment = tcp(2, 1000, 0, [], six);
    const answer = check(talk.ask(six ? ethernet(0x86dd, ipv6(6, segment)) : ethernet(0x0800, ipv4(6, segment)))!);
    expect([at16(answer.l4, 0), at16(answer.l4, 2), at32(answer.l4, 4), at32(answer.l4, 8), answer.l4[13]]).toEqual([80, 40000, 0, 1001, 0x14]);
  });
  test('a segment that acknowledges is reset at what it acknowledges; a reset is left alone', () => {
    const answer = check(talk.ask(ethernet(0x0800, ipv4(6, tcp(0x18, 5, 777, [1, 2, 3]))))!);
    expect([at32(answer.l4, 4), answer.l4[13], answer.l4.length]).toEqual([777, 4, 20]);
    expect(talk.ask(ethernet(0x0800, ipv4(6, tcp(4, 5, 0, []))))).toBeUndefined();
  });
});

describe('whatever comes', () => {
  const sound = [
    arpRequest(HOST_IP),
    ethernet(0x0800, ipv4(1, icmp4(8, bytes(u32(0x10002), new Uint8Array(40))))),
    ethernet(0x0800, ipv4(17, udp4(4000, 7, new Uint8Array(30)))),
    ethernet(0x0800, ipv4(17, udp4(4000, 53, new Uint8Array(30)), { options: [1, 1, 1, 0] })),
    ethernet(0x0800, ipv4(6, tcp(2, 1, 0, [1, 2, 3]))),
    ethernet(0x86dd, ipv6(6, tcp(2, 1, 0, [1, 2, 3], true))),
    ethernet(0x86dd, ipv6(17, udp6(4000, 7, new Uint8Array(30)))),
    solicitation(HOST_IP6),
    ethernet(0x86dd, ipv6(58, icmp6(128, bytes(u32(0x10002), new Uint8Array(40)))), { tags: [5] }),
    ethernet(0x0800, ipv4(17, udp4(68, 67, bytes(1, 1, 6, 0, u32(0x1234), new Array<number>(20).fill(0), GUEST_MAC, new Array<number>(202).fill(0), u32(0x63825363), [53, 1, 1, 255]), [0, 0, 0, 0], [255, 255, 255, 255]), { source: [0, 0, 0, 0], destination: [255, 255, 255, 255] }), { to: BROADCAST_MAC }),
  ];
  /** Sound frames with some bytes changed, cut, or with their checksums left out so that deeper parsers are reached. */
  const damaged = fc
    .tuple(fc.constantFrom(...sound), fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 4 }), fc.option(fc.nat(400)), fc.boolean())
    .map(([frame, changes, cut, repair]) => {
      const copy = frame.slice();
      for (const [at, value] of changes) copy[at % copy.length] = value;
      if (repair && at16(copy, 12) === 0x0800) {
        const header = Math.min((copy[14]! & 15) * 4, copy.length - 14);
        if (header >= 20) {
          copy.set(ipv4(copy[23]!, new Uint8Array(0)).slice(10, 12), 24);
          copy.set([0, 0], 24);
          let sum = 0;
          for (let i = 0; i + 1 < header; i += 2) sum += at16(copy, 14 + i);
          while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
          copy.set(u16(~sum & 0xffff), 24);
          if (copy[23] === 17 && copy.length >= 14 + header + 8) copy.set([0, 0], 14 + header + 6);
        }
      }
      return cut === null ? copy : copy.slice(0, cut);
    });

  test('no frame makes it throw, answer twice, or answer something malformed', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.uint8Array({ maxLength: 120 }), damaged), { minLength: 1, maxLength: 16 }), (frames) => {
        expect(talk.push(frames)).toBe(frames.length);
        const answers = talk.pull();
        expect(answers.length).toBeLessThanOrEqual(frames.length);
        for (const answer of answers) check(answer);
      }),
      { numRuns: 1500 },
    );
  });

  test('the sound ones among them are answered', () => {
    talk.push(sound);
    expect(talk.pull()).toHaveLength(sound.length);
  });

  test('frames too long or too short are counted as errors', () => {
    const before = talk.port.stats().oerrors;
    talk.push([new Uint8Array(9729), new Uint8Array(13)]);
    expect(talk.port.stats().oerrors).toBe(before + 2n);
  });
});

test('answers that nobody fetches are bounded and counted', async () => {
  const request = ethernet(0x0800, ipv4(1, icmp4(8, new Uint8Array(9000))));
  const before = talk.port.stats();
  let taken = 0;
  for (let i = 0; i < 10; i++) taken += talk.push(new Array<Uint8Array>(32).fill(request));
  expect(taken).toBe(320);
  let answers = 0;
  for (let got = talk.pull().length; got > 0; got = talk.pull().length) answers += got;
  const after = talk.port.stats();
  expect(answers).toBeGreaterThan(100);
  expect(after.imissed - before.imissed).toBe(320n - BigInt(answers));
  expect(after.opackets - before.opackets).toBe(320n);
  expect(after.ipackets - before.ipackets).toBe(BigInt(answers));
  expect(talk.ask(request)).toBeDefined();
});
