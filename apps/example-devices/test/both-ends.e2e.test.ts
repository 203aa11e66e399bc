/**
 * Our client against our server, in two processes, every command of the protocol: the example devices are served by the program a
 * user would start, and this process consumes them.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Window } from '@emudev/dma';
import { countOpenFds, linux } from '@emudev/linux';
import { CHANNEL, DmaAllocator, migrate, VfioUserClient, type ClientEvent, type ConnectOptions, type ReconnectEvent } from '@emudev/vfio-user-client';
import { COMMANDS, commandName, isCommand, VFIO_USER_DMA_READ, VFIO_USER_DMA_WRITE } from '@emudev/vfio-user-protocol';

const CLI = new URL('../dist/cli.js', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'both-ends-'));
const at = (name: string): string => join(folder, `${name}.sock`);
const PAGE = 4096;
const [BAR0, BAR2, CONFIG] = [0, 2, 7];
const [INTX, MSIX] = [0, 2];
const children = new Set<ChildProcess>();

async function start(...names: readonly string[]): Promise<ChildProcess> {
  const child = spawn(process.execPath, [CLI, ...names.flatMap((name) => [name.replace(/-\d$/, ''), at(name)])], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.add(child);
  let said = '';
  while (said.split('listens on').length <= names.length) said += String((await once(child.stdout!, 'data'))[0]);
  return child;
}

async function stop(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  const ended = once(child, 'close');
  child.kill(signal);
  await ended;
  children.delete(child);
}

/** Numbers of the commands that went either way. */
const seen = new Set<number>();
const listen = (event: unknown): void => {
  const { type, command, flags } = event as ClientEvent & { command: number; flags: number };
  if (type === 'request' || (type === 'frame' && isCommand(flags))) seen.add(command);
};

let devices: ChildProcess;
beforeAll(async () => {
  subscribe(CHANNEL, listen);
  devices = await start('irq-intx', 'irq-msix', 'conformance', 'shadow-ioeventfd', 'gpio', 'lspci-fixture');
});
afterAll(async () => {
  unsubscribe(CHANNEL, listen);
  for (const child of children) await stop(child, 'SIGTERM');
  rmSync(folder, { recursive: true });
});

let before = 0;
beforeEach(() => void (before = countOpenFds()));
afterEach(() => void expect(countOpenFds()).toBe(before));

const connect = (name: string, options: ConnectOptions = {}): Promise<VfioUserClient> => VfioUserClient.connect(at(name), options);
const descriptorsOf = (child: ChildProcess): number => readdirSync(`/proc/${child.pid}/fd`).length;

/** Registers of the interrupt devices, which are explained in their source. */
const RAISE = 0x60;
const ACKNOWLEDGE = 0x64;
const IRQ_DMA = 0x100;
async function copy(client: VfioUserClient, source: bigint, destination: bigint, count: number, command: number): Promise<void> {
  const { regions } = client;
  await regions.write16(CONFIG, 4, 7);
  await regions.writeMulti([
    { region: BAR0, offset: 0x80, data: new Uint8Array(BigUint64Array.of(source).buffer.slice(0, 4)) },
    { region: BAR0, offset: 0x84, data: new Uint8Array(BigUint64Array.of(source).buffer.slice(4)) },
    { region: BAR0, offset: 0x88, data: new Uint8Array(BigUint64Array.of(destination).buffer.slice(0, 4)) },
    { region: BAR0, offset: 0x8c, data: new Uint8Array(BigUint64Array.of(destination).buffer.slice(4)) },
    { region: BAR0, offset: 0x90, data: new Uint8Array(Uint32Array.of(count).buffer) },
  ]);
  await regions.write32(BAR0, 0x98, command);
  await expect.poll(async () => (await regions.read32(BAR0, 0x98)) & 1).toBe(0);
  expect((await regions.read32(BAR0, 0x20)) & 2, 'the copy failed').toBe(0);
}
const [FROM_GUEST, TO_GUEST, AND_TELL] = [1, 3, 4];

