import { describe, expect, it } from 'vitest';
import { linux } from '@emudev/linux';
import { EXAMPLES, GpioDevice, InterruptDevice, ShadowIoeventfdDevice, type InterruptKind } from '../src/index.ts';
import { memfd, serve } from './served.ts';

const PAGE = 0x1000;
const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);

describe.each<[InterruptKind, number, number]>([['intx', 0, 0], ['msi', 1, 3], ['msix', 2, 3]])('irq-%s over a socket', (kind, index, vector) => {
  it('copies client memory and raises its interrupt', async () => {
    await using served = await serve(new InterruptDevice(kind));
    const { client } = served;
    const fd = memfd(PAGE);
    linux.pwrite(fd, Buffer.from('hello'), 0x100);
    await client.dmaMap({ iova: 0x1_0000_0000n, sizeBytes: PAGE, readable: true, writable: true, fd });
    await client.write(7, 4, Uint8Array.of(4, 0));
    await using irq = await client.irqs.subscribe(index, [vector]);
    // Source 0x1_0000_0100, destination 0x10 of the buffer, 5 bytes; then the interrupt.
    await client.write(0, 0x80, words(0x100, 1, 0x10, 0, 5));
    await client.write32(0, 0x98, 1);
    await expect.poll(() => client.read32(0, 0x20)).toBe(0);
    expect(Buffer.from(await client.read(2, 0x10, 5)).toString()).toBe('hello');
    await client.write32(0, 0x60, 1 << vector);
    expect((await irq.next()).value).toEqual({ vector, count: 1 });
    expect(await client.read32(0, 0x24)).toBe(1 << vector);
    linux.close(fd);
  });
});

describe('INTx of irq-intx', () => {
  it('comes again after every unmask until it is acknowledged', async () => {
    await using served = await serve(new InterruptDevice('intx'));
    const { client } = served;
    const fd = linux.eventfd();
    await client.setIrqEventfds(0, 0, [fd]);
    await client.write32(0, 0x60, 1);
    expect(linux.eventfdDrain(fd)).toBe(1);
    await client.write32(0, 0x60, 2);
    expect(linux.eventfdDrain(fd)).toBe(0);
    await client.unmaskIrq(0, 0);
    expect(linux.eventfdDrain(fd)).toBe(1);
    await client.write32(0, 0x64, 3);
    await client.unmaskIrq(0, 0);
    expect(linux.eventfdDrain(fd)).toBe(0);
    linux.close(fd);
  });
});

describe('the others over a socket', () => {
  it('gpio moves from one server to another', async () => {
    await using source = await serve(new GpioDevice());
    await source.client.write(2, 0, Uint8Array.of(0x0f));
    await source.client.migration.setState('stop-copy');
    const state: Uint8Array[] = [];
    for await (const piece of source.client.migration.save()) state.push(piece);
    expect(Buffer.concat(state).length).toBe(64);
    await using destination = await serve(new GpioDevice());
    await destination.client.migration.setState('resuming');
    await destination.client.migration.restore(state);
    await destination.client.migration.setState('running');
    expect([...await destination.client.read(2, 1, 1)]).toEqual([0xf0]);
  });

  it('shadow-ioeventfd passes its descriptors, and hears who uses them', async () => {
    const device = new ShadowIoeventfdDevice();
    await using served = await serve(device);
    using ioFds = await served.client.regions.ioFds(0);
    const [shadow] = ioFds.entries;
    if (shadow?.kind !== 'shadow') throw new Error('no shadow ioeventfd');
    expect(shadow).toMatchObject({ offset: 0, sizeBytes: 4, memoryOffset: 0 });
    linux.pwrite(shadow.memoryFd!, Uint8Array.of(0x78, 0x56, 0x34, 0x12), 0);
    linux.eventfdSignal(shadow.fd!);
    await expect.poll(() => served.client.read32(0, 0)).toBe(0x12345678);
    expect(device.doorbell.rings).toBe(1);
  });

  it.each(Object.keys(EXAMPLES))('%s is served, reset, left and served again', async (name) => {
    const device = EXAMPLES[name]!.create();
    const ids = new Uint8Array(4);
    await device.read(7, 0, ids);
    for (let round = 0; round < 2; round++) {
      await using served = await serve(device, {}, false);
      expect(await served.client.read(7, 0, 4)).toEqual(ids);
      await served.client.reset();
    }
    device[Symbol.dispose]?.();
  });
});
