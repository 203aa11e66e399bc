import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  FRAME_IPV6, FRAME_L2_LENGTH, FRAME_L3_LENGTH, FRAME_L4_LENGTH, FRAME_L4_TCP, FRAME_L4_UDP, FRAME_RX_IP_GOOD, FRAME_RX_L4_GOOD, FRAME_RX_RSS, FRAME_RX_VLAN, FRAME_SEGMENT,
  FRAME_TX_IPV4_CSUM, FRAME_TX_L4_CSUM, FRAME_TX_TSO, FRAME_TX_VLAN, FRAME_VLAN_TCI,
} from '@emudev/ethdev';
import { DeviceProcess, Driver } from './two-processes.ts';

let device: DeviceProcess;
beforeAll(async () => {
  device = await DeviceProcess.start('--queues', '1');
});
afterAll(async () => {
  await device[Symbol.asyncDispose]();
});

const TCP = 6;
const UDP = 17;

/** One's complement sum, folded; independent of the code under test. */
function sum(...parts: Uint8Array[]): number {
  const all = Buffer.concat(parts.map((part) => (part.length % 2 === 0 ? part : Buffer.concat([part, Buffer.alloc(1)]))));
  let total = 0;
  for (let i = 0; i < all.length; i += 2) total += all.readUInt16BE(i);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

interface Packet {
  readonly mac: Uint8Array;
  readonly six: boolean;
  readonly protocol: number;
  readonly payload: Uint8Array;
  /** Pseudo-header with length (checksum offload) or without (segmentation). */
  readonly withLength: boolean;
}

/** What a stack hands to a card that finishes checksums: the IPv4 checksum zero, the L4 one holding the pseudo-header's sum. */
function packet({ mac, six, protocol, payload, withLength }: Packet): { frame: Buffer; l3: number; l4: number } {
  const l3 = six ? 40 : 20;
  const l4 = protocol === TCP ? 20 : 8;
  const frame = Buffer.alloc(14 + l3 + l4 + payload.length);
  frame.set(mac, 0);
  frame.set([2, 0, 0, 0, 0, 1], 6);
  frame.writeUInt16BE(six ? 0x86dd : 0x0800, 12);
  const ip = frame.subarray(14, 14 + l3);
  const length = l4 + payload.length;
  if (six) {
    ip[0] = 0x60;
    ip.writeUInt16BE(withLength ? length : 0, 4);
    ip[6] = protocol;
    ip[7] = 64;
    ip[23] = 1;
    ip[39] = 2;
  } else {
    ip[0] = 0x45;
    ip.writeUInt16BE(withLength ? l3 + length : 0, 2);
    ip.writeUInt16BE(0x1234, 4);
    ip[8] = 64;
    ip[9] = protocol;
    ip.set([10, 0, 0, 1, 10, 0, 0, 2], 12);
  }
  const segment = frame.subarray(14 + l3);
  segment.writeUInt16BE(1111, 0);
  segment.writeUInt16BE(2222, 2);
  if (protocol === TCP) {
    segment.writeUInt32BE(0xffff_ff00, 4);
    segment[12] = 5 << 4;
    segment[13] = 0x19; // FIN, PSH, ACK
  } else {
    segment.writeUInt16BE(length, 4);
  }
  segment.set(payload, l4);
  segment.writeUInt16BE(pseudo(frame, l3, protocol, withLength ? length : 0), protocol === TCP ? 16 : 6);
  return { frame, l3, l4 };
}

function pseudo(frame: Buffer, l3: number, protocol: number, length: number): number {
  const addresses = l3 === 40 ? frame.subarray(22, 54) : frame.subarray(26, 34);
  return sum(addresses, Uint8Array.of(0, protocol), Uint8Array.of(length >>> 8, length));
}

/** Both checksums of a complete frame are right. */
function verify(frame: Buffer, l3: number, protocol: number): void {
  const length = l3 === 20 ? frame.readUInt16BE(16) - l3 : frame.readUInt16BE(18);
  expect(frame.length).toBe(Math.max(60, 14 + l3 + length));
  if (l3 === 20) expect(sum(frame.subarray(14, 34))).toBe(0xffff);
  const segment = frame.subarray(14 + l3, 14 + l3 + length);
  let total = pseudo(frame, l3, protocol, length) + sum(segment);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  expect(total).toBe(0xffff);
}

const pattern = (bytes: number): Uint8Array => Uint8Array.from({ length: bytes }, (_, i) => i * 31 + (i >> 8));

test.each([
  ['IPv4 and TCP', false, TCP],
  ['IPv4 and UDP', false, UDP],
  ['IPv6 and TCP', true, TCP],
  ['IPv6 and UDP', true, UDP],
])('checksums of %s are finished by the card and verified on the way back', async (_what, six, protocol) => {
  await using driver = await Driver.start(device.socket);
  const { frame, l3, l4 } = packet({ mac: driver.port.info.mac!, six, protocol, payload: pattern(333), withLength: true });
  driver.send(frame, (six ? FRAME_IPV6 : FRAME_TX_IPV4_CSUM) | FRAME_TX_L4_CSUM | (protocol === TCP ? FRAME_L4_TCP : FRAME_L4_UDP), {
    [FRAME_L2_LENGTH]: 14, [FRAME_L3_LENGTH]: l3, [FRAME_L4_LENGTH]: l4,
  });
  const [received] = await driver.receive(1);
  verify(Buffer.from(received!.bytes), l3, protocol);
  expect(received!.bytes.slice(14 + l3 + l4)).toEqual(pattern(333));
  expect(received!.flags & (FRAME_RX_L4_GOOD | FRAME_RX_RSS)).toBe(FRAME_RX_L4_GOOD | FRAME_RX_RSS);
  expect((received!.flags & FRAME_RX_IP_GOOD) !== 0).toBe(!six);
});

test.each([
  ['IPv4', false],
  ['IPv6', true],
])('TCP over %s is cut into segments by the card', async (_what, six) => {
  await using driver = await Driver.start(device.socket);
  const mss = 1400;
  const payload = pattern(10 * mss + 77);
  const { frame, l3, l4 } = packet({ mac: driver.port.info.mac!, six, protocol: TCP, payload, withLength: false });
  driver.send(frame, FRAME_TX_TSO | FRAME_L4_TCP | (six ? FRAME_IPV6 : 0), {
    [FRAME_L2_LENGTH]: 14, [FRAME_L3_LENGTH]: l3, [FRAME_L4_LENGTH]: l4, [FRAME_SEGMENT]: mss,
  });
  const segments = (await driver.receive(11)).map(({ bytes }) => Buffer.from(bytes));
  const bodies: Buffer[] = [];
  segments.forEach((segment, k) => {
    verify(segment, l3, TCP);
    const tcp = segment.subarray(14 + l3);
    expect(tcp.readUInt32BE(4)).toBe((0xffff_ff00 + k * mss) % 2 ** 32);
    expect(tcp[13]! & 0x09).toBe(k === 10 ? 0x09 : 0);
    if (!six) expect(segment.readUInt16BE(18)).toBe(0x1234 + k);
    const length = six ? segment.readUInt16BE(18) : segment.readUInt16BE(16) - l3;
    bodies.push(tcp.subarray(l4, length));
  });
  expect(bodies.map((body) => body.length)).toEqual([...new Array<number>(10).fill(mss), 77]);
  expect(Buffer.concat(bodies).equals(payload)).toBe(true);
  expect(driver.port.xstats().get('tx_q0_segmented')).toBe(1n);
});

test('flows spread over the queues, each flow on one', async () => {
  await using many = await DeviceProcess.start('--queues', '4');
  await using driver = await Driver.start(many.socket, { queues: 4 });
  const flows = 64;
  const perFlow = 5;
  // Random ports: RSS is linear in them and its key is random, so that consecutive ones miss a queue for one key in twenty.
  const sources = [...new Set(crypto.getRandomValues(new Uint16Array(4 * flows)))].slice(0, flows);
  const destinations = crypto.getRandomValues(new Uint16Array(flows));
  for (let n = 0; n < flows * perFlow; n++) {
    const { frame } = packet({ mac: driver.port.info.mac!, six: false, protocol: UDP, payload: pattern(20), withLength: true });
    frame.writeUInt16BE(sources[n % flows]!, 34);
    frame.writeUInt16BE(destinations[n % flows]!, 36);
    driver.send(frame);
  }
  const queueOfFlow = new Map<number, number>();
  const perQueue = [0, 0, 0, 0];
  const deadline = performance.now() + 5000;
  while (perQueue.reduce((a, b) => a + b) < flows * perFlow && performance.now() < deadline) {
    for (let queue = 0; queue < 4; queue++) {
      const count = driver.datapath.rxBurst(queue, driver.rx, 64);
      perQueue[queue]! += count;
      for (let i = 0; i < count; i++) {
        const flow = driver.window.view.getUint16(driver.window.view.getUint32(driver.record(driver.rx, i), true) + 34);
        expect(queueOfFlow.get(flow) ?? queue).toBe(queue);
        queueOfFlow.set(flow, queue);
      }
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(perQueue.reduce((a, b) => a + b)).toBe(flows * perFlow);
  // 64 flows on four queues: the chance that one stays empty is one in a hundred million.
  expect(Math.min(...perQueue)).toBeGreaterThan(0);
});

test('a VLAN tag is inserted by the card and stays where it is', async () => {
  await using driver = await Driver.start(device.socket);
  const plain = Uint8Array.from([...driver.port.info.mac!, 2, 0, 0, 0, 0, 1, 0x88, 0xb5, ...pattern(100)]);
  driver.send(plain, FRAME_TX_VLAN, { [FRAME_VLAN_TCI]: 0xa123 });
  const [received] = await driver.receive(1);
  expect([...received!.bytes]).toEqual([...plain.slice(0, 12), 0x81, 0x00, 0xa1, 0x23, ...plain.slice(12)]);
  expect(received!.flags & FRAME_RX_VLAN).toBe(0);
});

test('… and is taken out again where the port asked for it', async () => {
  await using driver = await Driver.start(device.socket, { vlanStrip: true });
  const plain = Uint8Array.from([...driver.port.info.mac!, 2, 0, 0, 0, 0, 1, 0x88, 0xb5, ...pattern(100)]);
  driver.send(plain, FRAME_TX_VLAN, { [FRAME_VLAN_TCI]: 0xa123 });
  const [received] = await driver.receive(1);
  expect([...received!.bytes]).toEqual([...plain]);
  expect([received!.flags & FRAME_RX_VLAN, received!.tci]).toEqual([FRAME_RX_VLAN, 0xa123]);
});
