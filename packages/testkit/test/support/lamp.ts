/** A small provider that does everything right: one BAR, a shared page, a doorbell, a vector, MSI. The mutation list breaks it. */
import { Window } from '@emudev/dma';
import {
  attribute, attrKey, EmulatedPciDevice, emulatedVdev, integerAttr, VECTOR_CELLS_BYTES, type Attribute, type DoorbellInfo, type EmudevRegistryLike, type IrqInfo, type QueueInfo, type SharedRegion, type VdevContext,
  type EmulatedPciVdev,
} from '@emudev/emudev';
import { registers } from '@emudev/pci';

const BRIGHTNESS = attrKey('brightness', integerAttr({ min: 0, max: 100 }));
const PAGE_BYTES = 4096;

export class Lamp extends EmulatedPciDevice {
  brightness = 50;
  lit = 0;
  readonly window: Window = Window.open();
  readonly page: number = this.window.alloc(PAGE_BYTES, PAGE_BYTES);
  readonly cells: number = this.window.alloc(VECTOR_CELLS_BYTES);

  constructor(name: string, registry: EmudevRegistryLike) {
    super({
      name, family: { devType: 'lamp', version: 1 }, vendorId: 0x1234, deviceId: 0x1a3b, classCode: 0xff0000, msi: { vectors: 1 }, numVectors: 1, maxQueuePairs: 1,
      bars: [{ index: 0, kind: 'memory32', sizeBytes: PAGE_BYTES, handler: registers({ 0: { read: () => this.lit, write: (value) => { this.lit = value; } } }) }],
    }, registry);
  }

  override readonly attributes: ReadonlyMap<string, Attribute> = new Map([
    attribute(BRIGHTNESS, { get: () => this.brightness, set: (value) => { this.brightness = value; } }),
    attribute(attrKey<Uint8Array>('serial'), { get: () => Uint8Array.of(1, 2, 3) }),
  ]);
  override queueInfo(queue: number): QueueInfo | undefined {
    return queue === 0 ? { base: 0n, size: 0, doorbellId: 0, irqVector: 0 } : undefined;
  }
  override irqInfo(vector: number): IrqInfo | undefined {
    return vector === 0 ? { vector, fd: -1, cells: this.cells } : undefined;
  }
  override doorbell(id: number): DoorbellInfo | undefined {
    return id === 0 ? { kind: 'mem', id, offset: this.page, trapped: false } : undefined;
  }
  override region(name: string): SharedRegion | undefined {
    return name === 'page' ? { offset: this.page, sizeBytes: PAGE_BYTES } : undefined;
  }
  override regionNames(): readonly string[] {
    return ['page'];
  }
  protected override onReset(): void {
    this.lit = 0;
  }
  override close(): void | Promise<void> {
    this.window.free(this.page);
    this.window.free(this.cells);
    this.window[Symbol.dispose]();
    return super.close();
  }
}

export type LampClass = new (name: string, registry: EmudevRegistryLike) => Lamp;

/** Probes one. */
export function probeLamp(name: string, context: VdevContext, make: LampClass = Lamp): EmulatedPciVdev<Lamp> {
  return emulatedVdev(name, context, (registry) => {
    const existing = registry.byName(name);
    // A name that is taken is refused before anything is opened.
    if (existing !== undefined) registry.allocate(name, undefined as never);
    return new make(name, registry);
  });
}
