/** Masks, the level of INTx, and the eventfds of a client that mask and unmask. */
import { countOpenFds, linux } from '@emudev/linux';
import { afterEach, describe, expect, it } from 'vitest';
import { FakeDevice, nextEvent, serve, type Served } from './fixture.ts';
import { fields } from './raw-client.ts';

const [GET_INFO, SET_IRQS, WRITE] = [4, 8, 10];
const [NONE, BOOL, EVENTFD, MASK, UNMASK, TRIGGER] = [1, 2, 4, 8, 16, 32];
const [INTX, MSIX, ERR] = [0, 2, 3];
const setIrqs = (flags: number, index: number, start: number, count: number, data: Uint8Array = new Uint8Array(0)): Uint8Array => fields(20 + data.length, flags, index, start, count, data);

class Maskable extends FakeDevice {
  override readonly irqs = [{ index: INTX, count: 1, flags: 7 }, { index: MSIX, count: 2048, flags: 1 }, { index: ERR, count: 1, flags: 1 }];
  irqsMasked(index: number, start: number, count: number, masked: boolean): void {
    this.log.push(`${masked ? 'masked' : 'unmasked'} ${index} ${start} ${count}`);
  }
}

const opened: number[] = [];
afterEach(() => {
  for (const fd of opened.splice(0)) linux.close(fd);
});
const eventfd = (): number => {
  const fd = linux.eventfd();
  opened.push(fd);
  return fd;
};
const served = (): Promise<Served<Maskable>> => serve({ device: new Maskable() });
/** The server has seen and dealt with whatever was signalled before: an eventfd is watched, so this takes turns of the event loop. */
const settle = async (s: Served<Maskable>): Promise<void> => {
  for (let i = 0; i < 3; i++) expect(await s.client.errno(GET_INFO, fields(16, 0, 0, 0))).toBe(0);
};

