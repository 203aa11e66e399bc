/** The port suite can fail: every defect here is caught by the cases that are about it, and by no others. */
import { describe, expect, test } from 'vitest';
import { linux } from '@emudev/linux';
import type { DatapathSpec, LinkStatus, PortConfig, PortInfo, PortStats } from '@emudev/ethdev';
import { portConformance, ScriptedPort, type ConformanceCase } from '@emudev/testkit';
import { failures } from './support/failures.ts';
import type { DatapathDefect } from './support/mutant-datapath.ts';

type PortClass = new (name: string) => ScriptedPort;

function suite(make: PortClass): readonly ConformanceCase[] {
  return portConformance((name) => {
    const port = new make(name);
    let delivered = 0;
    return { port, supply: (frames) => { port.feed(frames); }, delivered: () => (delivered += port.sent().length) };
  });
}

function withDatapath(defect: DatapathDefect): PortClass {
  return class extends ScriptedPort {
    override datapath(): DatapathSpec {
      const { module, init } = super.datapath();
      return { module: new URL('./support/mutant-datapath.ts', import.meta.url).href, init: { good: module, init, defect } };
    }
  };
}

/** Loses its class on the way to another thread. */
class Cells {
  readonly kind: string = 'cells';
}

const leaked: number[] = [];
const ZERO: PortStats = { ipackets: 0n, opackets: 0n, ibytes: 0n, obytes: 0n, imissed: 0n, ierrors: 0n, oerrors: 0n, rxNombuf: 0n };

interface Mutant {
  readonly defect: string;
  readonly make: PortClass;
  readonly caughtBy: readonly string[];
}

const MUTANTS: readonly Mutant[] = [
  { defect: 'starts unconfigured', make: class extends ScriptedPort { override async start() { if (this.config === undefined) return; await super.start(); } }, caughtBy: ['port.configure-limits', 'port.state-new'] },
  { defect: 'can be configured while it runs', make: class extends ScriptedPort { override async configure(config: PortConfig) { if (!this.started) await super.configure(config); } }, caughtBy: ['port.state-started'] },
  { defect: 'a second start is an error', make: class extends ScriptedPort { override async start() { if (this.started) throw new Error('runs'); await super.start(); } }, caughtBy: ['port.state-started'] },
  {
    defect: 'can be configured when it is closed',
    make: class extends ScriptedPort {
      #closed = false;
      override async configure(config: PortConfig) { if (!this.#closed) await super.configure(config); }
      override async close() { this.#closed = true; await super.close(); }
    },
    caughtBy: ['port.state-closed'],
  },
  { defect: 'takes any number of Rx queues', make: class extends ScriptedPort { override configure(config: PortConfig) { return super.configure({ ...config, rxQueues: 1 }); } }, caughtBy: ['port.configure-limits'] },
  { defect: 'a second close is an error', make: class extends ScriptedPort { #closed = false; override async close() { if (this.#closed) throw new Error('closed'); this.#closed = true; await super.close(); } }, caughtBy: ['port.close-twice'] },
  { defect: 'close keeps a descriptor', make: class extends ScriptedPort { protected override onClose() { leaked.push(linux.eventfd()); } }, caughtBy: ['port.leaks'] },
  { defect: 'start keeps window memory', make: class extends ScriptedPort { protected override onStart() { this.window.alloc(64); } }, caughtBy: ['port.leaks'] },
  { defect: 'its limits change when it starts', make: class extends ScriptedPort { protected override onStart() { (this.info as { maxFrameBytes: number }).maxFrameBytes = 1500; } }, caughtBy: ['port.info-stable'] },
  { defect: 'its address is a group\'s', make: class extends ScriptedPort { override readonly info: PortInfo = { ...infoOf(this), mac: Uint8Array.of(1, 0, 0, 0, 0, 1) }; }, caughtBy: ['port.info'] },
  { defect: 'the link stays up', make: class extends ScriptedPort { #was = false; override link(): LinkStatus { const link = super.link(); this.#was ||= link.up; return { up: this.#was, speedMbps: 1 }; } }, caughtBy: ['port.link', 'port.link-after-close'] },
  { defect: 'a change of the link is told twice', make: class extends ScriptedPort { override onLink(observer: (link: LinkStatus) => void) { return super.onLink((link) => { observer(link); observer(link); }); } }, caughtBy: ['port.link', 'port.link-after-close'] },
  { defect: 'an observer cannot leave', make: class extends ScriptedPort { override onLink(observer: (link: LinkStatus) => void) { super.onLink(observer); return { [Symbol.dispose]() {} }; } }, caughtBy: ['port.link'] },
  { defect: 'its data path\'s init is no plain data', make: class extends ScriptedPort { override datapath(): DatapathSpec { const { module, init } = super.datapath(); return { module, init: Object.assign(new Cells(), init) }; } }, caughtBy: ['port.datapath-plain'] },
  { defect: 'counters begin anew when it stops', make: class extends ScriptedPort { protected override onStop() { this.resetStats(); } }, caughtBy: ['port.restart'] },
  { defect: 'resetStats does nothing', make: class extends ScriptedPort { override resetStats() {} }, caughtBy: ['port.reset-stats'] },
  { defect: 'resetStats stops counting', make: class extends ScriptedPort { #stopped = false; override resetStats() { super.resetStats(); this.#stopped = true; } override stats() { return this.#stopped ? ZERO : super.stats(); } }, caughtBy: ['port.reset-stats'] },
  { defect: 'its extended statistics lack a name', make: class extends ScriptedPort { override xstats() { const all = new Map(super.xstats()); all.delete('rx_errors'); return all; } }, caughtBy: ['port.reset-stats', 'port.xstats'] },
  { defect: 'an extended statistic has a name with blanks', make: class extends ScriptedPort { override xstats() { return new Map([...super.xstats(), ['Frames seen', 1n] as const]); } }, caughtBy: ['port.xstats'] },
  { defect: 'a frame of a full burst is lost unseen', make: withDatapath('drops'), caughtBy: ['port.conservation'] },
  { defect: 'a frame is counted twice', make: withDatapath('counts-twice'), caughtBy: ['port.tx-counted'] },
  { defect: 'hands out more than asked', make: withDatapath('too-many'), caughtBy: ['port.burst-limits'] },
  { defect: 'a frame too long blocks the queue', make: withDatapath('blocks'), caughtBy: ['port.oversize'] },
  { defect: 'records name another queue', make: withDatapath('wrong-queue'), caughtBy: ['port.rx-counted'] },
  { defect: 'counts the check sequence too', make: withDatapath('wrong-bytes'), caughtBy: ['port.rx-counted'] },
  { defect: 'throws on short frames', make: withDatapath('throws-on-runts'), caughtBy: ['port.runts'] },
  { defect: 'does not run in another thread', make: withDatapath('not-in-workers'), caughtBy: ['port.worker'] },
];

function infoOf(port: ScriptedPort): Omit<PortInfo, 'mac'> {
  return { name: port.name, driver: 'net_scripted', maxRxQueues: 1, maxTxQueues: 1, txCapabilities: 0, maxFrameBytes: 9728 };
}

test('the good one passes all', async () => {
  expect(await failures(suite(ScriptedPort))).toEqual({});
});

describe('is caught:', () => {
  test.each(MUTANTS)('$defect', async ({ make, caughtBy }) => {
    const failed = await failures(suite(make));
    for (const fd of leaked.splice(0)) linux.close(fd);
    expect(Object.keys(failed).sort(), JSON.stringify(failed, undefined, 1)).toEqual([...caughtBy].sort());
  });
});
