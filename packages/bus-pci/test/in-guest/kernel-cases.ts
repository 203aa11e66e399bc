/**
 * What the bus does with devices of a kernel, as named cases that come one after the other: the same ones for the kernel in a guest and for the fake. No test framework
 * in here, and nothing of the package but types: whoever runs them says what with.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { linux, OwnedFd } from '@emudev/linux';
import type { Window } from '@emudev/dma';
import type { DeviceSource, HotPlugEvent, KernelSource, MdevManager, PciAddress, PciTransport } from '@emudev/bus-pci';

/** Where the cases take place. */
export interface KernelWorld {
  /** false: the fake, which has no modules to unload and no e1000e. */
  readonly real: boolean;
  readonly source: Pick<KernelSource, keyof KernelSource>;
  /** Another one, as another process would have it. */
  readonly otherSource: DeviceSource;
  readonly manager: Pick<MdevManager, keyof MdevManager>;
  readonly window: Window;
  /** Locked memory of this process, bytes. */
  lockedBytes(): number;
}

/** A case; the numbers are those of the table of integration cases. */
export interface KernelCase {
  readonly id: number;
  readonly title: string;
  /** Only on a real kernel. */
  readonly real?: boolean;
  run(world: KernelWorld): Promise<void>;
}

const SERIAL = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
const SMALL_DISPLAY = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1002';
const BOCHS_DISPLAY = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1003';
const mdev = (uuid: string): PciAddress => ({ kind: 'mdev', uuid });
const [BAR0, BAR2, BAR3, ROM, CONFIG, VGA] = [0, 2, 3, 6, 7, 8] as const;
const [INTX, MSI, MSIX, ERROR] = [0, 1, 2, 3] as const;
const E1000E: PciAddress = { kind: 'pci', domain: 0, bus: 0, device: 0x1d, function: 0 };

const coded = (code: string): { code: string } => ({ code });
const bytesOf = async (device: PciTransport, region: number, offset: number, length: number): Promise<Buffer> => {
  const into = Buffer.alloc(length);
  await device.read(region, offset, into);
  return into;
};
const register = async (device: PciTransport, region: number, offset: number, value?: number): Promise<number> => {
  if (value !== undefined) await device.write(region, offset, Uint8Array.of(value));
  return (await bytesOf(device, region, offset, 1))[0]!;
};
const put = (device: PciTransport, region: number, offset: number, value: number): Promise<void> => device.write(region, offset, Uint8Array.of(value));

/** Vendor, device, subsystem ids, class, revision, as configuration space has them. */
async function identity(device: PciTransport): Promise<string> {
  const config = await bytesOf(device, CONFIG, 0, 64);
  return `${config.toString('hex', 0, 4)} ${config.toString('hex', 0x2c, 0x30)} ${config.toString('hex', 8, 12)}`;
}

/** Index, size, and what the device may be asked, of each region that is there. */
async function regionsOf(device: PciTransport): Promise<string[]> {
  const texts: string[] = [];
  for (let index = 0; index < device.regionCount; index++) {
    const { sizeBytes, readable, writable, areas } = await device.region(index);
    const mapped = areas.map((area) => ` ${area.offset}+${area.sizeBytes}`).join('');
    if (sizeBytes > 0) texts.push(`${index}: ${sizeBytes} ${readable ? 'r' : '-'}${writable ? 'w' : '-'}${mapped}`);
  }
  return texts;
}

async function interruptsOf(device: PciTransport): Promise<(readonly [number, number])[]> {
  const all: (readonly [number, number])[] = [];
  for (let index = 0; index < device.interruptCount; index++) {
    const { count, flags } = await device.interrupt(index);
    all.push([count, flags]);
  }
  return all;
}

/** Signals since the last look; waits for the first. */
function signalsOf(eventfd: number): number {
  linux.pollIn(Int32Array.of(eventfd), 1, 5e9);
  return linux.eventfdDrain(eventfd);
}