describe('an edge', () => {
  it('is held back by a mask and delivered, once, by the unmask', async () => {
    await using s = await served();
    const fd = eventfd();
    expect(await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 5, 1), [fd])).toBe(0);
    expect(s.device.host!.trigger(MSIX, 5)).toBe(true);
    expect(linux.eventfdDrain(fd)).toBe(1);
    s.device.take();
    expect(await s.client.errno(SET_IRQS, setIrqs(MASK | NONE, MSIX, 5, 1))).toBe(0);
    expect(s.device.take()).toEqual(['quiesce irqs', 'irqsChanged 2 5 1', 'masked 2 5 1', 'resume']);
    for (let i = 0; i < 3; i++) expect(s.device.host!.trigger(MSIX, 5)).toBe(true);
    expect(linux.eventfdDrain(fd)).toBe(0);
    expect(await s.client.errno(SET_IRQS, setIrqs(UNMASK | NONE, MSIX, 5, 1))).toBe(0);
    expect(linux.eventfdDrain(fd)).toBe(1);
    expect(s.device.take()).toEqual(['quiesce irqs', 'irqsChanged 2 5 1', 'unmasked 2 5 1', 'resume']);
    // Nothing was held back: nothing is delivered.
    await s.client.errno(SET_IRQS, setIrqs(MASK | NONE, MSIX, 5, 1));
    await s.client.errno(SET_IRQS, setIrqs(UNMASK | NONE, MSIX, 5, 1));
    expect(linux.eventfdDrain(fd)).toBe(0);
  });

  it('that a thread signals at irqFd is held back too', async () => {
    await using s = await served();
    const fd = eventfd();
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 0, 1), [fd]);
    await s.client.errno(SET_IRQS, setIrqs(MASK | NONE, MSIX, 0, 1));
    linux.eventfdSignal(s.device.host!.irqFd(MSIX, 0));
    expect(linux.eventfdDrain(fd)).toBe(0);
    await s.client.errno(SET_IRQS, setIrqs(UNMASK | NONE, MSIX, 0, 1));
    expect(linux.eventfdDrain(fd)).toBe(1);
    linux.eventfdSignal(s.device.host!.irqFd(MSIX, 0));
    expect(linux.eventfdDrain(fd)).toBe(1);
  });

  it('BOOL masks those whose byte is not zero', async () => {
    await using s = await served();
    const fds = [eventfd(), eventfd(), eventfd(), eventfd()];
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 0, 4), fds);
    s.device.take();
    expect(await s.client.errno(SET_IRQS, setIrqs(MASK | BOOL, MSIX, 0, 4, Uint8Array.of(0, 1, 0xff, 0)))).toBe(0);
    expect(s.device.take()).toEqual(['quiesce irqs', 'irqsChanged 2 1 2', 'masked 2 1 2', 'resume']);
    // A loopback trigger respects the mask.
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | NONE, MSIX, 0, 4));
    expect(fds.map((fd) => linux.eventfdDrain(fd))).toEqual([1, 0, 0, 1]);
    expect(await s.client.errno(SET_IRQS, setIrqs(UNMASK | BOOL, MSIX, 0, 4, Uint8Array.of(1, 0, 1, 0)))).toBe(0);
    expect(fds.map((fd) => linux.eventfdDrain(fd))).toEqual([0, 0, 1, 0]);
    expect(s.device.take()).toEqual(['quiesce irqs', 'irqsChanged 2 0 3', 'unmasked 2 0 1', 'unmasked 2 2 1', 'resume']);
  });

  it('a mask outlives the descriptor; what was held back reaches the next one; without one it is lost', async () => {
    await using s = await served();
    const [a, b, c] = [eventfd(), eventfd(), eventfd()];
    // Before there is any: remembered, and no reason to stop the device.
    s.device.take();
    await s.client.errno(SET_IRQS, setIrqs(MASK | NONE, MSIX, 7, 1));
    expect(s.device.take()).toEqual(['masked 2 7 1']);
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 7, 1), [a]);
    s.device.host!.trigger(MSIX, 7);
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 7, 1), [b]);
    await s.client.errno(SET_IRQS, setIrqs(UNMASK | NONE, MSIX, 7, 1));
    expect([linux.eventfdDrain(a), linux.eventfdDrain(b)]).toEqual([0, 1]);
    await s.client.errno(SET_IRQS, setIrqs(MASK | NONE, MSIX, 7, 1));
    s.device.host!.trigger(MSIX, 7);
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 7, 1));
    expect(s.device.host!.trigger(MSIX, 7)).toBe(false);
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 7, 1), [c]);
    await s.client.errno(SET_IRQS, setIrqs(UNMASK | NONE, MSIX, 7, 1));
    expect(linux.eventfdDrain(c)).toBe(0);
  });

  it('de-assigning one vector leaves its neighbours; disabling takes all, and their masks', async () => {
    await using s = await served();
    const fds = [eventfd(), eventfd(), eventfd()];
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 4, 3), fds);
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 5, 1));
    expect([4, 5, 6].map((vector) => s.device.host!.trigger(MSIX, vector))).toEqual([true, false, true]);
    await s.client.errno(SET_IRQS, setIrqs(MASK | NONE, MSIX, 4, 3));
    s.device.take();
    expect(await s.client.errno(SET_IRQS, setIrqs(TRIGGER | NONE, MSIX, 0, 0))).toBe(0);
    expect(s.device.take()).toEqual(['quiesce irqs', 'irqsChanged 2 0 2048', 'resume', 'unmasked 2 4 3']);
    for (const fd of fds) linux.eventfdDrain(fd);
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 4, 1), [fds[0]!]);
    s.device.host!.trigger(MSIX, 4);
    expect(linux.eventfdDrain(fds[0]!)).toBe(1);
  });
});

