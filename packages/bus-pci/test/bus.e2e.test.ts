/** A bus, a driver, and cards in processes of their own, which come, die and come again. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Window } from '@emudev/dma';
import { countMappings, countOpenFds } from '@emudev/linux';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
// As users do: the built package.
import { BUS_CHANNEL, PciBus, Selection, VfioUserSource } from '@emudev/bus-pci';
import type { BusDevice, BusDmaBuffer, BusEvent, PciDriver } from '@emudev/bus-pci';
import { CARD_IDS, DIE, ECHO_HIGH, ECHO_LOW, PAGE, RAISE, SCRATCH } from './card.ts';

const folder = mkdtempSync(join(tmpdir(), 'bus-pci-'));
const window = Window.open();
const processes = new Set<ChildProcess>();
afterAll(() => {
  for (const child of processes) child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

const held = (): readonly number[] => [countOpenFds(), countMappings('memfd:'), window.mappingCount, window.allocatedBytes];

async function startCard(path: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, ['--no-warnings', new URL('card-main.ts', import.meta.url).pathname, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  processes.add(child);
  child.on('exit', () => processes.delete(child));
  await once(child.stdout!, 'data');
  // Descriptors are counted: it has nothing more to say.
  child.stdout!.destroy();
  await once(child.stdout!, 'close');
  return child;
}

/** What has to happen with a card for it to be a card. */
interface CardHandle {
  readonly device: BusDevice;
  readonly buffer: BusDmaBuffer;
  work(): Promise<void>;
}

const cardDriver: PciDriver<CardHandle> = {
  name: 'card', ids: [{ vendor: CARD_IDS.vendor, device: CARD_IDS.device }],
  async probe(device, args) {
    const bar = await device.bar(0);
    bar.requireDirect([{ offset: PAGE, length: 4096 }]);
    await device.setBusMaster(true);
    const buffer = await device.dma.allocate(128);
    let raised = Promise.withResolvers<number>();
    await device.interrupts.onInterrupt(2, [0, 1, 2, 3], ({ vector }) => { raised.resolve(vector); });
    await bar.write32(SCRATCH, Number(args.find(([key]) => key === 'scratch')?.[1] ?? 0));
    const page = bar.direct(PAGE, 4096)!;
    return { device, buffer, work: async () => {
      buffer.bytes.fill(7, 0, 64);
      await bar.write32(ECHO_LOW, Number(buffer.iova & 0xffff_ffffn));
      await bar.write32(ECHO_HIGH, Number(buffer.iova >> 32n));
      expect([...buffer.bytes.subarray(64)]).toEqual(Array(64).fill(8));
      raised = Promise.withResolvers();
      await bar.write32(RAISE, 2);
      expect(await raised.promise).toBe(2);
      page.write32(PAGE + 8, 0x1234_5678);
      const byMessage = new Uint8Array(4);
      await device.read(0, PAGE + 8, byMessage);
      expect(new DataView(byMessage.buffer).getUint32(0, true)).toBe(0x1234_5678);
    } };
  },
  // The device's end is the end of all this.
  remove: async () => {},
};

let events: string[] = [];
let told = Promise.withResolvers<undefined>();
const record = (event: unknown): void => {
  events.push((event as BusEvent).type);
  told.resolve(undefined);
};
const until = async (type: BusEvent['type'], times = 1): Promise<void> => {
  while (events.filter((each) => each === type).length < times) {
    await told.promise;
    told = Promise.withResolvers();
  }
};
beforeEach(() => {
  events = [];
  subscribe(BUS_CHANNEL, record);
});
afterEach(() => { unsubscribe(BUS_CHANNEL, record); });

test('a driver works with a card over vfio-user, and leaves nothing behind', async () => {
  const path = join(folder, 'card.sock');
  await startCard(path);
  const before = held();
  for (let i = 0; i < 20; i++) {
    await using bus = new PciBus({ selection: Selection.parse({ allow: [`${path},scratch=${i}`] }) }).addSource(new VfioUserSource()).register(cardDriver);
    const { driven: [entry], failed } = await bus.probe();
    expect(failed).toEqual([]);
    const card = entry!.handle as CardHandle;
    await card.work();
    expect(await (await card.device.bar(0)).read32(SCRATCH)).toBe(i);
  }
  expect(held()).toEqual(before);
});

test('a card that is killed is unplugged, and plugged when it comes again', async () => {
  const path = join(folder, 'again.sock');
  const first = await startCard(path);
  const before = held();
  {
    await using bus = new PciBus({ selection: Selection.parse({ allow: [path] }) }).addSource(new VfioUserSource()).register(cardDriver);
    using _ = bus.watch();
    await until('driven');
    first.kill('SIGKILL');
    await until('undriven');
    await startCard(path);
    await until('driven', 2);
    await (bus.devices[0]!.handle as CardHandle).work();
    expect(events.filter((type) => type !== 'failed')).toEqual(['driven', 'gone', 'undriven', 'driven']);
  }
  expect(held()).toEqual(before);
});

test('a card that dies while it is probed is a failure, and not of the next one', async () => {
  const [dying, living] = [join(folder, 'a-dying.sock'), join(folder, 'living.sock')];
  await Promise.all([startCard(dying), startCard(living)]);
  const before = held();
  {
    await using bus = new PciBus({ selection: Selection.parse({ allow: [dying, living] }) }).addSource(new VfioUserSource());
    bus.register<string>({
      name: 'clumsy', ids: [{}],
      probe: async (device) => {
        await device.dma.allocate(4096);
        const bar = await device.bar(0);
        if (device.address.kind === 'vfio-user' && device.address.path === dying) await bar.write32(DIE, 1);
        return 'alive';
      },
      remove: async () => {},
    });
    const { driven, failed } = await bus.probe();
    expect([driven.map(({ address }) => address), failed.map(({ address, error }) => [address, error.code])]).toEqual([[{ kind: 'vfio-user', path: living }], [[{ kind: 'vfio-user', path: dying }, 'ERR_BUS_GONE']]]);
  }
  expect(held()).toEqual(before);
});
