/**
 * What a stock driver leaves to the card, in combinations: two cards of one guest connected to each other (the receiving one checks
 * every checksum in software), and one behind a TAP interface that takes unfinished frames (vnet=on), captured behind a bridge.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Guest } from '@emudev/guest';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkCapture, type CaptureSummary } from './support/capture.ts';
import { bringUp, carrier, expectCleanLog, expectPing, nameCards, received } from './support/cards.ts';
import { DeviceProcess } from './support/device-process.ts';
import { NetworkNamespace } from './support/netns.ts';

const MACS = ['52:54:00:e0:02:01', '52:54:00:e0:02:02', '52:54:00:e0:02:03'] as const;
const folder = mkdtempSync(join(tmpdir(), 'emudev-test-'));
const sockets = MACS.map((_, i) => join(folder, `${i}.sock`));
let net: NetworkNamespace;
let far: NetworkNamespace;
let device: DeviceProcess;
let guest: Guest;

/** Not `sh` in it: busybox's has an `ip` of its own, which knows less. */
const INNER = 'ip netns exec inner';
const iperf = (target: string, flags: string): string => `iperf3 -c ${target} ${flags} -J`;

beforeAll(async () => {
  net = new NetworkNamespace('emudev-offloads');
  far = new NetworkNamespace('emudev-offloads-far');
  device = await DeviceProcess.start([
    '--lcores', '2',
    ...sockets.flatMap((path, i) => ['--vdev', `emu_iavf${i},path=${path},mac=${MACS[i]},queues=4`, '--vdev', `net_iavf_be${i},emu=emu_iavf${i}`]),
    '--vdev', 'net_tap0,iface=dtap0', '--forward', 'net_iavf_be0=net_iavf_be1', '--forward', 'net_iavf_be2=net_tap0',
  ], { netns: net.name });
  // The kernel finishes what the TAP took on its way out of a device that can nothing.
  net.sync(`ip link add br0 type bridge && ip link add near type veth peer name far netns ${far.name} && ethtool -K near tso off gso off tx off sg off >/dev/null
    for i in dtap0 near; do ip link set $i master br0 up; done; ip link set br0 up`);
  far.sync('ip addr add 10.77.0.1/24 dev far && ip -6 addr add fd77::1/64 dev far nodad && ip link set far up && sysctl -qw net.ipv4.tcp_ecn=1');
  guest = await Guest.boot({ kernel: '6.12', sockets, cpus: 4 });
  await nameCards(guest, MACS);
  await guest.run('echo 1 > /proc/sys/net/ipv4/tcp_ecn; ip addr add 10.77.0.2/24 dev card2; ip -6 addr add fd77::2/64 dev card2 nodad; ip addr add 10.79.0.2/24 dev card0; ip -6 addr add fd79::2/64 dev card0 nodad');
  // Each of the two connected cards has carrier while the other one is up. Without "rx" the kernel checks what card1 receives itself.
  await guest.run(`ip link set card0 up; ip netns add inner && ip link set card1 netns inner && ${INNER} bash -c 'ip link set lo up; ip link set card1 up; ethtool -K card1 rx off'`);
  await guest.until(`${INNER} cat /sys/class/net/card1/carrier`, (o) => o.trim() === '1', { what: 'carrier of card1' });
  await guest.run(`${INNER} bash -c 'ip addr add 10.79.0.1/24 dev card1; ip -6 addr add fd79::1/64 dev card1 nodad; iperf3 -s -D'`);
  await bringUp(guest, 'card0');
  await bringUp(guest, 'card2');
});

afterAll(async () => {
  await guest?.[Symbol.asyncDispose]();
  await device?.[Symbol.asyncDispose]();
  far?.[Symbol.dispose]();
  net?.[Symbol.dispose]();
  rmSync(folder, { recursive: true, force: true });
});

