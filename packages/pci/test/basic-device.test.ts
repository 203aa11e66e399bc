import { describe, expect, it } from 'vitest';
import {
  BasicPciDevice, IRQ_ERR, IRQ_INTX, IRQ_MSI, IRQ_MSIX, IRQ_REQ, pciExpressCapability, PciLayoutError, registers, REGION_CONFIG, storage, vendorCapability,
  type BasicPciDeviceSpec, type PciHost,
} from '../src/index.ts';

const IDS = { name: 'test', vendorId: 1, deviceId: 2, classCode: 0xff0000 };

class Device extends BasicPciDevice {
  readonly log: string[] = [];
  readonly levels: boolean[] = [];
  fails = false;
  constructor(spec: Partial<BasicPciDeviceSpec> = {}) {
    super({ ...IDS, ...spec });
  }
  pin(asserted: boolean): void {
    this.setIntx(asserted);
  }
  get attachedHost(): PciHost | undefined {
    return this.host;
  }
  override onAttach(): void {
    this.log.push(`attach ${this.host !== undefined}`);
    if (this.fails) throw new RangeError('not today');
  }
  override async onDetach(reason: string): Promise<void> {
    await Promise.resolve();
    this.log.push(`detach ${reason} ${this.host !== undefined}`);
  }
  override onReset(): void {
    this.log.push('reset');
  }
  connect(): Promise<void> {
    const host = {
      setIntx: (level: boolean) => { this.levels.push(level); },
      functionLevelReset: async () => {
        await Promise.resolve();
        await this.reset();
      },
    };
    return this.attach(host as unknown as PciHost);
  }
}

const u16 = (value: number): Uint8Array => Uint8Array.of(value, value >> 8);
function get(device: BasicPciDevice, region: number, offset: number, length: number): number[] {
  const into = new Uint8Array(length).fill(0xee);
  void device.read(region, offset, into);
  return [...into];
}
const INTX_DISABLE = u16(0x0400);

describe('a device from a description', () => {
  it('has the regions and interrupts it names, and configuration space', () => {
    const device = new Device({
      intx: true, msi: { vectors: 4 }, msix: { vectors: 300, bar: 4 }, err: true, req: true,
      bars: [{ index: 0, kind: 'memory64', sizeBytes: 0x2000 }], regions: [{ index: 8, sizeBytes: 100 }],
    });
    expect(device.regions.map((r) => [r.index, r.sizeBytes])).toEqual([[0, 0x2000], [4, 0x4000], [8, 100], [REGION_CONFIG, 256]]);
    expect(device.irqs).toEqual([
      { index: IRQ_INTX, count: 1, flags: 7 }, { index: IRQ_MSI, count: 4, flags: 1 }, { index: IRQ_MSIX, count: 300, flags: 1 }, { index: IRQ_ERR, count: 1, flags: 1 }, { index: IRQ_REQ, count: 1, flags: 1 },
    ]);
    expect(device.config.capabilities.map((c) => c.id)).toEqual([5, 0x11]);
    // MSI-X control: 300 vectors; table at BAR4 + 0, pending bits at BAR4 + 0x2000.
    expect(get(device, REGION_CONFIG, device.config.capabilityOffset(0x11)! + 2, 10)).toEqual([299 & 0xff, 299 >> 8, 4, 0, 0, 0, 4, 0x20, 0, 0]);
    expect(get(device, REGION_CONFIG, 0x3d, 1)).toEqual([1]);
    // A vector is masked at power-on.
    expect(get(device, 4, 299 * 16 + 12, 4)).toEqual([1, 0, 0, 0]);
  });

  it('reads zeroes where nothing is described, and forgets what is written there', () => {
    const device = new Device({ bars: [{ index: 0, kind: 'memory32', sizeBytes: 64 }] });
    void device.write(0, 0, new Uint8Array(64).fill(7));
    expect(get(device, 0, 0, 64)).toEqual(Array<number>(64).fill(0));
  });

  it('hands accesses to what is behind a BAR, promises included', async () => {
    const seen: unknown[] = [];
    const device = new Device({
      bars: [{
        index: 2, kind: 'memory32', sizeBytes: 64,
        handler: { read: (offset, into) => { into.fill(offset); }, write: async (offset, from) => { await Promise.resolve(); seen.push([offset, [...from]]); } },
      }],
    });
    expect(get(device, 2, 5, 3)).toEqual([5, 5, 5]);
    const pending = device.write(2, 9, Uint8Array.of(1));
    expect(seen).toEqual([]);
    await pending;
    expect(seen).toEqual([[9, [1]]]);
  });

  it('is there for one consumer after the other', async () => {
    const device = new Device();
    await device.connect();
    await device.detach('closed');
    expect(device.log).toEqual(['attach true', 'detach closed true']);
    expect(device.attachedHost).toBeUndefined();
    device.fails = true;
    await expect(device.connect()).rejects.toThrow('not today');
    expect(device.attachedHost).toBeUndefined();
  });

  it('resets configuration space, MSI-X structures, the pin, then itself', async () => {
    const device = new Device({ intx: true, msix: { vectors: 1, bar: 1 }, bars: [] });
    await device.connect();
    void device.write(REGION_CONFIG, 4, u16(0x0006));
    void device.write(1, 12, Uint8Array.of(0));
    device.pin(true);
    await device.reset();
    expect([get(device, REGION_CONFIG, 4, 4), get(device, 1, 12, 1), device.levels, device.log]).toEqual([[0, 0, 0x10, 0], [1], [true, false], ['attach true', 'reset']]);
  });

  it('turns Initiate-FLR into a function level reset that the write waits for', async () => {
    const device = new Device({ capabilities: [pciExpressCapability({ flr: true, offset: 0x40 })] });
    void device.write(REGION_CONFIG, 0x48, u16(0x8000));
    await device.connect();
    await device.write(REGION_CONFIG, 0x48, u16(0x8000));
    expect(device.log).toEqual(['attach true', 'reset']);
  });

  it.each<[string, Partial<BasicPciDeviceSpec>]>([
    ['a region that is a BAR already', { bars: [{ index: 0, kind: 'memory32', sizeBytes: 64, handler: storage(new Uint8Array(1)) }], regions: [{ index: 0, sizeBytes: 3, handler: storage(new Uint8Array(1)) }] }],
    ['the same without anything behind it', { bars: [{ index: 0, kind: 'memory32', sizeBytes: 64 }], regions: [{ index: 0, sizeBytes: 3 }] }],
    ['configuration space described as a region', { regions: [{ index: REGION_CONFIG, sizeBytes: 256 }] }],
    ['registers beyond their BAR', { bars: [{ index: 0, kind: 'memory32', sizeBytes: 64, handler: registers({ 64: {} }) }] }],
    ['an MSI-X BAR that is taken', { msix: { vectors: 1, bar: 1 }, bars: [{ index: 0, kind: 'memory64', sizeBytes: 64 }] }],
    ['6 MSI vectors', { msi: { vectors: 6 } }],
  ])('refuses %s', (_what, spec) => {
    expect(() => new Device(spec)).toThrow(PciLayoutError);
  });
});

