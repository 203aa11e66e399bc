/**
 * Three devices of one process in one guest; two of them are restarted, disconnected, taken out and put back while the third carries
 * frames.
 * Stock QEMU, stock kernel, stock drivers.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Guest } from '@emudev/guest';
import { ControlClient } from '@emudev/iavf-device';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bringUp, carrier, expectPing, expectUnbroken, nameCards } from './support/cards.ts';
import { asked } from './support/control.ts';
import { DeviceProcess } from './support/device-process.ts';
import { qmp } from './support/qmp.ts';

const MAC0 = '52:54:00:e0:00:01';
const MAC1 = '52:54:00:e0:00:02';
const folder = mkdtempSync(join(tmpdir(), 'emudev-test-'));
const at = (name: string): string => join(folder, name);
let device: DeviceProcess;
let control: ControlClient;
let guest: Guest;

const done = (command: string, fields: object = {}): Promise<unknown> => asked(control, command, fields);

/** Card 0's pings while `what` goes on: none may be lost. */
async function unharmed(what: () => Promise<void>): Promise<void> {
  await guest.run('(ping -i 0.05 -w 600 10.0.2.2 > /tmp/pings 2>&1; echo over >> /tmp/pings) & echo $! > /dev/null');
  await guest.until('cat /tmp/pings', (output) => output.includes('icmp_seq=2'), { what: 'answers to the pings' });
  await what();
  const before = (await guest.run('grep -c icmp_seq /tmp/pings')).output.trim();
  await guest.until('grep -c icmp_seq /tmp/pings', (output) => Number(output) > Number(before) + 2, { what: 'further answers' });
  await guest.run('killall -INT ping');
  expectUnbroken(await guest.until('cat /tmp/pings', (output) => output.includes('over'), { what: 'the end of the pings' }));
}

beforeAll(async () => {
  device = await DeviceProcess.start([
    '--vdev', `emu_iavf0,path=${at('0')},mac=${MAC0}`, '--vdev', 'net_iavf_be0,emu=emu_iavf0', '--vdev', 'net_echo0', '--forward', 'net_iavf_be0=net_echo0',
    '--vdev', `emu_iavf1,path=${at('1')},mac=${MAC1}`, '--vdev', 'net_iavf_be1,emu=emu_iavf1', '--vdev', 'net_echo1,ip=10.0.3.2/24', '--forward', 'net_iavf_be1=net_echo1',
    '--vdev', `emu_edu0,path=${at('edu')}`, '--control', at('ctl'),
  ]);
  await device.says(/control socket/);
  control = await ControlClient.connect(at('ctl'));
  guest = await Guest.boot({
    sockets: [at('0'), at('1')],
    extraArgs: [
      '-device', 'pcie-root-port,id=port0,chassis=1', '-device', JSON.stringify({ driver: 'vfio-user-pci', id: 'edu', bus: 'port0', socket: { type: 'unix', path: at('edu') } }),
      '-qmp', `unix:${at('qmp')},server=on,wait=off`,
    ],
  });
  await nameCards(guest, [MAC0, MAC1]);
  await guest.run('ip addr add 10.0.2.50/24 dev card0; ip addr add 10.0.3.50/24 dev card1');
  await bringUp(guest, 'card0');
  await bringUp(guest, 'card1');
  await expectPing(guest, '10.0.2.2');
  await expectPing(guest, '10.0.3.2');
});

afterAll(async () => {
  control?.[Symbol.dispose]();
  await guest?.[Symbol.asyncDispose]();
  await device?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

test('restarted: the guest goes on with it', async () => {
  await unharmed(async () => {
    await done('restart', { device: 'emu_iavf1' });
    await expectPing(guest, '10.0.3.2');
    await done('restart', { device: 'emu_edu0' });
    expect((await guest.run('setpci -d 1234:11e8 COMMAND=2:2; devmem 0x$(setpci -d 1234:11e8 BASE_ADDRESS_0) 32')).output).toContain('0x010000ED');
  });
});

test('disconnected and connected: the guest sees carrier go and come back', async () => {
  await unharmed(async () => {
    await done('disconnect', { pair: 'net_iavf_be1' });
    await carrier(guest, 'card1', '0');
    await done('connect', { pair: 'net_iavf_be1=net_echo1' });
    await carrier(guest, 'card1', '1');
    await expectPing(guest, '10.0.3.2');
  });
});

test('taken out of the guest, unplugged, plugged in anew and put back', async () => {
  await unharmed(async () => {
    expect(await control.ask({ command: 'unplug', device: 'emu_edu0' })).toMatchObject({ ok: false, error: { code: 'EMUDEV_BAD_STATE', message: expect.stringMatching(/device_del/) as string } });
    await qmp(at('qmp'), 'device_del', { id: 'edu' });
    await guest.until('lspci -n -d 1234:11e8', (output) => !output.includes('1234:11e8'), { what: 'the guest without the device', timeoutMs: 60_000 });
    // QEMU closes its connection behind the guest's back.
    while ((await control.ask({ command: 'unplug', device: 'emu_edu0' })).ok === false) await sleep(20);
    await done('plug', { vdev: `emu_edu1,path=${at('edu1')}` });
    await qmp(at('qmp'), 'device_add', { driver: 'vfio-user-pci', id: 'edu', bus: 'port0', socket: { type: 'unix', path: at('edu1') } });
    expect(await guest.until('lspci -n -d 1234:11e8', (output) => output.includes('1234:11e8'), { what: 'the new device', timeoutMs: 60_000 })).toContain('1234:11e8');
    expect((await done('list')) as { devices: object[] }).toMatchObject({ devices: [{}, {}, {}, {}, {}, {}, { name: 'emu_edu1', consumer: 'ready' }] });
  });
});
