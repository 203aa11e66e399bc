/** Two cards of a stock guest, in two of its network namespaces, and a TAP interface of the host on one switch. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Guest } from '@emudev/guest';
import { ControlClient } from '@emudev/iavf-device';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bringUp, expectCleanLog, expectPing, expectUnbroken, nameCards, PING_THREE, received } from './support/cards.ts';
import { asked } from './support/control.ts';
import { DeviceProcess } from './support/device-process.ts';
import { NetworkNamespace } from './support/netns.ts';

const MACS = ['52:54:00:e0:05:01', '52:54:00:e0:05:02'] as const;
const MOVING = '52:54:00:e0:05:99';
const folder = mkdtempSync(join(tmpdir(), 'emudev-test-'));
const sockets = MACS.map((_, i) => join(folder, `${i}.sock`));
let net: NetworkNamespace;
let device: DeviceProcess;
let control: ControlClient;
let guest: Guest;

/** Not `sh` in it: busybox's has an `ip` of its own, which knows less. */
const INNER = 'ip netns exec inner';

interface SwitchState {
  readonly ports: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly addresses: Readonly<Record<string, string>>;
}
async function state(): Promise<SwitchState> {
  return ((await asked(control, 'switches', { addresses: true })) as { switches: SwitchState[] }).switches[0]!;
}
const portOf = async (mac: string): Promise<string | undefined> => (await state()).addresses[mac]?.split(',')[0];

beforeAll(async () => {
  net = new NetworkNamespace('emudev-switch');
  device = await DeviceProcess.start([
    ...sockets.flatMap((path) => ['--socket', path]), '--mac', MACS[0], '--queues', '2', '--tap', 'dtap0', '--far', 'switch', '--lcores', '2', '--control', join(folder, 'ctl'),
  ], { netns: net.name });
  await device.says(/control socket: listens on/);
  control = await ControlClient.connect(join(folder, 'ctl'));
  net.sync('ip addr add 10.81.0.1/24 dev dtap0 && ip -6 addr add fd81::1/64 dev dtap0 nodad && ip link set dtap0 up');
  guest = await Guest.boot({ kernel: '6.12', sockets, cpus: 2 });
  await nameCards(guest, MACS);
  await guest.run(`ip netns add inner && ip link set card1 netns inner && ${INNER} bash -c 'ip link set lo up; ip link set card1 up'`);
  await bringUp(guest, 'card0');
  await guest.until(`${INNER} cat /sys/class/net/card1/carrier`, (o) => o.trim() === '1', { what: 'carrier of card1' });
  await guest.run(`ip addr add 10.81.0.2/24 dev card0; ip -6 addr add fd81::2/64 dev card0 nodad; ${INNER} bash -c 'ip addr add 10.81.0.3/24 dev card1; ip -6 addr add fd81::3/64 dev card1 nodad'`);
});

afterAll(async () => {
  await guest?.[Symbol.asyncDispose]();
  control?.[Symbol.dispose]();
  await device?.[Symbol.asyncDispose]();
  net?.[Symbol.dispose]();
  rmSync(folder, { recursive: true, force: true });
});

test('the cards and the host reach each other, over IPv4 and IPv6', async () => {
  for (const target of ['10.81.0.1', '10.81.0.3', 'fd81::1', 'fd81::3']) await expectPing(guest, target);
  expectUnbroken((await guest.run(`${INNER} ${PING_THREE} 10.81.0.1`)).output, 3);
  for (const card of ['10.81.0.2', '10.81.0.3']) expectUnbroken(await net.run(`${PING_THREE} ${card}`), 3);
  expect(await portOf(MACS[0])).toBe('net_iavf_be0');
  expect(await portOf(MACS[1])).toBe('net_iavf_be1');
  expect(await portOf(net.sync('cat /sys/class/net/dtap0/address').trim())).toBe('net_tap0');
});

test('what two of them say to each other the third does not see', async () => {
  await guest.run(`${INNER} iperf3 -s -D`);
  const before = (await state()).ports['net_tap0']!['delivered']!;
  expect(received((await guest.run('iperf3 -c 10.81.0.3 -t 2 -J')).output)).toBeGreaterThan(0);
  const { ports } = await state();
  // A neighbour solicitation or two, not a stream.
  expect(ports['net_tap0']!['delivered']! - before).toBeLessThan(50);
  expect(ports['net_iavf_be0']!['forwarded']).toBeGreaterThan(1000);
});

test('a station that moves from one card to the other is followed', async () => {
  // card0 takes the address, and later card1 does. The host forgets its neighbours: one that it has just confirmed at the old address it would not believe a new one for a second (locktime).
  const take = async (run: string, card: string, mac: string): Promise<void> => {
    await guest.until(`${run} ip link set ${card} address ${mac}; ${run} cat /sys/class/net/${card}/address`, (o) => o.includes(mac), { what: `${card} has address ${mac}`, timeoutMs: 20_000 });
    net.sync('ip neigh flush dev dtap0');
  };
  await take('', 'card0', MOVING);
  await expectPing(guest, '10.81.0.1');
  expect(await portOf(MOVING)).toBe('net_iavf_be0');
  await take('', 'card0', MACS[0]);
  await take(INNER, 'card1', MOVING);
  await guest.until(`${INNER} ping -c 1 -W 1 10.81.0.1`, (o) => o.includes(' 1 received'), { what: 'the station answers from its new place', timeoutMs: 20_000 });
  expect(await portOf(MOVING)).toBe('net_iavf_be1');
  expect((await state()).ports['net_iavf_be1']!['moved']).toBeGreaterThan(0);
  await take(INNER, 'card1', MACS[1]);
  // Who has talked to it knows its other address.
  await guest.run(`ip neigh flush all; ${INNER} ip neigh flush all`);
  await expectPing(guest, '10.81.0.3');
});

test('a card that is taken down is forgotten, and comes back', async () => {
  await guest.run(`${INNER} ip link set card1 down`);
  await guest.until('ping -c 1 -W 1 10.81.0.3', (o) => o.includes(' 0 received'), { what: 'no answer of the card that is down', timeoutMs: 20_000 });
  expect(await portOf(MACS[1])).toBeUndefined();
  await guest.run(`${INNER} ip link set card1 up`);
  await expectPing(guest, '10.81.0.3');
  expectCleanLog(guest);
});