describe('INTx', () => {
  it('signals an asserted level once, again after each unmask, and no more when it is low', async () => {
    await using s = await served();
    const fd = eventfd();
    const host = s.device.host!;
    const unmask = (): Promise<number> => s.client.errno(SET_IRQS, setIrqs(UNMASK | NONE, INTX, 0, 1));
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, INTX, 0, 1), [fd]);
    s.device.take();
    host.setIntx(true);
    host.setIntx(true);
    expect(linux.eventfdDrain(fd)).toBe(1);
    // QEMU without KVM: an unmask after each BAR access, which must not cost a quiesce.
    expect(await unmask()).toBe(0);
    expect(linux.eventfdDrain(fd)).toBe(1);
    await unmask();
    expect(linux.eventfdDrain(fd)).toBe(1);
    host.setIntx(false);
    await unmask();
    expect(linux.eventfdDrain(fd)).toBe(0);
    // Low and high again before anybody has unmasked.
    host.setIntx(true);
    host.setIntx(false);
    host.setIntx(true);
    expect(linux.eventfdDrain(fd)).toBe(1);
    expect(s.device.take()).toEqual(['unmasked 0 0 1', 'unmasked 0 0 1', 'unmasked 0 0 1']);
  });

  it('QEMU\'s sequence with KVM: trigger, mask, resample descriptor, unmask; then the resample descriptor alone', async () => {
    await using s = await served();
    const [fd, resample] = [eventfd(), eventfd()];
    const host = s.device.host!;
    for (const [payload, fds] of [
      [setIrqs(TRIGGER | EVENTFD, INTX, 0, 1), [fd]], [setIrqs(MASK | NONE, INTX, 0, 1), []],
      [setIrqs(UNMASK | EVENTFD, INTX, 0, 1), [resample]], [setIrqs(UNMASK | NONE, INTX, 0, 1), []],
    ] as const) expect(await s.client.errno(SET_IRQS, payload, fds)).toBe(0);
    host.setIntx(true);
    expect(linux.eventfdDrain(fd)).toBe(1);
    await settle(s);
    expect(linux.eventfdDrain(fd)).toBe(0);
    for (let i = 0; i < 3; i++) {
      linux.eventfdSignal(resample);
      await settle(s);
      expect(linux.eventfdDrain(fd)).toBe(1);
    }
    host.setIntx(false);
    linux.eventfdSignal(resample);
    await settle(s);
    expect(linux.eventfdDrain(fd)).toBe(0);
  });

  it('a level asserted while masked, or before there is a descriptor, is not forgotten', async () => {
    await using s = await served();
    const fd = eventfd();
    s.device.host!.setIntx(true);
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, INTX, 0, 1), [fd]);
    expect(linux.eventfdDrain(fd)).toBe(1);
    s.device.host!.setIntx(false);
    await s.client.errno(SET_IRQS, setIrqs(MASK | NONE, INTX, 0, 1));
    s.device.host!.setIntx(true);
    expect(linux.eventfdDrain(fd)).toBe(0);
    await s.client.errno(SET_IRQS, setIrqs(UNMASK | NONE, INTX, 0, 1));
    expect(linux.eventfdDrain(fd)).toBe(1);
  });

  it('a reset leaves nothing pending', async () => {
    await using s = await served();
    const [pin, msix] = [eventfd(), eventfd()];
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, INTX, 0, 1), [pin]);
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 0, 1), [msix]);
    await s.client.errno(SET_IRQS, setIrqs(MASK | NONE, MSIX, 0, 1));
    s.device.host!.setIntx(true);
    s.device.host!.trigger(MSIX, 0);
    linux.eventfdDrain(pin);
    expect(await s.client.errno(13, new Uint8Array(0))).toBe(0);
    await s.client.errno(SET_IRQS, setIrqs(UNMASK | NONE, INTX, 0, 1));
    await s.client.errno(SET_IRQS, setIrqs(UNMASK | NONE, MSIX, 0, 1));
    expect([linux.eventfdDrain(pin), linux.eventfdDrain(msix)]).toEqual([0, 0]);
  });
});

