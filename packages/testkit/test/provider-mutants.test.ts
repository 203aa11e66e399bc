/** The provider suite can fail: every defect here is caught by the cases that are about it, and by no others. function-mutants.test.ts has those of the PCI function. */
import { expect, test } from 'vitest';
import { linux } from '@emudev/linux';
import { attribute, attrKey, type DoorbellInfo, type IrqInfo, type QueueInfo, type SharedRegion } from '@emudev/emudev';
import type { DetachReason, PciHost, QuiesceReason } from '@emudev/pci';
import { providerConformance, quietTurns } from '@emudev/testkit';
import { failures } from './support/failures.ts';
import { Lamp, probeLamp } from './support/lamp.ts';
import { judge, leak, leaked, type Mutant } from './support/provider-mutation.ts';

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
  { defect: 'close keeps a descriptor', make: class extends Lamp { override close() { leak(); return super.close(); } }, caughtBy: ['provider.leaks'] },
  { defect: 'close keeps window memory', make: class extends Lamp { override close() { this.window.alloc(64); return super.close(); } }, caughtBy: ['provider.leaks'] },
  { defect: 'every consumer leaves a descriptor behind', make: class extends Lamp { override attach(host: PciHost) { leak(); return super.attach(host); } }, caughtBy: ['provider.leaks', 'provider.reconnect'] },
  {
    defect: 'a second device of its name leaves a descriptor behind',
    factory: (name, context) => {
      leak();
      const made = probeLamp(name, context);
      linux.close(leaked.pop()!);
      return made;
    },
    caughtBy: ['provider.name-taken'],
  },
  {
    defect: 'closing it does not free the name',
    factory: (name, context) => {
      const made = probeLamp(name, context);
      return { ...made, close: async () => { if (made.emudev.state !== 'closed') await made.emudev.close(); } };
    },
    caughtBy: ['provider.close-once'],
  },
  { defect: 'a reset keeps a register', make: class extends Lamp { protected override onReset() { if (this.emudev.consumer === 'absent') super.onReset(); } }, caughtBy: ['provider.reset-restores'] },
  { defect: 'a departure keeps a register', make: class extends Lamp { protected override onReset() { if (this.emudev.consumer !== 'absent') super.onReset(); } }, caughtBy: ['provider.departure-restores'] },
  {
    defect: 'quiesce does not wait for a back end that takes its time',
    make: class extends Lamp {
      override quiesce(reason: QuiesceReason) {
        const locked = super.quiesce(reason);
        locked.catch(() => {});
        return reason === 'dma-map' && this.emudev.consumer === 'ready' ? Promise.race([locked, quietTurns(2)]) : locked;
      }
    },
    caughtBy: ['provider.lock-awaited', 'provider.lock-timeout'],
  },
  {
    defect: 'reset does not wait for the back end',
    make: class extends Lamp { override reset() { const done = super.reset(); return Promise.race([done, quietTurns(5)]); } },
    caughtBy: ['provider.reset-awaited'],
  },
  {
    defect: 'a departure does not wait for the back end',
    make: class extends Lamp { override detach(reason: DetachReason) { const done = super.detach(reason); return Promise.race([done, quietTurns(8)]); } },
    caughtBy: ['provider.destroyed-awaited'],
  },
  {
    defect: 'the back end is not told of a reset',
    make: class extends Lamp { override reset() { this.lit = 0; this.config.reset(); return Promise.resolve(); } },
    caughtBy: ['provider.observers', 'provider.order', 'provider.reset-awaited', 'provider.reset-twice', 'provider.reset-while-pending'],
  },
  {
    defect: 'the back end is not told of changed memory',
    make: class extends Lamp { override memoryChanged() { if (this.emudev.consumer !== 'ready') super.memoryChanged(); } },
    caughtBy: ['provider.late-back-end', 'provider.lock-awaited', 'provider.lock-rejects', 'provider.observers', 'provider.order', 'provider.reset-while-pending'],
  },
  { defect: 'the back end is not told of changed interrupts', make: class extends Lamp { override irqsChanged() {} }, caughtBy: ['provider.order'] },
  { defect: 'a lock that failed is not undone', make: class extends Lamp { #broken = false; override async quiesce(reason: QuiesceReason) { if (this.#broken) throw new Error('broken'); try { await super.quiesce(reason); } catch (error) { this.#broken = true; throw error; } } }, caughtBy: ['provider.lock-rejects', 'provider.lock-timeout'] },
  { defect: 'a queue of any number is described', make: class extends Lamp { override queueInfo(_queue: number): QueueInfo { return { base: 0n, size: 0, doorbellId: 0, irqVector: 0 }; } }, caughtBy: ['provider.ranges', 'provider.self-test'] },
  { defect: 'a queue names a vector there is not', make: class extends Lamp { override queueInfo(queue: number): QueueInfo | undefined { return queue === 0 ? { base: 0n, size: 0, doorbellId: 0, irqVector: 1 } : undefined; } }, caughtBy: ['provider.ranges', 'provider.self-test'] },
  { defect: 'a vector\'s cells are nowhere', make: class extends Lamp { override irqInfo(vector: number): IrqInfo | undefined { return vector === 0 ? { vector, fd: -1, cells: 0 } : undefined; } }, caughtBy: ['provider.ranges', 'provider.self-test'] },
  { defect: 'a doorbell is no word', make: class extends Lamp { override doorbell(id: number): DoorbellInfo | undefined { return id === 0 ? { kind: 'mem', id, offset: this.page + 1, trapped: false } : undefined; } }, caughtBy: ['provider.doorbells'] },
  { defect: 'a shared region reaches out of the window', make: class extends Lamp { override region(name: string): SharedRegion | undefined { return name === 'page' ? { offset: this.page, sizeBytes: 2 ** 33 } : undefined; } }, caughtBy: ['provider.regions-shared', 'provider.self-test'] },
  { defect: 'a region of any name is there', make: class extends Lamp { override region(_name: string): SharedRegion { return { offset: this.page, sizeBytes: 4096 }; } }, caughtBy: ['provider.unknown-names'] },
  { defect: 'the self-test fails', make: class extends Lamp { override selfTest() { return Promise.resolve([{ name: 'bulb', passed: false, text: 'dark' }]); } }, caughtBy: ['provider.self-test'] },
  { defect: 'guest memory is handed out shifted', make: class extends Lamp { override memTable() { const memory = super.memTable(); return { generation: 0, iotlb: 0, read: (iova: bigint, into: Uint8Array) => memory.read(iova + 1n, into), write: memory.write.bind(memory), translate: memory.translate.bind(memory) }; } }, caughtBy: ['provider.mem-table'] },
];

test('the good one passes all', async () => {
  expect(await failures(providerConformance(probeLamp))).toEqual({});
});

judge(MUTANTS);
