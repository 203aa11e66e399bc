/** The same 8192 buffers, on pages anywhere in more and more guest memory. */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { iavfPair, startDevice } from '../iavf-pair.ts';
import { Child, TemporaryFolder } from '../processes.ts';
import type { Contender, Table } from '../table.ts';

const DRIVER_PROGRAM = fileURLToPath(new URL('../span-driver.ts', import.meta.url));
const START_MS = 30_000;
const SPANS_GIB = [1, 4, 16, 64];
const FRAME_BYTES = 64;
/** As many as the driver by hand sets vectors for; one of them is used. */
const QUEUES = 4;
const GOAL = 0.85;

async function count(driver: Child): Promise<{ received: number; at: number }> {
  driver.say('count');
  return JSON.parse(await driver.line((line) => line.includes('"received"'), START_MS)) as { received: number; at: number };
}

function contender(gib: number): Contender {
  return {
    who: `${gib} GiB`,
    x: gib,
    missing: existsSync(DRIVER_PROGRAM) ? iavfPair.missing : 'tools/bench is not whole',
    against: gib === 1 ? [] : [{ who: '1 GiB', goal: GOAL }],
    async run({ burst, inFlight, warmupMs, windowMs }) {
      using folder = new TemporaryFolder();
      const socket = folder.file('iavf.sock');
      await using device = startDevice(socket, burst, 0, QUEUES);
      await device.line((line) => line.includes(' listens on '), START_MS);
      await using driver = new Child('span-driver', [process.execPath, DRIVER_PROGRAM, socket, String(gib), String(FRAME_BYTES), String(inFlight)], 1);
      await driver.line((line) => line.includes('"ready":true'), START_MS);
      await sleep(warmupMs);
      const first = await count(driver);
      await sleep(windowMs);
      const second = await count(driver);
      return { mpps: (second.received - first.received) / (second.at - first.at) / 1000 };
    },
  };
}

const memorySpan: Table = {
  what: `${FRAME_BYTES}-byte frames from 4096 Tx to 4096 Rx buffers of a guest and back again, each on a page of its own anywhere in 1 to 64 GiB of sparse memory; million frames per second`,
  figures: [{ name: 'mpps', unit: 'Mpps', better: 'more' }],
  x: 'GiB of guest memory',
  contenders: () => SPANS_GIB.map(contender),
};
export default memorySpan;
