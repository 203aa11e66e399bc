import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Window } from '@emudev/dma';
import { EmudevRegistry, parseArgs, parseVdev } from '@emudev/emudev';
import { allocateBurst, foldSum, sumWords, type CreateDatapath, type OwnedBurst, type PortDatapath } from '@emudev/ethdev';
import { driver, type PktgenPort } from '@emudev/net-pktgen';

const PEER_MAC = '5254000000aa';
const OUR_MAC = '020000000001';

let window: Window;
let burst: OwnedBurst;
let answers: OwnedBurst;
let port: PktgenPort;
let datapath: PortDatapath;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'], now: 1_000_000 });
  vi.advanceTimersByTime(1000);
  window = Window.open();
  burst = allocateBurst(window, 64, 1 << 17);
  answers = allocateBurst(window, 64, 1 << 17);
});
afterEach(async () => {
  vi.useRealTimers();
  await port.close();
  burst[Symbol.dispose]();
  answers[Symbol.dispose]();
  expect(window.allocatedBytes).toBe(0);
  window[Symbol.dispose]();
});

/** As the command line makes one. */
async function opened(args = ''): Promise<void> {
  const { name, pairs } = parseVdev(`net_pktgen0,mac=02:00:00:00:00:01${args}`);
  port = await driver.probe(name, parseArgs(driver.args, pairs), { findEmudev: () => undefined, registry: new EmudevRegistry() });
  await port.configure({ rxQueues: 1, txQueues: 1, peerTxCapabilities: 0 });
  await port.start();
  const { module, init } = port.datapath();
  const { memory, base, u8, i32, u32, view } = window;
  datapath = await ((await import(module)) as { createDatapath: CreateDatapath }).createDatapath({ lcore: 0, memory, base, u8, i32, u32, view }, init as never);
}

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));

/** What the port has to send now. */
function asked(max = 64): Uint8Array[] {
  const count = datapath.rxBurst(0, burst, max);
  return Array.from({ length: count }, (_, i) => {
    const data = window.view.getUint32(burst.records + 32 * i, true);
    return window.u8.slice(data, data + window.view.getUint32(burst.records + 32 * i + 4, true));
  });
}

/** Gives frames to the port. */
function give(...frames: Uint8Array[]): void {
  frames.forEach((frame, i) => {
    const data = answers.arena + i * 2048;
    window.u8.set(frame, data);
    window.view.setUint32(answers.records + 32 * i, data, true);
    window.view.setUint32(answers.records + 32 * i + 4, frame.length, true);
  });
  expect(datapath.txBurst(0, answers, frames.length)).toBe(frames.length);
}

function resolvePeer(): void {
  expect(asked()).toHaveLength(1);
  give(bytes(`${OUR_MAC} ${PEER_MAC} 0806 0001 0800 0604 0002 ${PEER_MAC} 0a000202 ${OUR_MAC} 0a000264`));
  expect(port.report().resolved).toBe(true);
}

/** What an echo service makes of a question: addresses and ports exchanged, checksums unchanged by that. */
function echoed(question: Uint8Array): Uint8Array {
  const answer = question.slice();
  const exchange = (a: number, b: number, n: number): void => {
    answer.set(question.subarray(a, a + n), b);
    answer.set(question.subarray(b, b + n), a);
  };
  exchange(0, 6, 6);
  exchange(26, 30, 4);
  exchange(34, 36, 2);
  return answer;
}

/** An ICMP echo reply to a request: type 0, checksum made good. */
function pong(request: Uint8Array): Uint8Array {
  const reply = echoed(request);
  reply.set(request.subarray(34), 34);
  reply[34] = 0;
  reply.set([0, 0], 36);
  const sum = ~foldSum(sumWords(reply, 34, reply.length - 34)) & 0xffff;
  reply.set([sum >> 8, sum & 255], 36);
  return reply;
}

const number = (frame: Uint8Array): number => Buffer.from(frame).readUInt32BE(42);

