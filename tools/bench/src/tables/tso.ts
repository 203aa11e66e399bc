import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { missingNamespace, NetworkNamespace } from '../network-namespace.ts';
import { Child, TemporaryFolder } from '../processes.ts';
import type { Contender, Effort, Table } from '../table.ts';
import { HEADER_BYTES } from '../tso-frames.ts';

const file = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const DEVICE_PROGRAM = file('../../../../apps/iavf-device/dist/cli.js');
const START_MS = 20_000;
const MAC = '52:54:00:be:00:0a';

interface Sample {
  readonly payload: number;
  readonly at: number;
}

async function gigabits(effort: Effort, sample: () => Promise<Sample>): Promise<number> {
  await sleep(effort.warmupMs);
  const first = await sample();
  await sleep(effort.windowMs);
  const second = await sample();
  return ((second.payload - first.payload) * 8) / ((second.at - first.at) * 1e6);
}

/** One run: a device process with a card and a TAP, our driver on the card, and the kernel at the TAP. */
async function run(effort: Effort, toTap: boolean, large: boolean): Promise<number> {
  await using undo = new AsyncDisposableStack();
  const folder = undo.use(new TemporaryFolder());
  const namespace = undo.use(new NetworkNamespace('tso'));
  const socket = folder.file('iavf.sock');
  const device = undo.use(new Child('iavf-device', [
    ...namespace.prefix, process.execPath, DEVICE_PROGRAM, '--vdev', `emu_iavf0,path=${socket},queues=1,mac=${MAC}`, '--vdev', 'net_iavf_be0,emu=emu_iavf0',
    '--vdev', 'net_tap0,iface=bench0', '--forward', 'net_iavf_be0=net_tap0', '--burst', String(effort.burst),
  ], 0));
  await device.line((line) => line.includes(' listens on '), START_MS);
  const size = large ? 'large' : 'small';
  const driver = undo.use(new Child('tso-driver', [process.execPath, file('../tso-driver.ts'), socket, toTap ? `send-${size}` : 'receive'], 1));
  await driver.line((line) => line.includes('"ready":true'), START_MS);
  if (toTap) {
    // Nobody has these addresses: the kernel drops what arrives right after it has taken it in.
    return await gigabits(effort, () => {
      const [link] = JSON.parse(namespace.sync('ip -j -s link show dev bench0')) as [{ stats64: { rx: { bytes: number; packets: number } } }];
      const { bytes, packets } = link.stats64.rx;
      return Promise.resolve({ payload: bytes - packets * HEADER_BYTES, at: performance.now() });
    });
  }
  const source = undo.use(new Child('tso-source', [...namespace.prefix, process.execPath, file('../tso-source.ts'), 'bench0', MAC, size], 1));
  await source.line((line) => line === 'sending', START_MS);
  return await gigabits(effort, async () => {
    driver.say('count');
    return JSON.parse(await driver.line((line) => line.includes('"payload"'), START_MS)) as Sample;
  });
}

function contender(who: string, toTap: boolean, large: boolean, missing: string | undefined): Contender {
  const against = large ? [{ who: who.replace('64 KiB', '1500 bytes'), goal: 1.5 }] : [];
  return { who, missing, against, run: async (effort) => ({ gbps: await run(effort, toTap, large) }) };
}

const tso: Table = {
  what: 'TCP payload from our iavf driver to the TAP interface of a device process, and back, as packets of 64 KiB that somebody has to cut, and as packets of 1500 bytes',
  figures: [{ name: 'gbps', unit: 'Gbit/s of payload', better: 'more' }],
  contenders: () => {
    const missing = missingNamespace() ?? (existsSync(DEVICE_PROGRAM) ? undefined : 'apps/iavf-device is not built');
    return [
      contender('iavf to TAP, 64 KiB', true, true, missing),
      contender('iavf to TAP, 1500 bytes', true, false, missing),
      contender('TAP to iavf, 64 KiB', false, true, missing),
      contender('TAP to iavf, 1500 bytes', false, false, missing),
    ];
  },
};
export default tso;