describe('INTx', () => {
  it('that stays asserted from one consumer to the next is told to both', async () => {
    const device = new Device({ intx: true });
    await device.connect();
    device.pin(true);
    await device.detach('closed');
    await device.connect();
    expect(device.levels).toEqual([true, true]);
  });

  it('is a level: told when it changes, held back while disabled, shown in STATUS all the same', async () => {
    const device = new Device({ intx: true });
    await device.connect();
    const status = (): number => get(device, REGION_CONFIG, 6, 1)[0]! & 8;
    device.pin(true);
    device.pin(true);
    expect([device.levels, status()]).toEqual([[true], 8]);
    void device.write(REGION_CONFIG, 4, INTX_DISABLE);
    expect([device.levels.at(-1), status()]).toEqual([false, 8]);
    void device.write(REGION_CONFIG, 4, u16(0));
    expect(device.levels.at(-1)).toBe(true);
    device.pin(false);
    expect([device.levels.at(-1), status()]).toEqual([false, 0]);
  });

  it('that was asserted while nobody was there is told to the next consumer', async () => {
    const device = new Device({ intx: true });
    device.pin(true);
    await device.connect();
    expect(device.levels).toEqual([true]);
  });

  it('keeps hooks of the device informed of the command register, too', () => {
    const seen: boolean[] = [];
    const device = new Device({ intx: true, hooks: { onCommand: (command) => seen.push(command.intxDisabled) } });
    void device.write(REGION_CONFIG, 4, INTX_DISABLE);
    expect(seen).toEqual([true]);
  });
});

describe('capability writes', () => {
  it('reach the hook cut at the borders of each capability', () => {
    const seen: unknown[] = [];
    const device = new Device({
      capabilities: [vendorCapability({ payload: new Uint8Array(5), writable: true }), vendorCapability({ payload: new Uint8Array(1), writable: true }), vendorCapability({ payload: new Uint8Array(5), writable: true })],
      hooks: { onCapability: ({ offset }, start, length) => seen.push([offset, start, length]) },
    });
    void device.write(REGION_CONFIG, 0x46, new Uint8Array(7).fill(0xff));
    // 0x48 begins the second one: its header stays what it is, its only byte of payload lies at 0x4b.
    expect(seen).toEqual([[0x40, 6, 2], [0x48, 0, 4], [0x4c, 0, 1]]);
    expect(get(device, REGION_CONFIG, 0x40, 13)).toEqual([9, 0x48, 8, 0, 0, 0, 0xff, 0xff, 9, 0x4c, 4, 0xff, 9]);
  });
});
