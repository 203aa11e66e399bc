/** The README's table of every call, run: call × state × consumer, and every further error. And its table for readers of rte_emudev. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as emudevPackage from '../src/index.ts';
import { attribute, attrKey, channelKey, EmudevRegistry, eventsKey, integerAttr, regionKey, type ConsumerState, type Emudev, type EmudevProvider, type EmudevState, type ProviderPort } from '../src/index.ts';
import { FakeClock } from './fake-clock.ts';
import { CONTRACT, PAGE, TALK, toyProvider } from './fakes.ts';

const STATES = ['allocated', 'configured', 'started', 'stopped', 'closed'] as const satisfies readonly EmudevState[];
const CONSUMERS = ['absent', 'connected', 'ready'] as const satisfies readonly ConsumerState[];
const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

/** The rows of the table under a heading, cells trimmed. */
function rows(heading: string): string[][] {
  const section = readme.split(/^## /m).find((part) => part.startsWith(heading)) ?? '';
  return section.split('\n').filter((line) => line.startsWith('|')).slice(2).map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()));
}

const LEVEL = attrKey('level', integerAttr({ min: 0, max: 9 }));
const provider = (): EmudevProvider => toyProvider({
  attributes: new Map([
    attribute(LEVEL, { get: () => 1, set: () => {} }),
    attribute(attrKey('fixed', integerAttr({ min: 0, max: 9 })), { get: () => 1 }),
    attribute(attrKey<number>('opaque'), { get: () => 1, set: () => {} }),
  ]),
  regionNames: () => ['page'],
  events: (name) => (name === 'log' ? { offset: 64, sizeBytes: 320, fd: 3 } : undefined),
  selfTest: () => [],
  familyReset: () => {},
});
const HOOKS = { lock: () => Promise.resolve(), unlock: () => {} };
const never = (): Promise<never> => new Promise(() => {});

class Bench {
  readonly clock = new FakeClock();
  readonly registry = new EmudevRegistry({ clock: this.clock });
  readonly port: ProviderPort;
  readonly emudev: Emudev;

  constructor(overrides: Partial<EmudevProvider> = {}) {
    this.port = this.registry.allocate('emu_a', { ...provider(), ...overrides });
    this.emudev = this.port.device;
  }

  static async in(state: EmudevState, consumer: ConsumerState): Promise<Bench> {
    const bench = new Bench();
    const { port, emudev } = bench;
    if (consumer !== 'absent') port.connected();
    if (consumer === 'ready') await port.ready();
    if (state !== 'allocated') await emudev.configure({});
    if (state === 'started' || state === 'stopped' || state === 'closed') await emudev.start();
    if (state === 'stopped') await emudev.stop();
    if (state === 'closed') await emudev.close();
    expect([emudev.state, emudev.consumer]).toEqual([state, state === 'closed' ? 'absent' : consumer]);
    return bench;
  }

  /** Lets deadlines pass until `work` is settled. */
  async overdue(work: Promise<unknown>): Promise<unknown> {
    let waiting = true;
    const done = work.finally(() => { waiting = false; });
    done.catch(() => {});
    for (let i = 0; waiting && i < 20; i++) {
      await new Promise((resolve) => { setImmediate(resolve); });
      this.clock.pass(10_000);
    }
    return await done;
  }
}

