/** The fakes themselves: what they note, and that they fail a test which should fail. */
import { describe, expect, test } from 'vitest';
import { linux, LinuxError } from '@emudev/linux';
import { Window } from '@emudev/dma';
import { BasicPciDevice, IRQ_INTX, IRQ_MSI, registers } from '@emudev/pci';
import { eventually, expectNoLeaks, failEachCall, FakeClock, FakeDoorbell, FakeEmudev, FrameBench, refuses, ScriptedPort, testFrame, TestHost, TestMemory, thrownBy, TEST_RAM_IOVA, within } from '@emudev/testkit';

describe('TestMemory', () => {
  test('fails a device that fetches a byte twice, and shows one that does not change', () => {
    using memory = new TestMemory();
    memory.map(0n, 4096);
    memory.poke(8n, Uint8Array.of(1, 2));
    memory.changeAfterFetch(8n, 1);
    const byte = new Uint8Array(1);
    void memory.read(8n, byte);
    memory.assertNoDoubleFetch();
    void memory.read(8n, byte);
    expect(byte[0]).toBe(0xfe);
    expect(memory.fetches(8n)).toBe(2);
    expect(() => { memory.assertNoDoubleFetch(); }).toThrow('0x8 was fetched 2 times');
    memory.forget();
    memory.assertNoDoubleFetch();
    expect(memory.peek(9n, 1)).toEqual(Uint8Array.of(2));
  });

  test('is sparse, has permissions, and notes what is written', () => {
    using memory = new TestMemory();
    memory.map(0n, 4096, { writable: false });
    memory.map(0x10000n, 4096);
    expect(() => memory.write(0n, Uint8Array.of(1))).toThrow('not permitted to write');
    expect(() => memory.read(0x8000n, new Uint8Array(1))).toThrow('not mapped');
    void memory.write(0x10010n, Uint8Array.of(7));
    expect(memory.writes).toEqual([{ access: 'write', iova: 0x10010n, bytes: Uint8Array.of(7) }]);
    expect(memory.peek(0x10010n, 1)).toEqual(Uint8Array.of(7));
    const { generation } = memory;
    memory.unmap(0x10000n);
    expect(memory.generation).not.toBe(generation);
    expect(() => memory.peek(0x10010n, 1)).toThrow('do not lie in one mapped region');
  });

  test('by message: promises, and no translation', async () => {
    using memory = new TestMemory();
    memory.map(0n, 4096, { byMessage: true });
    await memory.write(4n, Uint8Array.of(5));
    const byte = new Uint8Array(1);
    await memory.read(4n, byte);
    expect([byte[0], memory.translate(4n, 1, 'read'), memory.accesses.length, memory.touched]).toEqual([5, undefined, 2, 3]);
  });
});

test('TestHost serves as a server does: brackets, bounds, interrupts, resets', async () => {
  const log: string[] = [];
  class Device extends BasicPciDevice {
    override quiesce(reason: string): Promise<void> { log.push(reason); return Promise.resolve(); }
    override resume(): void { log.push('resume'); }
    override memoryChanged(): void { log.push('memory'); }
    override irqsChanged(): void { log.push('irqs'); this.host?.trigger(IRQ_MSI, 1); }
    protected override onReset(): void { log.push('power-on'); }
    raise(): void { this.host!.setIntx(true); }
  }
  const device = new Device({ name: 'it', vendorId: 1, deviceId: 2, classCode: 0xff0000, intx: true, msi: { vectors: 2 }, bars: [{ index: 0, kind: 'memory32', sizeBytes: 4096, handler: registers({ 0: { read: () => 0x12345678 } }) }] });
  await using host = new TestHost(device);
  await host.connect();
  await host.map();
  await host.assign(IRQ_MSI);
  await host.reset();
  await expect(host.change('dma-map', () => { throw new Error('no'); })).rejects.toThrow('no');
  expect(log).toEqual(['dma-map', 'memory', 'resume', 'irqs', 'irqs', 'resume', 'reset', 'power-on', 'resume', 'dma-map', 'resume']);
  expect([host.vectors.count(IRQ_MSI, 1), host.vectors.count(IRQ_MSI, 0), host.vectors.total]).toEqual([1, 0, 1]);
  expect([await host.get(0, 0), await host.get(0, 2, 2), await host.get(0, 0, 8)]).toEqual([0x12345678, 0x1234, 0x12345678]);
  expect(() => host.write(0, 4095, new Uint8Array(2))).toThrow('do not lie in');
  device.raise();
  expect(host.intx).toEqual({ asserted: true, rises: 1 });
  expect(host.trigger(IRQ_INTX, 0)).toBe(false);
  await host.disconnect();
  expect(log.slice(-2)).toEqual(['detach', 'resume']);
  expect([host.memory.regions(), host.irqFd(IRQ_MSI, 0)]).toEqual([[], -1]);
});

