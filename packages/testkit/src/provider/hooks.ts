/** The provider suite's cases of its back end: when it is told what, and what becomes of the device when it misbehaves. */
import { equal, ok } from 'node:assert/strict';
import { attrKey, type BackEndHooks } from '@emudev/emudev';
import { TEST_RAM_BYTES } from '../fakes/host.ts';
import { codeOf, eventually, quietTurns, refuses, same, thrownBy, within, type ConformanceCase } from '../suite.ts';
import { MORE_RAM_IOVA, stillWaiting, type ProviderCase, type ProviderRig } from './rig.ts';

const moreMemory = (rig: ProviderRig): Promise<void> => rig.host.map(MORE_RAM_IOVA, TEST_RAM_BYTES);

/** A device that a consumer uses, started, with its back end; what the back end has heard so far is forgotten. */
async function inUse(rig: ProviderRig): Promise<ReturnType<ProviderRig['attach']>> {
  const backEnd = rig.attach();
  await rig.start();
  await rig.ready();
  backEnd.take();
  return backEnd;
}

export function hookCases(on: ProviderCase): readonly ConformanceCase[] {
  return [
    {
      id: 'provider.attach-twice',
      title: 'has one back end at a time',
      run: () => on(async (rig) => {
        const first = rig.attach();
        await refuses('a second back end', 'EMUDEV_EXISTS', () => rig.attach());
        await first.attachment[Symbol.asyncDispose]();
        await first.attachment[Symbol.asyncDispose]();
        const second = rig.attach();
        await rig.start();
        same('what the first one hears after it has left', first.log, []);
        same('what the second one hears', second.log, ['start']);
      }),
    },
    {
      id: 'provider.contract',
      title: 'turns away a back end of another family or another version of the contract',
      run: () => on(async (rig) => {
        const hooks: BackEndHooks = { lock: () => Promise.resolve(), unlock: () => {} };
        const { devType, version } = rig.contract;
        await refuses('another family', 'EMUDEV_BAD_ARG', () => rig.emudev.attach(hooks, { devType: `${devType}x`, version }));
        await refuses('a newer contract', 'EMUDEV_BAD_ARG', () => rig.emudev.attach(hooks, { devType, version: version + 1 }));
        await refuses('an older contract', 'EMUDEV_BAD_ARG', () => rig.emudev.attach(hooks, { devType, version: version - 1 }));
        rig.attach();
      }),
    },
    {
      id: 'provider.order',
      title: 'tells its back end of everything a consumer does, in order, one thing at a time',
      run: () => on(async (rig) => {
        const backEnd = rig.attach();
        await rig.start();
        await rig.host.connect();
        same('after start and connect', backEnd.hooks, ['start']);
        backEnd.take();
        await rig.ready();
        same('when memory is mapped', backEnd.hooks, ['lock', 'unlock', 'ready']);
        backEnd.take();
        await moreMemory(rig);
        same('when more memory is mapped', backEnd.hooks, ['lock', 'updated', 'unlock']);
        same('of what changed', backEnd.take()[1], 'updated dma');
        if (rig.irq !== undefined) {
          await rig.host.assign(rig.irq);
          same('when interrupts are assigned', backEnd.hooks, ['lock', 'updated', 'unlock']);
          same('of what changed', backEnd.take()[1], 'updated irqs');
        }
        await rig.host.unmap(MORE_RAM_IOVA);
        same('when memory is unmapped', backEnd.hooks, ['lock', 'updated', 'unlock']);
        backEnd.take();
        await rig.host.reset();
        same('when the function is reset', [backEnd.hooks, backEnd.log[1]], [['lock', 'reset', 'unlock'], 'reset function']);
        backEnd.take();
        await rig.host.disconnect();
        same('when the consumer leaves', [backEnd.hooks, backEnd.log[1]], [['lock', 'reset', 'destroyed', 'unlock'], 'reset consumer-left']);
        same('hooks called while another one was under way', backEnd.overlaps, []);
        same('errors', rig.errors, []);
      }),
    },
    {
      id: 'provider.locked-inside',
      title: 'calls updated, reset and destroyed only while the back end is locked, and memory is there until destroyed has ended',
      run: () => on(async (rig) => {
        const backEnd = rig.attach();
        const wrong: string[] = [];
        backEnd.inside = (hook) => {
          if ((hook === 'updated' || hook === 'reset' || hook === 'destroyed') && !backEnd.locked) wrong.push(`${hook} while not locked`);
          if (hook !== 'destroyed') return;
          try {
            if (rig.emudev.memTable().translate(rig.host.memory.regions()[0]!.iova, 1, 'read') === undefined) wrong.push('destroyed without memory');
          } catch (error) {
            wrong.push(`memTable in destroyed: ${String(error)}`);
          }
        };
        await rig.start();
        await rig.ready();
        await moreMemory(rig);
        if (rig.irq !== undefined) await rig.host.assign(rig.irq);
        await rig.host.reset();
        await rig.host.disconnect();
        same('what was wrong', wrong, []);
        ok(backEnd.hooks.includes('destroyed'), 'the back end has heard that the consumer left');
      }),
    },
    {
      id: 'provider.late-back-end',
      title: 'a back end that joins late is told what it has missed',
      run: () => on(async (rig) => {
        await rig.start();
        await rig.ready();
        const backEnd = rig.attach();
        await eventually('the newcomer hears of start and ready', () => backEnd.log.length >= 2);
        same('what it hears', backEnd.log, ['start', 'ready']);
        backEnd.take();
        await moreMemory(rig);
        same('then', backEnd.hooks, ['lock', 'updated', 'unlock']);
      }),
    },
    {
      id: 'provider.leave-while-ready',
      title: 'a back end that leaves is locked first, hears nothing more, and another may come',
      run: () => on(async (rig) => {
        const first = await inUse(rig);
        await first.attachment[Symbol.asyncDispose]();
        same('on leaving', first.hooks, ['lock']);
        await moreMemory(rig);
        await rig.host.reset();
        same('afterwards', first.hooks, ['lock']);
        const second = rig.attach();
        await eventually('the next back end hears of start and ready', () => second.log.length >= 2);
        await rig.host.disconnect();
        equal(second.hooks.includes('destroyed'), true, 'the next one hears of the departure');
      }),
    },
    {
      id: 'provider.lock-awaited',
      title: 'memory changes only when the back end has locked',
      run: () => on(async (rig) => {
        const backEnd = await inUse(rig);
        const release = backEnd.hold('lock');
        const change = moreMemory(rig);
        await stillWaiting('the change of memory did not wait for the back end\'s lock', change);
        equal(rig.host.memory.regions().length, 1, 'the second region is not mapped before the back end is locked');
        release();
        await within('the change, once the back end has locked', change);
        same('what the back end heard', backEnd.hooks, ['lock', 'updated', 'unlock']);
      }),
    },
    {
      id: 'provider.lock-rejects',
      title: 'a back end that cannot lock fails the change, and the next one works',
      run: () => on(async (rig) => {
        const backEnd = await inUse(rig);
        backEnd.fail('lock');
        await thrownBy('a change that the back end does not lock for', () => moreMemory(rig));
        equal(rig.host.memory.regions().length, 1, 'nothing has changed');
        backEnd.heal();
        backEnd.take();
        await within('the next change', moreMemory(rig));
        same('what the back end hears of the next change', backEnd.hooks, ['lock', 'updated', 'unlock']);
      }),
    },
    {
      id: 'provider.lock-timeout',
      title: 'a back end that never locks fails the change with EMUDEV_TIMEOUT, and the device goes on when it has recovered',
      run: () => on(async (rig) => {
        const backEnd = await inUse(rig);
        const release = backEnd.hold('lock');
        const error = await rig.overdue('the lock\'s deadline', moreMemory(rig)).then(() => undefined, (thrown: unknown) => thrown);
        equal(codeOf(error), 'EMUDEV_TIMEOUT', `a change that waits for ever is given up with EMUDEV_TIMEOUT, not ${String(error)}`);
        equal(rig.host.memory.regions().length, 1, 'nothing has changed');
        release();
        await quietTurns();
        await within('the next change', moreMemory(rig));
        equal(rig.host.memory.regions().length, 2);
        equal(backEnd.locked, false, 'the back end is not left locked');
      }),
    },
    {
      id: 'provider.reset-awaited',
      title: 'a reset is over only when the back end has done with it',
      run: () => on(async (rig) => {
        const backEnd = await inUse(rig);
        const release = backEnd.hold('reset');
        const reset = rig.host.reset();
        await stillWaiting('the reset did not wait for the back end\'s reset', reset);
        equal(backEnd.locked, true, 'the back end is locked meanwhile');
        release();
        await within('the reset, once the back end is done', reset);
        equal(backEnd.locked, false, 'and unlocked afterwards');
      }),
    },
    {
      id: 'provider.destroyed-awaited',
      title: 'a departure is over only when the back end has let go of memory',
      run: () => on(async (rig) => {
        const backEnd = await inUse(rig);
        const release = backEnd.hold('destroyed');
        const departure = rig.host.disconnect();
        await stillWaiting('the departure did not wait for the back end\'s destroyed', departure);
        equal(rig.host.memory.regions().length, 1, 'memory is still mapped');
        release();
        await within('the departure, once the back end is done', departure);
        equal(rig.emudev.consumer, 'absent');
      }),
    },
    {
      id: 'provider.reset-while-pending',
      title: 'a reset, a change and a departure wait for a hook that is under way, and keep their order',
      run: () => on(async (rig) => {
        const backEnd = rig.attach();
        await rig.start();
        await rig.host.connect();
        const release = backEnd.hold('ready');
        await rig.host.map();
        const all = Promise.all([rig.host.reset(), moreMemory(rig), rig.host.reset(), rig.host.disconnect()]);
        await stillWaiting('a reset did not wait for the hook before it', all);
        ok(!backEnd.hooks.includes('reset'), 'no reset before ready has ended');
        release();
        await within('what has waited', all);
        same('hooks called while another one was under way', backEnd.overlaps, []);
        same('in this order', backEnd.hooks.filter((hook) => hook !== 'lock' && hook !== 'unlock'), ['start', 'ready', 'reset', 'updated', 'reset', 'reset', 'destroyed']);
      }),
    },
    {
      id: 'provider.reset-twice',
      title: 'two resets in a row are two resets',
      run: () => on(async (rig) => {
        const backEnd = await inUse(rig);
        await Promise.all([rig.host.reset(), rig.host.reset()]);
        same('what the back end heard', backEnd.hooks, ['lock', 'reset', 'unlock', 'lock', 'reset', 'unlock']);
        await moreMemory(rig);
      }),
    },
    {
      id: 'provider.hook-throws',
      title: 'what a back end\'s hooks throw is reported as an error event, and the consumer does not notice',
      run: () => on(async (rig) => {
        const backEnd = rig.attach();
        await rig.start();
        for (const hook of ['ready', 'updated', 'reset', 'destroyed', 'unlock'] as const) backEnd.fail(hook);
        await rig.ready();
        await moreMemory(rig);
        await rig.host.reset();
        await rig.host.disconnect();
        ok(rig.errors.length >= 5, `five kinds of errors were reported, not ${rig.errors.length}`);
        equal(rig.emudev.consumer, 'absent');
        backEnd.heal();
        backEnd.take();
        await rig.ready();
        same('what the back end hears of the next consumer', backEnd.hooks, ['lock', 'unlock', 'ready']);
      }),
    },
    {
      id: 'provider.start-throws',
      title: 'a back end that cannot start keeps the device from starting; one that cannot stop does not keep it from stopping',
      run: () => on(async (rig) => {
        const backEnd = rig.attach();
        const { emudev } = rig;
        await emudev.configure({});
        backEnd.fail('start');
        await thrownBy('start', () => emudev.start());
        equal(emudev.state, 'configured', 'the state after a start that failed');
        backEnd.heal();
        await emudev.start();
        backEnd.fail('stop');
        await thrownBy('stop', () => emudev.stop());
        equal(emudev.state, 'stopped', 'the state after a stop that failed');
        backEnd.heal();
        await emudev.start();
      }),
    },
    {
      id: 'provider.observers',
      title: 'observers hear what the back end hears; one that throws disturbs nobody',
      run: () => on(async (rig) => {
        const told: string[] = [];
        for (const event of ['started', 'ready', 'updated', 'reset', 'destroyed', 'stopped'] as const) {
          rig.emudev.on(event, () => { told.push(event); });
          rig.emudev.on(event, () => { throw new Error('an observer fails'); });
        }
        await rig.start();
        await rig.ready();
        await moreMemory(rig);
        await rig.host.reset();
        await rig.host.disconnect();
        await rig.emudev.stop();
        same('what observers hear', told, ['started', 'ready', 'updated', 'reset', 'reset', 'destroyed', 'stopped']);
        for (const name of rig.emudev.attrNames()) rig.emudev.getAttr(attrKey(name));
      }),
    },
    {
      id: 'provider.close-in-use',
      title: 'closing a device in use takes leave of its back end, also of one that never answers',
      run: async () => {
        await on(async (rig) => {
          const backEnd = await inUse(rig);
          await within('close', rig.emudev.close());
          const { hooks } = backEnd;
          ok(hooks.includes('stop') && hooks.includes('destroyed'), `the back end hears stop and destroyed: ${hooks.join(', ')}`);
          same('hooks called while another one was under way', backEnd.overlaps, []);
        });
        await on(async (rig) => {
          const backEnd = await inUse(rig);
          backEnd.hold('lock');
          await rig.overdue('close with a back end that does not lock', rig.emudev.close().catch(() => undefined));
          equal(rig.emudev.state, 'closed');
        });
      },
    },
  ];
}