/** How each call is made. */
const CALLS: Readonly<Record<string, (bench: Bench) => unknown>> = {
  'registry.allocate': ({ registry }) => registry.allocate('emu_a', provider()),
  'registry.release': ({ registry }) => { registry.release('emu_a'); },
  'registry.byName': ({ registry, emudev }) => { expect(registry.byName('emu_a')).toBe(emudev); },
  'registry.byId': ({ registry, emudev }) => { expect(registry.byId(emudev.info.id)).toBe(emudev); },
  'registry.list': ({ registry, emudev }) => { expect(registry.list()).toEqual([emudev]); },
  'emudev.configure': ({ emudev }) => emudev.configure({ queuePairs: 1 }),
  'emudev.start': ({ emudev }) => emudev.start(),
  'emudev.stop': ({ emudev }) => emudev.stop(),
  'emudev.close': ({ emudev }) => emudev.close(),
  'emudev.selfTest': async ({ emudev }) => { expect(await emudev.selfTest()).toEqual({ passed: true, checks: [] }); },
  'emudev.reset': ({ emudev }) => emudev.reset(),
  'emudev.attach': ({ emudev }) => emudev.attach(HOOKS, CONTRACT),
  'emudev.on': ({ emudev }) => { emudev.on('ready', () => {})[Symbol.dispose](); },
  'emudev.info': ({ emudev }) => { expect(emudev.info.name).toBe('emu_a'); },
  'emudev.state': ({ emudev }) => { expect(STATES).toContain(emudev.state); },
  'emudev.consumer': ({ emudev }) => { expect(CONSUMERS).toContain(emudev.consumer); },
  'emudev.memTable': ({ emudev }) => emudev.memTable(),
  'emudev.queueInfo': ({ emudev }) => emudev.queueInfo(0),
  'emudev.irqInfo': ({ emudev }) => emudev.irqInfo(0),
  'emudev.doorbell': ({ emudev }) => emudev.doorbell(0),
  'emudev.attrNames': ({ emudev }) => { expect(emudev.attrNames()).toEqual(['level', 'fixed', 'opaque']); },
  'emudev.getAttr': ({ emudev }) => emudev.getAttr(LEVEL),
  'emudev.setAttr': ({ emudev }) => { emudev.setAttr(LEVEL, 2); },
  'emudev.getAttrText': ({ emudev }) => emudev.getAttrText('level'),
  'emudev.setAttrText': ({ emudev }) => { emudev.setAttrText('level', '2'); },
  'emudev.regionNames': ({ emudev }) => { expect(emudev.regionNames()).toEqual(['page']); },
  'emudev.mapRegion': ({ emudev }) => emudev.mapRegion(PAGE),
  'emudev.channel': ({ emudev }) => emudev.channel(TALK),
  'emudev.events': ({ emudev }) => emudev.events(eventsKey('log')),
  'port.device': ({ port, emudev }) => { expect(port.device).toBe(emudev); },
  'port.connected': ({ port }) => { port.connected(); },
  'port.ready': ({ port }) => port.ready(),
  'port.destroyed': ({ port }) => port.destroyed('gone'),
  'port.updated': ({ port }) => { port.updated({ dma: true, irqs: false }); },
  'port.reset': ({ port }) => port.reset('function'),
  'port.queueChanged': ({ port }) => port.queueChanged(0, 'start'),
  'port.doorbellChanged': ({ port }) => port.doorbellChanged(0),
  'port.lock': ({ port }) => port.lock('dma'),
  'port.unlock': ({ port }) => { port.unlock(); },
  'port.suspend': ({ port }) => port.suspend('bus'),
  'port.resume': ({ port }) => port.resume(),
  'port.attributeChanged': ({ port }) => { port.attributeChanged('level'); },
  'port.error': ({ port }) => { port.error(new Error('x')); },
};

/** What makes each further error of each call happen, in a state where the call is allowed. */
const FURTHER: Readonly<Record<string, Readonly<Record<string, () => unknown>>>> = {
  'registry.allocate': {
    EMUDEV_BAD_ARG: () => new EmudevRegistry().allocate('a b', provider()),
    EMUDEV_RANGE: () => {
      const registry = new EmudevRegistry();
      for (let i = 0; i <= emudevPackage.MAX_DEVICES; i++) registry.allocate(`emu_${i}`, provider());
    },
  },
  'registry.release': { EMUDEV_NOENT: () => { new EmudevRegistry().release('emu_a'); } },
  'emudev.configure': { EMUDEV_BAD_ARG: () => new Bench().emudev.configure({ queuePairs: 0 }) },
  'emudev.start': {
    EMUDEV_TIMEOUT: async () => {
      const bench = await Bench.in('configured', 'absent');
      bench.emudev.attach({ ...HOOKS, start: never }, CONTRACT);
      await bench.overdue(bench.emudev.start());
    },
  },
  'emudev.stop': {
    EMUDEV_TIMEOUT: async () => {
      const bench = await Bench.in('started', 'absent');
      bench.emudev.attach({ ...HOOKS, stop: never }, CONTRACT);
      await bench.overdue(bench.emudev.stop());
    },
  },
  'emudev.close': {
    EMUDEV_TIMEOUT: async () => {
      const bench = await Bench.in('started', 'absent');
      bench.emudev.attach({ ...HOOKS, stop: never }, CONTRACT);
      await bench.overdue(bench.emudev.close()).finally(() => { expect(bench.emudev.state).toBe('closed'); });
    },
  },
  'emudev.selfTest': {
    EMUDEV_UNSUPPORTED: () => {
      const { selfTest: _none, ...without } = provider();
      return new EmudevRegistry().allocate('emu_a', without).device.selfTest();
    },
    EMUDEV_BAD_STATE: () => new Bench({ selfTest: () => { throw new emudevPackage.EmudevError('EMUDEV_BAD_STATE', 'a consumer is there'); } }).emudev.selfTest(),
  },
  'emudev.reset': {
    EMUDEV_UNSUPPORTED: () => {
      const { familyReset: _none, ...without } = provider();
      return new EmudevRegistry().allocate('emu_a', without).device.reset();
    },
  },
  'emudev.attach': {
    EMUDEV_BAD_ARG: () => new Bench().emudev.attach(HOOKS, { devType: 'toy', version: 9 }),
    EMUDEV_EXISTS: () => {
      const { emudev } = new Bench();
      emudev.attach(HOOKS, CONTRACT);
      emudev.attach(HOOKS, CONTRACT);
    },
  },
  'emudev.queueInfo': { EMUDEV_RANGE: async () => (await Bench.in('started', 'ready')).emudev.queueInfo(9) },
  'emudev.irqInfo': { EMUDEV_RANGE: async () => (await Bench.in('started', 'ready')).emudev.irqInfo(9) },
  'emudev.doorbell': { EMUDEV_RANGE: async () => (await Bench.in('started', 'ready')).emudev.doorbell(9) },
  'emudev.getAttr': { EMUDEV_NO_ATTR: () => new Bench().emudev.getAttr(attrKey('mood')) },
  'emudev.setAttr': {
    EMUDEV_NO_ATTR: () => { new Bench().emudev.setAttr(attrKey('mood'), 1); },
    EMUDEV_UNSUPPORTED: () => { new Bench().emudev.setAttr(attrKey('fixed'), 1); },
    EMUDEV_BAD_ARG: () => { new Bench().emudev.setAttr(LEVEL, 10); },
  },
  'emudev.getAttrText': {
    EMUDEV_NO_ATTR: () => new Bench().emudev.getAttrText('mood'),
    EMUDEV_UNSUPPORTED: () => new Bench().emudev.getAttrText('opaque'),
  },
  'emudev.setAttrText': {
    EMUDEV_NO_ATTR: () => { new Bench().emudev.setAttrText('mood', '1'); },
    EMUDEV_UNSUPPORTED: () => { new Bench().emudev.setAttrText('fixed', '1'); },
    EMUDEV_BAD_ARG: () => { new Bench().emudev.setAttrText('level', 'x'); },
  },
  'emudev.mapRegion': {
    EMUDEV_NO_REGION: () => new Bench().emudev.mapRegion(regionKey('cellar')),
    EMUDEV_RANGE: () => new Bench().emudev.mapRegion(PAGE, 4097),
  },
  'emudev.channel': { EMUDEV_NO_CHANNEL: () => new Bench().emudev.channel(channelKey('whisper')) },
  'emudev.events': { EMUDEV_NO_CHANNEL: () => new Bench().emudev.events(eventsKey('whisper')) },
  ...Object.fromEntries((['lock', 'suspend'] as const).map((call) => [`port.${call}`, {
    EMUDEV_TIMEOUT: async () => {
      const bench = new Bench();
      bench.emudev.attach({ ...HOOKS, lock: never }, CONTRACT);
      await bench.overdue(bench.port[call]('dma'));
    },
  }])),
};

