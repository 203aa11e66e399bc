import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { AdaptiveSpin, SpinPolicy, type Spinner } from '../src/index.ts';

describe('SpinPolicy', () => {
  const policy = (): SpinPolicy => new SpinPolicy({ maxUs: 100, denseMessages: 4 });
  /** Messages `pauseMs` apart; returns the time behind the last, and whether looking again was worth it then. */
  function feed(p: SpinPolicy, from: number, count: number, pauseMs: number): { now: number; again: boolean } {
    let again = false;
    let now = from;
    for (let i = 0; i < count; i++) {
      p.arrived(now);
      again = p.again(now);
      now += pauseMs;
    }
    return { now, again };
  }

  test('looks again once messages come close together, and only for so long', () => {
    const p = policy();
    expect(feed(p, 0, 3, 0.05).again).toBe(false);
    p.arrived(0.15);
    expect([p.again(0.15), p.again(0.2), p.again(0.2499), p.again(0.2501), p.again(0.26)]).toEqual([true, true, true, false, false]);
  });

  test('never for messages that come now and then', () => {
    const p = policy();
    for (let i = 0; i < 1000; i++) {
      p.arrived(i);
      expect(p.again(i)).toBe(false);
    }
  });

  test('a pause ends it: the first message after one is not waited for', () => {
    const p = policy();
    const { now, again } = feed(p, 0, 10, 0.05);
    expect(again).toBe(true);
    p.arrived(now + 1);
    expect(p.again(now + 1)).toBe(false);
  });

  test('three vain spins in a row end it, and more messages are wanted before the next', () => {
    const p = policy();
    let { now } = feed(p, 0, 4, 0);
    let spins = 0;
    // Each just too late to be met, close enough to look dense.
    for (let i = 0; i < 200; i++) {
      p.arrived(now);
      if (p.again(now)) {
        spins++;
        expect(p.again(now + 0.11)).toBe(false);
      }
      now += 0.15;
    }
    // 3 at once; then 8, 16, 32 and 64 messages for 3 more each.
    expect(spins).toBe(15);
  });

  test('with no time to look, none is spent', () => {
    const p = new SpinPolicy({ maxUs: 0, denseMessages: 1 });
    expect(feed(p, 0, 100, 0).again).toBe(false);
  });

  test('what waits for no message costs nothing: 0 messages are never dense', () => {
    const p = policy();
    for (let now = 0; now < 10; now++) expect(p.again(now)).toBe(false);
  });
});

/** Counts looks; says that something came whenever the test has put something in. */
class Fake implements Spinner {
  looks = 0;
  taken = 0;
  waiting = 0;
  awaiting = false;
  onLook: () => void = () => undefined;
  look(): boolean {
    this.looks++;
    this.onLook();
    if (this.waiting === 0) return false;
    this.waiting--;
    this.taken++;
    return true;
  }
}

describe('AdaptiveSpin', () => {
  const open: AdaptiveSpin[] = [];
  afterEach(() => {
    for (const spin of open.splice(0)) spin[Symbol.dispose]();
  });
  /** By default it does not give up because this thread had to wait for a processor. */
  const spinOf = (fake: Fake, maxUs = 60_000_000): AdaptiveSpin => {
    const spin = new AdaptiveSpin(fake, { maxUs, denseMessages: 2 });
    open.push(spin);
    return spin;
  };
  const warmUp = (spin: AdaptiveSpin): void => {
    spin.arrived();
    spin.arrived();
  };

  test('takes what comes while it looks, then gives up by itself', async () => {
    const fake = new Fake();
    const spin = spinOf(fake, 2000);
    fake.onLook = () => { if (fake.looks % 10 === 0 && fake.taken < 50) fake.waiting = 1; };
    while (fake.taken < 50) {
      warmUp(spin);
      spin.dry();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await sleep(20);
    const { looks } = fake;
    await sleep(20);
    expect(fake.looks).toBe(looks);
  });

  test('does not look at what is sparse', () => {
    const fake = new Fake();
    const spin = spinOf(fake);
    spin.arrived();
    spin.dry();
    expect(fake.looks).toBe(0);
  });

  test('two share a thread: they are looked at in turn', async () => {
    const [a, b] = [new Fake(), new Fake()];
    let order = '';
    a.onLook = () => { order += 'a'; if (a.taken < 100) a.waiting = 1; };
    b.onLook = () => { order += 'b'; if (b.taken < 100) b.waiting = 1; };
    const [spinA, spinB] = [spinOf(a), spinOf(b)];
    warmUp(spinA);
    warmUp(spinB);
    // Joins while A spins.
    const onLook = a.onLook;
    a.onLook = () => {
      onLook();
      if (a.looks === 10) spinB.dry();
    };
    spinA.dry();
    while (a.taken < 100 || b.taken < 100) await new Promise((resolve) => setImmediate(resolve));
    expect(order).toMatch(/^a{10}(ba){89}/);
  });

  test('the event loop gets its turn from one that always finds something', async () => {
    const fake = new Fake();
    const spin = spinOf(fake);
    fake.onLook = () => { fake.waiting = 1; };
    warmUp(spin);
    let turns = 0;
    // A spin that gave no turn would never end, and the test with it.
    const turned = new Promise<void>((resolve) => {
      const count = (): void => {
        if (++turns < 5) setImmediate(count);
        else resolve();
      };
      setImmediate(count);
    });
    const fired = new Promise((resolve) => { setTimeout(resolve, 1); });
    spin.dry();
    await Promise.all([turned, fired]);
    spin[Symbol.dispose]();
    expect(fake.taken).toBeGreaterThan(0);
  });

  test('a promise that is waited for gets the event loop at once', async () => {
    const fake = new Fake();
    const spin = spinOf(fake);
    let settled = 0;
    fake.onLook = () => {
      if (fake.awaiting || fake.taken >= 20) return;
      fake.waiting = 1;
      fake.awaiting = true;
      void Promise.resolve().then(() => {
        fake.awaiting = false;
        settled++;
      });
    };
    warmUp(spin);
    spin.dry();
    while (settled < 20) await new Promise((resolve) => setImmediate(resolve));
    // Each took one look and one turn of the loop, not a whole turn of spinning.
    expect(fake.looks).toBeLessThan(60);
  });

  test('what awaits already is not looked at before the event loop has run', async () => {
    const fake = new Fake();
    const spin = spinOf(fake);
    fake.awaiting = true;
    warmUp(spin);
    spin.dry();
    expect(fake.looks).toBe(0);
    fake.awaiting = false;
    await new Promise((resolve) => setImmediate(resolve));
    expect(fake.looks).toBeGreaterThan(0);
  });

  test('is not looked at any more once disposed of', async () => {
    const fake = new Fake();
    const spin = spinOf(fake);
    fake.onLook = () => { if (fake.looks === 5) spin[Symbol.dispose](); };
    warmUp(spin);
    spin.dry();
    await sleep(5);
    expect(fake.looks).toBe(5);
  });
});