describe('resolving', () => {
  test('asks for the peer by ARP, again after 100 ms, and says nothing else before there is an answer', async () => {
    await opened(',ip=10.1.2.3,peer=10.1.2.4');
    expect(asked()).toEqual([]);
    port.setPhase('traffic');
    const [question] = asked();
    expect(Buffer.from(question!).toString('hex')).toBe(`ffffffffffff${OUR_MAC}08060001080006040001${OUR_MAC}0a010203000000000000${'0a010204'}${'00'.repeat(18)}`);
    expect(asked()).toEqual([]);
    vi.advanceTimersByTime(101);
    expect(asked()).toHaveLength(1);
    expect(port.report()).toMatchObject({ resolved: false, tx: { packets: 0 } });
  });

  test('an answer about another address, or to another, is none', async () => {
    await opened();
    port.setPhase('resolve');
    asked();
    give(
      bytes(`${OUR_MAC} ${PEER_MAC} 0806 0001 0800 0604 0002 ${PEER_MAC} 0a000203 ${OUR_MAC} 0a000264`),
      bytes(`${OUR_MAC} ${PEER_MAC} 0806 0001 0800 0604 0002 ${PEER_MAC} 0a000202 ${OUR_MAC} 0a000265`),
      bytes(`${OUR_MAC} ${PEER_MAC} 0806 0001`),
    );
    expect(port.report().resolved).toBe(false);
  });

  test('whoever asks for us is answered, in any phase', async () => {
    await opened();
    give(bytes(`ffffffffffff ${PEER_MAC} 0806 0001 0800 0604 0001 ${PEER_MAC} 0a000202 000000000000 0a000264`));
    const [reply] = asked();
    expect(Buffer.from(reply!.subarray(0, 42)).toString('hex')).toBe(`${PEER_MAC}${OUR_MAC}08060001080006040002${OUR_MAC}0a000264${PEER_MAC}0a000202`);
    expect(asked()).toEqual([]);
  });
});

describe('pings', () => {
  test('one at a time, as many as wanted, an interval apart, with the time each answer took', async () => {
    await opened(',interval=50');
    port.setPhase('ping', 2);
    resolvePeer();
    const [first] = asked();
    expect(Buffer.from(first!.subarray(0, 12)).toString('hex')).toBe(PEER_MAC + OUR_MAC);
    expect(foldSum(sumWords(first!, 14, 20))).toBe(0xffff);
    expect(foldSum(sumWords(first!, 34, 64))).toBe(0xffff);
    expect(asked()).toEqual([]);
    vi.advanceTimersByTime(3);
    give(pong(first!));
    expect(port.rttMicroseconds(1)).toBe(3000);
    expect(asked()).toEqual([]);
    vi.advanceTimersByTime(50);
    const [second] = asked();
    give(pong(first!));
    expect(port.report().pings).toEqual({ sent: 2, answered: 1 });
    give(pong(second!), pong(second!));
    vi.advanceTimersByTime(5000);
    expect(asked()).toEqual([]);
    expect(port.report().pings).toEqual({ sent: 2, answered: 2 });
  });

  test('no answer within the time-out: the next is sent, a late one counts no more, and its time stays 0', async () => {
    await opened(',timeout=200');
    port.setPhase('ping', 2);
    resolvePeer();
    const [first] = asked();
    vi.advanceTimersByTime(199);
    expect(asked()).toEqual([]);
    vi.advanceTimersByTime(2);
    expect(asked()).toHaveLength(1);
    give(pong(first!));
    expect(port.report().pings).toEqual({ sent: 2, answered: 0 });
    expect(port.rttMicroseconds(1)).toBe(0);
  });

  test('an answer that is damaged is wrong, one that is cut short is none', async () => {
    await opened();
    port.setPhase('ping', 1);
    resolvePeer();
    const reply = pong(asked()[0]!);
    const damaged = reply.slice();
    damaged[90]! ^= 1;
    give(damaged, reply.subarray(0, 60));
    expect(port.report()).toMatchObject({ wrong: 1, pings: { sent: 1, answered: 0 } });
  });
});

