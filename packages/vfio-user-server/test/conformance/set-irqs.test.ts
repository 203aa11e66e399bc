import { linux } from '@emudev/linux';
import { describe, expect, it } from 'vitest';
import { serve } from '../fixture.ts';
import { fields } from '../raw-client.ts';
import { BOOL, EINVAL, EVENTFD, MASK, NONE, SET_IRQS, setIrqs, TRIGGER, UNMASK } from '../requests.ts';
import { conformance, type Rig, type Row } from './suite.ts';

const [MSIX, ERR, REQ] = [2, 3, 4];

const refused = (title: string, ...requests: readonly (Uint8Array | readonly [payload: Uint8Array, fds: number])[]): Row => ({
  title: `${title}: EINVAL`,
  exchanges: requests.map((request) => (request instanceof Uint8Array ? { send: [SET_IRQS, request], reply: EINVAL } : { send: [SET_IRQS, request[0]], fds: request[1], reply: EINVAL })),
});
const granted = (title: string, payload: Uint8Array): Row => ({ title: `${title}: done, a header-only reply`, exchanges: [{ send: [SET_IRQS, payload], reply: new Uint8Array(0) }] });

async function attach({ client, eventfd }: Pick<Rig, 'client' | 'eventfd'>, index: number, start: number, counters: readonly number[]): Promise<number[]> {
  const fds = counters.map((n) => eventfd(n));
  expect(await client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, index, start, counters.length), fds)).toBe(0);
  return fds;
}
const firesVectorOne = (title: string, payload: Uint8Array): Row => ({
  title: `${title}: that vector only`,
  run: async (rig) => {
    const [a, b] = await attach(rig, MSIX, 0, [4, 8]);
    expect(await rig.client.errno(SET_IRQS, payload)).toBe(0);
    expect([linux.eventfdDrain(a!), linux.eventfdDrain(b!)]).toEqual([4, 9]);
  },
});

conformance('set-irqs', {
  S1: refused('no payload, 8 bytes of it, argsz 3', new Uint8Array(0), new Uint8Array(8), fields(3, TRIGGER | NONE, MSIX, 0, 0)),
  S2: refused('index 5', setIrqs(TRIGGER | NONE, 5, 0, 0)),
  S3: refused('two actions, two data types, none of either', setIrqs(MASK | UNMASK | NONE, MSIX, 0, 1), setIrqs(TRIGGER | NONE | BOOL, MSIX, 0, 1), setIrqs(TRIGGER, MSIX, 0, 1), setIrqs(NONE, MSIX, 0, 1)),
  S4: refused('vectors across the end, behind it, and so many that the sum overflows', setIrqs(TRIGGER | NONE, MSIX, 2047, 2), setIrqs(TRIGGER | NONE, MSIX, 2049, 1), setIrqs(TRIGGER | NONE, MSIX, 284, 0xffffffff)),
  S5: refused('MASK of ERR and REQ', setIrqs(MASK | NONE, ERR, 0, 1), setIrqs(MASK | NONE, REQ, 0, 1)),
  S6: refused('two vectors of ERR or REQ', setIrqs(TRIGGER | NONE, ERR, 0, 2), setIrqs(TRIGGER | NONE, REQ, 0, 2)),
  S7: refused('count 0 with start 1, with MASK, with TRIGGER and BOOL', setIrqs(TRIGGER | NONE, MSIX, 1, 0), setIrqs(MASK | NONE, MSIX, 0, 0), setIrqs(TRIGGER | BOOL, MSIX, 0, 0)),
  S8: refused('DATA_BOOL with a descriptor', [setIrqs(TRIGGER | BOOL, MSIX, 0, 1, Uint8Array.of(1)), 1]),
  S9: refused('DATA_NONE with a descriptor', [setIrqs(TRIGGER | NONE, MSIX, 0, 1), 1]),
  S10: refused('two vectors and one descriptor', [setIrqs(TRIGGER | EVENTFD, MSIX, 0, 2), 1]),
  S11: granted('TRIGGER, NONE, 0 + 0 disables', setIrqs(TRIGGER | NONE, REQ, 0, 0)),
  S12: granted('EVENTFD without a descriptor takes it away', setIrqs(TRIGGER | EVENTFD, REQ, 0, 1)),
  S13: {
    title: 'a descriptor, then another: replaced, the old one closed, each change made while the device is quiescent',
    run: async (rig) => {
      const { device } = rig;
      device.take();
      const [first] = await attach(rig, MSIX, 8, [4]);
      expect(device.take()).toEqual(['quiesce irqs', 'irqsChanged 2 8 1', 'resume']);
      const old = device.host!.irqFd(MSIX, 8);
      const [second] = await attach(rig, MSIX, 8, [0]);
      linux.eventfdSignal(device.host!.irqFd(MSIX, 8));
      expect([linux.eventfdDrain(first!), linux.eventfdDrain(second!), linux.isValidFd(old)]).toEqual([4, 1, false]);
    },
  },
  S14: refused('two vectors and one bool, or three', setIrqs(TRIGGER | BOOL, MSIX, 0, 2, Uint8Array.of(1)), setIrqs(TRIGGER | BOOL, MSIX, 0, 2, Uint8Array.of(1, 1, 1))),
  S15: firesVectorOne('TRIGGER and NONE, one vector from 1', setIrqs(TRIGGER | NONE, MSIX, 1, 1)),
  S16: firesVectorOne('TRIGGER and BOOL {0, 1}', setIrqs(TRIGGER | BOOL, MSIX, 0, 2, Uint8Array.of(0, 1))),
  S17: {
    title: 'MASK and NONE of vector 0: the device is told once; UNMASK with BOOL: of those that are true',
    run: async ({ client, device }) => {
      Object.assign(device, { irqsMasked: (index: number, start: number, count: number, masked: boolean) => { device.log.push(`irqsMasked ${index} ${start} ${count} ${masked}`); } });
      device.take();
      expect(await client.errno(SET_IRQS, setIrqs(MASK | NONE, MSIX, 0, 1))).toBe(0);
      expect(device.take()).toEqual(['irqsMasked 2 0 1 true']);
      expect(await client.errno(SET_IRQS, setIrqs(UNMASK | BOOL, MSIX, 0, 1, Uint8Array.of(1)))).toBe(0);
      expect(device.take()).toEqual(['irqsMasked 2 0 1 false']);
    },
  },
  S18: { title: 'the device triggers a vector it does not have: false (better: an interrupt nobody can receive is no error of the device)', run: ({ device }) => { expect([device.host!.trigger(MSIX, 2048), device.host!.trigger(9, 0)]).toEqual([false, false]); } },
  S19: { title: 'the device triggers a vector without a descriptor: false', run: ({ device }) => { expect(device.host!.trigger(MSIX, 0)).toBe(false); } },
  S20: {
    title: 'the device triggers vector 8: its counter goes from 4 to 5',
    run: async (rig) => {
      const [fd] = await attach(rig, MSIX, 8, [4]);
      expect([rig.device.host!.trigger(MSIX, 8), linux.eventfdDrain(fd!)]).toEqual([true, 5]);
    },
  },
});

