/** The device over a real socket, driven as its data sheet (QEMU, docs/specs/edu.rst) says. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Window } from '@emudev/dma';
import { EmudevRegistry, type Emudev } from '@emudev/emudev';
import { IRQ_INTX, IRQ_MSI } from '@emudev/pci';
import { DmaAllocator, VfioUserClient, type DmaBuffer } from '@emudev/vfio-user-client';
import { VfioUserServer } from '@emudev/vfio-user-server';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { driver } from '../src/index.ts';

const folder = mkdtempSync(join(tmpdir(), 'edu-'));
afterAll(() => { rmSync(folder, { recursive: true }); });
let count = 0;

const [BAR0, CONFIG] = [0, 7];
const [ID, LIVENESS, FACTORIAL, STATUS, CAUSES, RAISE, ACK, SOURCE, DESTINATION, LENGTH, COMMAND] = [0x00, 0x04, 0x08, 0x20, 0x24, 0x60, 0x64, 0x80, 0x88, 0x90, 0x98] as const;
const BUFFER = 0x40000n;

class Machine implements AsyncDisposable {
  readonly client: VfioUserClient;
  readonly emudev: Emudev;
  readonly memory: DmaAllocator;
  readonly errors: unknown[] = [];
  readonly #stack: AsyncDisposableStack;

  private constructor(client: VfioUserClient, emudev: Emudev, memory: DmaAllocator, stack: AsyncDisposableStack) {
    this.client = client;
    this.emudev = emudev;
    this.memory = memory;
    this.#stack = stack;
    emudev.on('error', (error) => { this.errors.push(error); });
  }

  static async boot(dmaBits = 28): Promise<Machine> {
    await using stack = new AsyncDisposableStack();
    const registry = new EmudevRegistry();
    const vdev = await driver.probe('emu_edu0', { dma_bits: dmaBits }, { registry, findEmudev: (name) => registry.byName(name) });
    stack.defer(() => vdev.close());
    await vdev.emudev.configure({});
    await vdev.emudev.start();
    const server = new VfioUserServer(vdev.pci, { window: Window.open() });
    stack.defer(() => server.close());
    const path = join(folder, `${count++}.sock`);
    await server.listen(path);
    const client = await VfioUserClient.connect(path);
    stack.defer(() => { client.close(); });
    await client.write(CONFIG, 4, Uint8Array.of(6, 0));
    const memory = stack.use(new DmaAllocator(client.dma, { firstIova: 2n ** 21n }));
    return new Machine(client, vdev.emudev, memory, stack.move());
  }

  read(register: number): Promise<number> {
    return this.client.read32(BAR0, register);
  }

  write(register: number, value: number): Promise<void> {
    return this.client.write32(BAR0, register, value);
  }

  async write64(register: number, value: bigint): Promise<void> {
    const bytes = new DataView(new ArrayBuffer(8));
    bytes.setBigUint64(0, value, true);
    await this.client.write(BAR0, register, new Uint8Array(bytes.buffer));
  }

  /** Polls as a driver without interrupts does: the device promises to come to an end. */
  async until(register: number, mask: number, wanted: number): Promise<void> {
    while (((await this.read(register)) & mask) !== wanted) await new Promise(setImmediate);
  }

  async dma(source: bigint, destination: bigint, bytes: bigint, command: bigint): Promise<void> {
    await this.write64(SOURCE, source);
    await this.write64(DESTINATION, destination);
    await this.write64(LENGTH, bytes);
    await this.write64(COMMAND, command);
    await this.until(COMMAND, 1, 0);
  }

  async filled(byte: number): Promise<DmaBuffer> {
    const buffer = await this.memory.allocate(4096);
    buffer.bytes.fill(byte);
    return buffer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

test('identifies itself and is alive', async () => {
  await using edu = await Machine.boot();
  expect(await edu.read(ID)).toBe(0x010000ed);
  for (const value of [0, 1, 0xdeadbeef, 0xffffffff]) {
    await edu.write(LIVENESS, value);
    expect(await edu.read(LIVENESS)).toBe(~value >>> 0);
  }
  const header = await edu.client.read(CONFIG, 0, 16);
  expect(Buffer.from(header).toString('hex', 0, 4)).toBe('3412e811');
  expect([...header.subarray(8, 12)]).toEqual([0x10, 0x00, 0xff, 0x00]);
});

test('computes factorials modulo 2^32, for any number at once, and shows that it is computing', async () => {
  await using edu = await Machine.boot();
  const factorial = (n: number): number => {
    let product = 1n;
    for (let i = 2n; i <= BigInt(n); i++) product = (product * i) % (1n << 32n);
    return Number(product);
  };
  for (const n of [0, 1, 2, 5, 12, 13, 33, 34, 100]) {
    await edu.write(FACTORIAL, n);
    await edu.until(STATUS, 1, 0);
    expect(await edu.read(FACTORIAL), `${n}!`).toBe(factorial(n));
  }
  await edu.write(FACTORIAL, 0xffff_ffff);
  await edu.until(STATUS, 1, 0);
  expect(await edu.read(FACTORIAL)).toBe(0);
  await edu.emudev.stop();
  await edu.write(FACTORIAL, 4);
  // While it computes, another order is not taken.
  await edu.write(FACTORIAL, 5);
  expect(await edu.read(STATUS)).toBe(1);
  expect(await edu.read(FACTORIAL)).toBe(0);
  await edu.emudev.start();
  await edu.until(STATUS, 1, 0);
  expect(await edu.read(FACTORIAL)).toBe(24);
});

test('raises MSI for a factorial only where that is wanted, and for whatever the guest raises itself', async () => {
  await using edu = await Machine.boot();
  await using interrupts = await edu.client.irqs.subscribe(IRQ_MSI, [0]);
  await edu.write(FACTORIAL, 3);
  await edu.until(STATUS, 1, 0);
  expect(await edu.read(CAUSES)).toBe(0);
  await edu.write(STATUS, 0x80);
  await edu.write(FACTORIAL, 4);
  expect(await interrupts.next()).toMatchObject({ value: { vector: 0, count: 1 } });
  expect(await edu.read(CAUSES)).toBe(1);
  await edu.write(RAISE, 0x8000_0000);
  expect(await interrupts.next()).toMatchObject({ value: { vector: 0, count: 1 } });
  expect(await edu.read(CAUSES)).toBe(0x8000_0001);
  await edu.write(ACK, 1);
  expect(await edu.read(CAUSES)).toBe(0x8000_0000);
});

test('INTx stays asserted until every cause is acknowledged', async () => {
  await using edu = await Machine.boot();
  await using interrupts = await edu.client.irqs.subscribe(IRQ_INTX, [0]);
  await edu.write(RAISE, 3);
  await interrupts.next();
  await edu.write(ACK, 1);
  // One cause is left: unmasking signals again.
  await interrupts.unmask();
  await interrupts.next();
  const status = async (): Promise<number> => (await edu.client.read(CONFIG, 6, 1))[0]! & 8;
  expect(await status()).toBe(8);
  await edu.write(ACK, 2);
  expect(await status()).toBe(0);
});

test('DMA moves what was asked, both ways, to any place of the buffer', async () => {
  await using edu = await Machine.boot();
  const source = await edu.filled(0);
  const target = await edu.filled(0);
  await fc.assert(fc.asyncProperty(fc.integer({ min: 0, max: 4095 }), fc.integer({ min: 0, max: 4095 }), fc.integer({ min: 0, max: 255 }), async (at, length, seed) => {
    const n = Math.min(length, 4096 - at);
    for (let i = 0; i < 4096; i++) source.bytes[i] = i * 7 + seed;
    target.bytes.fill(0xaa);
    await edu.dma(source.iova, BUFFER + BigInt(at), BigInt(n), 1n);
    await edu.dma(BUFFER + BigInt(at), target.iova, BigInt(n), 3n);
    expect([...target.bytes]).toEqual(Array.from(target.bytes, (_, i) => (i < n ? (i * 7 + seed) & 0xff : 0xaa)));
  }), { numRuns: 30 });
  expect(edu.errors).toEqual([]);
});

test('DMA raises its cause when asked to, and cuts addresses to the bits that it drives', async () => {
  await using edu = await Machine.boot(28);
  await using interrupts = await edu.client.irqs.subscribe(IRQ_MSI, [0]);
  const source = await edu.filled(0x5a);
  const target = await edu.filled(0);
  expect(source.iova + 4096n <= 1n << 28n).toBe(true);
  await edu.dma(source.iova + (1n << 28n) + (1n << 63n), BUFFER, 4096n, 1n);
  expect(await edu.read(CAUSES)).toBe(0);
  await edu.dma(BUFFER, target.iova, 4096n, 7n);
  await interrupts.next();
  expect(await edu.read(CAUSES)).toBe(0x100);
  expect(target.bytes.every((byte) => byte === 0x5a)).toBe(true);
});

test('a guest that lies about its DMA moves nothing, is told it is done, and is reported', async () => {
  await using edu = await Machine.boot(64);
  const buffer = await edu.filled(0x11);
  const lies: [bigint, bigint, bigint, bigint][] = [
    [buffer.iova, BUFFER - 1n, 1n, 1n],
    [buffer.iova, BUFFER, 4097n, 1n],
    [buffer.iova, BUFFER + 4096n, 1n, 1n],
    [buffer.iova, BUFFER, 2n ** 64n - 1n, 1n],
    [2n ** 64n - 1n, BUFFER, 4096n, 1n],
    [0xdead_0000_0000n, BUFFER, 4096n, 1n],
    [BUFFER + 1n, buffer.iova, 4096n, 3n],
    [0n, buffer.iova, 1n, 3n],
  ];
  for (const lie of lies) await edu.dma(...lie);
  await edu.client.write(CONFIG, 4, Uint8Array.of(2, 0));
  await edu.dma(BUFFER, buffer.iova, 16n, 3n);
  expect(edu.errors).toHaveLength(lies.length + 1);
  expect(buffer.bytes.every((byte) => byte === 0x11)).toBe(true);
  expect(await edu.read(ID)).toBe(0x010000ed);
});

test('a reset forgets everything, orders included', async () => {
  await using edu = await Machine.boot();
  await edu.write(LIVENESS, 5);
  await edu.write(RAISE, 1);
  await edu.emudev.stop();
  await edu.write(FACTORIAL, 5);
  await edu.write64(SOURCE, 0x1234n);
  await edu.client.reset();
  await edu.emudev.start();
  for (const register of [FACTORIAL, STATUS, CAUSES, SOURCE, COMMAND]) expect(await edu.read(register), register.toString(16)).toBe(0);
  expect(await edu.read(LIVENESS)).toBe(0xffffffff);
});
