import { test } from 'vitest';
import { EmulatedPciDevice, emulatedVdev, type EmudevRegistryLike } from '@emudev/emudev';
import { registers } from '@emudev/pci';
import { providerConformance } from '@emudev/testkit';

class Counter extends EmulatedPciDevice {
  count = 0;
  constructor(name: string, registry: EmudevRegistryLike) {
    const handler = registers({ 0: { read: () => this.count, write: (value) => { this.count = value; } } });
    super({ name, family: { devType: 'counter', version: 1 }, vendorId: 0x1234, deviceId: 1, classCode: 0xff0000, bars: [{ index: 0, kind: 'memory32', sizeBytes: 4096, handler }] }, registry);
  }
  protected override onReset(): void {
    this.count = 0; // without this line 'provider.reset-restores' and 'provider.departure-restores' fail
  }
}

const suite = providerConformance((name, context) => emulatedVdev(name, context, (registry) => new Counter(name, registry)));
for (const { title, run } of suite) test(title, run);
