import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Quiescence, QuiescentReader, Window } from '@emudev/dma';
import { allocateBurst, attachablePort, type LcoreContext, type LinkStatus, type PortDatapath } from './port-rig.ts';
import { countMappings, countOpenFds } from '@emudev/linux';
import { Capability, Opcode, decodeConfigVsiQueues, decodeEtherAddrList, decodeGetVfResources, encodeEvent, encodeSupportedRxdids, encodeVersion, encodeVfResources } from '@emudev/virtchnl';
import { createDatapath } from '../src/datapath.ts';
import { IavfPort, type IavfPortOptions } from '../src/port.ts';
import { PCI_COMMAND, QRX_TAIL1, QTX_TAIL1, VF_ARQH1, VF_ATQBAL1 } from '../src/registers.ts';
import { FakeDevice, MAC, RESOURCES } from './fake-device.ts';

let window: Window;
let device: FakeDevice;
let port: IavfPort | undefined;
const open = async (options: IavfPortOptions = {}): Promise<IavfPort> => (port = await IavfPort.open('net_iavf0', async () => device, options));
const started = async (options: IavfPortOptions = {}): Promise<IavfPort> => {
  const opened = await open(options);
  await opened.configure({ rxQueues: options.queues ?? 1, txQueues: options.queues ?? 1, peerTxCapabilities: 0 });
  await opened.start();
  return opened;
};

beforeEach(() => {
  window = Window.open();
  // Its cells belong to the window, not to a test.
  Quiescence.of(window);
  device = new FakeDevice(window);
  port = undefined;
});
afterEach(async () => {
  await port?.close();
  window[Symbol.dispose]();
});

describe('probe', () => {
  test('enables the function, negotiates, and says what there is', async () => {
    const { info } = await open({ queues: 8, mtu: 9000 });
    expect(device.config.get(PCI_COMMAND)! & 6).toBe(6);
    expect(device.requests.map((r) => r.opcode)).toEqual([Opcode.VERSION, Opcode.GET_VF_RESOURCES]);
    expect(info).toMatchObject({ driver: 'net_iavf', maxRxQueues: 4, maxTxQueues: 4, maxFrameBytes: 9022, mac: MAC });
  });

  test.each<[string, string, () => void]>([
    ['another device', 'ERR_IAVF_NOT_IAVF', () => device.config.set(2, 0x1572)],
    ['a newer protocol', 'ERR_IAVF_BAD_DEVICE', () => device.answers.set(Opcode.VERSION, () => ({ payload: encodeVersion({ major: 2, minor: 0 }) }))],
    ['a refusal', 'ERR_IAVF_REFUSED', () => device.answers.set(Opcode.GET_VF_RESOURCES, () => ({ status: -5 }))],
    ['a truncated reply', 'ERR_IAVF_BAD_DEVICE', () => device.answers.set(Opcode.GET_VF_RESOURCES, () => ({ payload: new Uint8Array(19) }))],
    ['no queue', 'ERR_IAVF_BAD_DEVICE', () => device.answers.set(Opcode.GET_VF_RESOURCES, () => ({ payload: encodeVfResources({ ...RESOURCES, queuePairs: 0 }) }))],
    ['one vector', 'ERR_IAVF_BAD_DEVICE', () => device.answers.set(Opcode.GET_VF_RESOURCES, () => ({ payload: encodeVfResources({ ...RESOURCES, maxVectors: 1 }) }))],
    ['an absurd RSS key', 'ERR_IAVF_BAD_DEVICE', () => device.answers.set(Opcode.GET_VF_RESOURCES, () => ({ payload: encodeVfResources({ ...RESOURCES, rssKeyBytes: 1 << 30 }) }))],
    ['a reply longer than its buffer', 'ERR_IAVF_BAD_DEVICE', () => (device.lieAboutLength = 60_000)],
  ])('%s is refused, and everything is given back', async (_what, code, spoil) => {
    spoil();
    const before = [countOpenFds(), window.mappingCount, window.allocatedBytes - 8192];
    await expect(open()).rejects.toMatchObject({ code });
    expect(device.isClosed).toBe(true);
    expect([countOpenFds(), window.mappingCount, window.allocatedBytes]).toEqual(before);
  });

  test('a base register that does not read back is a bad device', async () => {
    device.read32 = async (offset) => (offset === VF_ATQBAL1 ? 0xdead_beef : (device.registers.get(offset) ?? 0));
    await expect(open()).rejects.toMatchObject({ code: 'ERR_IAVF_BAD_DEVICE' });
  });

  test('a head outside the ring is a bad device', async () => {
    const opened = await open();
    const failed = new Promise((resolve) => opened.onError(resolve));
    const read32 = device.read32.bind(device);
    device.read32 = async (offset) => (offset === VF_ARQH1 ? 0x3ff : read32(offset));
    await expect(opened.deviceStats()).rejects.toMatchObject({ code: 'ERR_IAVF_BAD_DEVICE' });
    expect(await failed).toMatchObject({ code: 'ERR_IAVF_BAD_DEVICE' });
  });
});

