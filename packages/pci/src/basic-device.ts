/**
 * A PCI function from a description: ids, BARs with what is behind them, interrupts. Answers everything that is the same in every
 * device (configuration space, INTx level and its disable bit, MSI-X structures, function level reset), so that a device says
 * only what makes it different.
 */
import type { Bar } from './bar.ts';
import { msiCapability, msixCapability, type Capability } from './capability.ts';
import { ConfigSpace, type ConfigSpaceHooks } from './config-space.ts';
import type { DetachReason, IrqDescription, PciDevice, PciHost, QuiesceReason, RegionDescription } from './device.ts';
import { PciLayoutError } from './errors.ts';
import type { ConfigSpaceLayout } from './layout.ts';
import type { Migration } from './migration.ts';
import { MSIX_ENTRY_BYTES, MsixRegion } from './msix.ts';
import type { RegionHandler } from './region-handler.ts';
import { IRQ_ERR, IRQ_INFO_AUTOMASKED, IRQ_INFO_EVENTFD, IRQ_INFO_MASKABLE, IRQ_INTX, IRQ_MSI, IRQ_MSIX, IRQ_REQ, REGION_CONFIG } from './vfio.ts';

interface Behind {
  /** Absent: reads as zero, writes are ignored. */
  readonly handler?: RegionHandler;
  /** Parts a consumer may map. Accesses by message still arrive at `handler`: both have to meet the same bytes. */
  readonly mmap?: NonNullable<RegionDescription['mmap']>;
}

/** A base address register and what answers behind it. */
export interface BarSpec extends Bar, Behind {}

/** A region without a BAR in configuration space: one of the other indexes, or a size that no BAR can express. */
export interface RegionSpec extends Behind {
  readonly index: number;
  readonly sizeBytes: number;
}

/** What a `BasicPciDevice` is made of: ids as in `ConfigSpaceLayout`, BARs, other regions, interrupts, migration. */
export interface BasicPciDeviceSpec extends Omit<ConfigSpaceLayout, 'sizeBytes' | 'bars' | 'interruptPin'> {
  readonly name: string;
  /** 256 by default; 4096 for a PCI Express function. */
  readonly configBytes?: 256 | 4096;
  readonly bars?: readonly BarSpec[];
  readonly regions?: readonly RegionSpec[];
  /** One INTx interrupt, on pin A: see `setIntx`. */
  readonly intx?: boolean;
  /** 1 to 32 message-signalled interrupts, a power of two: raised with `host.trigger(IRQ_MSI, vector)`. The capability is added first in the list. */
  readonly msi?: { readonly vectors: number };
  /** Raised with `host.trigger(IRQ_MSIX, vector)`. Capability and a 32-bit memory BAR of their own for table and pending bits are added. */
  readonly msix?: { readonly vectors: number; readonly bar: number };
  /** Error and device-request interrupts, which have no place in configuration space. */
  readonly err?: boolean;
  readonly req?: boolean;
  /** What a write to configuration space means, beyond what this class does about it. */
  readonly hooks?: Omit<ConfigSpaceHooks, 'onFlr'>;
  readonly migration?: Migration;
  readonly tracksDirtyPages?: boolean;
}

const MIN_MSIX_BAR_BYTES = 0x1000;

/** MSI-X table and pending bits in a BAR of their own, each on its own half: guests may map them separately. */
function msixParts(spec: { readonly vectors: number; readonly bar: number }): { bar: BarSpec; capability: Capability; region: MsixRegion } {
  const { vectors, bar } = spec;
  const half = Math.max(MIN_MSIX_BAR_BYTES, 2 ** Math.ceil(Math.log2(vectors * MSIX_ENTRY_BYTES)));
  const region = new MsixRegion({ vectors, sizeBytes: 2 * half, tableOffset: 0, pbaOffset: half });
  return {
    region,
    bar: { index: bar, kind: 'memory32', sizeBytes: 2 * half, handler: region },
    capability: msixCapability({ vectors, table: { bar, offset: 0 }, pba: { bar, offset: half } }),
  };
}

/**
 * A PCI function from its description: answers configuration space, MSI-X structures, INTx and its disable bit, and function level
 * reset by itself. Subclass it and override the protected hooks, or put everything into the description's handlers.
 */
export class BasicPciDevice implements PciDevice {
  readonly name: string;
  readonly config: ConfigSpace;
  readonly regions: readonly RegionDescription[];
  readonly irqs: readonly IrqDescription[];
  readonly resettable: boolean = true;
  readonly migration?: Migration;
  readonly tracksDirtyPages: boolean;
  /** By region index; undefined: described, with nothing behind it. */
  readonly #handlers = new Map<number, RegionHandler | undefined>();
  readonly #msix: MsixRegion | undefined;
  #host: PciHost | undefined;
  /** What the device wants, and what the host was last told. */
  #intx = false;
  #level = false;

