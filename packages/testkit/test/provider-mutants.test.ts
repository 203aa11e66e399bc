/** The provider suite can fail: every defect here is caught by the cases that are about it, and by no others. function-mutants.test.ts and description-mutants.test.ts have the others. */
import { expect, test } from 'vitest';
import { linux } from '@emudev/linux';
import type { DetachReason, PciHost, QuiesceReason } from '@emudev/pci';
import { providerConformance, quietTurns } from '@emudev/testkit';
import { failures } from './support/failures.ts';
import { Lamp, probeLamp } from './support/lamp.ts';
import { judge, leak, leaked, type Mutant } from './support/provider-mutation.ts';

const MUTANTS: readonly Mutant[] = [
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
      override async quiesce(reason: QuiesceReason) {
        const locking = super.quiesce(reason);
        if (reason !== 'dma-map' || this.emudev.consumer !== 'ready') return locking;
        let inTime = false;
        await Promise.race([locking.then(() => { inTime = true; }), quietTurns(2)]);
        // Nobody is left who would unlock it.
        if (!inTime) locking.then(() => { this.resume(); }, () => {});
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
];

test('the good one passes all', async () => {
  expect(await failures(providerConformance(probeLamp))).toEqual({});
});

judge(MUTANTS);