describe('what there is', () => {
  it('device, regions, interrupts, configuration space', async () => {
    await using client = await connect('irq-msix');
    expect(await client.deviceInfo()).toEqual({ flags: 3, numRegions: 9, numIrqs: 5 });
    expect((await client.irqInfo(MSIX)).count).toBe(8);
    const config = await client.pciConfig();
    expect(await config.header()).toMatchObject({ vendorId: 0xe0de, deviceId: 0x12 });
    const bars = await config.bars();
    expect(bars.map(({ index, sizeBytes }) => [index, Number(sizeBytes)])).toEqual(await Promise.all(bars.map(async ({ index }) => [index, (await client.regionInfo(index)).sizeBytes])));
    expect(await config.findCapability(0x11)).toBeDefined();
    await using fixture = await connect('lspci-fixture');
    const space = await fixture.pciConfig();
    expect((await space.capabilities()).map(({ id, offset }) => [id, offset])).toEqual([[0x01, 0x40], [0x09, 0x48], [0x10, 0x58]]);
    expect((await space.extendedCapabilities()).map(({ id, offset }) => [id, offset])).toEqual([[0x03, 0x100], [0x0b, 0x10c], [0x0b, 0x400]]);
  });

  it('registers of every width, posted or not, several at once, in order; what the device refuses', async () => {
    await using client = await connect('irq-msix');
    expect(client.server.writeMultiple).toBe(true);
    await client.regions.write64(BAR2, 0, 0x1122_3344_5566_7788n);
    await client.regions.writeMulti(Array.from({ length: 500 }, (_, i) => ({ region: BAR2, offset: i % 8, data: Uint8Array.of(i) })));
    expect(await client.read(BAR2, 0, 8)).toEqual(Uint8Array.from({ length: 8 }, (_, i) => 496 + i < 500 ? 496 + i : 488 + i));
    await client.regions.writeMulti([{ region: BAR2, offset: 16, data: Uint8Array.of(1) }, { region: BAR2, offset: 17, data: Uint8Array.of(2) }], { posted: true });
    await client.regions.write8(BAR2, 18, 3, { posted: true });
    expect(await client.regions.read32(BAR2, 16)).toBe(0x0003_0201);
    await expect(client.read(BAR2, PAGE - 1, 2)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_REFUSED', errno: 22 });
    await client.reset();
    expect(await client.regions.read64(BAR2, 0)).toBe(0n);
  });

  it('a mapped region is the same memory as messages reach', async () => {
    using window = Window.open();
    await using client = await connect('conformance');
    using bar1 = await client.mapRegion(1, window);
    window.u8[bar1.at(0x2010, 1)!] = 0xa5;
    expect(await client.regions.read8(1, 0x2010)).toBe(0xa5);
    await client.regions.write8(1, 0x10, 0x5a);
    expect(window.u8[bar1.at(0x10, 1)!]).toBe(0x5a);
  });

  it('a doorbell in shared memory, beside messages', async () => {
    await using client = await connect('shadow-ioeventfd');
    await client.reset();
    using io = await client.regions.ioFds(BAR0);
    const [doorbell] = io.entries;
    expect(doorbell).toMatchObject({ kind: 'shadow', offset: 0, sizeBytes: 4 });
    if (doorbell?.kind !== 'shadow') return;
    linux.pwrite(doorbell.memoryFd!, Uint8Array.of(42, 0, 0, 0), doorbell.memoryOffset);
    linux.eventfdSignal(doorbell.fd!);
    await expect.poll(() => client.read32(BAR0, 0)).toBe(42);
    using none = await client.regions.ioFds(CONFIG);
    expect(none.entries).toEqual([]);
  });
});

describe('interrupts', () => {
  it('MSI-X: raised, fired in a loop, masked and delivered late', async () => {
    await using client = await connect('irq-msix');
    await using irqs = await client.irqs.subscribe(MSIX, [0, 1, 2, 5]);
    await client.write32(BAR0, RAISE, 1 << 5);
    expect((await irqs.next()).value).toEqual({ vector: 5, count: 1 });
    await client.irqs.trigger(MSIX, 1, [true, false]);
    expect((await irqs.next()).value).toEqual({ vector: 1, count: 1 });
    await client.irqs.mask(MSIX, 2);
    await client.write32(BAR0, RAISE, 1 << 2);
    await client.write32(BAR0, RAISE, 1 << 0);
    expect((await irqs.next()).value, 'the masked one is held back').toEqual({ vector: 0, count: 1 });
    await client.irqs.unmask(MSIX, 2);
    expect((await irqs.next()).value).toEqual({ vector: 2, count: 1 });
    await client.write32(BAR0, ACKNOWLEDGE, 0xffff_ffff);
    await client.clearIrqs(MSIX);
  });

  it('INTx: as long as the level is up every unmask signals again, by eventfd and by message', async () => {
    for (const resample of [true, false]) {
      await using client = await connect('irq-intx');
      await using irqs = await client.irqs.subscribe(INTX, [0], { resample });
      await client.write32(BAR0, RAISE, 1);
      expect((await irqs.next()).value).toEqual({ vector: 0, count: 1 });
      await irqs.unmask();
      expect((await irqs.next()).value, 'still up').toEqual({ vector: 0, count: 1 });
      await client.write32(BAR0, ACKNOWLEDGE, 1);
      await irqs.unmask();
      await client.write32(BAR0, RAISE, 2);
      expect((await irqs.next()).value, 'the next one').toEqual({ vector: 0, count: 1 });
      await client.write32(BAR0, ACKNOWLEDGE, 2);
    }
  });
});

describe('DMA', () => {
  it.each([[true, true], [true, false], [false, true], [false, false]])('memory shared: %s, a twin socket: %s', async (shared, twinSocket) => {
    await using client = await connect('irq-msix', { twinSocket });
    expect(client.hasTwinSocket).toBe(twinSocket);
    await using allocator = new DmaAllocator(client.dma, { shared });
    const [from, to] = [await allocator.allocate(3000), await allocator.allocate(3000, PAGE)];
    for (let i = 0; i < 3000; i++) from.bytes[i] = i * 7;
    await using irqs = await client.irqs.subscribe(MSIX, [0]);
    await copy(client, from.iova, 0n, 3000, FROM_GUEST);
    await copy(client, 0n, to.iova, 3000, TO_GUEST | AND_TELL);
    expect((await irqs.next()).value).toEqual({ vector: 0, count: 1 });
    expect(Buffer.compare(to.bytes, from.bytes)).toBe(0);
    await client.write32(BAR0, ACKNOWLEDGE, IRQ_DMA);
  });

  it('by messages although the memory is mapped, where a device asks for them', async () => {
    seen.delete(VFIO_USER_DMA_READ);
    seen.delete(VFIO_USER_DMA_WRITE);
    await using client = await connect('conformance', { twinSocket: true });
    const fd = linux.memfdCreate('guest', { allowSealing: true });
    linux.ftruncate(fd, 2 * PAGE);
    const memory = [new Uint8Array(PAGE), new Uint8Array(PAGE)];
    for (const i of [0, 1]) await client.dma.map({ iova: BigInt(i * PAGE), sizeBytes: PAGE, readable: true, writable: true, fd, fdOffset: i * PAGE, memory: memory[i]! });
    linux.close(fd);
    await using irqs = await client.irqs.subscribe(INTX, [0]);
    const due = BigInt(Math.floor(Date.now() / 1000) + 1);
    await client.regions.write64(BAR0, 0, due);
    await irqs.next();
    await expect.poll(() => [seen.has(VFIO_USER_DMA_WRITE), seen.has(VFIO_USER_DMA_READ)], { timeout: 10_000 }).toEqual([true, true]);
    await expect.poll(() => Buffer.from(memory[0]!.subarray(3 * 1024)).toString()).toBe('D'.repeat(1024));
  });

  it('file I/O, unmapping with the log, unmapping all; what is written by message and what is not are in one log', async () => {
    await using client = await connect('irq-msix');
    const fd = linux.memfdCreate('guest', { allowSealing: true });
    linux.ftruncate(fd, 16 * PAGE);
    await client.dma.map({ iova: 0n, sizeBytes: 8 * PAGE, readable: true, writable: true, fd, access: 'mmap' });
    await client.dma.map({ iova: BigInt(8 * PAGE), sizeBytes: 8 * PAGE, readable: true, writable: true, fd, fdOffset: 8 * PAGE, access: 'file-io' });
    await client.dma.map({ iova: 0x10_0000n, sizeBytes: 8 * PAGE, readable: true, writable: true, memory: new Uint8Array(8 * PAGE) });
    linux.close(fd);
    await client.dirtyLog.start(PAGE);
    for (const destination of [3 * PAGE, 12 * PAGE - 1, 0x10_0000 + 5 * PAGE]) await copy(client, 0n, BigInt(destination), 2, TO_GUEST);
    const pages: number[] = [];
    for await (const { iova, length } of client.dirtyLog.dirtyPages(PAGE)) pages.push(Number(iova) / PAGE, Number(length) / PAGE);
    expect(pages).toEqual([3, 1, 11, 2, 256 + 5, 1]);
    expect((await client.dirtyLog.report(0n, 0x20_0000n, PAGE)).count, 'reading clears').toBe(0);
    await copy(client, 0n, 0n, 1, TO_GUEST);
    await copy(client, 0n, BigInt(PAGE * 7), 1, TO_GUEST);
    expect([...(await client.dma.unmapDirty(0n, 8 * PAGE, PAGE))]).toEqual([{ iova: 0n, length: 4096n }, { iova: BigInt(7 * PAGE), length: 4096n }]);
    await client.dirtyLog.stop();
    await client.dmaUnmap(0x10_0000n, 8 * PAGE);
    await client.dmaUnmapAll();
    await expect(client.dma.map({ iova: 0n, sizeBytes: 1 << 20, readable: true, writable: true, memory: new Uint8Array(1 << 20) })).resolves.toBeUndefined();
  });
});

describe('migration', () => {
  it.each([['gpio', undefined], ['conformance', 'send'], ['conformance', 'discard'], ['conformance', 'skip']] as const)('of %s to another process (pre-copy: %s)', async (name, preCopy) => {
    const there = await start(`${name}-2`);
    {
      await using from = await connect(name);
      await using to = await connect(`${name}-2`);
      expect(await from.features.probe(1, ['get'])).toBe(true);
      const region = name === 'gpio' ? 2 : 1;
      if (name === 'gpio') for (let i = 0; i < 2; i++) await from.regions.write8(2, 0, 0x0f);
      else await from.write(1, 0, Uint8Array.from({ length: 0x3000 }, (_, i) => i % 251));
      const moved = await migrate(from, to, preCopy === undefined ? {} : { preCopy });
      expect(moved.stopCopyBytes).toBeGreaterThan(0);
      expect(moved.preCopyBytes > 0).toBe(name === 'conformance' && preCopy !== 'skip');
      expect([await from.migration.state(), await to.migration.state()]).toEqual(['stop', 'running']);
      if (name === 'gpio') {
        // Two of three writes have been counted: with the third these inputs go up.
        await to.regions.write8(2, 0, 0x0f);
        expect(await to.regions.read8(2, 1)).toBe(0xff);
      } else {
        expect(await to.read(region, 0, 0x3000)).toEqual(Uint8Array.from({ length: 0x3000 }, (_, i) => i % 251));
      }
      await from.migration.setState('running');
      await expect(to.migration.setState('running-p2p')).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_REFUSED' });
    }
    await stop(there, 'SIGTERM');
  });
});

it('a server that is killed and started again: the device has its memory and its interrupts back', async () => {
  let server = await start('irq-msix-3');
  const events: ReconnectEvent['type'][] = [];
  const client = await connect('irq-msix-3', { twinSocket: true, reconnect: { firstDelayMs: 5, maxDelayMs: 50, resetDevice: true, onEvent: ({ type }) => { events.push(type); } } });
  const allocator = new DmaAllocator(client.dma);
  const irqs = await client.irqs.subscribe(MSIX, [0, 3]);
  const buffer = await allocator.allocate(64);
  for (let life = 1; life <= 2; life++) {
    await copy(client, 0n, buffer.iova, 64, TO_GUEST | AND_TELL);
    expect((await irqs.next()).value).toEqual({ vector: 0, count: 1 });
    await client.write32(BAR0, ACKNOWLEDGE, IRQ_DMA);
    await stop(server, 'SIGKILL');
    await expect.poll(() => events.filter((type) => type === 'lost').length).toBe(life);
    const waiting = client.write32(BAR0, RAISE, 1 << 3);
    server = await start('irq-msix-3');
    await waiting;
    expect((await irqs.next()).value).toEqual({ vector: 3, count: 1 });
  }
  await irqs[Symbol.asyncDispose]();
  await allocator[Symbol.asyncDispose]();
  await client[Symbol.asyncDispose]();
  await stop(server, 'SIGTERM');
});

it('every command has gone over the wire, and the server holds nothing of it any more', async () => {
  expect([...COMMANDS.keys()].filter((command) => !seen.has(command)).map(commandName)).toEqual([]);
  const held = descriptorsOf(devices);
  {
    await using client = await connect('irq-msix', { twinSocket: true });
    await using allocator = new DmaAllocator(client.dma);
    await allocator.allocate(64);
    await using _irqs = await client.irqs.subscribe(MSIX, [0, 1, 2]);
    expect(descriptorsOf(devices)).toBeGreaterThan(held);
  }
  await expect.poll(() => descriptorsOf(devices), { timeout: 10_000 }).toBe(held);
});