describe('card to card', () => {
  async function flows(target: string, flags: string): Promise<void> {
    expect(received((await guest.run(iperf(target, flags))).output)).toBeGreaterThan(0);
  }

  /** What the receiving kernel found wrong, and how much it has looked at. */
  async function judged(): Promise<{ segments: number; wrong: number[] }> {
    const { output } = await guest.run(`${INNER} cat /proc/net/snmp /proc/net/snmp6`);
    const column = (protocol: string, name: string): number => {
      const [names = [], values = []] = output.split('\n').filter((line) => line.startsWith(`${protocol}: `)).map((line) => line.split(' '));
      return Number(values[names.indexOf(name)]);
    };
    const six = (name: string): number => Number(new RegExp(`^${name}\\s+(\\d+)`, 'm').exec(output)?.[1]);
    return {
      segments: column('Tcp', 'InSegs'),
      wrong: [column('Tcp', 'InCsumErrors'), column('Udp', 'InCsumErrors'), column('Icmp', 'InCsumErrors'), column('Ip', 'InHdrErrors'), column('Ip', 'ReasmFails'), six('Udp6InCsumErrors'), six('Icmp6InCsumErrors')],
    };
  }

  test('fragments, odd lengths, and segmentation with ECN', async () => {
    await expectPing(guest, '10.79.0.1', '-s 20001');
    await expectPing(guest, 'fd79::1', '-s 20001');
    await flows('10.79.0.1', '-t 1');
    await flows('fd79::1', '-t 1 -R');
    await flows('10.79.0.1', '-u -b 30M -l 1433 -t 1');
  });

  test('VLAN, segmentation and checksums together, whoever does which', async () => {
    await guest.run(`ip link add link card0 name v42 type vlan id 42; ip addr add 10.80.0.2/24 dev v42; ip -6 addr add fd80::2/64 dev v42 nodad; ip link set v42 up
      ${INNER} bash -c 'ip link add link card1 name v42 type vlan id 42; ip addr add 10.80.0.1/24 dev v42; ip -6 addr add fd80::1/64 dev v42 nodad; ip link set v42 up'`);
    // The drivers program their filters at their next convenience, within two seconds.
    await guest.until('ping -c 1 -W 1 10.80.0.1', (o) => o.includes(' 1 received'), { what: 'the VLAN is let through', timeoutMs: 20_000 });
    await expectPing(guest, '10.80.0.1', '-s 1472 -M do');
    await expectPing(guest, '10.80.0.1', '-s 20001');
    await flows('fd80::1', '-t 1');
    for (const features of ['tso on', 'txvlan off', 'tso off', 'rxvlan off tx off', 'txvlan on rxvlan on tso on tx on']) {
      await guest.run(`ethtool -K card0 ${features}`);
      await carrier(guest, 'card0', '1');
      await flows('10.80.0.1', '-t 1');
      await flows('10.80.0.1', '-t 1 -R');
    }
  });

  test('eight streams use several queues', async () => {
    const packets = async (): Promise<number[]> => [...(await guest.run('ethtool -S card0')).output.matchAll(/tx-[0-3]\.packets: (\d+)/g)].map(([, n]) => Number(n));
    const before = await packets();
    await flows('10.79.0.1', '-t 2 -P 8');
    const after = await packets();
    expect(after.filter((n, q) => n > before[q]! + 100).length).toBeGreaterThanOrEqual(2);
  });

  test('jumbo frames in several buffers, tagged too', async () => {
    await guest.run(`ip link set card0 mtu 9000; ip link set v42 mtu 9000; ${INNER} bash -c 'ip link set card1 mtu 9000; ip link set v42 mtu 9000'`);
    await guest.until('ping -c 1 -W 1 10.80.0.1', (o) => o.includes(' 1 received'), { what: 'both ends are up again', timeoutMs: 20_000 });
    await expectPing(guest, '10.79.0.1', '-s 8972 -M do');
    await expectPing(guest, '10.80.0.1', '-s 8972 -M do');
    await flows('10.79.0.1', '-t 1');
    await flows('10.80.0.1', '-t 1');
    await flows('fd79::1', '-t 1 -R');
  });

  test('the receiver has found nothing wrong', async () => {
    const { segments, wrong } = await judged();
    expect(segments).toBeGreaterThan(1000);
    expect(wrong).toEqual([0, 0, 0, 0, 0, 0, 0]);
  });
});

describe('a TAP interface that takes unfinished frames', () => {
  async function captured(command: string, packets: number): Promise<CaptureSummary> {
    const file = join(folder, 'capture.pcap');
    const capture = await far.background(['tcpdump', '-i', 'far', '-w', file, '-s', '0', '-U', '--immediate-mode', '-c', String(packets), `ether src ${MACS[2]}`], /listening on/);
    const ended = new Promise((resolve) => capture.once('exit', resolve));
    await guest.run(command);
    if (capture.exitCode === null) capture.kill('SIGINT');
    await ended;
    return checkCapture(file, MACS[2]);
  }

  beforeAll(async () => {
    await far.background(['iperf3', '-s', '--forceflush'], /Server listening/);
  });

  test.each([
    ['TCP', iperf('10.77.0.1', '-t 1'), 'tcp'],
    ['TCP over IPv6', iperf('fd77::1', '-t 1'), 'tcp'],
    ['TCP, eight streams', iperf('10.77.0.1', '-t 1 -P 8'), 'tcp'],
    ['UDP of odd lengths', iperf('10.77.0.1', '-u -b 20M -l 1433 -t 1'), 'udp'],
    ['UDP over IPv6', iperf('fd77::1', '-u -b 20M -l 1417 -t 1'), 'udp'],
  ] as const)('%s: every checksum is right on the far side', async (_name, command, protocol) => {
    const summary = await captured(command, 5000);
    expect(summary.wrong).toEqual([]);
    expect(summary[protocol]).toBeGreaterThan(500);
    expect(summary.longest).toBeLessThanOrEqual(1514);
  });

  test('fragments come together again', async () => {
    await expectPing(guest, '10.77.0.1', '-s 20001');
    await expectPing(guest, 'fd77::1', '-s 20001');
  });
});

test('the kernel log is clean', () => {
  expectCleanLog(guest);
});