describe('beyond the list', () => {
  const withEventfds = async (run: (rig: Rig) => Promise<void>): Promise<void> => {
    const fds: number[] = [];
    await using s = await serve();
    await run({ ...s, own: (fd) => fd, memfd: () => -1, eventfd: (initial = 0) => fds[fds.push(linux.eventfd(initial)) - 1]! });
    for (const fd of fds) linux.close(fd);
  };

  it('every index has its own table: MSI-X vector 0 and ERR vector 0 are two things', async () => {
    await withEventfds(async (rig) => {
      const fds = [...(await attach(rig, MSIX, 0, [0])), ...(await attach(rig, ERR, 0, [0]))];
      rig.device.host!.trigger(ERR, 0);
      expect(fds.map((fd) => linux.eventfdDrain(fd))).toEqual([0, 1]);
    });
  });

  it('a range is taken away exactly as it was named, all of them by 0 + 0, and the device is left alone where there was nothing', async () => {
    await withEventfds(async (rig) => {
      const { client, device } = rig;
      await attach(rig, MSIX, 4, [0, 0, 0]);
      device.take();
      expect(await client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 5, 1))).toBe(0);
      expect([4, 5, 6].map((v) => device.host!.irqFd(MSIX, v) >= 0)).toEqual([true, false, true]);
      expect(await client.errno(SET_IRQS, setIrqs(TRIGGER | NONE, MSIX, 0, 0))).toBe(0);
      expect([4, 5, 6].map((v) => device.host!.irqFd(MSIX, v) >= 0)).toEqual([false, false, false]);
      expect(device.take()).toEqual(['quiesce irqs', 'irqsChanged 2 5 1', 'resume', 'quiesce irqs', 'irqsChanged 2 0 2048', 'resume']);
      expect(await client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 0, 1))).toBe(0);
      expect(device.take()).toEqual([]);
    });
  });

  it('an index without vectors can be disabled, not enabled', async () => {
    await withEventfds(async ({ client, eventfd }) => {
      expect(await client.errno(SET_IRQS, setIrqs(TRIGGER | NONE, 0, 0, 0))).toBe(0);
      expect(await client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, 0, 0, 1), [eventfd()])).toBe(EINVAL);
    });
  });

  it('a descriptor that a write could hang on is refused', async () => {
    await using s = await serve();
    const [a, b] = linux.unixSocketPair();
    expect(await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 0, 1), [a])).toBe(EINVAL);
    expect(s.device.host!.irqFd(MSIX, 0)).toBe(-1);
    linux.close(a);
    linux.close(b);
  });
});
