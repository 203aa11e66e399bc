/** The product against its own driver: `iavf-device --far loop` in one process, iavf-pmd forwarding to itself in the other. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { measuredRate } from './loop-rate.ts';
import { Child, TemporaryFolder } from './processes.ts';
import type { LoopSettings, PairKind } from './pair.ts';

const DEVICE_PROGRAM = fileURLToPath(new URL('../../../apps/iavf-device/dist/cli.js', import.meta.url));
const DRIVER_PROGRAM = fileURLToPath(new URL('./iavf-driver.ts', import.meta.url));
const START_MS = 20_000;

export function startDevice(socket: string, burst: number, cpu?: number, queues = 1): Child {
  return new Child('iavf-device', [process.execPath, DEVICE_PROGRAM, '--socket', socket, '--far', 'loop', '--queues', String(queues), '--burst', String(burst), '--log-level', 'warn'], cpu);
}

/** Resolves when the port is up and its frames are on their way. */
export async function startDriver(socket: string, settings: Pick<LoopSettings, 'frameBytes' | 'mix' | 'content' | 'inFlight' | 'burst'>, cpu?: number): Promise<Child> {
  const { frameBytes, mix = [frameBytes], content, inFlight, burst } = settings;
  const child = new Child('iavf-driver', [process.execPath, DRIVER_PROGRAM, socket, mix.join(','), String(inFlight), String(burst), ...(content === undefined ? [] : [content])], cpu);
  try {
    await child.line((line) => line.includes('"ready":true'), START_MS);
    return child;
  } catch (error) {
    await child[Symbol.asyncDispose]();
    throw error;
  }
}

export const iavfPair: PairKind = {
  who: 'iavf',
  missing: existsSync(DEVICE_PROGRAM) ? undefined : 'apps/iavf-device is not built',
  async run(settings) {
    using folder = new TemporaryFolder();
    const socket = folder.file('iavf.sock');
    await using device = startDevice(socket, settings.burst, 0);
    await device.line((line) => line.includes(' listens on '), START_MS);
    await using driver = await startDriver(socket, settings, 1);
    return await measuredRate(driver, settings);
  },
};
