/** The provider suite can fail: every defect here is caught by the cases that are about it, and by no others. */
import { describe, expect, test } from 'vitest';
import { linux } from '@emudev/linux';
import { attribute, attrKey, type DoorbellInfo, type EmudevRegistryLike, type IrqInfo, type QueueInfo, type SharedRegion } from '@emudev/emudev';
import type { DetachReason, PciHost, QuiesceReason, RegionDescription } from '@emudev/pci';
import { providerConformance, quietTurns, type ProviderFactory } from '@emudev/testkit';
import { failures } from './support/failures.ts';
import { Lamp, probeLamp, type LampClass } from './support/lamp.ts';

const lamp = (make: LampClass): ProviderFactory => (name, context) => probeLamp(name, context, make);
const leaked: number[] = [];
const leak = (): void => { leaked.push(linux.eventfd()); };

interface Mutant {
  readonly defect: string;
  readonly make?: LampClass;
  /** Where the defect is in what wraps the device. */
  readonly factory?: ProviderFactory;
  /** Cases that must fail. */
  readonly caughtBy: readonly string[];
}

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
    caughtBy: ['provider.attributes-read'],
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
  { defect: 'a queue of any number is described', make: class extends Lamp { override queueInfo(_queue: number): QueueInfo { return { base: 0n, size: 0, doorbellId: 0, irqVector: 0 }; } }, caughtBy: ['provider.ranges'] },
  { defect: 'a queue names a vector there is not', make: class extends Lamp { override queueInfo(queue: number): QueueInfo | undefined { return queue === 0 ? { base: 0n, size: 0, doorbellId: 0, irqVector: 1 } : undefined; } }, caughtBy: ['provider.ranges'] },
  { defect: 'a vector\'s cells are nowhere', make: class extends Lamp { override irqInfo(vector: number): IrqInfo | undefined { return vector === 0 ? { vector, fd: -1, cells: 0 } : undefined; } }, caughtBy: ['provider.ranges'] },
  { defect: 'a doorbell is no word', make: class extends Lamp { override doorbell(id: number): DoorbellInfo | undefined { return id === 0 ? { kind: 'mem', id, offset: this.page + 1, trapped: false } : undefined; } }, caughtBy: ['provider.doorbells'] },
  { defect: 'a shared region reaches out of the window', make: class extends Lamp { override region(name: string): SharedRegion | undefined { return name === 'page' ? { offset: this.page, sizeBytes: 2 ** 33 } : undefined; } }, caughtBy: ['provider.regions-shared'] },
  { defect: 'a region of any name is there', make: class extends Lamp { override region(_name: string): SharedRegion { return { offset: this.page, sizeBytes: 4096 }; } }, caughtBy: ['provider.unknown-names'] },
  { defect: 'the self-test fails', make: class extends Lamp { override selfTest() { return [{ name: 'bulb', passed: false, text: 'dark' }]; } }, caughtBy: ['provider.self-test'] },
  { defect: 'guest memory is handed out shifted', make: class extends Lamp { override memTable() { const memory = super.memTable(); return { generation: 0, iotlb: 0, read: (iova: bigint, into: Uint8Array) => memory.read(iova + 1n, into), write: memory.write.bind(memory), translate: memory.translate.bind(memory) }; } }, caughtBy: ['provider.mem-table'] },
];

test('the good one passes all', async () => {
  expect(await failures(providerConformance(lamp(Lamp)))).toEqual({});
});

describe('is caught:', () => {
  test.each(MUTANTS)('$defect', async ({ make, factory, caughtBy }) => {
    const failed = await failures(providerConformance(factory ?? lamp(make!)));
    for (const fd of leaked.splice(0)) linux.close(fd);
    expect(Object.keys(failed).sort(), JSON.stringify(failed, undefined, 1)).toEqual([...caughtBy].sort());
  });
});
