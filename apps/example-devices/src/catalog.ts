/** The devices by the name they are asked for on the command line. */
import type { PciDevice } from '@emudev/pci';
import { ConformanceDevice } from './conformance.ts';
import { GpioDevice } from './gpio.ts';
import { InterruptDevice } from './interrupt-device.ts';
import { LspciFixture } from './lspci-fixture.ts';
import { NullDevice } from './null.ts';
import { Serial } from './serial.ts';
import { ShadowIoeventfdDevice } from './shadow-ioeventfd.ts';

export interface Example {
  readonly what: string;
  /** Disposed, where it can be, when it is no longer served. */
  create(): PciDevice & Partial<Disposable>;
}

export const EXAMPLES: Readonly<Record<string, Example>> = {
  gpio: { what: 'ACCES PCI-IDIO-16: 16 inputs and outputs, driven by Linux\' gpio-pci-idio-16', create: () => new GpioDevice() },
  serial: { what: 'a serial port with MSI that echoes, driven by Linux\' 8250_pci', create: () => new Serial() },
  'irq-intx': { what: 'factorials, DMA and an interrupt pin', create: () => new InterruptDevice('intx') },
  'irq-msi': { what: 'the same with 4 MSI vectors', create: () => new InterruptDevice('msi') },
  'irq-msix': { what: 'the same with 8 MSI-X vectors', create: () => new InterruptDevice('msix') },
  'lspci-fixture': { what: 'every kind of capability, for lspci -vv', create: () => new LspciFixture() },
  'shadow-ioeventfd': { what: 'a doorbell in shared memory', create: () => new ShadowIoeventfdDevice() },
  conformance: { what: 'what libvfio-user\'s samples/client talks to', create: () => new ConformanceDevice() },
  null: { what: 'configuration space and nothing else', create: () => new NullDevice() },
};
