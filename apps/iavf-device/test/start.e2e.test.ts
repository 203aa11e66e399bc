/** `pnpm start --seconds N --json`, the main job: two processes, link, pings, traffic. */
import { spawn, spawnSync } from 'node:child_process';
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

test('Ctrl-C ends it in order: the answers under way are awaited, the device process goes, exit code 0', async () => {
  // A process group of its own, as a terminal would make: the signal goes to every member.
  const child = spawn(process.execPath, [START, '--json'], { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data: Buffer) => { stdout += data.toString(); });
  await new Promise<void>((resolve) => {
    child.stderr.on('data', (data: Buffer) => {
      stderr += data.toString();
      if (/errors 0/.test(stderr)) resolve();
    });
  });
  process.kill(-child.pid!, 'SIGINT');
  const code = await new Promise((resolve) => child.once('close', resolve));
  expect(JSON.parse(stdout.trim().split('\n').at(-1)!)).toMatchObject({ link: true, errors: 0 });
  expect(code).toBe(0);
  const device = Number(/device process (\d+)/.exec(stderr)?.[1]);
  expect(() => process.kill(device, 0)).toThrow(/ESRCH/);
});

test('a bad option ends with 2', () => {
  const { status, stderr } = spawnSync(process.execPath, [START, '--second', '2'], { encoding: 'utf8', timeout: 60_000 });
  expect(status).toBe(2);
  expect(stderr).toMatch(/unknown option/);
});
