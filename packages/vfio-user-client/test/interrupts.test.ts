/** Interrupts as the consumer gets them. */
import { countOpenFds, linux } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { attach } from './fake-server.ts';
import type { Attached, Handler } from './fake-server.ts';

let before = 0;
beforeEach(() => void (before = countOpenFds()));
afterEach(() => void expect(countOpenFds()).toBe(before));

/** Remembers which descriptor each vector has, by action. */
function device(): { handler: Handler; fds: Map<string, number>; requests: (p.SetIrqs & { fds: number })[] } {
  const fds = new Map<string, number>();
  const requests: (p.SetIrqs & { fds: number })[] = [];
  const handler: Handler = (frame, server) => {
    if (frame.command === p.VFIO_USER_DEVICE_SET_IRQS) {
      const request = p.decodeSetIrqs(frame.payload, frame.fds.length, () => 64);
      requests.push({ ...request, fds: frame.fds.length });
      for (let i = 0; i < request.count && request.data === 'eventfd'; i++) {
        const key = `${request.action} ${request.index}.${request.start + i}`;
        if (frame.fds[i] === undefined) fds.delete(key);
        else fds.set(key, frame.fds[i]!);
      }
    }
    server.reply(frame);
  };
  return { handler, fds, requests };
}

const signal = (fds: Map<string, number>, vector: string, times = 1): void => { for (let i = 0; i < times; i++) linux.eventfdSignal(fds.get(`trigger ${vector}`)!); };

