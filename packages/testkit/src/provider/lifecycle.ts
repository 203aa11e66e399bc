/** The provider suite's cases of the life an application leads a device through. */
import { equal, ok } from 'node:assert/strict';
import { attrKey, channelKey, regionKey, type Emudev, type EmudevState } from '@emudev/emudev';
import { expectNoLeaks } from '../leaks.ts';
import { codeOf, refuses, same, thrownBy, type ConformanceCase } from '../suite.ts';
import { DEVICE_NAME, contextOf, type ProviderCase, type ProviderFactory, type ProviderRig } from './rig.ts';

type Operation = 'configure' | 'start' | 'stop' | 'close';

/** Where each operation leads (packages/emudev, lifecycle.ts); what is not here is refused. */
const TABLE: Readonly<Record<Operation, Readonly<Partial<Record<EmudevState, EmudevState>>>>> = {
  configure: { allocated: 'configured', stopped: 'configured' },
  start: { configured: 'started', stopped: 'started' },
  stop: { started: 'stopped', stopped: 'stopped' },
  close: { allocated: 'closed', configured: 'closed', started: 'closed', stopped: 'closed' },
};
const WAY: Readonly<Record<EmudevState, readonly Operation[]>> = {
  allocated: [],
  configured: ['configure'],
  started: ['configure', 'start'],
  stopped: ['configure', 'start', 'stop'],
  closed: ['close'],
};

const perform = (emudev: Emudev, operation: Operation): Promise<void> => (operation === 'configure' ? emudev.configure({}) : emudev[operation]());

/** One row of the table, from every state. */
function row(on: ProviderCase, operation: Operation): ConformanceCase {
  return {
    id: `provider.state-${operation}`,
    title: `${operation}: leads where the state table says, and is refused everywhere else`,
    run: async () => {
      for (const from of Object.keys(WAY) as EmudevState[]) {
        await on(async ({ emudev }) => {
          for (const step of WAY[from]) await perform(emudev, step);
          equal(emudev.state, from);
          const to = TABLE[operation][from];
          if (to === undefined) await refuses(`${operation} while ${from}`, 'EMUDEV_BAD_STATE', () => perform(emudev, operation));
          else await perform(emudev, operation);
          equal(emudev.state, to ?? from, `the state after ${operation} while ${from}`);
        });
      }
    },
  };
}