/** The loopback of a port: FIFO on, interrupts on, the text out and in again. */
async function loopback(device: PciTransport, eventfd: number, text: string): Promise<void> {
  const DATA = 0, IER = 1, FCR = 2, IIR = 2, LSR = 5;
  await put(device, BAR0, FCR, 0x07);
  await put(device, BAR0, IER, 0x05);
  for (const byte of Buffer.from(text)) await put(device, BAR0, DATA, byte);
  assert.equal(signalsOf(eventfd), 1, 'one signal for the burst');
  assert.equal(await register(device, BAR0, IIR), 0xc4);
  assert.equal(await register(device, BAR0, LSR), 0x01);
  const received: number[] = [];
  while (received.length < text.length) received.push(await register(device, BAR0, DATA));
  assert.equal(Buffer.from(received).toString(), text);
  assert.equal(await register(device, BAR0, LSR), 0x60);
}

/** Announcements, and a way to wait for one. */
class Announcements implements Disposable {
  readonly seen: string[] = [];
  readonly #watch: Disposable;
  #wake: (() => void) | undefined;

  constructor(source: KernelWorld['source']) {
    const text = ({ kind, address }: HotPlugEvent): string => `${kind} ${address?.kind === 'mdev' ? address.uuid : address?.kind ?? 'all'}`;
    this.#watch = source.watch((event) => { this.seen.push(text(event)); this.#wake?.(); }, (error) => { this.seen.push(String(error)); this.#wake?.(); });
  }

  /** Waits for an event; meanwhile it, not the watch, keeps the process from ending. */
  async until(event: string): Promise<void> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => { late.reject(new Error(`no "${event}", but ${JSON.stringify(this.seen)}`)); }, 20_000);
    try {
      while (!this.seen.includes(event)) {
        const next = Promise.withResolvers<undefined>();
        this.#wake = () => { next.resolve(undefined); };
        await Promise.race([next.promise, late.promise]);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }
}

