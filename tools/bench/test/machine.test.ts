import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, expect, test, vi } from 'vitest';
import { watchNoise } from '../src/machine.ts';
import { allPeers, missingPeer, notePeer } from '../src/peers.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

test('a peer that is not installed is missing, with what to install; one that was found elsewhere is told', () => {
  vi.stubEnv('PATH', '/nonexistent');
  expect(missingPeer('iperf3')).toBe('iperf3 is not on the PATH (Debian: apt-get install iperf3)');
  notePeer('qemu-system-x86_64', '10.1.0');
  expect(allPeers()).toMatchObject({ 'iperf3': null, 'qemu-system-x86_64': '10.1.0' });
});

test('what our own children do is no noise', async () => {
  const noise = watchNoise();
  const child = spawn(process.execPath, ['-e', 'const end = Date.now() + 500; while (Date.now() < end);']);
  await once(child, 'exit');
  const { stolen, others, busiest } = noise();
  for (const share of [stolen, others]) expect(share >= 0 && share <= 1).toBe(true);
  expect(busiest.filter((one) => one.includes(`(${String(child.pid)})`) || one.includes(`(${String(process.pid)})`))).toEqual([]);
});