export function lifecycleCases(on: ProviderCase, factory: ProviderFactory): readonly ConformanceCase[] {
  return [
    row(on, 'configure'), row(on, 'start'), row(on, 'stop'), row(on, 'close'),
    {
      id: 'provider.info',
      title: 'says who it is, and the same all its life',
      run: () => on(async ({ emudev, registry, subject }) => {
        const { info } = emudev;
        equal(info.name, DEVICE_NAME, 'info.name is the name it was given');
        equal(registry.byName(DEVICE_NAME)?.info, info, 'the registry finds it by that name');
        ok(info.devType.length > 0, 'info.devType is not empty');
        for (const [what, value] of Object.entries({ contractVersion: info.contractVersion, maxQueuePairs: info.maxQueuePairs, numVectors: info.numVectors })) {
          ok(Number.isInteger(value) && value >= 0, `info.${what} is a count, not ${value}`);
        }
        equal(typeof subject.pci.name, 'string', 'the PCI device has a name');
        const before = { ...info };
        await emudev.configure({});
        await emudev.start();
        await emudev.close();
        same('info after close', { ...emudev.info }, before);
      }),
    },
    {
      id: 'provider.restart',
      title: 'starts, stops and is configured again any number of times; the back end hears of each',
      run: () => on(async (rig) => {
        const backEnd = rig.attach();
        await rig.emudev.configure({});
        for (let round = 0; round < 5; round++) {
          await rig.emudev.start();
          await rig.emudev.stop();
          if (round % 2 === 1) await rig.emudev.configure({});
        }
        same('what the back end heard', backEnd.log, Array.from({ length: 5 }, () => ['start', 'stop']).flat());
      }),
    },
    {
      id: 'provider.configure-limits',
      title: 'takes as many queue pairs as it says it has, and refuses other numbers',
      run: () => on(async ({ emudev }) => {
        const { maxQueuePairs } = emudev.info;
        for (const queuePairs of [0, -1, maxQueuePairs + 1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
          await refuses(`configure with ${queuePairs} queue pairs`, 'EMUDEV_BAD_ARG', () => emudev.configure({ queuePairs }));
          equal(emudev.state, 'allocated', 'the state after a refused configure');
        }
        if (maxQueuePairs > 0) await emudev.configure({ queuePairs: maxQueuePairs });
      }),
    },
    {
      id: 'provider.close-once',
      title: 'closing frees the name; what wraps the device may be closed after the device itself; a device closes once',
      run: () => on(async ({ emudev, subject, registry }) => {
        await emudev.configure({});
        await emudev.start();
        await emudev.close();
        await refuses('a second close', 'EMUDEV_BAD_STATE', () => emudev.close());
        await subject.close();
        equal(registry.byName(DEVICE_NAME), undefined, 'the registry has forgotten the name');
        const again = await factory(DEVICE_NAME, contextOf(registry));
        equal(again.emudev.state, 'allocated', 'the name can be used again');
        await again.close();
        equal(again.emudev.state, 'closed', 'closing what was probed closes the device');
      }),
    },
    {
      id: 'provider.name-taken',
      title: 'a second device of its name is refused and disturbs nothing',
      run: () => on(async (rig) => {
        const error = await expectNoLeaks(() => thrownBy('a second device of the same name', async () => factory(DEVICE_NAME, contextOf(rig.registry))));
        equal(codeOf(error), 'EMUDEV_EXISTS', `it is refused with EMUDEV_EXISTS: ${String(error)}`);
        equal(rig.registry.byName(DEVICE_NAME), rig.emudev, 'the first one has its name still');
        await rig.start();
      }),
    },
    {
      id: 'provider.closed',
      title: 'a closed device answers nothing',
      run: () => on(async ({ emudev, contract }) => {
        const names = emudev.attrNames();
        await emudev.close();
        const hooks = { lock: () => Promise.resolve(), unlock: () => {} };
        const calls: Record<string, () => unknown> = {
          attach: () => emudev.attach(hooks, contract),
          memTable: () => emudev.memTable(), queueInfo: () => emudev.queueInfo(0), irqInfo: () => emudev.irqInfo(0), doorbell: () => emudev.doorbell(0),
          getAttr: () => emudev.getAttr(attrKey(names[0] ?? 'any')), setAttr: () => { emudev.setAttr(attrKey(names[0] ?? 'any'), 0); },
          mapRegion: () => emudev.mapRegion(regionKey('any')), channel: () => emudev.channel(channelKey('any')), selfTest: () => emudev.selfTest(), reset: () => emudev.reset(),
        };
        for (const [what, call] of Object.entries(calls)) await refuses(`${what} after close`, 'EMUDEV_BAD_STATE', call);
      }),
    },
    {
      id: 'provider.self-test',
      title: 'tests itself, or says that it cannot, and is as usable afterwards',
      run: () => on(async (rig: ProviderRig) => {
        await rig.start();
        try {
          const { passed, checks } = await rig.emudev.selfTest();
          ok(checks.length > 0, 'a self-test checks something');
          ok(passed, `the self-test passes: ${checks.filter((check) => !check.passed).map(({ name, text }) => `${name}: ${text}`).join('; ')}`);
          for (const { name, text } of checks) ok(name !== '' && text !== '', 'a check has a name and says what it saw');
        } catch (error) {
          if (codeOf(error) !== 'EMUDEV_UNSUPPORTED') throw error;
        }
        await rig.ready();
        const told: string[] = [];
        for (const event of ['reset', 'destroyed'] as const) rig.emudev.on(event, () => { told.push(event); });
        try {
          await rig.emudev.selfTest();
        } catch (error) {
          ok(['EMUDEV_UNSUPPORTED', 'EMUDEV_BAD_STATE'].includes(codeOf(error) ?? ''), `a self-test that would disturb a consumer is EMUDEV_BAD_STATE, not ${String(error)}`);
        }
        same('what a consumer hears of a self-test', [rig.emudev.consumer, told], ['ready', []]);
      }),
    },
    {
      id: 'provider.family-reset',
      title: 'resets itself, or says that it cannot; the back end hears of it while it is locked, and the consumer stays',
      run: () => on(async (rig: ProviderRig) => {
        await rig.start();
        await rig.ready();
        const told: string[] = [];
        for (const event of ['reset', 'destroyed'] as const) rig.emudev.on(event, (what) => { told.push(`${event} ${what}`); });
        try {
          await rig.emudev.reset();
        } catch (error) {
          if (codeOf(error) !== 'EMUDEV_UNSUPPORTED') throw error;
          return;
        }
        same('what is heard of a reset of its own', [rig.emudev.consumer, told], ['ready', ['reset family']]);
      }),
    },
    {
      id: 'provider.leaks',
      title: 'gives everything back, whichever state it is closed in',
      run: async () => {
        const live = async (from: EmudevState, connected: boolean): Promise<void> => {
          await on(async (rig) => {
            for (const step of WAY[from]) await perform(rig.emudev, step);
            if (connected && from !== 'closed') await rig.ready();
          });
        };
        await live('started', true);
        await expectNoLeaks(async () => {
          for (const from of Object.keys(WAY) as EmudevState[]) for (const connected of [false, true]) await live(from, connected);
        });
      },
    },
  ];
}
