/** Whatever happens on a bus, and in whichever order: every device is open once, every handle is let go of once, nothing stays. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatAddress, parseAddress, PciBus } from '../src/index.ts';
import type { BusDevice, PciDriver } from '../src/index.ts';
import { ScriptedSource } from './scripted.ts';
import type { ScriptedTransport } from './scripted.ts';

const NAMES = ['0000:01:00.0', '0000:01:00.1', '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001'] as const;

type Act = 'appear' | 'vanish' | 'scan' | 'probe' | 'plug' | 'unplug' | 'go' | 'want-back' | 'unregister' | 'register';
const ACTS: readonly Act[] = ['appear', 'vanish', 'scan', 'probe', 'plug', 'unplug', 'go', 'want-back', 'unregister', 'register'];
const step = fc.record({
  act: fc.constantFrom(...ACTS), device: fc.nat(NAMES.length - 1), driver: fc.nat(1),
  /** Whether the next step waits for this one. */
  waits: fc.boolean(),
});
/** How a driver answers, one probe after the other. */
const answers = fc.array(fc.constantFrom('take', 'take', 'not-mine', 'throw', 'late', 'device-goes'), { minLength: 1, maxLength: 6 });

test('devices, drivers and handles come and go in pairs', async () => {
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 25 }), answers, async (steps, script) => {
    const kernel = new ScriptedSource();
    const bus = new PciBus().addSource(kernel);
    const taken = new Set<object>();
    const removed = new Set<object>();
    let probes = 0;
    const driverOf = (n: number): PciDriver<object> => ({
      name: `driver${n}`, ids: [{}],
      probe: async (device: BusDevice) => {
        const answer = script[probes++ % script.length]!;
        await device.dma.map({ iova: 0n, sizeBytes: 4096, readable: true, writable: true, fd: -1, fdOffset: 0, address: 0n });
        if (answer === 'not-mine') return 'not-mine';
        if (answer === 'throw') throw new Error('as the script says');
        if (answer === 'late') await new Promise(setImmediate);
        if (answer === 'device-goes') openOf(device)?.goAway();
        const handle = {};
        taken.add(handle);
        return handle;
      },
      remove: async (handle) => {
        expect(taken.has(handle) && !removed.has(handle)).toBe(true);
        removed.add(handle);
        await new Promise(setImmediate);
      },
    });
    const openOf = ({ address }: Pick<BusDevice, 'address'>): ScriptedTransport | undefined => kernel.stillOpen.find((each) => formatAddress(each.address) === formatAddress(address));
    const acts: Readonly<Record<Act, (name: string, driver: number) => unknown>> = {
      'appear': (name) => kernel.add(name),
      'vanish': (name) => { kernel.remove(name); },
      'scan': () => bus.scan(),
      'probe': () => bus.probe(),
      'plug': (name) => bus.plug(name),
      'unplug': (name) => bus.unplug(parseAddress(name)),
      'go': (name) => openOf({ address: parseAddress(name) })?.goAway(),
      'want-back': (name) => openOf({ address: parseAddress(name) })?.wantBack(),
      'unregister': (_name, driver) => bus.unregister(`driver${driver}`),
      'register': (_name, driver) => bus.register(driverOf(driver)),
    };
    bus.register(driverOf(0));
    for (const name of NAMES) kernel.add(name);
    const running: Promise<unknown>[] = [];
    const refusals: unknown[] = [];
    for (const { act, device, driver, waits } of steps) {
      const done = (async () => acts[act](NAMES[device]!, driver))().catch((error: unknown) => { refusals.push(error); });
      running.push(done);
      if (waits) await done;
      // Never two of a kind open, whatever goes on.
      const names = kernel.stillOpen.map(({ address }) => formatAddress(address));
      expect(new Set(names).size).toBe(names.length);
    }
    await Promise.all(running);
    // Late handles and devices that have gone are dealt with by themselves.
    for (let i = 0; i < 8; i++) await new Promise(setImmediate);
    const driven = bus.devices.filter(({ state }) => state === 'driven');
    expect(driven.map(({ handle }) => handle)).toEqual([...taken].filter((handle) => !removed.has(handle)).sort((a, b) => driven.findIndex(({ handle }) => handle === a) - driven.findIndex(({ handle }) => handle === b)));
    expect(kernel.stillOpen).toHaveLength(driven.length);
    expect(bus.devices.filter(({ state }) => state === 'probing' || state === 'removing')).toEqual([]);
    // A device is opened when the one before it is closed, so none is ever found busy.
    for (const error of [...refusals, ...bus.devices.map((entry) => entry.error)]) if (error !== undefined) expect(error).toMatchObject({ code: expect.stringMatching(/^ERR_BUS_(STATE|GONE|PROBE)$/) as string });
    await bus[Symbol.asyncDispose]();
    await new Promise(setImmediate);
    expect([kernel.stillOpen.length, taken.size]).toEqual([0, removed.size]);
  }), { numRuns: 300 });
});
