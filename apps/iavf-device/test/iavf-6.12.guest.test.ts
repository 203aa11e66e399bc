/**
 * Stock QEMU, stock Debian kernel 6.12, its own iavf driver: two cards of one device process in one VM. card0 has a TAP interface
 * behind it (offloads computed by the device: vnet=off), card1 the embedded host.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Guest } from '@emudev/guest';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkCapture } from './support/capture.ts';
import { bringUp, carrier, expectCleanLog, expectPing, nameCards, received } from './support/cards.ts';
import { DeviceProcess } from './support/device-process.ts';
import { NetworkNamespace } from './support/netns.ts';

const MAC0 = '52:54:00:e0:00:01';
const MAC1 = '52:54:00:e0:00:02';
const folder = mkdtempSync(join(tmpdir(), 'emudev-test-'));
const sockets = [join(folder, '0.sock'), join(folder, '1.sock')];
let net: NetworkNamespace;
let device: DeviceProcess;
let guest: Guest;

beforeAll(async () => {
  net = new NetworkNamespace('emudev-612');
  device = await DeviceProcess.start([
    '--vdev', `emu_iavf0,path=${sockets[0]},mac=${MAC0}`, '--vdev', 'net_iavf_be0,emu=emu_iavf0', '--vdev', 'net_tap0,iface=dtap0,vnet=off', '--forward', 'net_iavf_be0=net_tap0',
    '--vdev', `emu_iavf1,path=${sockets[1]},mac=${MAC1}`, '--vdev', 'net_iavf_be1,emu=emu_iavf1', '--vdev', 'net_echo0', '--forward', 'net_iavf_be1=net_echo0',
  ], { netns: net.name });
  net.sync('ip addr add 10.77.0.1/24 dev dtap0 && ip -6 addr add fd77::1/64 dev dtap0 nodad && ip link set dtap0 mtu 9000 up');
  guest = await Guest.boot({ kernel: '6.12', sockets, cpus: 2 });
  await nameCards(guest, [MAC0, MAC1]);
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

describe('the driver and the card', () => {
  test('the stock iavf driver is bound to both cards, with the MAC addresses they were given', async () => {
    for (const [iface, mac] of [['card0', MAC0], ['card1', MAC1]] as const) {
      expect((await guest.run(`ethtool -i ${iface}`)).output).toMatch(/^driver: iavf$/m);
      expect((await guest.run(`cat /sys/class/net/${iface}/address`)).output.trim()).toBe(mac);
    }
  });

  test('speed and link are what the device says', async () => {
    expect((await guest.run('ethtool card0')).output).toMatch(/Link detected: yes/);
  });
});

describe('the embedded host', () => {
  test('DHCP gives a lease', async () => {
    expect((await guest.run('udhcpc -i card1 -n -q -t 5 -f')).output).toMatch(/lease 10\.0\.2\.\d+ mask/);
    expect((await guest.run('ip -4 -br addr show card1')).output).toMatch(/10\.0\.2\.\d+\/24/);
  });

  test('ping, small and large, and IPv6', async () => {
    await expectPing(guest, '10.0.2.2');
    await expectPing(guest, '10.0.2.2', '-s 1400 -M do');
    await guest.run('ip -6 addr add fd00:10:0:2::77/64 dev card1 nodad');
    await expectPing(guest, 'fd00:10:0:2::2');
  });

  test('UDP echo answers what was asked', async () => {
    const { output } = await guest.run('exec 3<>/dev/udp/10.0.2.2/7; echo twelve-bytes >&3; echo "answer: $(timeout 5 dd bs=100 count=1 <&3 2>/dev/null)"');
    expect(output).toContain('answer: twelve-bytes');
  });
});

describe('the TAP interface', () => {
  test('ping, small and large, IPv4 and IPv6', async () => {
    await expectPing(guest, '10.77.0.1');
    await expectPing(guest, 'fd77::1');
    await guest.run('ip link set card0 mtu 9000');
    await carrier(guest, 'card0', '1');
    await expectPing(guest, '10.77.0.1', '-s 8000 -M do');
    await expectPing(guest, 'fd77::1', '-s 8000 -M do');
    await guest.run('ip link set card0 mtu 1500');
    await carrier(guest, 'card0', '1');
    await expectPing(guest, '10.77.0.1');
  });

  describe.each([
    ['every offload of the card on', 'tso on gso on tx on rx on sg on'],
    ['every offload off', 'tso off gso off tx off rx off sg off gro off'],
  ])('iperf3 with %s', (_title, features) => {
    beforeAll(async () => {
      await guest.run(`ethtool -K card0 ${features} 2>&1 || true`);
      await carrier(guest, 'card0', '1');
      await net.background(['iperf3', '-s', '--forceflush'], /Server listening/);
    });
    afterAll(() => net.run('pkill iperf3; true'));

    test.each([
      ['TCP, guest sends', '-t 3', 'tcp'],
      ['TCP, guest receives', '-t 3 -R', 'tcp'],
      ['TCP over IPv6, guest sends', '-6 -t 2', 'tcp'],
      ['UDP, guest sends', '-u -b 50M -l 1400 -t 2', 'udp'],
      ['UDP, guest receives', '-u -b 50M -l 1400 -t 2 -R', 'udp'],
    ])('%s; every checksum on the wire is right', async (_name, flags, protocol) => {
      const file = join(folder, 'capture.pcap');
      const capture = await net.background(['tcpdump', '-i', 'dtap0', '-w', file, '-s', '0', '-U', '-c', '20000', 'ip or ip6'], /listening on/);
      const target = flags.includes('-6') ? 'fd77::1' : '10.77.0.1';
      const { output } = await guest.run(`iperf3 -c ${target} ${flags} -J`, { timeoutMs: 90_000 });
      const gone = new Promise((resolve) => capture.once('exit', resolve));
      if (capture.exitCode === null) {
        capture.kill('SIGINT');
        await gone;
      }
      expect(received(output)).toBeGreaterThan(0);
      const summary = checkCapture(file, MAC0);
      expect(summary.wrong).toEqual([]);
      expect(summary[protocol as 'tcp' | 'udp']).toBeGreaterThan(0);
      // The device cut what the guest left to it: nothing longer than the MTU reaches the wire.
      expect(summary.longest).toBeLessThanOrEqual(1514);
    });
  });

  test('the far end goes and comes: the guest sees its carrier follow', async () => {
    net.sync('ip link set dtap0 down');
    await carrier(guest, 'card0', '0');
    net.sync('ip link set dtap0 up');
    await carrier(guest, 'card0', '1');
    await expectPing(guest, '10.77.0.1');
  });
});

describe('ethtool', () => {
  test('statistics grow with the traffic', async () => {
    const packets = async (): Promise<number> => Number(/tx_unicast: (\d+)/.exec((await guest.run('ethtool -S card0')).output)?.[1]);
    const before = await packets();
    await expectPing(guest, '10.77.0.1', '-c 20 -i 0.01'.replace('-c 20', ''));
    // The driver asks for statistics every two seconds.
    await guest.until('ethtool -S card0', (o) => Number(/tx_unicast: (\d+)/.exec(o)?.[1]) >= before + 3, { what: 'tx_unicast grew' });
  });

  test('the interval that is set (-C) bounds the interrupts of every vector, and none is lost', async () => {
    const INTERVAL_US = 8000;
    const counts = async (): Promise<{ at: number; vectors: number[] }> => {
      const { output } = await guest.run('cut -d" " -f1 /proc/uptime; grep "card0-TxRx" /proc/interrupts');
      const [uptime, ...lines] = output.trim().split('\n');
      // One column for each of the two processors.
      return { at: Number(uptime), vectors: lines.map((line) => line.trim().split(/\s+/).slice(1, 3).reduce((sum, n) => sum + Number(n), 0)) };
    };
    await guest.run(`ethtool -C card0 adaptive-rx off adaptive-tx off rx-usecs ${INTERVAL_US} tx-usecs ${INTERVAL_US}`);
    const before = await counts();
    const { output } = await guest.run('ping -f -c 500 -w 60 10.77.0.1 | tail -3', { timeoutMs: 90_000 });
    const after = await counts();
    await guest.run('ethtool -C card0 adaptive-rx on adaptive-tx on');
    expect(output).toMatch(/500 packets transmitted, 500 received/);
    const most = ((after.at - before.at) * 1e6) / INTERVAL_US;
    // The driver shares a vector among queue pairs where there are more of them than processors.
    expect(before.vectors.length).toBeGreaterThan(0);
    const grown = after.vectors.map((count, n) => count - before.vectors[n]!);
    expect(Math.max(...grown)).toBeGreaterThan(20);
    // The driver itself asks for one every two seconds on a queue that seems stuck (SWINT).
    for (const count of grown) expect(count).toBeLessThanOrEqual(1.05 * most + 5);
  });

  test('channels, rings, and the RSS table can be read and changed', async () => {
    expect((await guest.run('ethtool -l card0')).output).toMatch(/Combined:\s+4/);
    await guest.run('ethtool -L card0 combined 2');
    await carrier(guest, 'card0', '1');
    await expectPing(guest, '10.77.0.1');
    expect((await guest.run('ethtool -x card0')).output).toMatch(/RX flow hash indirection table/);
    await guest.run('ethtool -X card0 equal 1');
    await expectPing(guest, '10.77.0.1');
    await guest.run('ethtool -G card0 rx 1024 tx 256');
    await carrier(guest, 'card0', '1');
    expect((await guest.run('ethtool -g card0')).output).toMatch(/RX:\s+1024/);
    await expectPing(guest, '10.77.0.1');
    await guest.run('ethtool -L card0 combined 4');
    await carrier(guest, 'card0', '1');
    await expectPing(guest, '10.77.0.1');
    expect((await guest.run('ethtool -k card0')).output).toMatch(/tcp-segmentation-offload: /);
  });

  test('the card answers to a new MAC address', async () => {
    await guest.run('ip link set card0 address 52:54:00:e0:00:99');
    net.sync('ip neigh flush dev dtap0');
    await expectPing(guest, '10.77.0.1');
    await guest.run(`ip link set card0 address ${MAC0}`);
    net.sync('ip neigh flush dev dtap0');
    await expectPing(guest, '10.77.0.1');
  });
});

describe('filters', () => {
  test('a VLAN interface talks to its peer, with tags handled by the card and by the guest', async () => {
    // The embedded host answers a tagged frame with the same tag; the address is a neighbour's on the plain interface.
    await guest.run('ip addr flush dev card1; ip link add link card1 name card1.42 type vlan id 42; ip addr add 10.0.2.77/24 dev card1.42; ip link set card1.42 up');
    await expectPing(guest, '10.0.2.2');
    await guest.run('ethtool -K card1 rxvlan off txvlan off');
    await expectPing(guest, '10.0.2.2');
    await guest.run('ethtool -K card1 rxvlan on txvlan on');
    await expectPing(guest, '10.0.2.2');
    await guest.run('ip link del card1.42');
  });

  test('a frame for somebody else arrives in promiscuous mode only', async () => {
    net.sync('ip neigh replace 10.77.0.66 lladdr 52:54:00:aa:bb:cc dev dtap0 nud permanent');
    const sendThree = (): string => net.sync('ping -c 3 -i 0.1 -W 1 10.77.0.66 >/dev/null; true');
    const watch = async (flags: string): Promise<void> => {
      await guest.run(`tcpdump --immediate-mode -i card0 ${flags} -n -l 'icmp and dst host 10.77.0.66' >/tmp/seen 2>/tmp/caplog & echo $! > /tmp/cappid`);
      await guest.until('cat /tmp/caplog', (o) => o.includes('listening on'));
    };
    await watch('-p');
    sendThree();
    // What was sent after it is here: had the three been let through, they would be, too.
    await expectPing(guest, '10.77.0.1');
    expect((await guest.run('wc -l < /tmp/seen; kill $(cat /tmp/cappid)')).output.trim()).toBe('0');
    await watch('');
    // The driver tells the device at its next convenience, within two seconds.
    await guest.until('wc -l < /tmp/seen', (o) => {
      sendThree();
      return Number(o) > 0;
    }, { what: 'frames for somebody else' });
    await guest.run('kill $(cat /tmp/cappid)');
    net.sync('ip neigh del 10.77.0.66 dev dtap0');
  });

  test('a multicast group is received once it is joined', async () => {
    net.sync('ip route replace 239.7.7.7 dev dtap0');
    const groupFrames = async (): Promise<number> => Number(/rx_multicast: (\d+)/.exec((await guest.run('ethtool -S card0')).output)?.[1]);
    const before = await groupFrames();
    net.sync('ping -c 3 -i 0.1 -W 1 239.7.7.7 >/dev/null; true');
    await guest.run('echo 0 > /proc/sys/net/ipv4/icmp_echo_ignore_broadcasts; ip addr add 239.7.7.7/32 dev card0 autojoin');
    // Answered means received: nobody else is in the group. The driver programs the filter within two seconds.
    const deadline = Date.now() + 20_000;
    let answers = '';
    while (!/ [1-9]\d* received/.test(answers) && Date.now() < deadline) answers = net.sync('ping -c 3 -i 0.2 -W 1 239.7.7.7; true');
    expect(answers).toMatch(/ [1-9]\d* received/);
    await guest.until('ethtool -S card0', (o) => Number(/rx_multicast: (\d+)/.exec(o)?.[1]) > before, { what: 'rx_multicast counted the group' });
    await guest.run('ip addr del 239.7.7.7/32 dev card0');
  });
});

describe('coming and going', () => {
  test('the interface goes down and up 20 times under traffic', async () => {
    await guest.run('ping -i 0.02 10.77.0.1 >/dev/null 2>&1 & echo $! > /tmp/pingpid');
    for (let i = 0; i < 20; i++) {
      await guest.run('ip link set card0 down; ip link set card0 up');
      await carrier(guest, 'card0', '1');
    }
    await guest.run('kill $(cat /tmp/pingpid)');
    await expectPing(guest, '10.77.0.1');
  });

  test('the driver is unbound and bound 10 times', async () => {
    const before = device.descriptors();
    const { output } = await guest.run('basename $(readlink -f /sys/class/net/card0/device)');
    const address = output.trim();
    for (let i = 0; i < 10; i++) {
      await guest.run(`echo ${address} > /sys/bus/pci/drivers/iavf/unbind; echo ${address} > /sys/bus/pci/drivers/iavf/bind`);
      await guest.until(`ls /sys/bus/pci/devices/${address}/net`, (o) => o.includes('eth'), { what: 'the network device came back' });
    }
    await nameCards(guest, [MAC0, MAC1]);
    await guest.run('ip addr replace 10.77.0.2/24 dev card0');
    await bringUp(guest, 'card0');
    await expectPing(guest, '10.77.0.1');
    expect(device.descriptors()).toBeLessThanOrEqual(before + 2);
  });

  test('the kernel log is clean', () => {
    expectCleanLog(guest);
  });

  test('the VM is killed and another boots against the same process', async () => {
    const before = device.descriptors();
    await guest.kill();
    await guest[Symbol.asyncDispose]();
    guest = await Guest.boot({ kernel: '6.12', sockets, cpus: 1 });
    await nameCards(guest, [MAC0, MAC1]);
    await guest.run('ip addr add 10.77.0.2/24 dev card0');
    await bringUp(guest, 'card0');
    await expectPing(guest, '10.77.0.1');
    expect(device.descriptors()).toBeLessThanOrEqual(before + 4);
  });

  test('SIGTERM ends the process with 0', async () => {
    expect(await device.stop('SIGTERM')).toEqual({ code: 0, signal: null });
  });
});