describe('eventfds of the client that mask and unmask', () => {
  it('mask when they are signalled, through the device like any change, and unmask', async () => {
    await using s = await served();
    const [fd, mask, unmask] = [eventfd(), eventfd(), eventfd()];
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 9, 1), [fd]);
    expect(await s.client.errno(SET_IRQS, setIrqs(MASK | EVENTFD, MSIX, 9, 1), [mask])).toBe(0);
    expect(await s.client.errno(SET_IRQS, setIrqs(UNMASK | EVENTFD, MSIX, 9, 1), [unmask])).toBe(0);
    s.device.take();
    linux.eventfdSignal(mask);
    await settle(s);
    expect(s.device.take()).toEqual(['quiesce irqs', 'irqsChanged 2 9 1', 'masked 2 9 1', 'resume']);
    s.device.host!.trigger(MSIX, 9);
    expect(linux.eventfdDrain(fd)).toBe(0);
    linux.eventfdSignal(unmask);
    await settle(s);
    expect(linux.eventfdDrain(fd)).toBe(1);
    // And once more, now that both have been used.
    linux.eventfdSignal(mask);
    await settle(s);
    expect(s.device.take()).toContain('masked 2 9 1');
  });

  it('taken away they do nothing; replaced the old one does nothing', async () => {
    await using s = await served();
    const [fd, first, second] = [eventfd(), eventfd(), eventfd()];
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, INTX, 0, 1), [fd]);
    await s.client.errno(SET_IRQS, setIrqs(UNMASK | EVENTFD, INTX, 0, 1), [first]);
    await s.client.errno(SET_IRQS, setIrqs(UNMASK | EVENTFD, INTX, 0, 1), [second]);
    s.device.host!.setIntx(true);
    linux.eventfdDrain(fd);
    linux.eventfdSignal(first);
    await settle(s);
    expect(linux.eventfdDrain(fd)).toBe(0);
    linux.eventfdSignal(second);
    await settle(s);
    expect(linux.eventfdDrain(fd)).toBe(1);
    expect(await s.client.errno(SET_IRQS, setIrqs(UNMASK | EVENTFD, INTX, 0, 1))).toBe(0);
    linux.eventfdSignal(second);
    await settle(s);
    expect(linux.eventfdDrain(fd)).toBe(0);
  });

  it('wait for the command that is being executed', async () => {
    await using s = await served();
    const [fd, mask] = [eventfd(), eventfd()];
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 0, 1), [fd]);
    await s.client.errno(SET_IRQS, setIrqs(MASK | EVENTFD, MSIX, 0, 1), [mask]);
    let release!: () => void;
    s.device.write = () => new Promise((resolve) => { release = resolve; });
    s.device.take();
    const written = s.client.errno(WRITE, fields(0n, 0, 4, 0));
    while ((release as unknown) === undefined) await new Promise((resolve) => setImmediate(resolve));
    linux.eventfdSignal(mask);
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    expect(s.device.take()).toEqual([]);
    release();
    expect(await written).toBe(0);
    await settle(s);
    expect(s.device.take()).toEqual(['quiesce irqs', 'irqsChanged 2 0 1', 'masked 2 0 1', 'resume']);
  });

  it('are eventfds, not too many, and a flood of signals keeps nobody from being served', async () => {
    await using s = await served();
    const [a, b] = linux.unixSocketPair();
    opened.push(a, b);
    expect(await s.client.errno(SET_IRQS, setIrqs(UNMASK | EVENTFD, INTX, 0, 1), [a])).toBe(22);
    const one = eventfd();
    let room = 0;
    while ((await s.client.errno(SET_IRQS, setIrqs(MASK | EVENTFD, MSIX, room, 1), [one])) === 0) room++;
    expect(room).toBe(64);
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | NONE, MSIX, 0, 0));
    const [pin, resample] = [eventfd(), eventfd()];
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, INTX, 0, 1), [pin]);
    await s.client.errno(SET_IRQS, setIrqs(UNMASK | EVENTFD, INTX, 0, 1), [resample]);
    s.device.host!.setIntx(true);
    let flooding = true;
    const flood = (): void => {
      linux.eventfdSignal(resample);
      if (flooding) setImmediate(flood);
    };
    flood();
    for (let i = 0; i < 50; i++) expect(await s.client.errno(GET_INFO, fields(16, 0, 0, 0))).toBe(0);
    flooding = false;
    expect(linux.eventfdDrain(pin)).toBeGreaterThan(1);
  });

  it('whose counter is full, as those that are signalled, stop nobody', async () => {
    await using s = await served();
    const fd = eventfd();
    // The largest value: one more would block a writer.
    linux.write(fd, fields(2n ** 64n - 2n));
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, INTX, 0, 1), [fd]);
    linux.setNonBlocking(fd, false);
    s.device.host!.setIntx(true);
    s.device.host!.trigger(INTX, 0);
    expect(await s.client.errno(GET_INFO, fields(16, 0, 0, 0))).toBe(0);
    linux.setNonBlocking(fd, true);
  });
});

