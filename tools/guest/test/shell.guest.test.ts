/** The shell that `pnpm guest` gives: a terminal one can work in and leave. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const CLI = fileURLToPath(new URL('../src/cli.ts', import.meta.url));

test('gives a shell with a card in it, in which Ctrl-C interrupts; exit ends guest and device process', async () => {
  const child = spawn(process.execPath, [CLI], { stdio: ['pipe', 'pipe', 'pipe'] });
  let output = '';
  const listeners = new Set<() => void>();
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => {
      output += data.toString('latin1');
      for (const look of listeners) look();
    });
  }
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const says = (pattern: RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (pattern.test(output)) resolve();
      };
      listeners.add(look);
      // Well before the test's own end, which would not show what the guest said instead.
      setTimeout(() => { reject(new Error(`has not said ${String(pattern)}:\n${output}`)); }, 200_000).unref();
      void ended.then((code) => { reject(new Error(`ended with ${code} before it said ${String(pattern)}:\n${output}`)); });
      look();
    });
  try {
    await says(/guest:\/# /);
    // The word comes from the process that is to be interrupted: the terminal is its own by then, so that no Ctrl-C is too early.
    child.stdin.write("sh -c 'echo sleeping$((1 + 1)); exec sleep 1000'\n");
    await says(/sleeping2/);
    child.stdin.write('\x03');
    await says(/\^C/);
    child.stdin.write('echo code=$?; ethtool -i eth0; exit\n');
    await says(/code=130[\s\S]*driver: iavf/);
    expect(await ended).toBe(0);
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
  const device = Number(/device process (\d+) serves/.exec(output)![1]);
  expect(() => process.kill(device, 0)).toThrow('ESRCH');
});
