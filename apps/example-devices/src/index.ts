/**
 * Small PCI devices to learn from and to test against: one file each, 10 to 200 lines.
 *
 * @packageDocumentation
 */
export { ConformanceDevice } from './conformance.ts';
export { GpioDevice } from './gpio.ts';
export { InterruptDevice, type InterruptKind } from './interrupt-device.ts';
export { LspciFixture } from './lspci-fixture.ts';
export { NullDevice } from './null.ts';
export { Serial, type SerialOptions } from './serial.ts';
export { ShadowIoeventfdDevice } from './shadow-ioeventfd.ts';
export { EXAMPLES, type Example } from './catalog.ts';