describe('start and stop', () => {
  test('programs the queues, posts the buffers before enabling, and learns of the link', async () => {
    const links: LinkStatus[] = [];
    const opened = await open({ queues: 2 });
    opened.onLink((link) => links.push(link));
    await opened.configure({ rxQueues: 2, txQueues: 1, peerTxCapabilities: 0 });
    let tailsAtEnable: number[] = [];
    const { tx, rx } = device.doorbells!;
    device.answers.set(Opcode.ENABLE_QUEUES, () => {
      tailsAtEnable = [rx, rx + 4, tx].map((at) => window.u32[at >>> 2]!);
      return {};
    });
    await opened.start();
    expect(tailsAtEnable).toEqual([511, 511, 0]);
    const [first, second] = device.queues().pairs;
    expect([first!.tx.ringLength, first!.rx.ringLength, second!.tx.ringLength, second!.rx.ringLength]).toEqual([512, 512, 0, 512]);
    expect(first!.rx).toMatchObject({ bufferBytes: 2048, maxPacketBytes: 1526, rxdid: 0 });
    expect(decodeEtherAddrList(device.sent(Opcode.ADD_ETH_ADDR), Opcode.ADD_ETH_ADDR).addresses[0]).toEqual({ address: MAC, type: 1 });
    expect(links).toEqual([{ up: true, speedMbps: 10_000 }]);
    await opened.stop();
    expect(device.requests.slice(-2).map((r) => r.opcode)).toEqual([Opcode.DISABLE_QUEUES, Opcode.DEL_ETH_ADDR]);
    expect(opened.link().up).toBe(false);
  });

  test('rings are as long as they are asked to be, every Rx descriptor but one posted', async () => {
    await started({ queues: 2, rxDescriptors: 96, txDescriptors: 4096 });
    const { pairs } = device.queues();
    expect(pairs.slice(0, 2).map(({ rx, tx }) => [rx.ringLength, tx.ringLength])).toEqual([[96, 4096], [96, 4096]]);
    expect(window.u32[device.doorbells!.rx >>> 2]).toBe(95);
    const posted = pairs.slice(0, 2).flatMap(({ rx }) => Array.from({ length: 95 }, (_, i) => window.view.getBigUint64(device.at(rx.ringAddress) + 32 * i, true)));
    expect(new Set(posted).size).toBe(2 * 95);
  });

  describe('Rx descriptors', () => {
    const grants = (rxdids: readonly number[]): void => {
      device.answers.set(Opcode.GET_VF_RESOURCES, () => ({ payload: encodeVfResources({ ...RESOURCES, capabilities: RESOURCES.capabilities | Capability.RX_FLEX_DESC }) }));
      device.answers.set(Opcode.GET_SUPPORTED_RXDIDS, () => ({ payload: encodeSupportedRxdids(rxdids) }));
    };
    /** What the last configuration said, and how far apart the addresses are that are posted. */
    const seen = (): { rxdid: number; bytes: number } => {
      const { rx } = decodeConfigVsiQueues(device.requests.findLast(({ opcode }) => opcode === Opcode.CONFIG_VSI_QUEUES)!.payload).pairs[0]!;
      const second = [16, 32].find((at) => window.view.getBigUint64(device.at(rx.ringAddress) + at, true) !== 0n);
      return { rxdid: rx.rxdid, bytes: second! };
    };
    const asked = (): boolean => device.requests.some(({ opcode }) => opcode === Opcode.GET_SUPPORTED_RXDIDS);

    test.each([
      ['a device with RXDID 0', [0, 1], { rxdid: 0, bytes: 16 }],
      ['a device with others only', [1, 2, 22], { rxdid: 1, bytes: 32 }],
    ])('%s', async (_what, rxdids, expected) => {
      grants(rxdids);
      const opened = await started();
      expect([seen(), opened.rxDescriptorBytes]).toEqual([expected, expected.bytes]);
    });

    test('a device that does not grant formats is not asked for them', async () => {
      const opened = await started();
      expect([seen(), asked(), opened.rxDescriptorBytes]).toEqual([{ rxdid: 0, bytes: 32 }, false, 32]);
    });

    test('32 bytes can be had of any device: it is not even asked to grant formats', async () => {
      grants([0, 1]);
      await started({ shortRxDescriptors: false });
      expect([seen(), asked()]).toEqual([{ rxdid: 0, bytes: 32 }, false]);
      expect(decodeGetVfResources(device.sent(Opcode.GET_VF_RESOURCES))! & Capability.RX_FLEX_DESC).toBe(0);
    });

    test('a device may have others after a reset', async () => {
      grants([0, 1]);
      const opened = await started();
      grants([1]);
      await opened.reset();
      expect(seen()).toEqual({ rxdid: 1, bytes: 32 });
      grants([0]);
      await opened.reset();
      expect(seen()).toEqual({ rxdid: 0, bytes: 16 });
    });

    test('an answer of another length is a bad device', async () => {
      grants([0]);
      device.answers.set(Opcode.GET_SUPPORTED_RXDIDS, () => ({ payload: new Uint8Array(4) }));
      await expect(open()).rejects.toMatchObject({ code: 'ERR_IAVF_BAD_DEVICE' });
    });
  });

  test.each([{ rxDescriptors: 32 }, { txDescriptors: 8192 }, { rxDescriptors: 100 }, { txDescriptors: Number.NaN }])('rings of %o are refused', async (options) => {
    await expect(open(options)).rejects.toMatchObject({ code: 'ERR_IAVF_CONFIG', message: expect.stringMatching(/want 64 to 4096, a multiple of 32/) as string });
  });

  test('link changes are followed while it runs', async () => {
    const opened = await started();
    const change = new Promise<LinkStatus>((resolve) => opened.onLink(resolve));
    device.linkUp = false;
    device.sendLink();
    expect(await change).toEqual({ up: false, speedMbps: 0 });
  });

  test('an answer that never comes is a typed time-out', { timeout: 10_000 }, async () => {
    const opened = await open();
    device.answers.set(Opcode.GET_STATS, () => undefined);
    await expect(opened.deviceStats()).rejects.toMatchObject({ code: 'ERR_IAVF_TIMEOUT' });
  });

  test('more queues than granted are refused', async () => {
    const opened = await open({ queues: 8 });
    await expect(opened.configure({ rxQueues: 5, txQueues: 1, peerTxCapabilities: 0 })).rejects.toMatchObject({ code: 'ERR_IAVF_CONFIG' });
  });
});

