/** The provider suite can fail: defects of what a device tells back ends, each caught by the cases that are about it, and by no others. */
import { attribute, attrKey, type DoorbellInfo, type IrqInfo, type QueueInfo, type SharedRegion } from '@emudev/emudev';
import { Lamp } from './support/lamp.ts';
import { judge, type Mutant } from './support/provider-mutation.ts';

const MUTANTS: readonly Mutant[] = [
  {
    defect: 'an attribute\'s setter does nothing',
    make: class extends Lamp {
      override readonly attributes = new Map([attribute(attrKey<number>('brightness'), { get: () => 50, set: (_value) => {} })]);
    },
    caughtBy: ['provider.attributes-hostile', 'provider.attributes-written'],
  },
  {
    defect: 'an attribute that refuses a value has taken it all the same',
    make: class extends Lamp {
      override readonly attributes = new Map([attribute(attrKey<number>('brightness'), {
        get: () => this.brightness,
        set: (value) => {
          this.brightness = value;
          if (!(value >= 0)) throw new Error('expected a number from 0');
        },
      })]);
    },
    caughtBy: ['provider.attributes-hostile'],
  },
  {
    defect: 'an attribute does not read the text it prints',
    make: class extends Lamp {
      override readonly attributes = new Map([attribute(attrKey<number>('brightness'), { get: () => this.brightness, set: (value) => { this.brightness = value; } }, {
        placeholder: 'N', format: (value) => `${value} %`, parse: (text) => Number.parseInt(text, 16), check: (value) => { if (typeof value !== 'number' || !(value >= 0)) throw new Error('expected a number'); },
      })]);
    },
    caughtBy: ['provider.attributes-text'],
  },
  {
    defect: 'an attribute cannot be read',
    make: class extends Lamp {
      override readonly attributes = new Map([attribute(attrKey<number>('brightness'), { get: () => { if (this.emudev.state === 'started') throw new TypeError('no bulb'); return 1; } })]);
    },
    caughtBy: ['provider.attributes-read', 'provider.self-test'],
  },
  { defect: 'a queue of any number is described', make: class extends Lamp { override queueInfo(_queue: number): QueueInfo { return { base: 0n, size: 0, doorbellId: 0, irqVector: 0 }; } }, caughtBy: ['provider.ranges', 'provider.self-test'] },
  { defect: 'a queue names a vector there is not', make: class extends Lamp { override queueInfo(queue: number): QueueInfo | undefined { return queue === 0 ? { base: 0n, size: 0, doorbellId: 0, irqVector: 1 } : undefined; } }, caughtBy: ['provider.ranges', 'provider.self-test'] },
  { defect: 'a vector\'s cells are nowhere', make: class extends Lamp { override irqInfo(vector: number): IrqInfo | undefined { return vector === 0 ? { vector, fd: -1, cells: 0 } : undefined; } }, caughtBy: ['provider.ranges', 'provider.self-test'] },
  { defect: 'a doorbell is no word', make: class extends Lamp { override doorbell(id: number): DoorbellInfo | undefined { return id === 0 ? { kind: 'mem', id, offset: this.page + 1, trapped: false } : undefined; } }, caughtBy: ['provider.doorbells'] },
  { defect: 'a shared region reaches out of the window', make: class extends Lamp { override region(name: string): SharedRegion | undefined { return name === 'page' ? { offset: this.page, sizeBytes: 2 ** 33 } : undefined; } }, caughtBy: ['provider.regions-shared', 'provider.self-test'] },
  { defect: 'a region of any name is there', make: class extends Lamp { override region(_name: string): SharedRegion { return { offset: this.page, sizeBytes: 4096 }; } }, caughtBy: ['provider.unknown-names'] },
  { defect: 'the self-test fails', make: class extends Lamp { override selfTest() { return Promise.resolve([{ name: 'bulb', passed: false, text: 'dark' }]); } }, caughtBy: ['provider.self-test'] },
  { defect: 'guest memory is handed out shifted', make: class extends Lamp { override memTable() { const memory = super.memTable(); return { generation: 0, iotlb: 0, read: (iova: bigint, into: Uint8Array) => memory.read(iova + 1n, into), write: memory.write.bind(memory), translate: memory.translate.bind(memory), pin: memory.pin.bind(memory) }; } }, caughtBy: ['provider.mem-table'] },
];

judge(MUTANTS);
