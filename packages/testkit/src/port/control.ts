/** The port suite's cases of the control half: states, limits, link, what is left behind. */
import { equal, ok } from 'node:assert/strict';
import { FRAME_TX_MASK, type LinkStatus, type Port, type PortConfig } from '@emudev/ethdev';
import { expectNoLeaks } from '../leaks.ts';
import { quietTurns, refuses, same, type ConformanceCase } from '../suite.ts';
import type { PortCase } from './rig.ts';

const STATE = 'ERR_ETHDEV_STATE';
const CONFIG = 'ERR_ETHDEV_CONFIG';

const one: PortConfig = { rxQueues: 1, txQueues: 1, peerTxCapabilities: 0 };
const infoOf = ({ info }: Port): object => ({ ...info, mac: info.mac === undefined ? undefined : [...info.mac] });

export function controlCases(withPort: PortCase): readonly ConformanceCase[] {
  return [
    {
      id: 'port.info',
      title: 'says its name, its driver, and limits that make sense',
      run: () => withPort(({ port }) => {
        const { info } = port;
        equal(port.name, 'net_conformance0', 'has the name it was given');
        equal(info.name, port.name, 'info.name is name');
        ok(/^[a-z][a-z0-9_]*$/.test(info.driver), `info.driver is a driver's name, not '${info.driver}'`);
        for (const [what, value, least] of [['maxRxQueues', info.maxRxQueues, 1], ['maxTxQueues', info.maxTxQueues, 1], ['maxFrameBytes', info.maxFrameBytes, 60]] as const) {
          ok(Number.isInteger(value) && value >= least, `info.${what} is an integer of at least ${least}, not ${value}`);
        }
        equal((info.txCapabilities & ~FRAME_TX_MASK) >>> 0, 0, 'info.txCapabilities has bits of FRAME_TX_MASK only');
        if (info.mac !== undefined) {
          equal(info.mac.length, 6, 'info.mac has six bytes');
          equal(info.mac[0]! & 1, 0, 'info.mac is the address of a station, no group');
        }
      }),
    },
    {
      id: 'port.info-stable',
      title: 'says the same all its life',
      run: () => withPort(async (rig) => {
        const { port } = rig;
        const before = infoOf(port);
        await rig.configure();
        same('info after configure', infoOf(port), before);
        await port.start();
        same('info after start', infoOf(port), before);
        await port.stop();
        await port.close();
        same('info after close', infoOf(port), before);
      }),
    },
    {
      id: 'port.state-new',
      title: 'cannot start before it is configured; stop is harmless',
      run: () => withPort(async ({ port }) => {
        await refuses('start before configure', STATE, () => port.start());
        await port.stop();
        await port.configure(one);
      }),
    },
    {
      id: 'port.state-configured',
      title: 'may be configured again; stop is harmless',
      run: () => withPort(async (rig) => {
        await rig.configure();
        await rig.port.stop();
        await rig.port.configure(one);
        await rig.port.start();
      }),
    },
    {
      id: 'port.state-started',
      title: 'cannot be configured while it runs; a second start is harmless',
      run: () => withPort(async ({ port }) => {
        await port.configure(one);
        await port.start();
        await port.start();
        await refuses('configure while started', STATE, () => port.configure(one));
        await port.stop();
        await port.configure(one);
      }),
    },
    {
      id: 'port.state-closed',
      title: 'is of no use once closed; stop is harmless',
      run: () => withPort(async ({ port }) => {
        await port.configure(one);
        await port.close();
        await refuses('configure after close', STATE, () => port.configure(one));
        await refuses('start after close', STATE, () => port.start());
        await port.stop();
      }),
    },
    {
      id: 'port.close-twice',
      title: 'closes once, in every state, however often it is asked',
      run: async () => {
        const ways: ((port: Port) => Promise<void>)[] = [
          () => Promise.resolve(),
          (port) => port.configure(one),
          (port) => port.configure(one).then(() => port.start()),
        ];
        for (const way of ways) {
          await withPort(async ({ port }) => {
            await way(port);
            await Promise.all([port.close(), port.close()]);
            await port.close();
          });
        }
      },
    },
    {
      id: 'port.configure-limits',
      title: 'refuses queue counts it has not, and stays as it was',
      run: () => withPort(async ({ port }) => {
        const { maxRxQueues, maxTxQueues } = port.info;
        const wrong = (max: number): number[] => [0, -1, max + 1, 0.5, Number.NaN, Number.POSITIVE_INFINITY];
        for (const rxQueues of wrong(maxRxQueues)) await refuses(`configure with ${rxQueues} Rx queues`, CONFIG, () => port.configure({ ...one, rxQueues }));
        for (const txQueues of wrong(maxTxQueues)) await refuses(`configure with ${txQueues} Tx queues`, CONFIG, () => port.configure({ ...one, txQueues }));
        await refuses('start after a refused configure', STATE, () => port.start());
        await port.configure({ rxQueues: maxRxQueues, txQueues: maxTxQueues, peerTxCapabilities: 0 });
        await refuses('configure beyond the limit', CONFIG, () => port.configure({ ...one, rxQueues: maxRxQueues + 1 }));
        await port.start();
      }),
    },
    {
      id: 'port.link',
      title: 'is down unless it is started; observers hear of every change and of nothing else',
      run: () => withPort(async ({ port }) => {
        const seen: LinkStatus[] = [];
        const gone: LinkStatus[] = [];
        using _observer = port.onLink((link) => { seen.push(link); });
        const observer = port.onLink((link) => { gone.push(link); });
        equal(port.link().up, false, 'the link is down before configure');
        await port.configure(one);
        equal(port.link().up, false, 'the link is down before start');
        equal(seen.length, 0, 'no change is told before start');
        for (let round = 0; round < 2; round++) {
          await port.start();
          const whileStarted = port.link();
          ok(whileStarted.speedMbps >= 0 && (!whileStarted.up || whileStarted.speedMbps > 0), `a link that is up has a speed, not ${whileStarted.speedMbps} Mb/s`);
          await port.stop();
          equal(port.link().up, false, 'the link is down after stop');
          observer[Symbol.dispose]();
          observer[Symbol.dispose]();
          if (round === 0) same('what an observer heard before it was disposed of', gone, [...seen]);
          else ok(gone.length <= seen.length / 2, 'an observer that was disposed of hears nothing more');
          // Up and down by turns, beginning with up and ending with down.
          same('the changes told', seen.map(({ up }) => up), seen.map((_, i) => i % 2 === 0));
          equal(seen.length % 2, 0, 'every link that came up has gone down');
        }
        if (seen.length > 0) equal(gone.length, seen.length / 2, 'an observer hears of changes until it is disposed of');
      }),
    },
    {
      id: 'port.link-after-close',
      title: 'goes down when it is closed, and tells nobody anything afterwards',
      run: () => withPort(async ({ port }) => {
        await port.configure(one);
        await port.start();
        const seen: boolean[] = [];
        let closed = false;
        let late = 0;
        port.onLink(({ up }) => {
          seen.push(up);
          if (closed) late++;
        });
        const wasUp = port.link().up;
        await port.close();
        closed = true;
        same('what was told during close', seen, wasUp ? [false] : []);
        equal(port.link().up, false, 'the link is down after close');
        await quietTurns();
        equal(late, 0, 'nothing is told after close');
      }),
    },
    {
      id: 'port.leaks',
      title: 'gives everything back, whichever state it is closed in',
      run: async () => {
        // What is opened once per process is opened now.
        const live = (stage: number): Promise<void> => withPort(async (rig) => {
          if (stage > 0) await rig.configure();
          if (stage > 1) await rig.port.start();
          if (stage > 2) (await rig.bench.load(rig.port)).close?.();
          if (stage > 3) await rig.port.stop();
        });
        await live(4);
        await expectNoLeaks(async () => {
          for (let round = 0; round < 3; round++) for (const stage of [0, 1, 2, 3, 4]) await live(stage);
        });
      },
    },
  ];
}
