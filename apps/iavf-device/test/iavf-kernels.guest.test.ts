/** The main points on the other stock kernels: a TAP interface behind card0 (offloads passed through: vnet=on), the embedded host behind card1. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Guest } from '@emudev/guest';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bringUp, carrier, expectCleanLog, expectPing, nameCards, received } from './support/cards.ts';
import { DeviceProcess } from './support/device-process.ts';
import { NetworkNamespace } from './support/netns.ts';

const MACS = ['52:54:00:e1:00:01', '52:54:00:e1:00:02'] as const;

describe.each(['6.1', '7.x'] as const)('Linux %s', (kernel) => {
  let folder: string;
  let net: NetworkNamespace;
  let device: DeviceProcess;
  let guest: Guest;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'emudev-test-'));
    net = new NetworkNamespace(`emudev-${kernel.replace('.', '')}`);
    const sockets = [join(folder, '0.sock'), join(folder, '1.sock')];
    device = await DeviceProcess.start([
      '--vdev', `emu_iavf0,path=${sockets[0]},mac=${MACS[0]}`, '--vdev', 'net_iavf_be0,emu=emu_iavf0', '--vdev', 'net_tap0,iface=dtap0', '--forward', 'net_iavf_be0=net_tap0',
      '--vdev', `emu_iavf1,path=${sockets[1]},mac=${MACS[1]}`, '--vdev', 'net_iavf_be1,emu=emu_iavf1', '--vdev', 'net_echo0', '--forward', 'net_iavf_be1=net_echo0',
    ], { netns: net.name });
    net.sync('ip addr add 10.77.0.1/24 dev dtap0 && ip -6 addr add fd77::1/64 dev dtap0 nodad && ip link set dtap0 mtu 9000 up');
    guest = await Guest.boot({ kernel, sockets });
    await nameCards(guest, MACS);
    await guest.run('ip addr add 10.77.0.2/24 dev card0; ip -6 addr add fd77::2/64 dev card0 nodad');
    await bringUp(guest, 'card0');
    await bringUp(guest, 'card1');
  });

  afterAll(async () => {
    await guest?.[Symbol.asyncDispose]();
    await device?.[Symbol.asyncDispose]();
    net?.[Symbol.dispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  test('the stock driver is bound and has carrier', async () => {
    expect(guest.release.startsWith(kernel.replace('.x', '.'))).toBe(true);
    expect((await guest.run('ethtool -i card0')).output).toMatch(/^driver: iavf$/m);
  });

  test('DHCP, ping small and large, IPv6', async () => {
    expect((await guest.run('udhcpc -i card1 -n -q -t 5 -f')).output).toMatch(/lease 10\.0\.2\.\d+ mask/);
    await expectPing(guest, '10.0.2.2');
    await expectPing(guest, '10.77.0.1');
    await expectPing(guest, 'fd77::1');
    // Linux 6.1: the caller waits with the lock held that the driver's reset task needs, gives up after 5 seconds with EBUSY, and
    // then the reset happens. The MTU is set all the same.
    await guest.run('ip link set card0 mtu 9000', { check: kernel !== '6.1' });
    await guest.until('cat /sys/class/net/card0/mtu', (o) => o.trim() === '9000');
    await carrier(guest, 'card0', '1');
    await expectPing(guest, '10.77.0.1', '-s 8000 -M do');
  });

  test.each([['sends', ''], ['receives', '-R']])('TCP, guest %s, offloads passed through to the TAP interface', async (_what, flag) => {
    await net.background(['iperf3', '-s', '-1', '--forceflush'], /Server listening/);
    const { output } = await guest.run(`iperf3 -c 10.77.0.1 -t 2 ${flag} -J`, { timeoutMs: 60_000 });
    expect(received(output)).toBeGreaterThan(0);
  });

  test('link down and up, driver unbound and bound', async () => {
    for (let i = 0; i < 3; i++) {
      await guest.run('ip link set card0 down; ip link set card0 up');
      await carrier(guest, 'card0', '1');
    }
    await guest.run('d=$(basename $(readlink -f /sys/class/net/card0/device)); cd /sys/bus/pci/drivers/iavf; echo $d > unbind; echo $d > bind');
    await nameCards(guest, MACS);
    await guest.run('ip addr replace 10.77.0.2/24 dev card0');
    await bringUp(guest, 'card0');
    await expectPing(guest, '10.77.0.1');
    expectCleanLog(guest);
  });
});
