import { attribute, EmulatedPciDevice, type Attribute, type Channel, type EmudevRegistryLike } from '@emudev/emudev';
import { IRQ_MSI, type DetachReason, type PciHost, type QuiesceReason } from '@emudev/pci';
import { ATTR_PORTS, MAX_PORTS, SERIAL_CONTRACT } from './contract.ts';
import { SerialPort } from './port.ts';

/** As the kernel's sample device mtty and the WCH CH352 have them: `8250_pci` takes port n to be in BAR n. */
const VENDOR_ID = 0x4348;
const DEVICE_ID = 0x3253;
const CLASS_SERIAL_16550 = 0x070002;
const PORT_BYTES = 8;
const TEXT_OFFSET = 0x60;
const TEXT = 'PCI Serial/UART';

/** How a card is made. */
export interface SerialCardOptions {
  readonly name: string;
  /** 1 or 2; 1 by default. */
  readonly ports?: number;
}

/**
 * A PCI card with one or two 16550A ports. They share one interrupt: INTx, which is a level, or the one MSI vector once a consumer has
 * assigned it a descriptor.
 */
export class SerialCard extends EmulatedPciDevice {
  readonly ports: readonly SerialPort[];
  override readonly attributes: ReadonlyMap<string, Attribute>;
  #started = false;
  #quiet = false;
  #msi = false;

  /** @throws EmudevError (EMUDEV_EXISTS, EMUDEV_BAD_ARG: the name), RangeError (ports) */
  constructor(options: SerialCardOptions, registry: EmudevRegistryLike) {
    const { name, ports: count = 1 } = options;
    if (!Number.isInteger(count) || count < 1 || count > MAX_PORTS) throw new RangeError(`a serial card has 1 to ${MAX_PORTS} ports, not ${count}`);
    const signals = { interrupt: () => {}, error: (_error: unknown) => {} };
    const ports = Array.from({ length: count }, (_, index) => new SerialPort({ index, interrupt: () => { signals.interrupt(); }, error: (error) => { signals.error(error); } }));
    super({
      name, family: SERIAL_CONTRACT,
      vendorId: VENDOR_ID, deviceId: DEVICE_ID, subsystemVendorId: VENDOR_ID, subsystemId: DEVICE_ID, revision: 0x10, classCode: CLASS_SERIAL_16550,
      bars: ports.map((port, index) => ({ index, kind: 'io', sizeBytes: PORT_BYTES, handler: port.registers })),
      intx: true, msi: { vectors: 1 },
      rawPowerOn: [{ offset: TEXT_OFFSET, bytes: new TextEncoder().encode(TEXT) }],
      tracksDirtyPages: true, // It touches no memory.
    }, registry);
    this.ports = ports;
    this.attributes = new Map([attribute(ATTR_PORTS, { get: () => count }), ...ports.flatMap((port) => port.attributes)]);
    signals.interrupt = () => { this.#interrupt(); };
    signals.error = (error) => { this.port.error(error); };
  }

  /** The channel of port n by its name, `portn`; undefined for a port that the card does not have. */
  override channel(name: string): Channel<unknown, unknown> | undefined {
    const index = /^port(\d)$/.exec(name)?.[1];
    return index === undefined ? undefined : this.ports[Number(index)]?.channel as Channel<unknown, unknown> | undefined;
  }

  /** Bytes pass between the guest and the line, unless the card is quiescent. */
  override async start(): Promise<void> {
    await super.start();
    this.#started = true;
    this.#run();
  }

  /** Nothing passes any more; what is under way waits for the next start. */
  override async stop(): Promise<void> {
    this.#started = false;
    this.#run();
    await super.stop();
  }

  /** Closes the ports. */
  override async close(): Promise<void> {
    for (const port of this.ports) port.close();
    await super.close();
  }

  /** A consumer comes: the ports' back ends are told. */
  override async attach(host: PciHost): Promise<void> {
    await super.attach(host);
    this.#interruptsAssigned();
    for (const port of this.ports) port.setConsumer(true);
  }

  /** The consumer goes: the ports are at power-on, and their back ends are told. */
  override async detach(reason: DetachReason): Promise<void> {
    await super.detach(reason);
    this.#msi = this.#quiet = false;
    for (const port of this.ports) port.setConsumer(false);
    this.#run();
  }

  /** Until `resume` nothing passes between the guest and the line. */
  override async quiesce(reason: QuiesceReason): Promise<void> {
    await super.quiesce(reason);
    this.#quiet = true;
    this.#run();
  }

  /** What waited goes on; interrupts use MSI from here if the consumer has assigned it, and the pin otherwise. */
  override resume(): void {
    super.resume();
    this.#quiet = false;
    this.#interruptsAssigned();
    this.#run();
  }

  protected override onReset(): void {
    for (const port of this.ports) port.reset();
  }

  #run(): void {
    for (const port of this.ports) {
      if (this.#started && !this.#quiet) port.resume();
      else port.pause();
    }
  }

  /** VFIO enables one kind of interrupt at a time, by giving its vectors descriptors. */
  #interruptsAssigned(): void {
    const msi = this.host !== undefined && this.host.irqFd(IRQ_MSI, 0) !== -1;
    const now = msi && !this.#msi;
    this.#msi = msi;
    this.#interrupt();
    // A message stands for a cause that arises; those that are pending already have had none.
    if (now && this.#interrupting) this.host?.trigger(IRQ_MSI, 0);
  }

  #interrupt(): void {
    let rising = false;
    for (const { uart } of this.ports) rising = uart.takeRising() || rising;
    // PCI Local Bus 3.0, 6.8.3.3: a function with MSI enabled does not use its pin.
    this.setIntx(!this.#msi && this.#interrupting);
    if (this.#msi && rising) this.host?.trigger(IRQ_MSI, 0);
  }

  get #interrupting(): boolean {
    for (const { uart } of this.ports) if (uart.interrupting) return true;
    return false;
  }
}
