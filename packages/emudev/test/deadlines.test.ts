/** Back ends that are late with a lock or a hook, or never come to its end. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EmudevRegistry, type BackEndHooks, type Emudev, type ProviderPort } from '../src/index.ts';
import { FakeClock } from './fake-clock.ts';
import { CONTRACT, toyProvider, type ToyProvider } from './fakes.ts';

const LOCK_MS = 100;
const HOOK_MS = 500;
const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

/** Locks when the test says so. Notes when the class does what its promises exclude. */
class SlowBackEnd implements BackEndHooks {
  readonly log: string[] = [];
  readonly broken: string[] = [];
  locked = false;
  #locking: PromiseWithResolvers<undefined> | undefined;

  get locking(): boolean {
    return this.#locking !== undefined;
  }
  lock(): Promise<void> {
    if (this.#locking !== undefined) this.broken.push('a second lock() while one has not settled');
    if (this.locked) this.broken.push('lock() while locked');
    this.log.push('lock');
    this.#locking = Promise.withResolvers<undefined>();
    return this.#locking.promise;
  }
  unlock(): void {
    if (!this.locked) this.broken.push('unlock() while not locked');
    this.locked = false;
    this.log.push('unlock');
  }
  finish(): void {
    if (this.#locking === undefined) return;
    this.locked = true;
    this.#locking.resolve(undefined);
    this.#locking = undefined;
  }
  fail(): void {
    this.#locking?.reject(new Error('cannot'));
    this.#locking = undefined;
  }
}

interface Rig { clock: FakeClock; port: ProviderPort; emudev: Emudev; provider: ToyProvider; errors: unknown[] }
function rig(): Rig {
  const clock = new FakeClock();
  const provider = toyProvider();
  const port = new EmudevRegistry({ clock, lockDeadlineMs: LOCK_MS, hookDeadlineMs: HOOK_MS }).allocate('emu_a', provider);
  const errors: unknown[] = [];
  port.device.on('error', (error) => { errors.push(error); });
  return { clock, port, emudev: port.device, provider, errors };
}
const never = (): Promise<void> => new Promise(() => {});
const settled = (promise: Promise<void>): Promise<string> => promise.then(() => 'done', (error: Error & { code?: string }) => error.code ?? error.message);

describe('a lock with a deadline', () => {
  it('rejects with EMUDEV_TIMEOUT, not before, and leaves no timer behind', async () => {
    const { port, emudev, clock } = rig();
    const backEnd = new SlowBackEnd();
    emudev.attach(backEnd, CONTRACT);
    const lock = port.lock('dma');
    let outcome = 'waiting';
    void settled(lock).then((how) => { outcome = how; });
    await turn();
    clock.pass(LOCK_MS - 1);
    await turn();
    expect(outcome).toBe('waiting');
    clock.pass(1);
    await turn();
    expect(outcome).toBe('EMUDEV_TIMEOUT');
    await expect(lock).rejects.toMatchObject({ errno: 110, message: expect.stringContaining('emu_a: the back end has not locked (dma) within 100 ms') as string });
    expect(clock.running).toBe(0);
  });

  it('that comes too late for everybody is undone at once', async () => {
    const { port, emudev, clock } = rig();
    const backEnd = new SlowBackEnd();
    emudev.attach(backEnd, CONTRACT);
    const lock = settled(port.suspend('bus'));
    await turn();
    clock.pass(LOCK_MS);
    expect(await lock).toBe('EMUDEV_TIMEOUT');
    expect(backEnd.log).toEqual(['lock']);
    backEnd.finish();
    await turn();
    expect(backEnd.log).toEqual(['lock', 'unlock']);
  });

  it('that comes late for one and in time for the next is the next one\'s, and is not undone under it', async () => {
    const { port, emudev, clock } = rig();
    const backEnd = new SlowBackEnd();
    emudev.attach(backEnd, CONTRACT);
    const first = settled(port.lock('one'));
    await turn();
    clock.pass(LOCK_MS);
    expect(await first).toBe('EMUDEV_TIMEOUT');
    port.unlock();
    const second = settled(port.lock('two'));
    await turn();
    clock.pass(LOCK_MS - 1);
    backEnd.finish();
    expect(await second).toBe('done');
    expect(backEnd.log).toEqual(['lock']);
    port.unlock();
    expect(backEnd.log).toEqual(['lock', 'unlock']);
  });

  it('that comes after the back end has left touches nobody: not it, nor its successor', async () => {
    const { port, emudev, clock, errors } = rig();
    const backEnd = new SlowBackEnd();
    const attachment = emudev.attach(backEnd, CONTRACT);
    await port.ready();
    const departure = attachment[Symbol.asyncDispose]();
    await turn();
    clock.pass(LOCK_MS);
    await departure;
    expect(errors).toMatchObject([{ code: 'EMUDEV_TIMEOUT' }]);
    const next = new SlowBackEnd();
    emudev.attach(next, CONTRACT);
    backEnd.finish();
    await turn();
    expect([backEnd.log, next.log]).toEqual([['lock'], []]);
  });

  it('a newcomer that does not lock a suspended device is told of the rest, is not unlocked for it, and undoes its lock when it comes', async () => {
    const { port, emudev, clock, errors } = rig();
    await port.suspend('bus');
    await port.ready();
    const backEnd = Object.assign(new SlowBackEnd(), { ready: () => { backEnd.log.push('ready'); } });
    emudev.attach(backEnd, CONTRACT);
    await turn();
    clock.pass(LOCK_MS);
    await turn();
    expect(errors).toMatchObject([{ code: 'EMUDEV_TIMEOUT' }]);
    expect(backEnd.log).toEqual(['lock', 'ready']);
    await port.resume();
    expect(backEnd.log).toEqual(['lock', 'ready']);
    backEnd.finish();
    await turn();
    expect(backEnd.log).toEqual(['lock', 'ready', 'unlock']);
    expect(backEnd.broken).toEqual([]);
  });

  it('that fails late is an error event', async () => {
    const { port, emudev, clock, errors } = rig();
    const backEnd = new SlowBackEnd();
    emudev.attach(backEnd, CONTRACT);
    const lock = settled(port.lock('dma'));
    await turn();
    clock.pass(LOCK_MS);
    await lock;
    backEnd.fail();
    await turn();
    expect(errors).toMatchObject([{ message: 'cannot' }]);
    const again = settled(port.lock('dma'));
    await turn();
    expect(backEnd.log).toEqual(['lock', 'lock']);
    backEnd.finish();
    expect(await again).toBe('done');
  });

  it('whatever comes in whatever order: one lock() at a time, locked while somebody holds it, unlocked when nobody does', async () => {
    const step = fc.constantFrom('lock', 'unlock', 'suspend', 'resume', 'finish', 'finish', 'fail', 'pass', 'leave', 'join', 'family', 'ready', 'gone');
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 24 }), async (steps) => {
      const { port, emudev, clock } = rig();
      const all: SlowBackEnd[] = [];
      let backEnd: SlowBackEnd | undefined;
      let attachment: AsyncDisposable | undefined;
      const joined = (): void => {
        backEnd = new SlowBackEnd();
        all.push(backEnd);
        attachment = emudev.attach(backEnd, CONTRACT);
      };
      joined();
      let holds = false;
      let asked = false;
      let suspended = false;
      let busy = 0;
      const track = (work: Promise<unknown>): void => {
        busy++;
        void work.then(() => { busy--; }, () => { busy--; });
      };
      const check = (): void => {
        expect(all.flatMap((one) => one.broken)).toEqual([]);
        if ((holds || suspended) && backEnd !== undefined) expect(backEnd.locked).toBe(true);
      };
      const play = async (one: string): Promise<void> => {
        switch (one) {
          case 'lock':
            // A transport holds one bracket at a time.
            if (asked) break;
            asked = true;
            track(port.lock('step').then(() => { holds = true; }, () => { asked = false; }));
            break;
          case 'unlock':
            if (holds) {
              holds = asked = false;
              port.unlock();
            }
            break;
          case 'suspend': track(port.suspend('step').then(() => { suspended = true; })); break;
          case 'resume': suspended = false; track(port.resume().then(() => { suspended = false; })); break;
          case 'finish': for (const each of all) each.finish(); break;
          case 'fail': for (const each of all) each.fail(); break;
          case 'pass': clock.pass(LOCK_MS); break;
          case 'leave':
            if (attachment !== undefined) track(Promise.resolve(attachment[Symbol.asyncDispose]()));
            backEnd = attachment = undefined;
            break;
          case 'join': {
            // Its seat may not be free yet; and one that joins a locked device is locked in its own time, not in ours.
            if (backEnd !== undefined || holds || suspended || asked || busy > 0) break;
            joined();
            break;
          }
          case 'family': track(port.reset('family')); break;
          case 'ready': track(port.ready()); break;
          default: track(port.destroyed('gone'));
        }
        await turn();
      };
      for (const one of steps) {
        await play(one);
        check();
      }
      // Everything comes to rest: every bracket closed, every lock given or given up.
      for (let i = 0; i < 40; i++) {
        await play('unlock');
        await play('resume');
        await play('pass');
        check();
      }
      expect(busy).toBe(0);
      await play('finish');
      await turn();
      check();
      expect(clock.running).toBe(0);
      if (backEnd !== undefined) expect(backEnd.locked).toBe(false);
      // And it can be locked again.
      await play('lock');
      await play('finish');
      expect(holds).toBe(true);
      check();
    }), { numRuns: 150 });
  });
});