async function outcome(call: () => unknown): Promise<string> {
  try {
    await call();
    return 'ok';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

const table = rows('Every call').map(([call = '', ...cells]) => ({ call: call.replaceAll('`', ''), states: cells.slice(0, STATES.length), notReady: cells[5]!, further: cells[6]!.split(',').map((code) => code.trim()).filter((code) => code !== '') }));

describe('the table of every call', () => {
  it('has a row for every call there is, and no other', () => {
    const { registry, port, emudev } = new Bench();
    const own = (object: object): string[] => Object.getOwnPropertyNames(object);
    const calls = [
      ...own(Object.getPrototypeOf(registry) as object).map((name) => `registry.${name}`),
      ...[...own(Object.getPrototypeOf(emudev) as object), ...own(emudev)].filter((name) => name !== 'port').map((name) => `emudev.${name}`),
      ...own(port).map((name) => `port.${name}`),
    ].filter((name) => !name.endsWith('.constructor'));
    expect(table.map((row) => row.call).toSorted()).toEqual(calls.toSorted());
  });

  it.each(table)('$call does in every state what its row says', async ({ call, states, notReady }) => {
    for (const [index, state] of STATES.entries()) {
      for (const consumer of CONSUMERS) {
        const cell = states[index]!;
        const allowed = cell === 'ok' || cell.startsWith('→');
        const wanted = !allowed ? cell : consumer === 'ready' || notReady === 'ok' ? 'ok' : notReady;
        const bench = await Bench.in(state, consumer);
        expect([state, consumer, await outcome(() => CALLS[call]!(bench))]).toEqual([state, consumer, wanted]);
        expect([state, bench.emudev.state]).toEqual([state, cell.startsWith('→') ? cell.slice(2) : state]);
        if (state === 'closed') expect(bench.emudev.consumer).toBe('absent');
      }
    }
  });

  it.each(table)('$call has the further errors of its row, each of which can be had', async ({ call, further }) => {
    const known = FURTHER[call] ?? {};
    expect(further.toSorted()).toEqual(Object.keys(known).toSorted());
    for (const code of further) expect(await outcome(known[code]!)).toBe(code);
  });
});

describe('the table for readers of rte_emudev', () => {
  it('names only what there is', () => {
    const { registry, port, emudev } = new Bench();
    const ours = rows('For readers of rte_emudev').flatMap(([, here = '']) => [...here.matchAll(/`([^`]+)`/g)].map((match) => match[1]!));
    expect(ours.length).toBeGreaterThan(25);
    const source = readFileSync(new URL('../src/device.ts', import.meta.url), 'utf8');
    for (const name of ours) {
      const [object, member = ''] = name.split('.');
      const there = object === 'registry' ? member in registry : object === 'emudev' ? member in emudev : object === 'port' ? member in port : name in emudevPackage || source.includes(`export interface ${name} `);
      expect([name, there]).toEqual([name, true]);
    }
  });
});
