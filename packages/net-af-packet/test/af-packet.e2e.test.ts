import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';

/** Needs CAP_NET_RAW and CAP_NET_ADMIN (and CAP_SYS_ADMIN for the namespace). */
const privileged = spawnSync('unshare', ['-n', 'true']).status === 0;

function session(scenario: string, argument?: unknown): unknown {
  const script = new URL('./fixtures/session.ts', import.meta.url).pathname;
  const run = spawnSync('unshare', ['-n', process.execPath, script, scenario, ...(argument === undefined ? [] : [JSON.stringify(argument)])], { encoding: 'utf8', timeout: 60_000, maxBuffer: 1 << 26 });
  if (run.status !== 0) throw new Error(`${scenario}: exit ${String(run.status)} ${String(run.signal)}: ${run.stderr}`);
  return JSON.parse(run.stdout) as unknown;
}

const at16 = (b: Uint8Array, i: number): number => b[i]! * 256 + b[i + 1]!;
function ones(b: Iterable<number>): number {
  let sum = 0;
  let i = 0;
  for (const byte of b) sum += i++ % 2 === 0 ? byte * 256 : byte;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

describe.runIf(privileged)('packet sockets of the kernel', () => {
  test('the port suite holds', () => {
    const { cases, failures, mapped } = session('conformance') as { cases: number; failures: string[]; mapped: number };
    expect(failures).toEqual([]);
    expect(cases).toBeGreaterThanOrEqual(25);
    expect(mapped).toBe(0);
  });

  test('the kernel pings the icmpecho engine, also with frames longer than a slot of the ring', () => {
    const result = session('ping') as { answered: number };
    expect(result).toMatchObject({ sizes: [0, 0, 0], link: { up: true, speedMbps: 10_000 }, ierrors: 0, allocated: 0, mapped: 0 });
    expect(result.answered).toBeGreaterThanOrEqual(9);
  });

  test.each<[number, boolean]>([[60_000, false], [60_000, true], [200_000, false], [700, false]])('a TSO frame of %i bytes (tagged: %s) arrives as correct segments', (payload, tagged) => {
    const { taken, frames, sent, received } = session('tso', [payload, tagged]) as { taken: number; frames: string[]; sent: Record<string, number>; received: Record<string, number> };
    expect([taken, sent['opackets'], sent['oerrors'], received['ierrors'], received['imissed']]).toEqual([1, 1, 0, 0, 0]);
    expect(frames.length).toBe(Math.ceil(payload / 1448));
    let position = 0;
    for (const text of frames) {
      const frame = Uint8Array.from(Buffer.from(text, 'base64'));
      const l2 = tagged ? 18 : 14;
      if (tagged) expect([at16(frame, 12), at16(frame, 14)]).toEqual([0x8100, 5]);
      const l3 = frame.slice(l2);
      expect(at16(l3, 2)).toBe(l3.length);
      expect(ones(l3.slice(0, 20))).toBe(0xffff);
      const l4 = l3.slice(20);
      expect(ones([...l3.slice(12, 20), 0, 6, l4.length >> 8, l4.length & 255, ...l4])).toBe(0xffff);
      expect(at16(l4, 4) * 65536 + at16(l4, 6)).toBe(position);
      expect(l4.slice(20).every((byte, i) => byte === (((position + i) * 13) & 255))).toBe(true);
      position += l4.length - 20;
    }
    expect(position).toBe(payload);
  });

  test('frames arrive in order and whole; what finds no room in the ring is counted as missed', () => {
    const result = session('frames') as { kept: number; imissed: number };
    expect(result).toMatchObject({ taken: 40, count: 40, same: true, ierrors: 0, after: true });
    expect(result.kept + result.imissed).toBe(256);
    expect(result.imissed).toBeGreaterThan(0);
  });

  test('queues share what comes', () => {
    expect(session('queues')).toEqual({ numbers: Array.from({ length: 20 }, (_, i) => i), perQueue: [10, 10] });
  });

  test('what cannot be sent is counted, down or gone as the interface may be, and nothing else happens', () => {
    expect(session('gone')).toEqual({
      malformed: 1, long: 3, down: 2, after: 1, received: 0, message: { port: 'net_af_packet_v0', iface: 'v0' }, link: { up: false, speedMbps: 0 },
      first: [2, 2], last: [2, 5], leakedFds: 0, allocated: 0, mapped: 0,
    });
  });
});
