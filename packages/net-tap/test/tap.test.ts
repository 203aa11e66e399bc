import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Window } from '@emudev/dma';
import { LinuxError, linux, type Sys } from '@emudev/linux';
import { TapPort, driver } from '@emudev/net-tap';

/** A kernel with TAPs of memory: what was opened, closed and asked for. */
class FakeKernel {
  readonly open = new Set<number>();
  readonly calls: string[] = [];
  fail: Partial<Record<'tapOpen' | 'ifSetMtu' | 'ifSetMac' | 'ifGetMac', LinuxError>> = {};
  tapsBeforeFailure = 0;
  knownOffloads = 127;
  #next = 1000;
  readonly sys: Sys = {
    ...linux,
    tapOpen: (name, options) => {
      if (this.fail.tapOpen && this.open.size >= this.tapsBeforeFailure) throw this.fail.tapOpen;
      if (((options.offloads ?? 0) & ~this.knownOffloads) !== 0) throw new LinuxError(22, 'ioctl', 'TUNSETOFFLOAD');
      this.calls.push(`tapOpen ${name} vnet=${String(options.vnetHeaderBytes)} mq=${String(options.multiQueue)} offloads=${String(options.offloads)}`);
      this.open.add(this.#next);
      return { fd: this.#next++, name: name.replace('%d', '7') };
    },
    close: (fd) => {
      expect(this.open.delete(fd)).toBe(true);
    },
    ifSetMtu: (name, mtu) => {
      if (this.fail.ifSetMtu) throw this.fail.ifSetMtu;
      this.calls.push(`mtu ${name} ${String(mtu)}`);
    },
    ifSetMac: (name, mac) => {
      if (this.fail.ifSetMac) throw this.fail.ifSetMac;
      this.calls.push(`mac ${name} ${Buffer.from(mac).toString('hex')}`);
    },
    ifGetMac: () => {
      if (this.fail.ifGetMac) throw this.fail.ifGetMac;
      return Uint8Array.of(2, 0, 0, 0, 0, 1);
    },
    ifUp: (name, up) => void this.calls.push(`${name} ${up ? 'up' : 'down'}`),
    ifFlags: () => ({ up: true, running: true }),
  };
}

describe('opening', () => {
  let window: Window;
  beforeEach(() => {
    window = Window.open();
  });
  afterEach(() => {
    expect(window.allocatedBytes).toBe(0);
    window[Symbol.dispose]();
  });

  test('asks for frames behind a virtio header, unfinished and uncut, and sets what it was told to', async () => {
    const kernel = new FakeKernel();
    const port = TapPort.open('net_tap0', { iface: 'tap%d', mac: Uint8Array.of(2, 0, 0, 0, 0, 9), mtu: 9000, queues: 2 }, kernel.sys);
    await port.configure({ rxQueues: 2, txQueues: 2, peerTxCapabilities: 0 });
    await port.start();
    expect(port.link().up).toBe(true);
    await port.close();
    expect(kernel.calls).toEqual([
      'tapOpen tap%d vnet=12 mq=true offloads=111',
      'tapOpen tap7 vnet=12 mq=true offloads=111',
      'mtu tap7 9000',
      'mac tap7 020000000009',
      'tap7 up',
      'tap7 down',
    ]);
    expect(kernel.open.size).toBe(0);
  });

  test('goes without UDP segmentation on a kernel that has none', async () => {
    const kernel = new FakeKernel();
    kernel.knownOffloads = 15;
    const port = TapPort.open('net_tap0', {}, kernel.sys);
    expect(kernel.calls[0]).toBe('tapOpen dtap%d vnet=12 mq=false offloads=15');
    await port.close();
  });

  test('without the header nothing may be left undone', async () => {
    const port = TapPort.open('net_tap0', { vnet: false }, new FakeKernel().sys);
    expect(port.info.txCapabilities).toBe(0);
    await port.close();
  });

  test.each<['tapOpen' | 'ifSetMtu' | 'ifSetMac' | 'ifGetMac', number]>([
    ['tapOpen', 0],
    ['tapOpen', 1],
    ['ifSetMtu', 2],
    ['ifSetMac', 2],
    ['ifGetMac', 2],
  ])('when %s fails (after %i queues) its error comes through and nothing stays open', (call, tapsBefore) => {
    const kernel = new FakeKernel();
    const refused = new LinuxError(1, call, 'TUNSETIFF', 'creating a TAP needs CAP_NET_ADMIN');
    kernel.fail = { [call]: refused };
    kernel.tapsBeforeFailure = tapsBefore;
    expect(() => TapPort.open('net_tap0', { queues: 2, mac: Uint8Array.of(2, 0, 0, 0, 0, 9) }, kernel.sys)).toThrow(refused);
    expect(kernel.open.size).toBe(0);
  });
});

test('arguments are checked where they are written', () => {
  expect(() => driver.args.mtu.parse('9715')).toThrow(/68 to 9714/);
  expect(() => driver.args.mac.parse('01:00:00:00:00:00')).toThrow(/multicast/);
  expect(driver.args.vnet.parse('off')).toBe(false);
});