describe('reset', () => {
  test('of the driver: everything is set up again', async () => {
    const opened = await started();
    device.requests.length = 0;
    await opened.reset();
    expect(device.requests.map((r) => r.opcode)).toEqual([
      Opcode.RESET_VF, Opcode.VERSION, Opcode.GET_VF_RESOURCES, Opcode.CONFIG_RSS_KEY, Opcode.CONFIG_RSS_LUT, Opcode.CONFIG_VSI_QUEUES, Opcode.CONFIG_IRQ_MAP, Opcode.ADD_ETH_ADDR,
      Opcode.ENABLE_QUEUES,
    ]);
    expect(opened.link().up).toBe(true);
  });

  test('of the device: announced, awaited, recovered from', async () => {
    const opened = await started();
    const backUp = new Promise<void>((resolve) => opened.onLink((link) => link.up && resolve()));
    device.deliver(Opcode.EVENT, 0, encodeEvent({ kind: 'reset-impending' }, true));
    setTimeout(() => device.reset(), 5);
    await backUp;
    expect(opened.link().up).toBe(true);
  });

  test('of the device, without a word: found by looking', async () => {
    const opened = await started();
    const backUp = new Promise<void>((resolve) => opened.onLink((link) => link.up && resolve()));
    device.reset();
    await backUp;
    expect(device.requests.filter((r) => r.opcode === Opcode.ENABLE_QUEUES)).toHaveLength(2);
  });

  test('a device that grants less afterwards makes the port fail', async () => {
    const opened = await started({ queues: 2 });
    device.answers.set(Opcode.GET_VF_RESOURCES, () => ({ payload: encodeVfResources({ ...RESOURCES, queuePairs: 1 }) }));
    await expect(opened.reset()).rejects.toMatchObject({ code: 'ERR_IAVF_CONFIG' });
    await expect(opened.start()).rejects.toMatchObject({ code: 'ERR_IAVF_CONFIG' });
  });
});

