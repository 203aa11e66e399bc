/** `pnpm guest` as its users meet it, as far as no guest is needed. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const CLI = fileURLToPath(new URL('../src/cli.ts', import.meta.url));
const guest = (...args: string[]): { status: number | null; stdout: string; stderr: string } => spawnSync(process.execPath, [CLI, ...args], { encoding: 'utf8' });

test.each<[string[], RegExp]>([
  [['--socket', '/nowhere/vm0.sock'], /\/nowhere\/vm0\.sock is not a socket: is the device process running\?/],
  [['--socket', '/dev/null'], /\/dev\/null is not a socket/],
  [['--kernel', '5.4'], /Allowed choices are 6\.1, 6\.12, 7\.x/],
  [['--memory', 'lots'], /--memory.*whole number from 128/],
  [['--kernal', '6.1'], /unknown option '--kernal'.*--kernel/],
])('%j ends with 2 and one line', (args, message) => {
  const { status, stdout, stderr } = guest(...args);
  expect(stderr).toMatch(message);
  expect(stderr.trim().split('\n')).toHaveLength(1);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
});

test('what the device process says against its arguments is the last word', () => {
  const { status, stderr } = guest('--', '--queues', '99');
  expect(stderr).toMatch(/iavf-device: emu_iavf0: queues=99: must be an integer from 1 to 16/);
  expect(status).toBe(2);
});

test('--help tells how to leave', () => {
  const { status, stdout } = guest('--help');
  expect(status).toBe(0);
  expect(stdout).toContain('Ctrl-A X');
});
