/** The back-end suite can fail: every defect here is caught by the cases that are about it, and by no others. */
import { describe, expect, test } from 'vitest';
import type { Emudev, ResetKind } from '@emudev/emudev';
import { linux } from '@emudev/linux';
import { backendConformance, type ConformanceCase } from '@emudev/testkit';
import { Bell, bellFamily, bellGuest } from './support/bell.ts';
import { failures } from './support/failures.ts';

const leaked: number[] = [];
const leak = (): void => { leaked.push(linux.eventfd()); };

type Open = (emudev: Emudev) => Bell;
const suite = (open: Open): readonly ConformanceCase[] => backendConformance({ family: bellFamily, open, guest: bellGuest });

interface Mutant {
  readonly defect: string;
  readonly make?: new (emudev: Emudev) => Bell;
  readonly open?: Open;
  readonly caughtBy: readonly string[];
}

const MUTANTS: readonly Mutant[] = [
  { defect: 'works while it is locked', make: class extends Bell { override rung() { if (this.place !== undefined) this.serve(this.place); } }, caughtBy: ['backend.locked'] },
  { defect: 'stays locked', make: class extends Bell { override unlock() {} }, caughtBy: ['backend.locked', 'backend.reset', 'backend.serves'] },
  { defect: 'remembers a guest over a function reset', make: class extends Bell { override reset(kind: ResetKind) { if (kind !== 'function') super.reset(kind); } }, caughtBy: ['backend.reset'] },
  { defect: 'remembers a guest over a family reset', make: class extends Bell { override reset(kind: ResetKind) { if (kind !== 'family') super.reset(kind); } }, caughtBy: ['backend.reset'] },
  { defect: 'remembers a guest that has gone', make: class extends Bell { override reset(kind: ResetKind) { if (kind !== 'consumer-left') super.reset(kind); } }, caughtBy: ['backend.departure'] },
  { defect: 'throws in a reset', make: class extends Bell { override reset(kind: ResetKind) { super.reset(kind); if (kind === 'family') throw new Error('no clapper'); } }, caughtBy: ['backend.orders', 'backend.reset'] },
  { defect: 'throws when the consumer leaves', make: class extends Bell { override destroyed() { super.destroyed(); throw new Error('no rope'); } }, caughtBy: ['backend.departure', 'backend.device-closes', 'backend.orders', 'backend.reconnect', 'backend.serves'] },
  { defect: 'throws when it is started a second time', make: class extends Bell { #started = false; override start() { if (this.#started) throw new Error('rings already'); this.#started = true; } }, caughtBy: ['backend.orders'] },
  { defect: 'close keeps a descriptor', make: class extends Bell { override async close() { if (!this.closed) leak(); await super.close(); } }, caughtBy: ['backend.leaks'] },
  { defect: 'every guest leaves a descriptor behind', make: class extends Bell { override ready() { leak(); super.ready(); } }, caughtBy: ['backend.leaks', 'backend.reconnect'] },
  { defect: 'an attachment that fails keeps window memory', make: class extends Bell { override release() { if (this.closed) super.release(); } }, caughtBy: ['backend.contract-family', 'backend.contract-version', 'backend.seat-taken'] },
  { defect: 'takes any version of the contract', open: (emudev) => new Bell(emudev).attach({ devType: 'bell', version: emudev.info.contractVersion }), caughtBy: ['backend.contract-version'] },
  { defect: 'takes any family', open: (emudev) => new Bell(emudev).attach({ devType: emudev.info.devType, version: emudev.info.devType === 'bell' ? 1 : emudev.info.contractVersion }), caughtBy: ['backend.contract-family'] },
  { defect: 'does not leave its seat', make: class extends Bell { override async close() { if (this.closed) return; this.closed = true; this.unsubscribe(); this.release(); await Promise.resolve(); } }, caughtBy: ['backend.attaches', 'backend.leaves'] },
  { defect: 'goes on when it is closed', make: class extends Bell { override unsubscribe() { if (!this.closed) super.unsubscribe(); } override rung() { if (this.closed) this.locked = false; super.rung(); } }, caughtBy: ['backend.leaves'] },
  { defect: 'a second close is an error', make: class extends Bell { override async close() { if (this.closed) throw new Error('closed'); await super.close(); } }, caughtBy: ['backend.attaches', 'backend.device-closes', 'backend.leaves'] },
  { defect: 'stays after its device', make: class extends Bell { override async close() { if (!this.closed && this.emudev.state === 'closed') throw new Error('where is it?'); await super.close(); } }, caughtBy: ['backend.device-closes'] },
  { defect: 'ignores a guest that was there before it', make: class extends Bell { #late = this.emudev.consumer === 'ready'; override rung() { if (!this.#late) super.rung(); } }, caughtBy: ['backend.serves'] },
  { defect: 'serves its first guest only', make: class extends Bell { #guests = 0; override ready() { if (this.#guests++ === 0) super.ready(); } }, caughtBy: ['backend.serves'] },
];

test('the good one passes all', async () => {
  expect(await failures(suite((emudev) => new Bell(emudev).attach()))).toEqual({});
});

describe('is caught:', () => {
  test.each(MUTANTS)('$defect', async ({ make = Bell, open = (emudev: Emudev) => new make(emudev).attach(), caughtBy }) => {
    const failed = await failures(suite(open));
    for (const fd of leaked.splice(0)) linux.close(fd);
    expect(Object.keys(failed).sort(), JSON.stringify(failed, undefined, 1)).toEqual([...caughtBy].sort());
  });
});