describe('the data path', () => {
  const context = (): LcoreContext => ({ ...attachablePort(window), lcore: 0 });
  const datapathOf = (of: IavfPort): PortDatapath => createDatapath(context(), of.datapath().init as never);

  test('sends into the device’s ring and is out of it when the port stops', async () => {
    const opened = await started();
    const datapath = datapathOf(opened);
    using burst = allocateBurst(window);
    window.u8.fill(0xab, burst.arena, burst.arena + 60);
    window.u32[burst.records >>> 2] = burst.arena;
    window.u32[(burst.records >>> 2) + 1] = 60;
    expect(datapath.txBurst(0, burst, 1)).toBe(1);
    expect(window.u32[device.doorbells!.tx >>> 2]).toBe(1);
    const ring = device.at(device.queues().pairs[0]!.tx.ringAddress);
    expect(window.u8[device.at(window.view.getBigUint64(ring, true)) + 59]).toBe(0xab);
    expect(opened.stats().opackets).toBe(1n);
    await opened.stop();
    expect(datapath.txBurst(0, burst, 1)).toBe(0);
    expect(datapath.rxBurst(0, burst, 64)).toBe(0);
    opened.resetStats();
    expect(opened.xstats().get('tx_q0_packets')).toBe(0n);
  });

  test('an lcore that passes no checkpoint delays a stop, but not for ever', { timeout: 10_000 }, async () => {
    const opened = await started();
    const cells = Quiescence.of(window).addReader('stuck lcore');
    new QuiescentReader(window.i32, cells).online();
    try {
      await expect(opened.stop()).rejects.toMatchObject({ code: 'ERR_IAVF_BUSY', message: expect.stringContaining('stuck lcore') as string });
      expect(device.requests.map((r) => r.opcode)).not.toContain(Opcode.DISABLE_QUEUES);
    } finally {
      Quiescence.of(window).removeReader(cells);
    }
  });

  test('trapped doorbells are forwarded as register writes', async () => {
    await device.close();
    device = new FakeDevice(window, { mapped: false });
    const opened = await started();
    expect(opened.trapsDoorbells).toBe(true);
    expect([device.registers.get(QRX_TAIL1), device.registers.get(QTX_TAIL1)]).toEqual([511, 0]);
    const datapath = datapathOf(opened);
    using burst = allocateBurst(window);
    window.u32[burst.records >>> 2] = burst.arena;
    window.u32[(burst.records >>> 2) + 1] = 60;
    const forwarded = new Promise<void>((resolve) => {
      const post = device.post32.bind(device);
      device.post32 = async (register, value) => {
        await post(register, value);
        resolve();
      };
    });
    datapath.txBurst(0, burst, 1);
    await forwarded;
    expect(device.posted).toEqual([[QTX_TAIL1, 1]]);
  });
});

describe('the end', () => {
  test('a device that vanishes: link down, a typed error, bursts that do nothing, and everything freed on close', async () => {
    const before = [countOpenFds(), countMappings('memfd:'), window.mappingCount, window.allocatedBytes - 8192];
    const opened = await started();
    const datapath = createDatapath({ ...attachablePort(window), lcore: 0 }, opened.datapath().init as never);
    const failed = new Promise((resolve) => opened.onError(resolve));
    device.vanish();
    expect(await failed).toMatchObject({ code: 'ERR_IAVF_GONE' });
    expect(opened.link().up).toBe(false);
    const tail = window.u32[device.doorbells!.tx >>> 2];
    using burst = allocateBurst(window);
    expect([datapath.rxBurst(0, burst, 64), datapath.txBurst(0, burst, 0)]).toEqual([0, 0]);
    expect(window.u32[device.doorbells!.tx >>> 2]).toBe(tail);
    await expect(opened.reset()).rejects.toMatchObject({ code: 'ERR_IAVF_GONE' });
    await opened.close();
    burst[Symbol.dispose]();
    expect([countOpenFds(), countMappings('memfd:'), window.mappingCount, window.allocatedBytes]).toEqual(before);
  });

  test('close leaves the device as it was found', async () => {
    const opened = await started();
    await opened.close();
    expect(device.requests.at(-1)!.opcode).toBe(Opcode.RESET_VF);
    expect([device.registers.get(VF_ATQBAL1), device.vectorFd, device.dmaMaps.size]).toEqual([0, undefined, 0]);
    await opened.close();
  });

  test('capabilities that were not asked for are not believed', async () => {
    device.answers.set(Opcode.GET_VF_RESOURCES, () => ({ payload: encodeVfResources({ ...RESOURCES, capabilities: (RESOURCES.capabilities | Capability.PTP | Capability.QOS) >>> 0 }) }));
    await expect(started()).resolves.toBeDefined();
    expect(device.requests.map((r) => r.opcode)).not.toContain(66);
  });
});
