import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Quiescence } from '@emudev/dma';
import { LcorePool } from '@emudev/ethdev';
import { countOpenFds } from '@emudev/linux';
import { DeviceProcess, Driver, lineOf } from './two-processes.ts';

const DRIVER_PROGRAM = fileURLToPath(new URL('./driver-process.ts', import.meta.url));
const PATIENCE_MS = 10_000;

/** There is no event for what another process has released: looks until it is so. */
async function eventually<T>(look: () => T, wanted: (seen: T) => boolean): Promise<T> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const seen = look();
    if (wanted(seen) || performance.now() > deadline) return seen;
    await sleep(5);
  }
}

test('resets under load: traffic goes on after each, and nothing is received in error', async () => {
  await using device = await DeviceProcess.start('--queues', '1');
  await using driver = await Driver.start(device.socket);
  const { port, window } = driver;
  await using pool = await LcorePool.start(1, { window, quiescence: Quiescence.of(window) });
  const common = { rxPort: port, rxQueue: 0, txPort: port, txQueue: 0 };
  const [lcore] = pool.lcores;
  const streams = [
    await lcore!.addStream({ ...common, engine: { name: 'txonly', destination: port.info.mac! } }),
    await lcore!.addStream({ ...common, engine: { name: 'rxonly' } }),
  ];
  for (let n = 0; n < 10; n++) {
    const before = port.stats().ipackets;
    expect(await eventually(() => port.stats().ipackets, (seen) => seen > before + 1000n)).toBeGreaterThan(before + 1000n);
    await port.reset();
    expect(port.link().up).toBe(true);
  }
  expect(port.stats()).toMatchObject({ ierrors: 0n, oerrors: 0n });
  for (const stream of streams) await lcore!.removeStream(stream);
  expect(device.running).toBe(true);
});

test('a driver killed under load, and the next one attached, twenty times: the device keeps nothing', async () => {
  await using device = await DeviceProcess.start('--queues', '1');
  const idle = device.resources();
  let afterFirst = idle;
  for (let n = 0; n < 20; n++) {
    const child = spawn(process.execPath, [DRIVER_PROGRAM, device.socket], { stdio: ['ignore', 'pipe', 'inherit'] });
    await lineOf(child, 'up');
    child.kill('SIGKILL');
    await once(child, 'exit');
    const { fds, ofDrivers } = await eventually(() => device.resources(), (seen) => seen.fds === idle.fds && seen.ofDrivers === 0);
    expect({ fds, ofDrivers }).toEqual({ fds: idle.fds, ofDrivers: 0 });
    if (n === 0) afterFirst = device.resources();
  }
  // The heap's own mappings come and go; one kept per driver would be nineteen more.
  expect(device.resources().mappings).toBeLessThan(afterFirst.mappings + 19);
});

test('a device killed under load: a typed error, link down, and everything freed', async () => {
  const before = countOpenFds();
  await using device = await DeviceProcess.start('--queues', '1');
  {
    await using driver = await Driver.start(device.socket);
    const { port, window } = driver;
    await using pool = await LcorePool.start(1, { window, quiescence: Quiescence.of(window) });
    const common = { rxPort: port, rxQueue: 0, txPort: port, txQueue: 0 };
    await pool.lcores[0]!.addStream({ ...common, engine: { name: 'txonly', destination: port.info.mac! } });
    await pool.lcores[0]!.addStream({ ...common, engine: { name: 'rxonly' } });
    await eventually(() => port.stats().ipackets, (seen) => seen > 0n);
    const failed = new Promise((resolve) => port.onError(resolve));
    device.kill();
    expect(await failed).toMatchObject({ code: 'ERR_IAVF_GONE' });
    expect(port.link().up).toBe(false);
    await expect(port.start()).rejects.toMatchObject({ code: 'ERR_IAVF_GONE' });
  }
  await eventually(() => countOpenFds(), (seen) => seen <= before + 2);
  // The device's output pipe is still this process's.
  expect(countOpenFds()).toBeLessThanOrEqual(before + 2);
});
