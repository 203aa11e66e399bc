import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Window } from '@emudev/dma';
import { LinuxError, linux, type PacketSocketOptions, type Sys } from '@emudev/linux';
import { AfPacketPort, driver, type AfPacketArgs } from '@emudev/net-af-packet';

/** A kernel whose sockets are memory files as long as the ring they were opened with. */
class FakeKernel {
  readonly open = new Set<number>();
  readonly asked: PacketSocketOptions[] = [];
  mtu = 1500;
  fail: Partial<Record<'packetOpen' | 'packetFanoutGroup' | 'packetPromiscuous' | 'ifGetMac' | 'ifGetMtu' | 'ifIndex', LinuxError>> = {};
  socketsBeforeFailure = 0;
  drops = 0;
  readonly #check = (call: keyof FakeKernel['fail']): void => {
    if (this.fail[call] !== undefined) throw this.fail[call];
  };
  readonly sys: Sys = {
    ...linux,
    packetOpen: (_, options) => {
      if (this.open.size >= this.socketsBeforeFailure) this.#check('packetOpen');
      this.asked.push(options);
      const fd = linux.memfdCreate('ring', { allowSealing: false });
      linux.ftruncate(fd, options.ring.blocks * options.ring.blockBytes);
      this.open.add(fd);
      return fd;
    },
    close: (fd) => {
      expect(this.open.delete(fd)).toBe(true);
      linux.close(fd);
    },
    packetFanoutGroup: () => (this.#check('packetFanoutGroup'), 77),
    packetPromiscuous: () => { this.#check('packetPromiscuous'); },
    packetStatistics: () => {
      const { drops } = this;
      this.drops = 0;
      return { packets: 0, drops };
    },
    socketError: () => 0,
    ifGetMtu: () => (this.#check('ifGetMtu'), this.mtu),
    ifGetMac: () => (this.#check('ifGetMac'), Uint8Array.of(2, 0, 0, 0, 0, 1)),
    ifIndex: () => (this.#check('ifIndex'), 5),
    ifFlags: () => ({ up: true, running: true }),
  };
}

describe('opening', () => {
  let window: Window;
  beforeEach(() => {
    window = Window.open();
  });
  afterEach(() => {
    expect([window.allocatedBytes, window.mappingCount]).toEqual([0, 0]);
    window[Symbol.dispose]();
  });

  async function ringOf(args: Omit<AfPacketArgs, 'iface'>, mtu = 1500): Promise<PacketSocketOptions['ring']> {
    const kernel = new FakeKernel();
    kernel.mtu = mtu;
    const port = AfPacketPort.open('net_af_packet0', { iface: 'eth0', ...args }, kernel.sys);
    await port.close();
    expect(kernel.open.size).toBe(0);
    return kernel.asked[0]!.ring;
  }

  test('a slot holds what the MTU allows, a block is never smaller than a slot', async () => {
    expect(await ringOf({})).toEqual({ blockBytes: 65_536, blocks: 16, frameBytes: 2048, frames: 512 });
    expect(await ringOf({}, 9000)).toMatchObject({ frameBytes: 16_384, frames: 512 });
    // Longer ones are fetched one by one.
    expect(await ringOf({}, 65_535)).toMatchObject({ blockBytes: 65_536, frameBytes: 65_536 });
    expect(await ringOf({ blocksz: 4096, framesz: 2048, framecnt: 511 })).toEqual({ blockBytes: 4096, blocks: 256, frameBytes: 2048, frames: 512 });
  });

  test.each<[Omit<AfPacketArgs, 'iface'>, RegExp]>([
    [{ framesz: 2056 }, /framesz=2056 must be a multiple of 16/],
    [{ blocksz: 5000 }, /blocksz=5000 must be a multiple of 4096/],
    [{ blocksz: 4096, framesz: 8192 }, /not less than framesz=8192/],
    [{ framesz: 65_536, framecnt: 16_384 }, /16384 frames of 65536 bytes are more than/],
  ])('sizes that do not go together are refused: %j', (args, message) => {
    const kernel = new FakeKernel();
    expect(() => AfPacketPort.open('net_af_packet0', { iface: 'eth0', ...args }, kernel.sys)).toThrow(message);
    expect(kernel.asked).toEqual([]);
  });

  test('several queues are one group of sockets', async () => {
    const kernel = new FakeKernel();
    const port = AfPacketPort.open('net_af_packet0', { iface: 'eth0', qpairs: 3, fanout_mode: 'qm' }, kernel.sys);
    expect(kernel.asked.map(({ fanout }) => fanout)).toEqual([{ mode: 5 }, { mode: 5, group: 77 }, { mode: 5, group: 77 }]);
    await port.close();
  });

  test.each<[keyof FakeKernel['fail'], number]>([
    ['ifGetMtu', 0], ['packetOpen', 0], ['packetOpen', 1], ['packetFanoutGroup', 0], ['packetPromiscuous', 2], ['ifGetMac', 2], ['ifIndex', 2],
  ])('when %s fails (after %i sockets) its error comes through and nothing stays open', (call, socketsBefore) => {
    const kernel = new FakeKernel();
    const refused = new LinuxError(1, call, 'PACKET', 'packet sockets need CAP_NET_RAW');
    kernel.fail = { [call]: refused };
    kernel.socketsBeforeFailure = socketsBefore;
    expect(() => AfPacketPort.open('net_af_packet0', { iface: 'eth0', qpairs: 2 }, kernel.sys)).toThrow(refused);
    expect(kernel.open.size).toBe(0);
  });

  test('what the kernel dropped is missed, once, and from zero after a reset', async () => {
    const kernel = new FakeKernel();
    const port = AfPacketPort.open('net_af_packet0', { iface: 'eth0' }, kernel.sys);
    kernel.drops = 7;
    expect(port.stats().imissed).toBe(7n);
    expect(port.stats().imissed).toBe(7n);
    kernel.drops = 2;
    port.resetStats();
    expect(port.stats().imissed).toBe(0n);
    await port.close();
  });
});

test('arguments are checked where they are written', () => {
  expect(() => driver.args.qpairs.parse('17')).toThrow(/1 to 16/);
  expect(() => driver.args.fanout_mode.parse('hsah')).toThrow(/hash/);
  expect(driver.args.blocksz.parse('64k')).toBe(65_536);
  expect(driver.args.iface.required).toBe(true);
});
