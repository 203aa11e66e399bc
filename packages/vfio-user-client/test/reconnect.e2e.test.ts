/** A server process that is killed (SIGKILL) in the middle of traffic and started again on the same path. */
import { countOpenFds, linux } from '@emudev/linux';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { ClientError, VfioUserClient } from '../src/index.ts';
import type { ReconnectEvent } from '../src/index.ts';

const path = `/tmp/vfio-user-reconnect-e2e-${process.pid}.sock`;
let server: ChildProcess | undefined;

async function start(): Promise<void> {
  server = spawn(process.execPath, [new URL('./path-server-main.ts', import.meta.url).pathname, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(server.stdout!, 'data');
}

async function kill(): Promise<void> {
  const gone = once(server!, 'exit');
  server!.kill('SIGKILL');
  await gone;
}

afterEach(async () => {
  if (server?.exitCode === null && server.signalCode === null) await kill();
  rmSync(path, { force: true });
});

test('traffic goes on after each death; whoever was in flight is told; nothing is left open', async () => {
  await start();
  // Streams of the child process come and go with it: what is counted is between two moments with one server alive.
  const before = countOpenFds();
  const events: ReconnectEvent['type'][] = [];
  let wake: () => void = () => {};
  const client = await VfioUserClient.connect(path, { reconnect: { firstDelayMs: 5, maxDelayMs: 50, onEvent: ({ type }) => { events.push(type); wake(); } } });
  const until = async (type: ReconnectEvent['type'], count: number): Promise<void> => { while (events.filter((t) => t === type).length < count) await new Promise<void>((resolve) => (wake = resolve)); };
  const fd = linux.memfdCreate('ram', { allowSealing: true });
  linux.ftruncate(fd, 0x4000);
  for (const iova of [0n, 0x1000n, 0x2000n]) await client.dmaMap({ iova, sizeBytes: 0x1000, readable: true, writable: true, fd, fdOffset: Number(iova) });
  linux.close(fd);
  let interrupts = 0;
  await using irqs = await client.irqs.subscribe(2, [0], { onInterrupt: ({ count }) => { interrupts += count; } });

  const outcomes = { done: 0, lost: 0, other: [] as unknown[] };
  let stop = false;
  const work = async (offset: number): Promise<void> => {
    for (let n = 1; !stop; n++) {
      try {
        await client.write32(0, offset, n);
        const read = await client.read32(0, offset);
        // A new server begins with zeroes; otherwise nobody else writes here.
        if (read !== n && read !== 0) outcomes.other.push(`${read} instead of ${n}`);
        outcomes.done++;
      } catch (error) {
        if (error instanceof ClientError && error.code === 'ERR_VFU_CLIENT_LOST') outcomes.lost++;
        else outcomes.other.push(error);
      }
    }
  };
  const workers = [0, 4, 8, 12].map(work);
  for (let death = 1; death <= 3; death++) {
    const [done, heard] = [outcomes.done, interrupts];
    await expect.poll(() => outcomes.done > done + 50 && interrupts > heard, { timeout: 30_000 }).toBe(true);
    await kill();
    await until('lost', death);
    expect(client.connected).toBe(false);
    await start();
    await until('reconnected', death);
    expect((await client.read(0, 0x800, 1))[0], 'maps the new server knows').toBe(3);
  }
  stop = true;
  await Promise.all(workers);
  expect(outcomes.other).toEqual([]);
  expect(outcomes.lost, 'each death hit somebody, and nobody twice').toBeGreaterThanOrEqual(3);
  expect(outcomes.lost).toBeLessThanOrEqual(12);
  await irqs[Symbol.asyncDispose]();
  client.close();
  await client.closed;
  await expect.poll(() => countOpenFds(), { timeout: 10_000 }).toBe(before);
});
