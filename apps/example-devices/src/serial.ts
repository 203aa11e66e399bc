/**
 * A serial port: the NetMos 9900 as Linux' 8250_pci driver knows it, a 16550A in an I/O BAR. The driver takes whichever kind of
 * interrupt it finds, so one device shows all three. What the guest writes comes back, unless somebody is at the other end.
 */
import { BasicPciDevice, IRQ_MSI, IRQ_MSIX, registers, type Register } from '@emudev/pci';
import { Uart16550 } from './uart-16550.ts';

export interface SerialOptions {
  /** 'msi' by default. */
  readonly interrupts?: 'intx' | 'msi' | 'msix';
  /** What the guest sends, byte by byte; it is echoed when absent. */
  readonly transmit?: (byte: number) => void;
}

export class Serial extends BasicPciDevice {
  readonly uart: Uart16550;

  constructor(options: SerialOptions = {}) {
    const kind = options.interrupts ?? 'msi';
    const uart: Uart16550 = new Uart16550({
      transmit: options.transmit ?? ((byte) => { uart.receive(byte); }),
      interrupt: (asserted) => {
        if (kind === 'intx') this.setIntx(asserted);
        // Messages are edges: the driver asks for causes until there is none, so a new one always comes with a new edge.
        else if (asserted) this.host?.trigger(kind === 'msi' ? IRQ_MSI : IRQ_MSIX, 0);
      },
    });
    const register = (at: number): Register => ({ bytes: 1, read: () => uart.read(at), write: (value) => { uart.write(at, value); } });
    super({
      name: `serial-${kind}`,
      // 8250_pci takes MSI and MSI-X for few ids only; this is one of them, with the subsystem ids of a card with a single port.
      vendorId: 0x9710, deviceId: 0x9900, subsystemVendorId: 0xa000, subsystemId: 0x1000,
      classCode: 0x070002, // serial controller, 16550 compatible
      bars: [{ index: 0, kind: 'io', sizeBytes: 8, handler: registers(Object.fromEntries([0, 1, 2, 3, 4, 5, 6, 7].map((at) => [at, register(at)]))) }],
      ...(kind === 'intx' ? { intx: true } : kind === 'msi' ? { msi: { vectors: 1 } } : { msix: { vectors: 1, bar: 1 } }),
    });
    this.uart = uart;
  }

  protected override onReset(): void {
    this.uart.reset();
  }
}
