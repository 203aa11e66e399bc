/** The provider suite's cases of consumers that come and go. */
import { equal, ok } from 'node:assert/strict';
import { REGION_CONFIG } from '@emudev/pci';
import { expectNoLeaks } from '../leaks.ts';
import { REPEATS } from '../limits.ts';
import { quietTurns, same, thrownBy, within, type ConformanceCase } from '../suite.ts';
import type { ProviderCase } from './rig.ts';

export function consumerCases(on: ProviderCase): readonly ConformanceCase[] {
  return [
    {
      id: 'provider.consumer-states',
      title: 'knows whether a consumer is absent, connected, or ready',
      run: () => on(async (rig) => {
        const { emudev, host } = rig;
        for (let round = 0; round < 2; round++) {
          equal(emudev.consumer, 'absent', 'before one connects');
          await host.connect();
          equal(emudev.consumer, 'connected', 'before it maps memory');
          await rig.ready();
          equal(emudev.consumer, 'ready', 'when it has mapped memory');
          await host.reset();
          equal(emudev.consumer, 'ready', 'a reset leaves its memory mapped');
          await host.disconnect(round === 0 ? 'closed' : 'connection-lost');
        }
        equal(emudev.consumer, 'absent', 'when it has gone');
      }),
    },
    {
      id: 'provider.served-unstarted',
      title: 'serves consumers whatever its application does meanwhile: before configure, started, stopped',
      run: () => on(async (rig) => {
        await rig.ready();
        await rig.start();
        const ids = await rig.host.get(REGION_CONFIG, 0);
        await rig.emudev.stop();
        await rig.host.reset();
        equal(await rig.host.get(REGION_CONFIG, 0), ids, 'vendor and device after a stop');
        await rig.host.disconnect();
        await rig.ready();
      }),
    },
    {
      id: 'provider.reconnect',
      title: `${REPEATS} consumers, one after the other, leave nothing behind`,
      run: () => on(async (rig) => {
        const backEnd = rig.attach();
        await rig.start();
        const visit = async (): Promise<void> => {
          await rig.ready();
          if (rig.irq !== undefined) await rig.host.assign(rig.irq);
          await rig.host.reset();
          await rig.host.disconnect();
        };
        await visit();
        backEnd.take();
        await expectNoLeaks(async () => {
          for (let i = 0; i < REPEATS; i++) await visit();
        });
        const { hooks } = backEnd;
        for (const hook of ['ready', 'destroyed'] as const) equal(hooks.filter((seen) => seen === hook).length, REPEATS, `${hook} is told once for each`);
        same('hooks called while another one was under way', backEnd.overlaps, []);
        same('errors', rig.errors, []);
      }),
    },
    {
      id: 'provider.memory-gone',
      title: 'a consumer that unmaps all its memory, and maps it again, is served on',
      run: () => on(async (rig) => {
        const backEnd = rig.attach();
        await rig.start();
        await rig.ready();
        await rig.host.unmap();
        await rig.host.map();
        await rig.host.unmap();
        await rig.host.reset();
        await rig.host.disconnect();
        equal(backEnd.hooks.filter((hook) => hook === 'destroyed').length, 1, 'its departure is told once');
        same('errors', rig.errors, []);
      }),
    },
    {
      id: 'provider.failed-change',
      title: 'a change that fails between quiesce and resume leaves the device as it was',
      run: () => on(async (rig) => {
        const backEnd = rig.attach();
        await rig.start();
        await rig.ready();
        backEnd.take();
        await thrownBy('a change that fails', () => rig.host.change('dma-map', () => { throw new Error('no room'); }));
        same('what the back end heard', backEnd.hooks, ['lock', 'unlock']);
        await rig.host.reset();
      }),
    },
    {
      id: 'provider.close-while-connected',
      title: 'a device closed under its consumer answers all ones, ignores writes, lets the consumer leave and nobody come',
      run: () => on(async (rig) => {
        const { host, emudev } = rig;
        await rig.start();
        await rig.ready();
        await within('close', emudev.close());
        for (const { index, sizeBytes } of rig.subject.pci.regions) {
          const bytes = await host.read(index, 0, Math.min(16, sizeBytes));
          ok(bytes.every((byte) => byte === 0xff), `region ${index} of a closed device reads as all ones, not ${[...bytes].join(' ')}`);
          await host.write(index, 0, new Uint8Array(Math.min(4, sizeBytes)));
        }
        await within('a reset', host.reset());
        await within('a change of memory', host.unmap());
        await within('the departure', host.disconnect());
        const error = await thrownBy('another consumer', () => host.connect());
        ok(error instanceof Error && 'errno' in error, `it is turned away with a typed error, not ${String(error)}`);
        await quietTurns();
      }),
    },
  ];
}
