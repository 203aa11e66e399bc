import { describe, expect, it } from 'vitest';
import { linux } from '@emudev/linux';
import { NUM_REGIONS, REGION_CONFIG } from '@emudev/pci';
import { EXAMPLES, GpioDevice, InterruptDevice, LspciFixture, NullDevice, Serial, ShadowIoeventfdDevice, type InterruptKind } from '../src/index.ts';
import { MemoryHost, read, read32, write32 } from './host.ts';

const BUS_MASTER = 0x0004;
const INTX_DISABLE = 0x0400;
const command = (bits: number): Uint8Array => new Uint8Array(Uint16Array.of(bits).buffer);

async function attached<D extends { attach(host: MemoryHost): Promise<void> | void }>(device: D, pages: readonly bigint[] = []): Promise<{ device: D; host: MemoryHost }> {
  const host = new MemoryHost(device as never, pages);
  await device.attach(host);
  return { device, host };
}

describe('serial', () => {
  const BAR = 0;
  const LSR = 5;
  const DATA_READY = 1;
  const OVERRUN = 2;
  async function echoed(device: Serial): Promise<{ bytes: number[]; overrun: boolean }> {
    const bytes: number[] = [];
    let overrun = false;
    for (;;) {
      const status = (await read(device, BAR, LSR, 1))[0]!;
      overrun ||= (status & OVERRUN) !== 0;
      if ((status & DATA_READY) === 0) return { bytes, overrun };
      bytes.push((await read(device, BAR, 0, 1))[0]!);
    }
  }
  async function send(device: Serial, count: number): Promise<number[]> {
    await device.write(BAR, 2, Uint8Array.of(1)); // FCR: FIFOs of 16
    const bytes = Array.from({ length: count }, (_, n) => n & 0xff);
    for (const byte of bytes) await device.write(BAR, 0, Uint8Array.of(byte));
    return bytes;
  }

  it('brings back all of what is sent before any of it is read, far more than its receiver holds', async () => {
    const { device } = await attached(new Serial());
    const sent = await send(device, 2000);
    expect(await echoed(device)).toEqual({ bytes: sent, overrun: false });
  });

  it('says that bytes were lost where nobody reads for ever', async () => {
    const { device } = await attached(new Serial());
    await send(device, 10_000);
    const { bytes, overrun } = await echoed(device);
    expect(overrun).toBe(true);
    expect(bytes.length).toBeLessThan(5000);
  });

  it('has nothing on its way after a reset', async () => {
    const { device } = await attached(new Serial());
    await send(device, 100);
    await device.reset();
    expect(await echoed(device)).toEqual({ bytes: [], overrun: false });
  });
});

