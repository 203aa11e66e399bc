/**
 * A serial port: the NetMos 9900 as Linux' 8250_pci driver knows it, a 16550A in an I/O BAR. The driver takes whichever kind of
 * interrupt it finds, so one device shows all three. What the guest writes comes back, unless somebody is at the other end.
 */
import { BasicPciDevice, IRQ_MSI, IRQ_MSIX, registers, type Register } from '@emudev/pci';
import { Uart16550 } from './uart-16550.ts';

/** So many bytes are on their way back at most: those that a guest sends without ever reading are lost, and its receiver says so. */
const MAX_ECHO_BYTES = 4096;

export interface SerialOptions {
  /** 'msi' by default. */
  readonly interrupts?: 'intx' | 'msi' | 'msix';
  /** What the guest sends, byte by byte; it is echoed when absent. */
  readonly transmit?: (byte: number) => void;
}

export class Serial extends BasicPciDevice {
  readonly uart: Uart16550;
  /** On its way back to the receiver, which has no room yet. */
  readonly #echo: number[];

  constructor(options: SerialOptions = {}) {
    const kind = options.interrupts ?? 'msi';
    // A driver may fill the transmitter again before it has emptied the receiver (Linux does where it doubts the transmitter's interrupt).
    const echo: number[] = [];
    const comeBack = (): void => {
      while (echo.length > 0 && (uart.room > 0 || echo.length > MAX_ECHO_BYTES)) uart.receive(echo.shift()!);
    };
    const uart: Uart16550 = new Uart16550({
      transmit: options.transmit ?? ((byte) => {
        echo.push(byte);
        comeBack();
      }),
      interrupt: (asserted) => {
        if (kind === 'intx') this.setIntx(asserted);
        // Messages are edges: the driver asks for causes until there is none, so a new one always comes with a new edge.
        else if (asserted) this.host?.trigger(kind === 'msi' ? IRQ_MSI : IRQ_MSIX, 0);
      },
    });
    const register = (at: number): Register => ({
      bytes: 1,
      read: () => {
        const value = uart.read(at);
        comeBack();
        return value;
      },
      write: (value) => { uart.write(at, value); },
    });
    super({
      name: `serial-${kind}`,
      // 8250_pci takes MSI and MSI-X for few ids only; this is one of them, with the subsystem ids of a card with a single port.
      vendorId: 0x9710, deviceId: 0x9900, subsystemVendorId: 0xa000, subsystemId: 0x1000,
      classCode: 0x070002, // serial controller, 16550 compatible
      bars: [{ index: 0, kind: 'io', sizeBytes: 8, handler: registers(Object.fromEntries([0, 1, 2, 3, 4, 5, 6, 7].map((at) => [at, register(at)]))) }],
      ...(kind === 'intx' ? { intx: true } : kind === 'msi' ? { msi: { vectors: 1 } } : { msix: { vectors: 1, bar: 1 } }),
    });
    this.uart = uart;
    this.#echo = echo;
  }

  protected override onReset(): void {
    this.#echo.length = 0;
    this.uart.reset();
  }
}
