import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { linux } from '@emudev/linux';
import { VfioUserClient } from '@emudev/vfio-user-client';
import { EXAMPLES } from '../src/index.ts';

const CLI = new URL('../dist/cli.js', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'example-cli-'));
afterAll(() => { rmSync(folder, { recursive: true }); });

/** Its output so far, a promise of a line that matches, and of its end. */
function start(args: readonly string[], fd?: number): { child: ChildProcess; text(): string; said(pattern: RegExp): Promise<void>; ended: Promise<number | null> } {
  const child = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'pipe', 'pipe', ...(fd === undefined ? [] : [fd])] });
  let text = '';
  const waiting: { pattern: RegExp; resolve(): void }[] = [];
  const collect = (data: Buffer): void => {
    text += data.toString();
    for (const { pattern, resolve } of waiting) if (pattern.test(text)) resolve();
  };
  child.stdout!.on('data', collect);
  child.stderr!.on('data', collect);
  const ended = once(child, 'close').then(([code]) => code as number | null);
  return {
    child, ended, text: () => text,
    said: (pattern) => Promise.race([
      new Promise<void>((resolve) => { waiting.push({ pattern, resolve }); collect(Buffer.alloc(0)); }),
      ended.then(() => { if (!pattern.test(text)) throw new Error(`it ended and had said: ${text}`); }),
    ]),
  };
}

describe('emudev-example', () => {
  it('serves several devices until a signal, says what they are, and leaves no socket behind', async () => {
    const [a, b] = [join(folder, 'a.sock'), join(folder, 'b.sock')];
    const example = start(['-v', 'gpio', a, 'irq-msi', b]);
    await example.said(/irq-msi listens/);
    expect(example.text()).toContain(`-device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"${a}"}}'`);
    {
      await using gpio = await VfioUserClient.connect(a);
      await using irq = await VfioUserClient.connect(b);
      expect([await gpio.read32(7, 0), await irq.read32(0, 0)]).toEqual([0x0dc8494f, 0x010000ed]);
      await gpio.write(2, 0, Uint8Array.of(1));
    }
    await example.said(/gpio: BAR2\+0x0 write 01[\s\S]*the client has gone \(closed\)/);
    example.child.kill('SIGTERM');
    expect(await example.ended).toBe(0);
    expect([existsSync(a), existsSync(b)]).toEqual([false, false]);
  });

  it('ends with its client when told to, and with a connection it was handed', async () => {
    const path = join(folder, 'once.sock');
    const once = start(['--once', 'null', path]);
    await once.said(/null listens/);
    await (await VfioUserClient.connect(path))[Symbol.asyncDispose]();
    expect(await once.ended).toBe(0);

    const [ours, theirs] = linux.unixSocketPair();
    const handed = start(['--fd', '3', 'gpio'], theirs);
    linux.close(theirs);
    const client = await VfioUserClient.connect({ fd: ours });
    expect(await client.read32(7, 0)).toBe(0x0dc8494f);
    await client[Symbol.asyncDispose]();
    expect(await handed.ended).toBe(0);
  });

  it('serves one client after the other on a listener it was handed', async () => {
    const path = join(folder, 'inherited.sock');
    const listener = linux.unixListen(path, 1);
    const example = start(['--fd', '3', 'gpio'], listener);
    linux.close(listener);
    for (let round = 0; round < 2; round++) {
      await using client = await VfioUserClient.connect(path);
      expect(await client.read32(7, 0)).toBe(0x0dc8494f);
    }
    example.child.kill('SIGTERM');
    expect(await example.ended).toBe(0);
  });

  it.each<[string[], RegExp, number]>([
    [['--list'], new RegExp(Object.keys(EXAMPLES).join('[\\s\\S]*')), 0], [['--help'], /Usage: emudev-example[\s\S]*conformance/, 0],
    [['toaster', 'x.sock'], /no device 'toaster'; known are gpio/, 2], [['constructor', 'x.sock'], /no device 'constructor'/, 2],
    [['gpio'], /^emudev-example: expected DEVICE SOCKET/, 2], [[], /expected DEVICE SOCKET/, 2], [['--fd', 'x', 'gpio'], /expected a descriptor number/, 2], [['--fd', '3', 'gpio', 'x.sock'], /--fd goes with one device/, 2],
    [['null', '/nowhere/x.sock'], /emudev-example: .*ENOENT/, 1], [['--fd', '77', 'null'], /emudev-example: .*77/, 1],
  ])('%j', async (args, says, code) => {
    const example = start(args);
    expect([await example.ended, example.text()]).toEqual([code, expect.stringMatching(says)]);
  });
});
