import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';

/** Needs CAP_NET_ADMIN (and CAP_SYS_ADMIN for the namespace): without them there is no TAP to test. */
const privileged = spawnSync('unshare', ['-n', 'test', '-c', '/dev/net/tun']).status === 0;

function session(scenario: string, argument?: unknown): unknown {
  const script = new URL('./fixtures/session.ts', import.meta.url).pathname;
  const run = spawnSync('unshare', ['-n', process.execPath, script, scenario, ...(argument === undefined ? [] : [JSON.stringify(argument)])], { encoding: 'utf8', timeout: 30_000, maxBuffer: 1 << 26 });
  if (run.status !== 0) throw new Error(`${scenario}: exit ${String(run.status)} ${String(run.signal)}: ${run.stderr}`);
  return JSON.parse(run.stdout) as unknown;
}

const at16 = (b: Uint8Array, i: number): number => b[i]! * 256 + b[i + 1]!;
const at32 = (b: Uint8Array, i: number): number => at16(b, i) * 65536 + at16(b, i + 2);
function ones(b: Iterable<number>): number {
  let sum = 0;
  let i = 0;
  for (const byte of b) sum += i++ % 2 === 0 ? byte * 256 : byte;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

interface Packet {
  readonly id: number;
  readonly protocol: number;
  readonly l4: Uint8Array;
}
/** Checks lengths and all sums of a frame and takes it apart. */
function sound(base64: string, tagBytes = 0): Packet {
  const frame = Uint8Array.from(Buffer.from(base64, 'base64'));
  const l3 = frame.slice(14 + tagBytes);
  const six = at16(frame, 12 + tagBytes) === 0x86dd;
  const header = six ? 40 : 20;
  const length = six ? 40 + at16(l3, 4) : at16(l3, 2);
  expect(length).toBe(l3.length);
  if (!six) expect(ones(l3.slice(0, 20))).toBe(0xffff);
  const protocol = six ? l3[6]! : l3[9]!;
  const l4 = l3.slice(header);
  if (protocol !== 132) expect(ones([...l3.slice(six ? 8 : 12, header), 0, protocol, l4.length >> 8, l4.length & 255, ...l4])).toBe(0xffff);
  return { id: at16(l3, 4), protocol, l4 };
}

describe.runIf(privileged)('a TAP of the kernel', () => {
  test('the kernel pings the icmpecho engine, with frames up to an MTU of 9000', () => {
    const result = session('ping') as { ipackets: number; opackets: number };
    expect(result).toMatchObject({ sizes: [0, 0, 0], link: { up: true, speedMbps: 10_000 }, mac: [2, 0, 0, 0, 0, 0x42], allocated: 0 });
    expect(result.opackets).toBeGreaterThanOrEqual(10);
    expect(result.ipackets).toBeGreaterThanOrEqual(result.opackets);
  });

  test.each<[string, [boolean, number, number, boolean]]>([
    ['64 KiB over IPv4', [false, 65_535 - 40, 1448, false]],
    ['64 KiB over IPv6', [true, 65_535 - 60, 1428, false]],
    ['64 KiB behind a VLAN tag', [false, 60_000, 1400, true]],
    ['200 KiB, more than an IP packet holds', [false, 200_000, 1448, false]],
    ['200 KiB over IPv6', [true, 200_000, 1400, false]],
    ['less than a segment', [false, 100, 1448, false]],
    ['exactly two segments', [false, 2896, 1448, false]],
  ])('a TSO frame leaves as correct segments: %s', (_, parameters) => {
    const [, payload, segment, tagged] = parameters;
    const { taken, frames, opackets, oerrors } = session('tso', parameters) as { taken: number; frames: string[]; opackets: number; oerrors: number };
    expect([taken, opackets, oerrors]).toEqual([1, 1, 0]);
    const packets = frames.map((frame) => sound(frame, tagged ? 4 : 0));
    expect(packets.length).toBe(Math.ceil(payload / segment));
    let sequence = 0xfffffff0;
    let position = 0;
    packets.forEach(({ l4 }, i) => {
      const last = i === packets.length - 1;
      expect(at32(l4, 4)).toBe(sequence);
      expect(l4.length - 20).toBe(last ? payload - position : segment);
      // FIN and PSH on the last one only, CWR on the first one only.
      expect(l4[13]).toBe(0x10 | (last ? 0x09 : 0) | (i === 0 ? 0x80 : 0));
      for (let k = 20; k < l4.length; k += 97) expect(l4[k]).toBe(((position + k - 20) * 13) & 255);
      sequence = (sequence + l4.length - 20) >>> 0;
      position += l4.length - 20;
    });
    // Identifications are distinct: what gets fragmented later can be put together again.
    if (!parameters[0]) expect(new Set(packets.map((packet) => packet.id)).size).toBe(packets.length);
  });

  test('checksums left to the port are right when the frame arrives', () => {
    const { frames, oerrors } = session('checksums') as { frames: string[]; oerrors: number };
    expect(oerrors).toBe(0);
    expect(frames.map((frame) => sound(frame).protocol).sort((x, y) => x - y)).toEqual([6, 6, 17, 17, 132]);
  });

  test('frames that contradict their description are counted, not sent', () => {
    const { taken, huge, opackets, oerrors, expected } = session('malformed') as { taken: number[]; huge: number; opackets: number; oerrors: number; expected: number };
    expect(taken.every((count) => count === 1)).toBe(true);
    expect([huge, opackets, oerrors]).toEqual([1, 0, expected]);
  });

  test('an interface that goes down or away costs frames, which are counted, and nothing else', () => {
    expect(session('gone')).toEqual({
      takenWhileDown: 3,
      errorsWhileDown: 3,
      message: { port: 'net_tap0', iface: 'tap_gone' },
      state: 'running',
      link: { up: false, speedMbps: 0 },
      errors: expect.any(Number) as number,
      events: [true, false],
      leakedFds: 0,
      allocated: 0,
    });
  });

  test('queues are descriptors of one interface, closed together', () => {
    expect(session('queues')).toEqual({ iface: 'dtap0', queues: [3, 3], fds: 3, closed: 3, allocated: 0 });
  });
});
