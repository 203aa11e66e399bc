/** One driver on one bus, with devices of a kernel (a fake one) and behind a socket. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Window } from '@emudev/dma';
import { countOpenFds } from '@emudev/linux';
import { VfioUserServer } from '@emudev/vfio-user-server';
import { expect, test } from 'vitest';
import { BUS_CHANNEL, formatAddress, KernelSource, MdevManager, PciBus, Selection, VfioUserSource } from '../src/index.ts';
import type { BusDevice, BusEvent, PciDriver } from '../src/index.ts';
import { Card, SCRATCH } from './card.ts';
import { FakeMdevKernel } from './fake-mdev-kernel.ts';

const UUIDS = ['83b8f4f2-509f-382f-3c1e-e6bfe0fa1001', '83b8f4f2-509f-382f-3c1e-e6bfe0fa1002', '83b8f4f2-509f-382f-3c1e-e6bfe0fa1003'] as const;

/** Reads what is at the beginning of the first BAR, whatever it takes. */
const reader: PciDriver<BusDevice> = {
  name: 'reader', ids: [{ vendor: 0x4348 }, { vendor: 0x1234 }],
  async probe(device) {
    await (await device.bar(0)).read8(SCRATCH);
    await device.dma.allocate(4096);
    return device;
  },
  remove: async () => {},
};

test('devices of all kinds are driven, come, and go, and nothing stays open', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'bus-pci-'));
  using kernel = new FakeMdevKernel();
  using card = new Card();
  await using server = new VfioUserServer(card, { window: Window.open() });
  const path = join(folder, 'card.sock');
  await server.listen(path);
  const before = countOpenFds();
  const manager = new MdevManager(kernel);
  await manager.create('mtty', 'mtty-2', UUIDS[0]);
  await manager.create('mdpy', 'mdpy-vga', UUIDS[1]);
  const events: string[] = [];
  let told = Promise.withResolvers<undefined>();
  const record = (event: unknown): void => {
    const { type, ...rest } = event as BusEvent;
    events.push('address' in rest ? `${type} ${formatAddress(rest.address)}` : type);
    told.resolve(undefined);
  };
  const until = async (event: string): Promise<void> => {
    while (!events.includes(event)) {
      await told.promise;
      told = Promise.withResolvers();
    }
  };
  subscribe(BUS_CHANNEL, record);
  {
    await using bus = new PciBus({ selection: Selection.parse({ allow: [...UUIDS, path] }) })
      .addSource(new KernelSource({ sysfs: kernel, sys: kernel.vfio.sys })).addSource(new VfioUserSource()).register(reader);
    const { driven, unclaimed, failed } = await bus.probe();
    expect(driven.map(({ address, ids }) => [formatAddress(address), ids?.vendor])).toEqual([[UUIDS[0], 0x4348], [`vfio-user:${path}`, 0x1234]]);
    expect(unclaimed.map(formatAddress)).toEqual([UUIDS[1]]);
    expect(failed.map(({ address, error }) => [formatAddress(address), error.code])).toEqual([[UUIDS[2], 'ERR_BUS_GONE']]);

    using _ = bus.watch();
    await manager.create('mbochs', 'mbochs-medium', UUIDS[2]);
    await until(`driven ${UUIDS[2]}`);
    // The kernel waits for who has it open.
    const removed = manager.remove(UUIDS[0]);
    await bus.unplug({ kind: 'mdev', uuid: UUIDS[0] });
    await removed;
    await server.close();
    await until(`undriven vfio-user:${path}`);
    await bus.scan();
    expect(bus.devices.map(({ address, state }) => [formatAddress(address), state])).toEqual([[UUIDS[1], 'unclaimed'], [UUIDS[2], 'driven'], [`vfio-user:${path}`, 'found']]);
  }
  unsubscribe(BUS_CHANNEL, record);
  rmSync(folder, { recursive: true });
  // The server's listener was open before.
  expect([countOpenFds() - before, kernel.vfio.openFiles, kernel.vfio.lockedBytes]).toEqual([-1, 0, 0]);
});
