import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { linux } from '@emudev/linux';
import { startDevice, startDriver } from '../iavf-pair.ts';
import { cpuMs, type Child, TemporaryFolder } from '../processes.ts';
import type { Table } from '../table.ts';

const SETTLE_MS = 1000;
const IDLE_MS = 5000;

function residentMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

async function firstAccept(device: Child, socket: string): Promise<number> {
  const begin = performance.now();
  for (;;) {
    if (device.process.exitCode !== null) throw new Error(`iavf-device ended with ${device.process.exitCode}`);
    try {
      linux.close(linux.unixConnect(socket));
      return performance.now() - begin;
    } catch {
      await sleep(1);
    }
  }
}

const idle: Table = {
  what: 'a device process with one card and an idle driver: memory, processor over 5 s, and start to the first accepted connection',
  figures: [
    { name: 'rssMb', unit: 'MB', better: 'less' },
    { name: 'cpuPercent', unit: '% of a processor', better: 'less' },
    { name: 'startMs', unit: 'ms', better: 'less' },
  ],
  contenders: () => [{
    who: 'iavf',
    async run(effort) {
      using folder = new TemporaryFolder();
      const socket = folder.file('iavf.sock');
      await using device = startDevice(socket, effort.burst, 0);
      const startMs = await firstAccept(device, socket);
      await using _driver = await startDriver(socket, { frameBytes: 64, inFlight: 0, burst: effort.burst }, 1);
      await sleep(SETTLE_MS);
      const pid = device.process.pid!;
      const [cpuBefore, at] = [cpuMs(pid), performance.now()];
      await sleep(IDLE_MS);
      return { rssMb: residentMb(pid), cpuPercent: (100 * (cpuMs(pid) - cpuBefore)) / (performance.now() - at), startMs };
    },
  }],
};
export default idle;