describe('a subscription', () => {
  test('that nobody disposes of keeps nothing when the connection ends, except what has come', async () => {
    const { handler, fds } = device();
    using at = await attach(handler);
    const open = countOpenFds();
    const irqs = await at.client.irqs.subscribe(2, [3], { resample: true });
    signal(fds, '2.3', 2);
    at.client.close();
    await at.client.closed;
    at.server.close();
    expect(countOpenFds()).toBe(open - 2);
    expect(await irqs.next()).toEqual({ done: false, value: { vector: 3, count: 2 } });
    await expect(irqs.next()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_CLOSED' });
    await expect(irqs.unmask()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_CLOSED' });
  });

  test('hands interrupts out as they come; those nobody asked for yet add up per vector', async () => {
    const { handler, fds, requests } = device();
    using at = await attach(handler);
    {
      await using irqs = await at.client.irqs.subscribe(2, [7, 3, 4]);
      expect(requests, 'neighbours in one message').toMatchObject([{ start: 3, count: 2, fds: 2 }, { start: 7, count: 1, fds: 1 }]);
      signal(fds, '2.4');
      expect(await irqs.next()).toEqual({ done: false, value: { vector: 4, count: 1 } });
      signal(fds, '2.7', 3);
      signal(fds, '2.3');
      signal(fds, '2.7', 2);
      // Only the sum is promised, however the event loop cut it up.
      const counts = new Map<number, number>();
      while (counts.get(7) !== 5 || counts.get(3) !== 1) {
        const { value } = await irqs.next();
        counts.set(value!.vector, (counts.get(value!.vector) ?? 0) + value!.count);
      }
      expect([...counts].sort()).toEqual([[3, 1], [7, 5]]);
    }
    expect([...fds.keys()], 'the device has none of them any more').toEqual([]);
  });

  test('none is lost, however many nobody asked for', async () => {
    const { handler, fds } = device();
    using at = await attach(handler);
    await using irqs = await at.client.irqs.subscribe(2, [0]);
    for (let i = 0; i < 1000; i++) signal(fds, '2.0', 1);
    let sum = 0;
    while (sum < 1000) sum += (await irqs.next()).value!.count;
    expect(sum).toBe(1000);
  });

  test('for await ends with the loop, and disconnects', async () => {
    const { handler, fds } = device();
    using at = await attach(handler);
    const seen: number[] = [];
    const loop = (async () => {
      for await (const { vector } of at.client.interrupts(2, 0, 1)) if (seen.push(vector) === 2) break;
    })();
    await expect.poll(() => fds.size).toBe(2);
    signal(fds, '2.1');
    await expect.poll(() => seen.length).toBe(1);
    signal(fds, '2.0');
    await loop;
    expect(seen).toEqual([1, 0]);
    expect(fds.size).toBe(0);
  });

  test('with a callback; what it throws ends the subscription', async () => {
    const { handler, fds } = device();
    using at = await attach(handler);
    const { promise, resolve } = Promise.withResolvers<unknown>();
    const seen: number[] = [];
    const onInterrupt = ({ vector }: { vector: number }): void => {
      seen.push(vector);
      if (seen.length === 2) throw new Error('enough');
    };
    const irqs = await at.client.irqs.subscribe(2, [5], { onInterrupt, onError: resolve });
    await expect(irqs.next()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
    signal(fds, '2.5');
    await expect.poll(() => seen.length).toBe(1);
    signal(fds, '2.5');
    expect(await promise).toMatchObject({ message: 'enough' });
    expect(fds.size).toBe(0);
  });

  test('who waits is told of the end: done when it was disposed of, the reason when the connection ended', async () => {
    const { handler, fds } = device();
    using at = await attach(handler);
    const first = await at.client.irqs.subscribe(2, [0]);
    const waiting = first.next();
    await first[Symbol.asyncDispose]();
    expect(await waiting).toEqual({ done: true, value: undefined });
    await using second = await at.client.irqs.subscribe(2, [0]);
    signal(fds, '2.0');
    at.server.close();
    await at.client.closed;
    expect(await second.next(), 'what the device still said comes first').toMatchObject({ value: { vector: 0, count: 1 } });
    await expect(second.next()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_CLOSED' });
  });

  test('refused: typed, and nothing stays open', async () => {
    using at = await attach((frame, server) => { server.refuse(frame, p.EINVAL); });
    await expect(at.client.irqs.subscribe(2, [0, 9])).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_REFUSED' });
    for (const vectors of [[], [1, 1], [-1], [2048]]) await expect(at.client.irqs.subscribe(2, vectors)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
    await expect(at.client.irqs.subscribe(5, [0])).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
  });

  test('INTx with resample: unmasking costs no message', async () => {
    const { handler, fds, requests } = device();
    using at = await attach(handler);
    await using irqs = await at.client.irqs.subscribe(0, [0], { resample: true });
    signal(fds, '0.0');
    await irqs.next();
    const sent = requests.length;
    await irqs.unmask();
    expect(linux.eventfdDrain(fds.get('unmask 0.0')!)).toBe(1);
    expect(requests).toHaveLength(sent);
    await expect(irqs.unmask(1)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
  });

  test('without resample unmasking is a message', async () => {
    const { handler, requests } = device();
    using at = await attach(handler);
    await using irqs = await at.client.irqs.subscribe(0, [0]);
    await irqs.unmask();
    expect(requests.at(-1)).toMatchObject({ action: 'unmask', index: 0, start: 0, count: 1, data: 'none' });
  });
});

test('every form of SET_IRQS', async () => {
  const { handler, requests } = device();
  using at: Attached = await attach(handler);
  const { irqs } = at.client;
  const fd = linux.eventfd();
  await irqs.trigger(2, 4, [true, false, true]);
  await irqs.mask(2, 1, 3);
  await irqs.unmask(2, 1, [false, true]);
  await irqs.setMaskEventfds(2, 6, [fd]);
  await irqs.setUnmaskEventfds(2, 6, [fd]);
  await irqs.removeMaskEventfds(2, 6, 1);
  await irqs.removeUnmaskEventfds(2, 6, 1);
  await irqs.disable(2);
  linux.close(fd);
  expect(requests.map(({ action, start, count, data, fds }) => [action, start, count, typeof data === 'string' ? data : [...data], fds])).toEqual([
    ['trigger', 4, 3, [1, 0, 1], 0], ['mask', 1, 3, 'none', 0], ['unmask', 1, 2, [0, 1], 0], ['mask', 6, 1, 'eventfd', 1], ['unmask', 6, 1, 'eventfd', 1],
    ['mask', 6, 1, 'eventfd', 0], ['unmask', 6, 1, 'eventfd', 0], ['trigger', 0, 0, 'none', 0],
  ]);
});
