/** `pnpm start --seconds N --json`, the main job: two processes, link, pings, traffic. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const START = fileURLToPath(new URL('../dist/start.js', import.meta.url));

test('the demo ends by itself with a result in which nothing was lost', () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [START, '--seconds', '2', '--json'], { encoding: 'utf8', timeout: 60_000 });
  const result = JSON.parse(stdout.trim().split('\n').at(-1)!) as { link: boolean; pings: { sent: number; answered: number }; tx: { packets: number; pps: number }; rx: { packets: number; pps: number }; errors: number };
  expect(result).toMatchObject({ link: true, errors: 0 });
  expect(result.pings.sent).toBeGreaterThan(0);
  expect(result.pings.answered).toBe(result.pings.sent);
  expect(result.tx.packets).toBeGreaterThan(1000);
  expect(result.rx.packets).toBe(result.tx.packets);
  expect(stderr).toMatch(/link up/);
  expect(stderr).toMatch(/vfio-user-pci/);
  expect(status).toBe(0);
});

test('a bad option ends with 2', () => {
  const { status, stderr } = spawnSync(process.execPath, [START, '--second', '2'], { encoding: 'utf8', timeout: 60_000 });
  expect(status).toBe(2);
  expect(stderr).toMatch(/unknown option/);
});
