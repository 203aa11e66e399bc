/** The last part of the guide: its card in its own process, driven from the shell of a stock guest. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, watch } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Guest } from '@emudev/guest';
import { expect, test } from 'vitest';
import { guideFiles, shell } from './guide.ts';

test('the card of the guide computes the CRC of guest memory, and the guest agrees', async () => {
  using files = guideFiles('guide-guest');
  const folder = mkdtempSync(join(tmpdir(), 'guide-'));
  const socket = join(folder, 'crc.sock');
  const appeared = new Promise<void>((resolve) => {
    const watcher = watch(folder, () => {
      if (!existsSync(socket)) return;
      watcher.close();
      resolve();
    });
  });
  const card = spawn(process.execPath, [`${files.folder}serve.ts`, socket], { stdio: 'inherit' });
  const ended = once(card, 'exit');
  try {
    await Promise.race([appeared, ended.then(() => { throw new Error('the card ended'); })]);
    await using guest = await Guest.boot({ sockets: [socket] });
    const { output } = await guest.run(`${shell('devmem')}\nlspci -vv -d 1234:c3c3 2>/dev/null`);
    const [id, theirs, ours] = output.trim().split(/\n+/);
    expect(id, output).toBe('0x43524331');
    expect(Number(theirs), output).toBe(parseInt(ours!, 16));
    expect(Number(theirs)).not.toBe(0);
    expect(output).toMatch(/Class 1200: Device 1234:c3c3/);
    expect(output).toMatch(/Region 0: Memory at [0-9a-f]+ \(32-bit, non-prefetchable\) \[size=4K\]/);
    expect(output).toMatch(/MSI: Enable- Count=1\/1 Maskable\+ 64bit\+/);
  } finally {
    card.kill('SIGTERM');
    expect((await ended)[0]).toBe(0);
    rmSync(folder, { recursive: true });
  }
});
