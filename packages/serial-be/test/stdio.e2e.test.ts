/** A process whose standard input and output are a terminal, or pipes: raw while it runs, as before at every exit. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { linux } from '@emudev/linux';

const SCRIPT = fileURLToPath(new URL('stdio.process.ts', import.meta.url));

/** A terminal with the process in it; `settings` are those of before. */
async function inTerminal(...args: readonly string[]): Promise<{ child: ChildProcess; master: number; settings: Uint8Array; read: (until: string) => Promise<string>; now: () => Uint8Array } & Disposable> {
  const { master } = linux.ptyOpen();
  const slave = linux.ptyOpenSlave(master);
  // Asked for by setting it, and set back: as a shell would leave it.
  const settings = linux.ttySetRaw(slave);
  linux.ttyRestore(slave, settings);
  const child = spawn(process.execPath, ['--no-warnings', SCRIPT, ...args], { stdio: [slave, slave, 'pipe'] });
  let text = '';
  const into = new Uint8Array(4096);
  const read = async (until: string): Promise<string> => {
    for (const deadline = Date.now() + 20_000; !text.includes(until);) {
      const n = linux.read(master, into) ?? 0;
      text += Buffer.from(into.subarray(0, n)).toString('latin1');
      if (n === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      if (Date.now() > deadline) throw new Error(`no ${until} in ${JSON.stringify(text)}`);
    }
    const all = text;
    text = '';
    return all;
  };
  await read('ready');
  return {
    child, master, settings, read,
    now() {
      const seen = linux.ttySetRaw(slave);
      linux.ttyRestore(slave, seen);
      return seen;
    },
    [Symbol.dispose]() {
      child.kill('SIGKILL');
      linux.close(slave);
      linux.close(master);
    },
  };
}
const type = (master: number, text: string): void => void linux.write(master, Buffer.from(text, 'latin1'));

test('every key reaches the guest, Ctrl-C too; Ctrl-A X ends the process in order, and the terminal is as before', async () => {
  using t = await inTerminal();
  expect(t.now()).not.toEqual(t.settings);
  type(t.master, 'a\x03b\x1a\x01\x01z');
  expect(await t.read('Z')).toContain('A\x03B\x1a\x01Z');
  type(t.master, '\x01h');
  expect(await t.read('sends a break')).toContain('Ctrl-A X ends');
  const exit = once(t.child, 'exit');
  type(t.master, '\x01x');
  expect(await exit).toEqual([0, null]);
  expect(t.now()).toEqual(t.settings);
});

test.each([
  ['a signal that the program handles', 'SIGTERM', [], [0, null]],
  ['a signal that nobody handles', 'SIGTERM', ['no-handlers'], [null, 'SIGTERM']],
  ['a hang-up that nobody handles', 'SIGHUP', ['no-handlers'], [null, 'SIGHUP']],
] as const)('%s: the terminal is as before', async (_what, signal, args, ended) => {
  using t = await inTerminal(...args);
  const exit = once(t.child, 'exit');
  t.child.kill(signal);
  expect(await exit).toEqual(ended);
  expect(t.now()).toEqual(t.settings);
});

test('an error that nobody catches: the terminal is as before', async () => {
  using t = await inTerminal();
  const exit = once(t.child, 'exit');
  type(t.master, 'crash');
  expect((await exit)[0]).toBe(1);
  expect(t.now()).toEqual(t.settings);
});

test('pipes: bytes and nothing else, no escape; the end of the input ends nothing', async () => {
  const child = spawn(process.execPath, ['--no-warnings', SCRIPT], { stdio: ['pipe', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (data: Buffer) => { text += data.toString('latin1'); });
  await expect.poll(() => text, { timeout: 20_000 }).toBe('ready\n');
  child.stdin.end('\x01x\x01b\r\n');
  await expect.poll(() => text, { timeout: 20_000 }).toBe('ready\n\x01X\x01B\r\n');
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  expect(await exit).toEqual([0, null]);
});

test('standard input and output are free again when the back end that had them is gone', async () => {
  const child = spawn(process.execPath, ['--no-warnings', SCRIPT, 'again'], { stdio: ['pipe', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (data: Buffer) => { text += data.toString('latin1'); });
  await expect.poll(() => text, { timeout: 20_000 }).toBe('ready\n');
  child.stdin.end('x');
  await expect.poll(() => text, { timeout: 20_000 }).toBe('ready\nX');
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  expect(await exit).toEqual([0, null]);
});
