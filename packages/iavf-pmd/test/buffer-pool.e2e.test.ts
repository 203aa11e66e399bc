/** Two cards of a device process that are connected to each other, and two ports that pass on what comes: the real device reads where the frames lie. */
import { readdirSync, readlinkSync } from 'node:fs';
import { expect, test } from 'vitest';
import { VdevBus } from '@emudev/emudev';
import { FRAME_LENGTH } from '@emudev/ethdev';
import { BufferPool, driver, type IavfPort } from '@emudev/iavf-pmd';
import { countOpenFds } from '@emudev/linux';
import { DeviceProcess, Driver } from './two-processes.ts';

const FRAMES = 100;
const sizeOf = (number: number): number => 60 + ((number * 37) % 1400);
function frame(number: number): Uint8Array {
  const bytes = Uint8Array.from({ length: sizeOf(number) }, (_, i) => (number * 7 + i) & 255);
  bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5, number]);
  return bytes;
}

/** `from` has sent frames; `by` receives them, all as they were sent, and passes each on to whatever `to` is at that moment. */
async function passOn(by: Driver, to: () => Driver, passes: number, whenPassed: (pass: number) => Promise<void> = async () => {}): Promise<void> {
  const { view, u8 } = by.window;
  const deadline = performance.now() + 20_000;
  for (let passed = 0; passed < passes;) {
    const count = by.datapath.rxBurst(0, by.rx, 64);
    if (count === 0) {
      if (performance.now() > deadline) throw new Error(`${passed} of ${passes} frames have passed`);
      await new Promise((resolve) => setImmediate(resolve));
      continue;
    }
    for (let n = 0; n < count; n++) {
      const data = view.getUint32(by.record(by.rx, n), true);
      const expected = frame(u8[data + 14]!);
      expect(view.getUint32(by.record(by.rx, n) + FRAME_LENGTH, true)).toBe(expected.length);
      expect(Buffer.compare(u8.subarray(data, data + expected.length), expected)).toBe(0);
    }
    expect(to().datapath.txBurst(0, by.rx, count)).toBe(count);
    passed += count;
    await whenPassed(passed);
  }
}

test('frames go round between two cards of a pool; one card is closed and opened again meanwhile, and nothing is spoiled', { timeout: 60_000 }, async () => {
  await using device = await DeviceProcess.startPair();
  using pool = BufferPool.open({ queuePairs: 2 });
  const options = { pool, promiscuous: true };
  // Neither has a link before the other has been started.
  const both = await Promise.all([Driver.start(`vfio-user:${device.socket}`, options), Driver.start(`vfio-user:${device.otherSocket}`, options)]);
  const [, b] = both;
  let [a] = both;
  try {
    expect([a.port.sharesBuffers, b.port.sharesBuffers, pool.free]).toEqual([true, true, 0]);
    for (let round = 0; round < 4; round++) {
      for (let number = 0; number < FRAMES; number++) a.send(frame(number));
      // In by b, out by a, in by b again.
      await passOn(b, () => a, 20_000);
      expect([a.port.stats().oerrors, b.port.stats().ierrors]).toEqual([0n, 0n]);
      // What is under way is lost; what a's slots have by now becomes the next port's.
      await a[Symbol.asyncDispose]();
      expect(pool.setAside).toBe(0);
      a = await Driver.start(`vfio-user:${device.socket}`, options);
      expect(a.port.sharesBuffers).toBe(true);
      while (b.datapath.rxBurst(0, b.rx, 64) !== 0);
    }
    device.kill();
    await Promise.all([a, b].map(({ port }) => new Promise((resolve) => port.onError(resolve))));
  } finally {
    await a[Symbol.asyncDispose]();
    await b[Symbol.asyncDispose]();
  }
  // A device that went without a word is not believed to have let go of them.
  expect([pool.free, pool.setAside]).toEqual([0, 2048]);
});

test('ports that name the same pool share one, as long as one of them is there', async () => {
  await using device = await DeviceProcess.startPair();
  const before = countOpenFds();
  for (let round = 0; round < 2; round++) {
    await using bus = new VdevBus().register(driver);
    // At the same time: one opens it, the other finds it.
    const probed = await Promise.all([device.socket, device.otherSocket].map((path, n) => bus.probe(`net_iavf${n},path=${path},pool=fast`)));
    expect(probed.map((one) => (one.device as IavfPort).sharesBuffers)).toEqual([true, true]);
    // Each has its rings, and both have the pool.
    expect(readdirSync('/proc/self/fd').filter((fd) => linkOf(fd).includes('memfd:iavf-pmd')).length).toBe(3);
  }
  expect(countOpenFds()).toBe(before);
  await using bus = new VdevBus().register(driver);
  await expect(bus.probe(`net_iavf0,path=${device.socket},pool=a/b`)).rejects.toMatchObject({ code: 'EMUDEV_BAD_ARG', message: expect.stringMatching(/no name of a pool/) as string });
});

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // It was readdir's own.
    return '';
  }
}