describe('traffic', () => {
  test.each([60, 61, 1514])('frames of %i bytes, each with a number of its own and right checksums', async (size) => {
    await opened(`,size=${size},window=4096`);
    port.setPhase('traffic');
    resolvePeer();
    const frames = [...asked(), ...asked()];
    expect(frames).toHaveLength(128);
    frames.forEach((frame, i) => {
      expect(frame.length).toBe(size);
      expect(number(frame)).toBe(i);
      expect(foldSum(sumWords(frame, 14, 20))).toBe(0xffff);
      // The pseudo header: addresses, protocol, length.
      expect(foldSum(sumWords(frame, 34, size - 34, sumWords(frame, 26, 8, 17 + size - 34)))).toBe(0xffff);
    });
    // One of 60 bytes was the ARP request.
    expect(port.stats()).toMatchObject({ ipackets: 129n, ibytes: BigInt(60 + 128 * size) });
    expect(port.report().tx).toEqual({ packets: 128, bytes: 128 * size });
  });

  test('never more open questions than the window; answers open it again', async () => {
    await opened(',window=10');
    port.setPhase('traffic');
    resolvePeer();
    const first = asked();
    expect(first).toHaveLength(10);
    expect(asked()).toEqual([]);
    give(...first.slice(0, 3).map(echoed));
    expect(asked().map(number)).toEqual([10, 11, 12]);
    expect(port.report()).toEqual({ resolved: true, pings: { sent: 0, answered: 0 }, tx: { packets: 13, bytes: 780 }, rx: { packets: 3, bytes: 180 }, lost: 0, wrong: 0 });
  });

  test('a gap is what was lost; what comes after it all the same was counted already', async () => {
    await opened(',window=10');
    port.setPhase('traffic');
    resolvePeer();
    const frames = asked();
    give(...[0, 1, 4, 5].map((i) => echoed(frames[i]!)));
    expect(port.report()).toMatchObject({ rx: { packets: 4 }, lost: 2, wrong: 0 });
    give(echoed(frames[2]!));
    expect(port.report()).toMatchObject({ rx: { packets: 4 }, lost: 2, wrong: 1 });
  });

  test('silence for the whole time-out loses all that is open, and the window opens', async () => {
    await opened(',window=10,timeout=100');
    port.setPhase('traffic');
    resolvePeer();
    asked();
    vi.advanceTimersByTime(99);
    expect(asked()).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(asked().map(number)[0]).toBe(10);
    expect(port.report().lost).toBe(10);
  });

  test('answers that are damaged, doubled, of another length or never asked for are wrong', async () => {
    await opened(',window=4,size=100');
    port.setPhase('traffic');
    resolvePeer();
    const [a, b] = asked().map(echoed);
    const damaged = b!.slice();
    damaged[99]! ^= 0x80;
    const renumbered = b!.slice();
    renumbered[45] = 3;
    const future = b!.slice();
    Buffer.from(future.buffer).writeUInt32BE(4, 42);
    Buffer.from(future.buffer).writeUInt32BE(0xffff_fffb, 46);
    give(a!, a!, damaged, renumbered, future, b!.subarray(0, 99), b!.subarray(0, 42));
    expect(port.report()).toMatchObject({ rx: { packets: 1 }, lost: 0, wrong: 6 });
    give(b!);
    expect(port.report()).toMatchObject({ rx: { packets: 2 }, wrong: 6 });
  });

  test('what is for somebody else is not looked at', async () => {
    await opened();
    port.setPhase('traffic');
    resolvePeer();
    const stranger = echoed(asked()[0]!);
    stranger[33] = 99;
    const otherPort = echoed(asked(1)[0]!);
    otherPort[35] = 9;
    give(stranger, otherPort, new Uint8Array(60), new Uint8Array(20));
    expect(port.report()).toMatchObject({ rx: { packets: 0 }, lost: 0, wrong: 0 });
  });

  test('drain sends nothing, counts answers, and what never comes is lost; counters can be reset', async () => {
    await opened(',window=8,timeout=100');
    port.setPhase('traffic');
    resolvePeer();
    const frames = asked();
    port.setPhase('drain');
    expect(asked()).toEqual([]);
    give(...frames.slice(0, 5).map(echoed));
    vi.advanceTimersByTime(101);
    expect(asked()).toEqual([]);
    // Besides questions and answers: who has the peer's address, and its answer.
    expect(port.stats()).toMatchObject({ ipackets: 9n, opackets: 6n, ierrors: 0n, oerrors: 0n });
    expect(port.report()).toMatchObject({ tx: { packets: 8 }, rx: { packets: 5 }, lost: 3, wrong: 0 });
    expect(port.xstats().get('questions_lost')).toBe(3n);
    port.resetStats();
    expect(port.stats()).toMatchObject({ ipackets: 0n, opackets: 0n, ibytes: 0n, ierrors: 0n });
  });
});

test.each(['ip=10.0.2', 'ip=10.0.2.256', 'peer=host', 'size=59', 'size=1515', 'window=0', 'mac=01:00:00:00:00:01'])('%s is refused', async (text) => {
  await opened();
  expect(() => parseArgs(driver.args, parseVdev(`net_pktgen1,${text}`).pairs)).toThrow(text.split('=')[0]!);
});