describe('hooks that do not end', () => {
  const held = { lock: () => Promise.resolve(), unlock: () => {} };

  it('start: the device stays configured, the provider is stopped, and one that ends after all is stopped', async () => {
    const { emudev, clock, provider, port } = rig();
    const started = Promise.withResolvers<undefined>();
    let stops = 0;
    emudev.attach({ ...held, start: () => started.promise, stop: () => { stops++; } }, CONTRACT);
    await emudev.configure({});
    const start = settled(emudev.start());
    await turn();
    clock.pass(HOOK_MS);
    expect(await start).toBe('EMUDEV_TIMEOUT');
    expect(emudev.state).toBe('configured');
    expect(provider.log).toEqual(['configure default', 'start', 'stop']);
    started.resolve(undefined);
    await port.lock('settle');
    port.unlock();
    await turn();
    expect(stops).toBe(1);
  });

  it.each(['start', 'stop', 'reset', 'destroyed', 'ready', 'queue', 'doorbell'] as const)('%s: close arrives, within a deadline per hook', async (hook) => {
    const { emudev, port, clock, provider } = rig();
    emudev.attach({ ...held, [hook]: never }, CONTRACT);
    await emudev.configure({});
    const works = [
      ...(hook === 'start' || hook === 'stop' ? [settled(emudev.start())] : []),
      port.ready(), port.reset('family'), port.queueChanged(0, 'reset'), port.doorbellChanged(0),
    ];
    const close = settled(emudev.close());
    for (let i = 0; i < 8; i++) {
      await turn();
      clock.pass(HOOK_MS);
    }
    await Promise.all(works);
    expect(['done', 'EMUDEV_TIMEOUT']).toContain(await close);
    expect(emudev.state).toBe('closed');
    expect(provider.log.at(-1)).toBe('close');
    expect(clock.running).toBe(0);
  });

  it('a back end that never locks wedges neither close nor a reset', async () => {
    const { emudev, port, clock, errors } = rig();
    emudev.attach({ lock: never, unlock: () => { throw new Error('never locked'); } }, CONTRACT);
    await port.ready();
    const reset = port.reset('family');
    const close = settled(emudev.close());
    for (let i = 0; i < 4; i++) {
      await turn();
      clock.pass(LOCK_MS);
    }
    await reset;
    expect(await close).toBe('done');
    expect(errors.every((error) => (error as { code?: string }).code === 'EMUDEV_TIMEOUT')).toBe(true);
    expect(errors.length).toBe(2);
  });
});
