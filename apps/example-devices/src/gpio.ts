/**
 * ACCES PCI-IDIO-16: 16 digital outputs and 16 inputs, with the registers that Linux' `gpio-pci-idio-16` drives. The inputs are made up
 * (libvfio-user's sample has the same ones): input n is high while the number of times that output n was written high is a multiple of 3.
 */
import { BasicPciDevice, registers, snapshotMigration } from '@emudev/pci';

const PINS = 16;
const STATE_BYTES = PINS * 4;
/** Interrupt status register: an input has changed. */
const STATUS_CHANGED = 0x04;

export class GpioDevice extends BasicPciDevice {
  readonly #counters = new Int32Array(PINS);
  readonly #outputs = [0, 0];
  #interruptEnabled = false;
  #changed = false;

  constructor() {
    super({
      name: 'gpio', vendorId: 0x494f, deviceId: 0x0dc8, classCode: 0xff0000, intx: true, tracksDirtyPages: true,
      bars: [{
        index: 2, kind: 'io', sizeBytes: 0x100,
        handler: registers({
          0x0: { bytes: 1, read: () => this.#outputs[0]!, write: (pins) => { this.#drive(0, pins); } },
          0x1: { bytes: 1, read: () => this.#inputs(0), write: () => { this.#acknowledge(); } },
          // Reading enables the interrupt, writing disables it: so says the card's manual.
          0x2: { bytes: 1, read: () => this.#enable(true), write: () => void this.#enable(false) },
          0x4: { bytes: 1, read: () => this.#outputs[1]!, write: (pins) => { this.#drive(1, pins); } },
          0x5: { bytes: 1, read: () => this.#inputs(1) },
          0x6: { bytes: 1, read: () => (this.#changed ? STATUS_CHANGED : 0) },
        }),
      }],
      // The counters and nothing else, as the sample has it, so that either can take over from the other.
      migration: snapshotMigration({ maxBytes: STATE_BYTES, save: () => this.#save(), load: (state) => { this.#load(state); } }),
    });
  }

  protected override onReset(): void {
    this.#counters.fill(0);
    this.#outputs.fill(0);
    this.#interruptEnabled = false;
    this.#changed = false;
  }

  #drive(bank: 0 | 1, pins: number): void {
    const before = this.#inputs(bank);
    this.#outputs[bank] = pins;
    for (let pin = 0; pin < 8; pin++) if ((pins & (1 << pin)) !== 0) this.#counters[8 * bank + pin]!++;
    if (this.#inputs(bank) === before) return;
    this.#changed = true;
    this.setIntx(this.#interruptEnabled);
  }

  #inputs(bank: 0 | 1): number {
    let bits = 0;
    for (let pin = 0; pin < 8; pin++) if (this.#counters[8 * bank + pin]! % 3 === 0) bits |= 1 << pin;
    return bits;
  }

  #enable(enabled: boolean): number {
    this.#interruptEnabled = enabled;
    this.setIntx(enabled && this.#changed);
    return 0;
  }

  #acknowledge(): void {
    this.#changed = false;
    this.setIntx(false);
  }

  #save(): Uint8Array {
    const state = new DataView(new ArrayBuffer(STATE_BYTES));
    for (const [pin, count] of this.#counters.entries()) state.setInt32(4 * pin, count, true);
    return new Uint8Array(state.buffer);
  }

  #load(state: Uint8Array): void {
    const view = new DataView(state.buffer, state.byteOffset);
    for (let pin = 0; pin < PINS; pin++) this.#counters[pin] = view.getInt32(4 * pin, true);
  }
}