test('FakeClock moves when told, timers fire in their order', async () => {
  const fired: string[] = [];
  using clock = new FakeClock(1000).install();
  setTimeout(() => { fired.push(`late ${Date.now()}`); }, 20);
  setTimeout((what: string) => { fired.push(`${what} ${performance.now()}`); }, 10, 'early');
  const every = setInterval(() => { fired.push('tick'); }, 8);
  clearTimeout(setTimeout(() => { fired.push('never'); }, 1));
  using _deadline = clock.after(5, () => { fired.push('after'); });
  await clock.advance(21);
  clearInterval(every);
  await clock.advance(100);
  expect(fired).toEqual(['after', 'tick', 'early 1010', 'tick', 'late 1020']);
  expect(clock.pending).toBe(0);
});

test('expectNoLeaks finds descriptors, mappings and window memory', async () => {
  let fd = -1;
  await expect(expectNoLeaks(() => { fd = linux.eventfd(); })).rejects.toThrow('left behind: 1 descriptor of anon_inode:[eventfd]');
  linux.close(fd);
  using window = Window.open();
  let offset = 0;
  await expect(expectNoLeaks(() => { offset = window.alloc(64); })).rejects.toThrow('64 private bytes of the window');
  window.free(offset);
  const memory = new TestMemory();
  await expect(expectNoLeaks(() => { memory.map(0n, 4096); })).rejects.toThrow('1 files mapped into the window');
  memory[Symbol.dispose]();
  expect(await expectNoLeaks(() => 5)).toBe(5);
});

test('failEachCall fails every place of a call, and finds what is left behind at one of them', async () => {
  const two = (tidy: boolean) => (sys: typeof linux): void => {
    const first = sys.eventfd();
    try {
      sys.close(sys.eventfd());
    } catch (error) {
      if (tidy) sys.close(first);
      throw error;
    }
    sys.close(first);
  };
  expect(await failEachCall('eventfd', 'EMFILE', two(true))).toBe(2);
  await expect(failEachCall('eventfd', 'EMFILE', two(false))).rejects.toThrow('left behind');
  await expect(failEachCall('eventfd', 'EMFILE', (sys) => { try { sys.close(sys.eventfd()); } catch { throw new Error('oops'); } })).rejects.toThrow('has a code');
});

test.each(['mem', 'fd', 'trap'] as const)('a doorbell of kind %s can be rung', (kind) => {
  using window = Window.open();
  using doorbell = new FakeDoorbell(window, 3, kind);
  const values: number[] = [];
  const { info } = doorbell;
  if (info.kind === 'trap') {
    const listening = info.subscribe((value) => { values.push(value); });
    doorbell.ring(5);
    listening[Symbol.dispose]();
    doorbell.ring(6);
    expect([values, doorbell.subscribers]).toEqual([[5], 0]);
    return;
  }
  doorbell.ring(5);
  if (info.kind === 'mem') expect([doorbell.word, window.u32[info.offset / 4]]).toEqual([5, 5]);
  else expect(linux.eventfdDrain(info.fd)).toBe(1);
});

test('a scripted port receives what it is fed and gives what it is sent', async () => {
  const port = new ScriptedPort();
  using bench = new FrameBench();
  await port.configure({ rxQueues: 1, txQueues: 1, peerTxCapabilities: 0 });
  await port.start();
  const datapath = await bench.load(port);
  expect(port.feed([testFrame(1), testFrame(2, 1514), new Uint8Array(10_000)])).toBe(2);
  expect(bench.receive(datapath, 0).map(({ bytes }) => bytes)).toEqual([testFrame(1), testFrame(2, 1514)]);
  expect(bench.send(datapath, 0, [testFrame(3)])).toBe(1);
  expect(port.sent()).toEqual([testFrame(3)]);
  expect(port.sent()).toEqual([]);
  await port.close();
});

test('FakeEmudev notes hooks, and what a back end touches', async () => {
  await using fake = new FakeEmudev({ devType: 'x', contractVersion: 1, numVectors: 1, regions: { page: 4096 }, doorbells: { 0: 'mem' } });
  const pending = Promise.withResolvers<undefined>();
  fake.emudev.attach({ ready: () => pending.promise, lock: () => Promise.resolve(), unlock: () => {} }, { devType: 'x', version: 1 });
  const ready = fake.ready();
  await eventually('ready is under way', () => fake.emudev.consumer === 'ready');
  pending.resolve(undefined);
  await ready;
  expect(fake.hooks).toEqual(['lock dma-map', 'unlock', 'ready']);
  expect([fake.touches, fake.emudev.regionNames(), fake.emudev.queueInfo(0).doorbellId]).toEqual([0, ['page'], 0]);
  void fake.emudev.memTable().read(TEST_RAM_IOVA, new Uint8Array(1));
  expect(fake.touches).toBe(1);
});

test('what waits gives up, what must throw may not be silent', async () => {
  await expect(within('for ever', new Promise(() => {}), 1)).rejects.toThrow('for ever: not within 1 ms');
  await expect(eventually('never', () => false, 1)).rejects.toThrow('never: not within 1 ms');
  await expect(thrownBy('nothing', () => undefined)).rejects.toThrow('expected an error');
  await expect(refuses('it', 'EINVAL', () => { throw new LinuxError(1, 'x'); })).rejects.toThrow('expected EINVAL');
});
