import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Orders } from '../src/index.ts';
import { MAX_WAITING_ORDERS, ORDER_DEADLINE_MS } from '../src/limits.ts';
import { FakeClock } from './fake-clock.ts';

function rig(): { orders: Orders; clock: FakeClock; log: string[]; slow(name: string): () => void } {
  const log: string[] = [];
  const clock = new FakeClock();
  const orders = new Orders((error) => { log.push(`failed: ${(error as Error).message}`); }, clock);
  return {
    orders, clock, log,
    slow(name) {
      const { promise, resolve } = Promise.withResolvers<undefined>();
      orders.give(async () => {
        log.push(`${name} begins`);
        await promise;
        log.push(`${name} ends`);
      });
      return () => { resolve(undefined); };
    },
  };
}

test('orders begin behind the call that gives them, in order, one at a time; one that fails is reported and the next begins', async () => {
  const { orders, log, slow } = rig();
  orders.start();
  const a = slow('a');
  orders.give(() => { throw new Error('b'); });
  orders.give(() => { log.push('c'); });
  expect(log).toEqual([]);
  await nextTurn();
  await nextTurn();
  expect(log).toEqual(['a begins']);
  a();
  while (!log.includes('c')) await nextTurn();
  expect(log).toEqual(['a begins', 'a ends', 'failed: b', 'c']);
});

test.each([
  ['stop', (orders: Orders) => orders.stop(), (orders: Orders) => { orders.start(); }],
  ['hold', (orders: Orders) => orders.hold(), (orders: Orders) => { orders.release(); }],
])('%s waits for what has begun; the rest waits for its opposite', async (_name, still, go) => {
  const { orders, log, slow } = rig();
  orders.start();
  const a = slow('a');
  orders.give(() => { log.push('b'); });
  while (log.length === 0) await nextTurn();
  const stilled = still(orders).then(() => { log.push('still'); });
  await nextTurn();
  expect(log).toEqual(['a begins']);
  a();
  await stilled;
  await nextTurn();
  await nextTurn();
  expect(log).toEqual(['a begins', 'a ends', 'still']);
  go(orders);
  while (!log.includes('b')) await nextTurn();
});

test('stopped and held, it takes both start and release to go on', async () => {
  const { orders, log } = rig();
  await orders.hold();
  orders.give(() => { log.push('a'); });
  orders.start();
  await nextTurn();
  await nextTurn();
  expect(log).toEqual([]);
  await orders.stop();
  orders.release();
  await nextTurn();
  await nextTurn();
  expect(log).toEqual([]);
  orders.start();
  while (!log.includes('a')) await nextTurn();
});

test('clear forgets what has not begun', async () => {
  const { orders, log, slow } = rig();
  orders.start();
  const a = slow('a');
  orders.give(() => { log.push('never'); });
  while (log.length === 0) await nextTurn();
  orders.clear();
  a();
  await orders.hold();
  orders.release();
  orders.give(() => { log.push('next'); });
  while (!log.includes('next')) await nextTurn();
  expect(log).toEqual(['a begins', 'a ends', 'next']);
});

test.each([
  ['stop', (orders: Orders) => orders.stop(), (orders: Orders) => { orders.start(); }],
  ['hold', (orders: Orders) => orders.hold(), () => { /* A hold that has failed is none. */ }],
])('%s gives up what does not end; the next begins when it has ended after all', async (_name, still, go) => {
  const { orders, clock, log, slow } = rig();
  orders.start();
  const a = slow('a');
  while (log.length === 0) await nextTurn();
  const stilled = still(orders);
  orders.give(() => { log.push('b'); });
  const refused = expect(stilled).rejects.toMatchObject({ code: 'EMUDEV_TIMEOUT' });
  clock.pass(ORDER_DEADLINE_MS);
  await refused;
  go(orders);
  await nextTurn();
  await nextTurn();
  expect(log).toEqual(['a begins']);
  a();
  while (!log.includes('b')) await nextTurn();
  expect(log).toEqual(['a begins', 'a ends', 'b']);
});

test('a guest that orders faster than the device works is refused at the limit', async () => {
  const { orders, log } = rig();
  for (let i = 0; i < MAX_WAITING_ORDERS; i++) orders.give(() => { log.push('done'); });
  expect(() => { orders.give(() => { log.push('too many'); }); }).toThrow(expect.objectContaining({ code: 'EMUDEV_RANGE' }));
  orders.start();
  while (log.length < MAX_WAITING_ORDERS) await nextTurn();
  orders.give(() => { log.push('again'); });
  while (!log.includes('again')) await nextTurn();
  expect(log).not.toContain('too many');
});