describe('what is left', () => {
  it('nothing: parked, watched and assigned descriptors are closed with the session', async () => {
    const before = countOpenFds();
    const fds = Array.from({ length: 8 }, () => linux.eventfd());
    const s = await served();
    const mine = countOpenFds();
    for (const [i, fd] of fds.entries()) await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, i, 1), [fd]);
    await s.client.errno(SET_IRQS, setIrqs(MASK | NONE, MSIX, 0, 8));
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, INTX, 0, 1), [fds[0]!]);
    await s.client.errno(SET_IRQS, setIrqs(UNMASK | EVENTFD, INTX, 0, 1), [fds[1]!]);
    await s.client.errno(SET_IRQS, setIrqs(MASK | EVENTFD, INTX, 0, 1), [fds[2]!]);
    expect(countOpenFds() - mine).toBe(8 + 8 + 3);
    // Unmasking and disabling give back what they took.
    await s.client.errno(SET_IRQS, setIrqs(UNMASK | NONE, MSIX, 0, 4));
    expect(countOpenFds() - mine).toBe(8 + 4 + 3);
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | NONE, INTX, 0, 0));
    expect(countOpenFds() - mine).toBe(8 + 4);
    s.client.close();
    await s.server.close();
    for (const fd of fds) linux.close(fd);
    expect(countOpenFds()).toBe(before);
  });

  it('when there are no descriptors to park with: EMFILE, and nothing has changed', async () => {
    let fail = false;
    const sys = { ...linux, eventfd: () => { if (fail) throw Object.assign(new Error('EMFILE'), { errno: 24 }); return linux.eventfd(); } };
    await using s = await serve({ device: new Maskable(), server: { sys } });
    const fd = eventfd();
    await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, MSIX, 0, 1), [fd]);
    fail = true;
    expect(await s.client.errno(SET_IRQS, setIrqs(MASK | NONE, MSIX, 0, 1))).toBe(24);
    s.device.host!.trigger(MSIX, 0);
    expect(linux.eventfdDrain(fd)).toBe(1);
  });
});

describe('functionLevelReset', () => {
  it('from inside a write: quiesce, reset, resume, then the reply', async () => {
    await using s = await served();
    s.device.write = () => s.device.host!.functionLevelReset();
    s.device.take();
    expect(await s.client.errno(WRITE, fields(0n, 0, 4, 0))).toBe(0);
    expect(s.device.take()).toEqual(['quiesce flr', 'reset', 'resume']);
  });

  it('from outside: between two commands, and a failing one is told of', async () => {
    await using s = await served();
    s.device.take();
    await s.device.host!.functionLevelReset();
    expect(s.device.take()).toEqual(['quiesce flr', 'reset', 'resume']);
    s.device.reset = () => { throw new Error('no'); };
    const fault = nextEvent('fault');
    await s.device.host!.functionLevelReset();
    expect(await fault).toMatchObject({ error: { message: 'no' } });
    expect(await s.client.errno(GET_INFO, fields(16, 0, 0, 0))).toBe(0);
  });
});
