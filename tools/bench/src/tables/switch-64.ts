/**
 * Two cards of one device process on its learning switch, two processes, one processor each; against testpmd with two vhost-user ports,
 * which passes frames from one to the other without looking at them.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { measuredRate } from '../loop-rate.ts';
import type { LoopSettings } from '../pair.ts';
import { missingPeer } from '../peers.ts';
import { Child, TemporaryFolder } from '../processes.ts';
import type { Table } from '../table.ts';
import { TestpmdEnd } from '../testpmd-pair.ts';

const DEVICE_PROGRAM = fileURLToPath(new URL('../../../../apps/iavf-device/dist/cli.js', import.meta.url));
const DRIVER_PROGRAM = fileURLToPath(new URL('../switch-driver.ts', import.meta.url));
const START_MS = 20_000;
const FRAME_BYTES = 64;

/** `route`: what connects the two back ends. */
async function cards(settings: LoopSettings, route: string): Promise<number> {
  using folder = new TemporaryFolder();
  const sockets = ['0', '1'].map((n) => folder.file(`iavf${n}.sock`));
  const { frameBytes, inFlight, burst } = settings;
  await using device = new Child('iavf-device', [process.execPath, DEVICE_PROGRAM,
    ...sockets.flatMap((socket, n) => ['--vdev', `emu_iavf${n},path=${socket},queues=1`, '--vdev', `net_iavf_be${n},emu=emu_iavf${n}`]), '--forward', route, '--burst', String(burst), '--log-level', 'warn'], 0);
  for (const _ of sockets) await device.line((line) => line.includes(' listens on '), START_MS);
  await using driver = new Child('switch-driver', [process.execPath, DRIVER_PROGRAM, String(frameBytes), String(inFlight), String(burst), ...sockets], 1);
  await driver.line((line) => line.includes('"ready":true'), START_MS);
  return await measuredRate(driver, settings);
}

async function testpmd(settings: LoopSettings): Promise<number> {
  using folder = new TemporaryFolder();
  const sockets = ['0', '1'].map((n) => folder.file(`peer${n}.sock`));
  await using a = await TestpmdEnd.start('a', sockets.map((socket, n) => `net_vhost${n},iface=${socket}`), settings);
  await using b = await TestpmdEnd.start('b', sockets.map((socket, n) => `net_virtio_user${n},path=${socket},server=0`), settings);
  await b.linkUp();
  await a.linkUp();
  await a.forward();
  b.forwardFirst();
  return await b.rate();
}

const missing = existsSync(DEVICE_PROGRAM) ? undefined : 'apps/iavf-device is not built';

const table: Table = {
  what: `${FRAME_BYTES}-byte frames from card to card of one process, both ways, and back by the driver's process, one processor each; million frames per second, both ways together`,
  figures: [{ name: 'mpps', unit: 'Mpps', better: 'more' }],
  contenders: () => [
    {
      who: 'iavf switch',
      missing,
      against: [{ who: 'vhost-user io', goal: 3 }, { who: 'iavf pair' }],
      run: async (effort) => ({ mpps: (await cards({ frameBytes: FRAME_BYTES, ...effort }, 'net_iavf_be0+net_iavf_be1')) / 1e6 }),
    },
    {
      // What the switch costs.
      who: 'iavf pair',
      missing,
      run: async (effort) => ({ mpps: (await cards({ frameBytes: FRAME_BYTES, ...effort }, 'net_iavf_be0=net_iavf_be1')) / 1e6 }),
    },
    {
      who: 'vhost-user io',
      missing: missingPeer('dpdk-testpmd'),
      run: async (effort) => ({ mpps: (await testpmd({ frameBytes: FRAME_BYTES, ...effort })) / 1e6 }),
    },
  ],
};
export default table;