describe('gpio', () => {
  const pin = async (device: GpioDevice, offset: number): Promise<number> => (await read(device, 2, offset, 1))[0]!;

  it('has an input high while its output was set a multiple of three times', async () => {
    const { device } = await attached(new GpioDevice());
    expect([await pin(device, 1), await pin(device, 5)]).toEqual([0xff, 0xff]);
    const seen = [];
    for (let i = 0; i < 3; i++) {
      await device.write(2, 0, Uint8Array.of(0b101));
      seen.push(await pin(device, 1));
    }
    expect(seen).toEqual([0b11111010, 0b11111010, 0xff]);
    await device.write(2, 4, Uint8Array.of(0x80));
    expect([await pin(device, 0), await pin(device, 4), await pin(device, 5)]).toEqual([0b101, 0x80, 0x7f]);
  });

  it('interrupts on a change once enabled, until acknowledged', async () => {
    const { device, host } = await attached(new GpioDevice());
    await device.write(2, 0, Uint8Array.of(1));
    expect(host.intx).toBe(false);
    expect(await pin(device, 6)).toBe(4);
    await pin(device, 2);
    expect(host.intx).toBe(true);
    // STATUS says so too, and COMMAND can hold it back.
    expect((await read(device, REGION_CONFIG, 6, 1))[0]! & 8).toBe(8);
    await device.write(REGION_CONFIG, 4, command(INTX_DISABLE));
    expect(host.intx).toBe(false);
    expect((await read(device, REGION_CONFIG, 6, 1))[0]! & 8).toBe(8);
    await device.write(REGION_CONFIG, 4, command(0));
    expect(host.intx).toBe(true);
    await device.write(2, 1, Uint8Array.of(0));
    expect(host.intx).toBe(false);
    await device.write(2, 2, Uint8Array.of(0));
    await device.write(2, 0, Uint8Array.of(2));
    expect(host.interrupts).toEqual(['assert', 'deassert', 'assert', 'deassert']);
  });

  it('moves as sixteen counters of 32 bits', async () => {
    const { device } = await attached(new GpioDevice());
    await device.write(2, 0, Uint8Array.of(0x81));
    await device.write(2, 4, Uint8Array.of(0x80));
    await device.write(2, 4, Uint8Array.of(0x80));
    await device.migration!.enter('stop-copy', 'stop');
    const state = new Uint8Array(100);
    expect(await device.migration!.readState(state)).toBe(64);
    expect([...new Int32Array(state.buffer, 0, 16)]).toEqual([1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
    const { device: other } = await attached(new GpioDevice());
    await other.migration!.enter('resuming', 'stop');
    await other.migration!.writeState(state.subarray(0, 64));
    await other.migration!.enter('stop', 'resuming');
    expect([await pin(other, 1), await pin(other, 5)]).toEqual([0x7e, 0x7f]);
    await other.reset();
    expect([await pin(other, 1), await pin(other, 5)]).toEqual([0xff, 0xff]);
  });
});

describe.each<[InterruptKind, string[], string[]]>([
  ['intx', ['assert'], ['deassert']], ['msi', ['1.1', '1.0'], []], ['msix', ['2.1', '2.4'], []],
])('irq-%s', (kind, raised, acknowledged) => {
  it('answers, inverts, computes', async () => {
    const { device } = await attached(new InterruptDevice(kind));
    expect(await read32(device, 0, 0)).toBe(0x010000ed);
    await write32(device, 0, 4, 0x12345678);
    expect(await read32(device, 0, 4)).toBe(0xedcba987);
    for (const [n, result] of [[0, 1], [5, 120], [13, 1932053504], [33, 0x80000000], [34, 0], [0xffffffff, 0]] as const) {
      await write32(device, 0, 8, n);
      expect(await read32(device, 0, 8)).toBe(result);
    }
  });

  it('raises new bits, one vector each, and takes them back', async () => {
    const { device, host } = await attached(new InterruptDevice(kind));
    await write32(device, 0, 0x60, (1 << 1) | (1 << 12));
    await write32(device, 0, 0x60, 1 << 1);
    expect(host.interrupts).toEqual(raised);
    expect(await read32(device, 0, 0x24)).toBe(0x1002);
    await write32(device, 0, 0x64, 1 << 1);
    expect(host.interrupts).toEqual(raised);
    await write32(device, 0, 0x64, 1 << 12);
    expect(host.interrupts).toEqual([...raised, ...acknowledged]);
    expect(await read32(device, 0, 0x24)).toBe(0);
  });

  it('copies into its buffer and out again, and says when', async () => {
    const { device, host } = await attached(new InterruptDevice(kind), [0x1_0000_2000n]);
    await device.write(REGION_CONFIG, 4, command(BUS_MASTER));
    host.pages.get(0x1_0000_2000n)!.set([1, 2, 3, 4], 0x10);
    const copy = async (source: bigint, destination: bigint, count: number, go: number): Promise<number> => {
      const words = [Number(source & 0xffffffffn), Number(source >> 32n), Number(destination & 0xffffffffn), Number(destination >> 32n)];
      await device.write(0, 0x80, new Uint8Array(Uint32Array.from(words).buffer));
      await write32(device, 0, 0x90, count);
      await write32(device, 0, 0x98, go);
      await device.quiesce('dma-map');
      return read32(device, 0, 0x20);
    };
    expect(await copy(0x1_0000_2010n, 0x20n, 4, 1)).toBe(0);
    expect([...await read(device, 2, 0x20, 4)]).toEqual([1, 2, 3, 4]);
    expect(host.interrupts).toEqual([]);
    expect(await copy(0x20n, 0x1_0000_2f00n, 4, 7)).toBe(0);
    expect([...host.pages.get(0x1_0000_2000n)!.subarray(0xf00, 0xf04)]).toEqual([1, 2, 3, 4]);
    expect(await read32(device, 0, 0x24)).toBe(0x100);
    // GUEST: memory that is not there, more than the buffer holds.
    expect(await copy(0x1_0000_3000n, 0n, 4, 1)).toBe(2);
    expect(await copy(0x1_0000_2000n, 0xfffn, 2, 1)).toBe(2);
    expect(await copy(0x1_0000_2000n, 0n, 0xffffffff, 1)).toBe(2);
    expect(await copy(0xffff_ffff_ffff_fffen, 0x1_0000_2000n, 4, 3)).toBe(2);
    await device.write(REGION_CONFIG, 4, command(0));
    expect(await copy(0x1_0000_2010n, 0x20n, 4, 1)).toBe(2);
    await device.reset();
    expect([await read32(device, 0, 0x20), await read32(device, 0, 0x24), await read32(device, 2, 0x20)]).toEqual([0, 0, 0]);
  });
});

describe('the others', () => {
  it('shadow-ioeventfd hears a ring by shared memory and by message', async () => {
    using device = new ShadowIoeventfdDevice();
    await attached(device);
    const [fd] = device.ioFds(0);
    if (fd?.kind !== 'shadow') throw new Error('no shadow ioeventfd');
    await write32(device, 0, 8, 7);
    expect(device.doorbell).toEqual({ value: 7, rings: 1 });
    // What a patched KVM does for a write of 0x1234 to BAR0 + 0.
    linux.pwrite(fd.memoryFd, Uint8Array.of(0x34, 0x12, 0, 0), fd.memoryOffset);
    linux.eventfdSignal(fd.fd);
    await expect.poll(() => device.doorbell).toEqual({ value: 0x1234, rings: 2 });
    expect([device.ioFds(1), await read32(device, 0, 0)]).toEqual([[], 0x1234]);
    await device.detach('closed');
  });

  it('lspci-fixture has its capabilities where they belong', () => {
    const { capabilities } = new LspciFixture().config;
    expect(capabilities.map(({ id, offset, lengthBytes, extended }) => [id, offset, lengthBytes, extended])).toEqual([
      [0x01, 0x40, 8, false], [0x09, 0x48, 16, false], [0x10, 0x58, 60, false], [0x0003, 0x100, 12, true], [0x000b, 0x10c, 0x15, true], [0x000b, 0x400, 0x15, true],
    ]);
  });

  it('null has configuration space only', () => {
    const device = new NullDevice();
    expect([device.regions.map((r) => r.index), device.irqs]).toEqual([[REGION_CONFIG], []]);
  });

  it.each(Object.keys(EXAMPLES))('%s answers any access to any of its regions, and can be reset', async (name) => {
    const device = EXAMPLES[name]!.create();
    await attached(device as never);
    for (const { index, sizeBytes } of device.regions) {
      expect(index).toBeLessThan(NUM_REGIONS);
      for (const [offset, length] of [[0, 1], [0, sizeBytes], [1, 7], [sizeBytes - 4, 4]] as const) {
        const whole = (access: () => void | Promise<void>): Promise<void> => (async () => access())().catch((error: unknown) => { expect(error).toMatchObject({ errno: 22 }); });
        await whole(() => device.write(index, offset, new Uint8Array(length).fill(0xff)));
        await whole(() => device.read(index, offset, new Uint8Array(length)));
      }
    }
    await device.quiesce('reset');
    await device.reset();
    device.resume();
    await device.detach('closed');
    device[Symbol.dispose]?.();
  });
});
