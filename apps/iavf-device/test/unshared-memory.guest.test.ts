/** Stock QEMU with memory that it shares with nobody: the stock driver's rings and buffers are reached by DMA messages only. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Guest } from '@emudev/guest';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bringUp, expectCleanLog, expectPing, nameCards } from './support/cards.ts';
import { DeviceProcess } from './support/device-process.ts';

const MAC = '52:54:00:e0:00:07';
const folder = mkdtempSync(join(tmpdir(), 'emudev-unshared-'));
const socket = join(folder, '0.sock');
let device: DeviceProcess;
let guest: Guest;

beforeAll(async () => {
  device = await DeviceProcess.start(['--vdev', `emu_iavf0,path=${socket},mac=${MAC}`, '--vdev', 'net_iavf_be0,emu=emu_iavf0', '--vdev', 'net_echo0', '--forward', 'net_iavf_be0=net_echo0']);
  guest = await Guest.boot({ kernel: '6.12', sockets: [socket], sharedMemory: false });
  await nameCards(guest, [MAC]);
  await bringUp(guest, 'card0');
});

afterAll(async () => {
  await guest?.[Symbol.asyncDispose]();
  await device?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

test('a lease, pings small and large, and a reset in between', async () => {
  expect((await guest.run('udhcpc -i card0 -n -q -t 5 -f')).output).toMatch(/lease 10\.0\.2\.\d+ mask/);
  await expectPing(guest, '10.0.2.2');
  await expectPing(guest, '10.0.2.2', '-s 1400 -M do');
  await guest.run('ip link set card0 down; ip link set card0 up');
  await bringUp(guest, 'card0');
  await expectPing(guest, '10.0.2.2', '-s 1400 -M do');
  expectCleanLog(guest);
});
