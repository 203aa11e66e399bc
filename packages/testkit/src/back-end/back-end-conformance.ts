/** What every back end of an emulated device has to do, against a fake device of its family. */
import { equal, ok } from 'node:assert/strict';
import type { Emudev } from '@emudev/emudev';
import { FakeEmudev, type FakeEmudevSpec } from '../fakes/emudev.ts';
import { RecordingBackEnd } from '../fakes/back-end.ts';
import { expectNoLeaks } from '../leaks.ts';
import { REPEATS } from '../limits.ts';
import { quietTurns, refuses, same, within, type ConformanceCase } from '../suite.ts';

/** An open back end. */
export interface BackEndUnderTest {
  /** Detaches it and gives everything back; resolves when that is done. */
  close(): Promise<void>;
}

/** How the back-end cases come by a device, the back end under test and its guest. */
export interface BackEndConformanceOptions<B extends BackEndUnderTest> {
  /** A device of the family, new for every case. */
  family(): FakeEmudevSpec;
  /** Makes a back end and attaches it. Rejects, with nothing left behind, where it cannot. */
  open(emudev: Emudev): B | Promise<B>;
  /** Without a guest only the cases that need none are run in earnest. */
  readonly guest?: {
    /** What a guest's driver does until the back end has something to serve: queues, buffers. Memory is mapped at TEST_RAM_IOVA. */
    setUp(fake: FakeEmudev, backEnd: B): void | Promise<void>;
    /**
     * Something that a back end which serves answers at once, by reading or writing guest memory, or by a vector. True where it has
     * served it in a way that the fake does not see (through memory that it had translated before).
     */
    act(fake: FakeEmudev, backEnd: B): boolean | Promise<boolean>;
  };
}

interface Open<B> {
  readonly fake: FakeEmudev;
  readonly backEnd: B;
  /** Does what a guest does; whether the back end has touched memory or a vector for it. */
  served(): Promise<boolean>;
}

type Step = 'ready' | 'memory' | 'irqs' | 'function' | 'family' | 'lock' | 'leave' | 'start' | 'stop';
const STEPS: readonly Step[] = ['ready', 'memory', 'irqs', 'function', 'family', 'lock', 'leave', 'start', 'stop'];

async function perform(fake: FakeEmudev, step: Step): Promise<void> {
  const { state } = fake.emudev;
  if (step === 'ready') await fake.ready();
  else if (step === 'memory' || step === 'lock') await fake.change(() => undefined);
  else if (step === 'irqs') await fake.change(() => undefined, { dma: false, irqs: true });
  else if (step === 'leave') await fake.disconnect();
  else if (step === 'start') {
    if (state === 'allocated') await fake.emudev.configure({});
    if (fake.emudev.state !== 'started') await fake.emudev.start();
  } else if (step === 'stop') {
    if (state === 'started') await fake.emudev.stop();
  } else await fake.reset(step);
}

