/** The provider suite can fail: defects of the PCI function, each caught by the cases that are about it, and by no others. */
import type { RegionDescription } from '@emudev/pci';
import { Lamp } from './support/lamp.ts';
import { judge, type Mutant } from './support/provider-mutation.ts';

const MUTANTS: readonly Mutant[] = [
  { defect: 'configuration space throws at an odd offset', make: class extends Lamp { override read(region: number, offset: number, into: Uint8Array) { if (region === 7 && offset === 0x33 && into.length === 1) throw new Error('odd'); return super.read(region, offset, into); } }, caughtBy: ['provider.accesses', 'provider.config-reads'] },
  { defect: 'configuration space reads otherwise by words', make: class extends Lamp { override read(region: number, offset: number, into: Uint8Array) { void super.read(region, offset, into); if (region === 7 && into.length === 2) into.reverse(); } }, caughtBy: ['provider.config-reads'] },
  { defect: 'a write to configuration space throws', make: class extends Lamp { override write(region: number, offset: number, from: Uint8Array) { if (region === 7 && offset === 0x3d && from.length === 4) throw new Error('unaligned'); return super.write(region, offset, from); } }, caughtBy: ['provider.config-writes'] },
  { defect: 'the device id can be written', make: class extends Lamp { override write(region: number, offset: number, from: Uint8Array) { void super.write(region, offset, from); if (region === 7 && offset === 2) this.config.set(2, from.subarray(0, 1)); } }, caughtBy: ['provider.identity'] },
  {
    defect: 'the capability list does not end',
    make: class extends Lamp {
      override read(region: number, offset: number, into: Uint8Array) {
        void super.read(region, offset, into);
        if (region === 7 && offset <= 0x41 && offset + into.length > 0x41) into[0x41 - offset] = 0x40;
      }
    },
    caughtBy: ['provider.capabilities', 'provider.flr', 'provider.identity', 'provider.irqs'],
  },
  { defect: 'a region is not as large as its BAR', make: class extends Lamp { override readonly regions: readonly RegionDescription[] = [{ index: 0, sizeBytes: 2048, readable: true, writable: true }, this.config.region]; }, caughtBy: ['provider.bars'] },
  { defect: 'memory that may be mapped has no file behind it', make: class extends Lamp { override readonly regions: readonly RegionDescription[] = [{ index: 0, sizeBytes: 4096, readable: true, writable: true, mmap: { areas: [{ offset: 0, sizeBytes: 8192 }], backing: { fd: 0, offset: 0 } } }, this.config.region]; }, caughtBy: ['provider.regions'] },
  { defect: 'fewer interrupts are described than the capability has', make: class extends Lamp { override readonly irqs = []; }, caughtBy: ['provider.irqs'] },
  { defect: 'a register throws what has no errno', make: class extends Lamp { override write(region: number, offset: number, from: Uint8Array) { if (region === 0 && offset === 8) throw new TypeError('undefined is not a function'); return super.write(region, offset, from); } }, caughtBy: ['provider.accesses', 'provider.departure-restores', 'provider.reset-restores'] },
  { defect: 'a closed device answers', make: class extends Lamp { override read(region: number, offset: number, into: Uint8Array) { void super.read(region, offset, into); if (this.emudev.state === 'closed') into.fill(0); } }, caughtBy: ['provider.close-while-connected'] },
];

judge(MUTANTS);