export const kernelCases: readonly KernelCase[] = [
  {
    id: 1, title: 'lists the parents of mediated devices and their types', async run({ manager }) {
      assert.deepEqual(await manager.parents(), ['mbochs', 'mdpy', 'mtty']);
      assert.deepEqual((await manager.types('mtty')).map(({ id, api, available, name, devices }) => [id, api, available, name, devices.length]), [
        ['mtty-1', 'vfio-pci', 24, 'Single port serial', 0], ['mtty-2', 'vfio-pci', 12, 'Dual port serial', 0],
      ]);
      assert.deepEqual((await manager.types('mdpy')).map(({ id, available, description }) => [id, available, description]).sort(), [
        ['mdpy-hd', 4, 'virtual display, 1920x1080 framebuffer'], ['mdpy-vga', 4, 'virtual display, 640x480 framebuffer'], ['mdpy-xga', 4, 'virtual display, 1024x768 framebuffer'],
      ]);
      assert.deepEqual((await manager.types('mbochs')).map(({ id, available }) => [id, available]).sort(), [['mbochs-large', 4], ['mbochs-medium', 16], ['mbochs-small', 64]]);
    },
  },
  {
    id: 2, title: 'makes a device, and not another one of the same name, nor one of no name', async run({ manager }) {
      assert.equal(await manager.create('mtty', 'mtty-2', SERIAL), SERIAL);
      await manager.waitReady(SERIAL, 10_000);
      await assert.rejects(manager.create('mtty', 'mtty-1', SERIAL), coded('ERR_BUS_MDEV_EXISTS'));
      await assert.rejects(manager.create('mtty', 'mtty-1', 'not-a-uuid'), coded('ERR_BUS_MDEV_BAD_UUID'));
      assert.deepEqual((await manager.types('mtty')).map(({ available }) => available), [22, 11]);
      assert.deepEqual((await manager.types('mtty'))[1]!.devices, [SERIAL]);
    },
  },
  {
    id: 3, title: 'scans three mediated devices that can be used, and each says what it is', async run({ manager, source }) {
      await manager.create('mdpy', 'mdpy-vga', SMALL_DISPLAY);
      await manager.create('mbochs', 'mbochs-medium', BOCHS_DISPLAY);
      for (const uuid of [SMALL_DISPLAY, BOCHS_DISPLAY]) await manager.waitReady(uuid, 10_000);
      const found = (await source.scan()).filter(({ address }) => address.kind === 'mdev');
      assert.deepEqual(found.map(({ address, unusable, mdev: from }) => [address.kind === 'mdev' && address.uuid, unusable, from?.parent, from?.type]), [
        [SERIAL, undefined, 'mtty', 'mtty-2'], [SMALL_DISPLAY, undefined, 'mdpy', 'mdpy-vga'], [BOCHS_DISPLAY, undefined, 'mbochs', 'mbochs-medium'],
      ]);
      const ids: string[] = [];
      for (const { address } of found) {
        await using device = await source.open(address);
        ids.push(await identity(device));
      }
      // vendor and device, subsystem, revision and class
      assert.deepEqual(ids, ['48435332 48435332 10020007', '361b0f00 f41a0011 01008003', '34121111 f41a0011 01008003']);
    },
  },
  {
    id: 4, title: 'a device that is open is busy, for this process and for others', async run({ source, otherSource }) {
      await using _device = await source.open(mdev(SERIAL));
      await assert.rejects(source.open(mdev(SERIAL)), coded('ERR_BUS_BUSY'));
      await assert.rejects(otherSource.open(mdev(SERIAL)), coded('ERR_BUS_BUSY'));
    },
  },
  {
    id: 5, title: 'knows the regions and interrupts of each', async run({ source }) {
      {
        await using serial = await source.open(mdev(SERIAL));
        assert.deepEqual([serial.regionCount, serial.interruptCount, serial.resettable], [9, 5, false]);
        assert.deepEqual(await regionsOf(serial), ['0: 8 rw', '1: 8 rw', '7: 255 rw']);
        assert.deepEqual((await interruptsOf(serial)).slice(0, MSIX + 1), [[1, 7], [1, 9], [0, 0]]);
        assert.deepEqual(await serial.interrupt(ERROR), { index: ERROR, count: 0, flags: 0 });
        await assert.rejects(serial.region(9), coded('ERR_BUS_RANGE'));
        await assert.rejects(serial.read(CONFIG, 252, new Uint8Array(4)), coded('ERR_BUS_RANGE'));
        assert.equal((await bytesOf(serial, CONFIG, 0x60, 15)).toString(), 'PCI Serial/UART');
      }
      {
        await using small = await source.open(mdev(SMALL_DISPLAY));
        assert.deepEqual([small.regionCount, small.interruptCount], [9, 5]);
        assert.deepEqual(await regionsOf(small), ['0: 2097152 rw 0+2097152', '7: 255 rw']);
        assert.ok((await interruptsOf(small)).every(([count]) => count === 0));
        await assert.rejects(small.setInterrupts(INTX, 0, [0]), coded('ERR_BUS_RANGE'));
      }
      await using bochs = await source.open(mdev(BOCHS_DISPLAY));
      assert.deepEqual([bochs.regionCount, bochs.interruptCount], [10, 5]);
      assert.deepEqual(await regionsOf(bochs), ['0: 16777216 rw 0+16777216', '2: 4096 rw', '7: 255 rw', '9: 4096 rw']);
    },
  },
  {
    id: 6, title: 'a mapped BAR has the same bytes as a read and a written one', async run({ source, window }) {
      await using device = await source.open(mdev(SMALL_DISPLAY));
      using mapped = await device.map(BAR0, window);
      const [area] = mapped.areas;
      assert.deepEqual([mapped.areas.length, area!.offset, area!.sizeBytes], [1, 0, 0x20_0000]);
      window.view.setUint32(area!.windowOffset, 0xcafe_f00d, true);
      assert.equal((await bytesOf(device, BAR0, 0, 4)).readUInt32LE(), 0xcafe_f00d);
      await device.write(BAR0, 0, Uint8Array.of(1, 2, 3, 4));
      assert.equal(window.view.getUint32(area!.windowOffset, true), 0x0403_0201);
    },
  },
  {
    id: 7, title: 'a BAR that cannot be mapped is accessed register by register', async run({ source, window }) {
      await using device = await source.open(mdev(BOCHS_DISPLAY));
      await assert.rejects(device.map(BAR2, window), coded('ERR_BUS_NOT_MAPPABLE'));
      const [DISPI_ID, X_RESOLUTION] = [0x500, 0x502];
      assert.equal((await bytesOf(device, BAR2, DISPI_ID, 2)).readUInt16LE(), 0xb0c5);
      await device.write(BAR2, X_RESOLUTION, Uint8Array.of(0x20, 0x03));
      assert.equal((await bytesOf(device, BAR2, X_RESOLUTION, 2)).readUInt16LE(), 800);
    },
  },
  {
    id: 8, title: 'a region of the device\'s own says what it is', async run({ source }) {
      await using device = await source.open(mdev(BOCHS_DISPLAY));
      assert.deepEqual((await device.region(9)).type, { type: 1, subtype: 1 });
      await assert.rejects(device.region(10), coded('ERR_BUS_RANGE'));
    },
  },
  {
    id: 9, title: 'bytes through the serial card, with an interrupt for each burst', async run({ source }) {
      for (const index of [INTX, MSI]) {
        await using device = await source.open(mdev(SERIAL));
        using eventfd = new OwnedFd(linux.eventfd());
        await device.setInterrupts(index, 0, [eventfd.fd]);
        // 15 bytes: the sample of 6.1 loses everything where its 16 are exactly full.
        for (const text of ['hello', 'and again', 'fifteen bytes..']) {
          await loopback(device, eventfd.fd, text);
          // Later kernels mask INTx when it signals, as functions have it.
          if (index === INTX) await device.maskInterrupts(index, 0, 1, false);
        }
      }
    },
  },
  {
    id: 10, title: 'interrupts may be the first thing that is asked for', async run({ source }) {
      await using device = await source.open(mdev(SERIAL));
      using eventfd = new OwnedFd(linux.eventfd());
      await device.setInterrupts(INTX, 0, [eventfd.fd]);
      assert.deepEqual(await device.interrupt(MSI), { index: MSI, count: 1, flags: 9 });
    },
  },
  {
    id: 11, title: 'removing an open device waits until it is closed, and is announced', async run({ source, manager }) {
      using announced = new Announcements(source);
      const uuid = await manager.create('mtty', 'mtty-1');
      await manager.waitReady(uuid, 10_000);
      await announced.until(`added ${uuid}`);
      const device = await source.open(mdev(uuid));
      await assert.rejects(manager.remove(uuid, { timeoutMs: 300 }), coded('ERR_BUS_MDEV_BUSY'));
      assert.ok(!announced.seen.includes(`removed ${uuid}`));
      assert.equal(await register(device, BAR0, 5), 0x60, 'it works as long as it is open');
      await device.close();
      await announced.until(`removed ${uuid}`);
      await assert.rejects(source.open(mdev(uuid)), coded('ERR_BUS_GONE'));
      await assert.rejects(device.region(0), coded('ERR_BUS_CLOSED'));
      const own = announced.seen.filter((event) => event.endsWith(uuid));
      assert.ok(own.indexOf(`added ${uuid}`) < own.indexOf(`removed ${uuid}`), JSON.stringify(own));
      assert.equal(own.at(-1), `removed ${uuid}`);
    },
  },
  {
    id: 12, title: 'a parent that goes takes its devices along, and is announced', real: true, async run({ source, manager }) {
      using announced = new Announcements(source);
      assert.equal(spawnSync('rmmod', ['mtty']).status, 0);
      await announced.until('changed all');
      await announced.until(`removed ${SERIAL}`);
      assert.deepEqual(await manager.parents(), ['mbochs', 'mdpy']);
      await assert.rejects(manager.types('mtty'), coded('ERR_BUS_MDEV_GONE'));
      await assert.rejects(source.open(mdev(SERIAL)), coded('ERR_BUS_GONE'));
      assert.deepEqual((await source.scan()).filter(({ address }) => address.kind === 'mdev').length, 2);
    },
  },
  {
    id: 13, title: 'a PCI function behind the IOMMU: bound to vfio-pci, mapped and read', real: true, async run({ source, window }) {
      const scanned = async (): Promise<readonly [string | undefined, string | undefined]> => {
        const found = (await source.scan()).find(({ address }) => address.kind === 'pci' && address.device === 0x1d);
        return [found?.kernelDriver, found?.unusable?.reason];
      };
      const former = await source.bind(E1000E);
      assert.deepEqual(await scanned(), ['vfio-pci', undefined]);
      {
        await using device = await source.open(E1000E);
        assert.equal((await identity(device)).slice(0, 8), '8680d310');
        assert.deepEqual([device.regionCount, device.interruptCount, device.resettable], [9, 5, true]);
        assert.equal((await device.region(VGA)).sizeBytes, 0);
        const NO_RESIZE = 8; // what later kernels no longer say of MSI-X
        assert.deepEqual((await interruptsOf(device)).map(([count, flags]) => [count, flags & ~NO_RESIZE]), [[1, 7], [1, 1], [5, 1], [1, 1], [1, 1]]);
        assert.deepEqual(await regionsOf(device), ['0: 131072 rw 0+131072', '1: 131072 rw 0+131072', '2: 32 rw', '3: 16384 rw 0+16384', `${ROM}: 262144 r-`, '7: 4096 rw']);
        const [COMMAND, MEMORY_AND_MASTER] = [4, 6];
        await device.write(CONFIG, COMMAND, Uint8Array.of(0, 0));
        await assert.rejects(device.read(BAR0, 8, new Uint8Array(4)), { code: 'ERR_BUS_REFUSED', errno: 5 }, 'memory space is off');
        await device.write(CONFIG, COMMAND, Uint8Array.of(MEMORY_AND_MASTER, 0));
        using mapped = await device.map(BAR0, window);
        const STATUS = 8;
        const status = (await bytesOf(device, BAR0, STATUS, 4)).readUInt32LE();
        assert.notEqual(status, 0xffff_ffff);
        assert.equal(Atomics.load(window.u32, (mapped.areas[0]!.windowOffset + STATUS) >> 2) >>> 0, status);
        using table = await device.map(BAR3, window);
        assert.equal(table.areas.length, 1);
        await assert.rejects(device.map(BAR2, window), coded('ERR_BUS_NOT_MAPPABLE'));
        await device.reset();
        using all = new OwnedFd(linux.eventfd());
        await device.setInterrupts(MSIX, 0, Array<number>(5).fill(all.fd));
        await device.clearInterrupts(MSIX);
        device.onReleaseRequest(() => undefined)[Symbol.dispose]();
      }
      assert.equal(await source.unbind(E1000E), former);
      assert.deepEqual(await scanned(), former === undefined ? [undefined, 'no-driver'] : [former, 'not-vfio']);
      await source.bind(E1000E);
    },
  },
  {
    id: 14, title: 'memory for a device is mapped once, locked meanwhile, and let go', async run({ real, source, window, lockedBytes }) {
      const before = lockedBytes();
      const sizeBytes = 1 << 20;
      using memory = new OwnedFd(linux.memfdCreate('dma', { allowSealing: false }));
      linux.ftruncate(memory.fd, sizeBytes);
      using mapping = window.map({ fd: memory.fd, fdOffset: 0, lengthBytes: sizeBytes, write: true });
      const map = { iova: 0x1_0000_0000n, sizeBytes, readable: true, writable: true, fd: memory.fd, fdOffset: 0, address: window.base + BigInt(mapping.offset) };
      // A mediated device locks what it uses, a function all that it could.
      const device = await source.open(real ? E1000E : mdev(SERIAL));
      assert.equal(device.dmaPageBytes, 4096);
      assert.ok(device.iovaRanges === undefined || device.iovaRanges.length > 0);
      await device.dmaMap(map);
      assert.equal(lockedBytes() - before, sizeBytes);
      await assert.rejects(device.dmaMap(map), { code: 'ERR_BUS_DMA', errno: 17 });
      await assert.rejects(device.dmaUnmap(map.iova, 4096), coded('ERR_BUS_DMA'));
      await device.dmaUnmap(map.iova, sizeBytes);
      assert.equal(lockedBytes(), before);
      await assert.rejects(device.dmaUnmap(map.iova, sizeBytes), coded('ERR_BUS_DMA'));
      await device.dmaMap(map);
      await device.close();
      assert.equal(lockedBytes(), before, 'closing lets go, too');
    },
  },
];

/** A line of /proc/self/status, bytes. */
export function memoryOfProcess(line: 'VmLck' | 'VmPin'): number {
  return 1024 * Number(new RegExp(`^${line}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'latin1'))![1]);
}