/** Cases for any test runner; each opens a back end of its own and closes it. */
export function backendConformance<B extends BackEndUnderTest>(options: BackEndConformanceOptions<B>): readonly ConformanceCase[] {
  const { guest } = options;
  /** A device, and a body with nothing attached yet. */
  const withFake = async (body: (fake: FakeEmudev) => Promise<void>, spec: FakeEmudevSpec = options.family()): Promise<void> => {
    const fake = new FakeEmudev(spec);
    try {
      await body(fake);
    } finally {
      await within('closing the fake device', fake[Symbol.asyncDispose]());
    }
  };
  const withBackEnd = (body: (open: Open<B>) => Promise<void>, before: (fake: FakeEmudev) => Promise<void> = () => Promise.resolve()): Promise<void> => withFake(async (fake) => {
    await before(fake);
    const backEnd = await options.open(fake.emudev);
    const served = async (): Promise<boolean> => {
      const touches = fake.touches;
      const said = (await guest?.act(fake, backEnd)) ?? false;
      await quietTurns();
      return said || fake.touches !== touches;
    };
    try {
      await body({ fake, backEnd, served });
    } finally {
      await within('closing the back end', backEnd.close());
    }
  });
  /** With a guest that uses it. */
  const inUse = (body: (open: Open<B>) => Promise<void>): Promise<void> => withBackEnd(async (open) => {
    await perform(open.fake, 'start');
    await open.fake.ready();
    await guest?.setUp(open.fake, open.backEnd);
    await body(open);
  });
  const healthy = (fake: FakeEmudev): void => {
    same('errors of hooks', fake.errors, []);
    same('hooks called while another one was under way', fake.overlaps, []);
  };
  const seatIsFree = async (fake: FakeEmudev): Promise<void> => {
    const { devType, contractVersion } = fake.emudev.info;
    await fake.provider.device.attach(new RecordingBackEnd(), { devType, version: contractVersion })[Symbol.asyncDispose]();
  };

  return [
    {
      id: 'backend.attaches',
      title: 'takes the device\'s seat when it opens, and gives it up when it closes',
      run: () => withFake(async (fake) => {
        const backEnd = await options.open(fake.emudev);
        await refuses('another back end', 'EMUDEV_EXISTS', () => seatIsFree(fake));
        await backEnd.close();
        await seatIsFree(fake);
        await backEnd.close();
        await seatIsFree(fake);
      }),
    },
    {
      id: 'backend.contract-version',
      title: 'does not open on a device that speaks another version of its contract, and leaves nothing behind',
      run: () => {
        const spec = options.family();
        return withFake((fake) => expectNoLeaks(() => refuses('a newer contract', 'EMUDEV_BAD_ARG', async () => { await options.open(fake.emudev); })), { ...spec, contractVersion: spec.contractVersion + 1 });
      },
    },
    {
      id: 'backend.contract-family',
      title: 'does not open on a device of another family, and leaves nothing behind',
      run: () => {
        const spec = options.family();
        return withFake((fake) => expectNoLeaks(() => refuses('another family', 'EMUDEV_BAD_ARG', async () => { await options.open(fake.emudev); })), { ...spec, devType: `${spec.devType}x` });
      },
    },
    {
      id: 'backend.seat-taken',
      title: 'does not open on a device that has a back end, does not disturb that one, and leaves nothing behind',
      run: () => withFake(async (fake) => {
        const { devType, contractVersion } = fake.emudev.info;
        const first = new RecordingBackEnd();
        await using _attachment = fake.provider.device.attach(first, { devType, version: contractVersion });
        await expectNoLeaks(() => refuses('a second back end', 'EMUDEV_EXISTS', async () => { await options.open(fake.emudev); }));
        await perform(fake, 'start');
        same('what the first one hears', first.log, ['start']);
      }),
    },
    {
      id: 'backend.serves',
      title: 'serves a guest, also one that was there before it, and the next one',
      run: async () => {
        await inUse(async ({ fake, served, backEnd }) => {
          if (guest !== undefined) ok(await served(), 'the guest is served');
          await fake.disconnect();
          await fake.ready();
          await guest?.setUp(fake, backEnd);
          if (guest !== undefined) ok(await served(), 'the next guest is served');
          healthy(fake);
        });
        await withBackEnd(async ({ fake, served, backEnd }) => {
          await quietTurns();
          await guest?.setUp(fake, backEnd);
          if (guest !== undefined) ok(await served(), 'a guest that was there before the back end is served');
          healthy(fake);
        }, async (fake) => {
          await perform(fake, 'start');
          await fake.ready();
        });
      },
    },
    {
      id: 'backend.locked',
      title: 'lets memory and vectors alone while it is locked, and goes on when it is unlocked',
      run: () => inUse(async ({ fake, served }) => {
        for (const [hold, release] of [
          [() => fake.provider.lock('dma-map'), () => { fake.provider.unlock(); }],
          [() => fake.provider.suspend('bus master off'), () => fake.provider.resume()],
        ] as const) {
          await hold();
          try {
            ok(!(await served()), 'nothing of the guest\'s is touched while the back end is locked');
          } finally {
            await release();
          }
          await quietTurns();
          if (guest !== undefined) ok(await served(), 'the guest is served after unlock');
        }
        healthy(fake);
      }),
    },
    {
      id: 'backend.reset',
      title: 'forgets everything of the guest\'s in a reset, and starts anew',
      run: () => inUse(async ({ fake, served, backEnd }) => {
        for (const kind of ['function', 'family'] as const) {
          await fake.reset(kind);
          ok(!(await served()), `what a guest had set up before a ${kind} reset is void`);
          await guest?.setUp(fake, backEnd);
          if (guest !== undefined) ok(await served(), `a guest that sets up anew after a ${kind} reset is served`);
        }
        healthy(fake);
      }),
    },
    {
      id: 'backend.departure',
      title: 'lets go of memory when the consumer leaves',
      run: () => inUse(async ({ fake, served }) => {
        await fake.disconnect('connection-lost');
        ok(!(await served()), 'nothing of a guest that has gone is touched');
        await fake.ready();
        ok(!(await served()), 'what the last guest had set up is void for the next one');
        healthy(fake);
      }),
    },
    {
      id: 'backend.memory-gone',
      title: 'survives that the guest\'s memory is unmapped under it, and touches none of it',
      run: () => inUse(async ({ fake, served }) => {
        await fake.change(() => { fake.memory.clear(); });
        ok(!(await served()), 'memory that is not mapped is not touched');
        await fake.reset('function');
        healthy(fake);
      }),
    },
    {
      id: 'backend.orders',
      title: 'survives what a consumer and an application do, in every order',
      run: () => withBackEnd(async ({ fake }) => {
        for (const first of STEPS) {
          for (const second of STEPS) {
            for (const third of STEPS) {
              for (const step of [first, second, third]) await within(`${first}, ${second}, ${third}: ${step}`, perform(fake, step));
            }
          }
        }
        healthy(fake);
      }),
    },
    {
      id: 'backend.leaves',
      title: 'touches nothing and hears nothing once it is closed, though the guest goes on',
      run: () => inUse(async ({ fake, backEnd, served }) => {
        await within('closing a back end in use', backEnd.close());
        const heard = fake.hooks.length;
        ok(!(await served()), 'nothing of the guest\'s is touched by a back end that is closed');
        await fake.change(() => undefined);
        await fake.reset('function');
        await fake.disconnect();
        equal(fake.hooks.length, heard, 'no hook of a back end that is closed is called');
        await backEnd.close();
      }),
    },
    {
      id: 'backend.device-closes',
      title: 'can be closed after its device',
      run: () => inUse(async ({ fake, backEnd }) => {
        await within('closing the device', fake.emudev.close());
        await within('closing the back end', backEnd.close());
        healthy(fake);
      }),
    },
    {
      id: 'backend.reconnect',
      title: `${REPEATS} guests, one after the other, leave nothing behind`,
      run: () => withBackEnd(async ({ fake, backEnd }) => {
        await perform(fake, 'start');
        const visit = async (): Promise<void> => {
          await fake.ready();
          await guest?.setUp(fake, backEnd);
          await guest?.act(fake, backEnd);
          await fake.disconnect();
        };
        await visit();
        await expectNoLeaks(async () => {
          for (let i = 0; i < REPEATS; i++) await visit();
        });
        healthy(fake);
      }),
    },
    {
      id: 'backend.leaks',
      title: 'gives everything back when it closes',
      run: async () => {
        const life = (ready: boolean): Promise<void> => (ready ? inUse : withBackEnd)(() => Promise.resolve());
        await life(true);
        await expectNoLeaks(async () => {
          for (let i = 0; i < 10; i++) await life(i % 2 === 0);
        });
      },
    },
  ];
}
