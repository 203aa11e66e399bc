import { describe, expect, test } from 'vitest';
import { HelpRequested, parseArguments, UsageError, type Plan } from '../src/arguments.ts';
import { lcoreAdvice } from '../src/lcore-advice.ts';
import { cloudHypervisorLine, libvirtLines, qemuLine } from '../src/wiring.ts';

describe('short cuts', () => {
  test('one socket is a card with the embedded host behind it', () => {
    expect(parseArguments(['--socket', '/run/vm0.sock'])).toMatchObject({
      vdevs: ['emu_iavf0,path=/run/vm0.sock', 'net_iavf_be0,emu=emu_iavf0', 'net_echo0'],
      pairs: ['net_iavf_be0=net_echo0'],
      engine: 'io',
      lcores: [undefined],
      idleLatencyUs: 50,
    });
  });

  test('--tap puts a TAP interface behind it; --queues, --mac and --doorbell describe the card', () => {
    const plan = parseArguments(['--socket', '/a', '--tap', 'dtap0', '--queues', '2', '--mac', '52:54:00:00:00:01', '--doorbell', 'trap']);
    expect(plan.vdevs).toEqual(['emu_iavf0,path=/a,queues=2,mac=52:54:00:00:00:01,doorbell=trap', 'net_iavf_be0,emu=emu_iavf0', 'net_tap0,iface=dtap0']);
    expect(plan.pairs).toEqual(['net_iavf_be0=net_tap0']);
  });

  test('several sockets are several cards, each with its own far end and address', () => {
    const plan = parseArguments(['--socket', '/a', '--socket-path', '/b', '--tap', 't0', '--tap', 't1', '--mac', '52:54:00:00:00:ff']);
    expect(plan.vdevs.filter((v) => v.startsWith('emu'))).toEqual(['emu_iavf0,path=/a,mac=52:54:00:00:00:ff', 'emu_iavf1,path=/b,mac=52:54:00:00:00:00']);
    expect(plan.pairs).toEqual(['net_iavf_be0=net_tap0', 'net_iavf_be1=net_tap1']);
  });

  test('--far loop returns frames to the card, captures go through net_pcap', () => {
    expect(parseArguments(['--fd', '3', '--far', 'loop', '--forward-mode', 'macswap'])).toMatchObject({ vdevs: ['emu_iavf0,fd=3', 'net_iavf_be0,emu=emu_iavf0'], pairs: ['net_iavf_be0'], engine: 'macswap' });
    expect(parseArguments(['--socket', '/a', '--rx-pcap', 'in.pcap', '--tx-pcap', 'out.pcap']).vdevs[2]).toBe('net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap');
  });
});

test('--far switch puts all cards and TAP interfaces on one switch', () => {
  const plan = parseArguments(['--socket', '/a', '--socket', '/b', '--tap', 't0', '--far', 'switch']);
  expect(plan.vdevs).toEqual(['emu_iavf0,path=/a', 'net_iavf_be0,emu=emu_iavf0', 'emu_iavf1,path=/b', 'net_iavf_be1,emu=emu_iavf1', 'net_tap0,iface=t0']);
  expect(plan.pairs).toEqual(['net_iavf_be0+net_iavf_be1+net_tap0']);
});

test('vdevs and pairs are taken as they are, after the short cuts', () => {
  const plan = parseArguments(['--vdev', 'net_null0,size=64', '--vdev', 'net_ring0', '--forward', 'net_null0=net_ring0', '--socket', '/a']);
  expect(plan.vdevs).toEqual(['emu_iavf0,path=/a', 'net_iavf_be0,emu=emu_iavf0', 'net_echo0', 'net_null0,size=64', 'net_ring0']);
  expect(plan.pairs).toEqual(['net_iavf_be0=net_echo0', 'net_null0=net_ring0']);
});

test.each<[string[], RegExp]>([
  [[], /nothing to serve/],
  [['--queues', '4'], /--socket or --fd/],
  [['--socket', '/a', '--socket', '/b', '--tap', 't0'], /2 cards need 2 --tap, there are 1/],
  [['--socket', '/a', '--far', 'switch'], /two cards, or a card and a --tap/],
  [['--socket', '/a', '--socket', '/b', '--far', 'switch', '--tx-pcap', 'f'], /different far ends/],
  [['--socket', '/a', '--forward-mode', 'fast'], /io, mac, macswap/],
  [['--socket', '/a', 'stray'], /too many arguments/],
])('%j is refused', (argv, message) => {
  expect(() => parseArguments(argv)).toThrow(UsageError);
  expect(() => parseArguments(argv)).toThrow(message);
});

test('--help is not an error', () => {
  expect(() => parseArguments(['--help'], 'driver help')).toThrow(HelpRequested);
  expect(() => parseArguments(['--help'], 'driver help')).toThrow(/driver help/);
});

describe('wiring lines survive a shell and an XML parser', () => {
  const path = "/tmp/it's <a> \"path\".sock";
  test('QEMU: the shell gives back one JSON argument', () => {
    const quoted = qemuLine(path).split('-device ')[1]!;
    const argument = quoted.slice(1, -1).replaceAll(`'\\''`, "'");
    expect(JSON.parse(argument)).toEqual({ driver: 'vfio-user-pci', socket: { type: 'unix', path } });
  });
  test('libvirt: attributes are escaped', () => {
    expect(libvirtLines(path)[1]).not.toMatch(/value="[^"]*[<'][^"]*"/);
  });
  test('cloud-hypervisor: quoted where needed', () => {
    expect(cloudHypervisorLine('/run/a.sock')).toMatch(/--user-device socket=\/run\/a\.sock$/);
    expect(cloudHypervisorLine(path)).toContain("'socket=");
  });
});

test('lcores are a number, or each has a processor', () => {
  const lcores = (text: string): Plan['lcores'] => parseArguments(['--socket', '/tmp/a', '--lcores', text]).lcores;
  expect(lcores('3')).toEqual([undefined, undefined, undefined]);
  expect(lcores('0@2')).toEqual([2]);
  expect(lcores('1@3,0@2')).toEqual([2, 3]);
  for (const text of ['0', '65', '0@', '@1', '0@1,0@2', '1@1', '0@1,2@2', '0@1024', '0@1,2', '0@x']) {
    expect(() => lcores(text), text).toThrow(expect.objectContaining({ code: 'ERR_USAGE', message: expect.stringMatching(/--lcores/) as string }));
  }
});

test('advice about processors is given where it is needed', () => {
  expect(lcoreAdvice([undefined], [0, 1])).toEqual([]);
  expect(lcoreAdvice([2, 3], [0, 1, 2, 3])).toEqual([]);
  expect(lcoreAdvice([2, 2], [0, 1, 2, 3])[0]).toMatch(/bound to processor 2/);
  expect(lcoreAdvice([undefined, undefined], [0, 1])[0]).toMatch(/2 lcores on 2 processors/);
  expect(lcoreAdvice([undefined], [0])).toEqual([]);
});