  /** @throws PciLayoutError */
  constructor(spec: BasicPciDeviceSpec) {
    const { configBytes, capabilities = [], hooks } = spec;
    const msix = spec.msix === undefined ? undefined : msixParts(spec.msix);
    const bars = [...(spec.bars ?? []), ...(msix === undefined ? [] : [msix.bar])];
    this.#msix = msix?.region;
    this.name = spec.name;
    this.tracksDirtyPages = spec.tracksDirtyPages ?? false;
    if (spec.migration !== undefined) this.migration = spec.migration;
    this.config = new ConfigSpace(
      {
        ...spec, bars, sizeBytes: configBytes ?? 256, interruptPin: spec.intx === true ? 1 : 0,
        capabilities: [...(spec.msi === undefined ? [] : [msiCapability(spec.msi)]), ...(msix === undefined ? [] : [msix.capability]), ...capabilities],
      },
      {
        ...hooks,
        onCommand: (command) => {
          this.#driveIntx();
          hooks?.onCommand?.(command);
        },
        onFlr: () => this.#host?.functionLevelReset(),
      },
    );
    this.regions = [...[...bars, ...(spec.regions ?? [])].map((region) => this.#describe(region)), this.config.region];
    const irq = (index: number, count: number, flags = 0): IrqDescription[] => (count === 0 ? [] : [{ index, count, flags: IRQ_INFO_EVENTFD | flags }]);
    this.irqs = [
      ...irq(IRQ_INTX, spec.intx === true ? 1 : 0, IRQ_INFO_MASKABLE | IRQ_INFO_AUTOMASKED),
      ...irq(IRQ_MSI, spec.msi?.vectors ?? 0), ...irq(IRQ_MSIX, spec.msix?.vectors ?? 0),
      ...irq(IRQ_ERR, spec.err === true ? 1 : 0), ...irq(IRQ_REQ, spec.req === true ? 1 : 0),
    ];
  }

  /** The consumer's side while one is attached; undefined otherwise. */
  protected get host(): PciHost | undefined {
    return this.#host;
  }

  /** A consumer has come; `host` is there. A throw turns it away. */
  protected onAttach(): void | Promise<void> {}
  /** It goes; `host` is still there. What the device does by itself must have ended when this resolves. */
  protected onDetach(_reason: DetachReason): void | Promise<void> {}
  /** Back to power-on; configuration space, MSI-X structures and INTx are there already. */
  protected onReset(): void | Promise<void> {}

  /**
   * The level of INTx: stays asserted until the device takes it back, usually because its guest has acknowledged. Shown in STATUS, and held
   * back while COMMAND disables INTx.
   */
  protected setIntx(asserted: boolean): void {
    this.#intx = asserted;
    this.#driveIntx();
  }

  async attach(host: PciHost): Promise<void> {
    this.#host = host;
    this.#level = false;
    this.#driveIntx();
    try {
      await this.onAttach();
    } catch (error) {
      // Nobody detaches a device that has refused.
      this.#host = undefined;
      throw error;
    }
  }

  async detach(reason: DetachReason): Promise<void> {
    await this.onDetach(reason);
    this.#host = undefined;
  }

  read(region: number, offset: number, into: Uint8Array): void | Promise<void> {
    if (region === REGION_CONFIG) return this.config.read(offset, into);
    const handler = this.#handlers.get(region);
    if (handler === undefined) into.fill(0);
    else return handler.read(offset, into);
  }

  write(region: number, offset: number, from: Uint8Array): void | Promise<void> {
    return region === REGION_CONFIG ? this.config.write(offset, from) : this.#handlers.get(region)?.write(offset, from);
  }

  async reset(): Promise<void> {
    this.config.reset();
    this.#msix?.reset();
    this.#intx = false;
    this.#driveIntx();
    await this.onReset();
  }

  // For a device that does nothing by itself. One that does stops here and goes on in `resume`.
  quiesce(_reason: QuiesceReason): Promise<void> {
    return Promise.resolve();
  }
  resume(): void {}
  memoryChanged(): void {}
  irqsChanged(_index: number, _start: number, _count: number): void {}

  #driveIntx(): void {
    this.config.setInterruptStatus(this.#intx);
    const level = this.#intx && !this.config.command.intxDisabled;
    if (this.#host === undefined || level === this.#level) return;
    this.#level = level;
    this.#host.setIntx(level);
  }

  #describe({ index, sizeBytes, handler, mmap }: RegionSpec): RegionDescription {
    if (this.#handlers.has(index) || index === REGION_CONFIG) throw new PciLayoutError(`region ${index} is described twice`);
    if ((handler?.sizeBytes ?? 0) > sizeBytes) throw new PciLayoutError(`region ${index} of ${sizeBytes} bytes: what is behind it needs ${handler!.sizeBytes}`);
    this.#handlers.set(index, handler);
    return { index, sizeBytes, readable: true, writable: true, ...(mmap === undefined ? {} : { mmap }) };
  }
}
