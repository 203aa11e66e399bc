/** The tool on a real kernel: its sample mediated devices. (Binding functions is in the guest tests of serial-pmd and iavf-pmd.) */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bootMdevGuest, type Guest } from '@emudev/guest';

const TOOL = 'node /workspace/apps/pci/dist/cli.js';
const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
let guest: Guest;
beforeAll(async () => { guest = await bootMdevGuest({ kernel: '6.1' }); });
afterAll(() => guest?.[Symbol.asyncDispose]());

const json = async (line: string): Promise<unknown> => JSON.parse((await guest.run(`${TOOL} ${line} --json`)).output) as unknown;

test('a mediated device is made, listed with the ids it says itself, shown, and removed', async () => {
  expect(await json('mdev types mtty')).toMatchObject([{ id: 'mtty-1', available: 24, devices: [] }, { id: 'mtty-2', api: 'vfio-pci', available: 12, name: 'Dual port serial' }]);
  expect((await guest.run(`${TOOL} mdev create mtty mtty-2 ${UUID}`)).output).toBe(`${UUID}\n`);
  expect(await guest.run(`${TOOL} mdev create mtty mtty-1 ${UUID}`, { check: false })).toMatchObject({ code: 1, output: expect.stringMatching(/^emudev-pci: .*EEXIST\n$/) as string });
  expect(await json(`list -a ${UUID}`)).toMatchObject([{ address: UUID, kind: 'mdev', ids: { vendor: 0x4348, device: 0x3253, classCode: 0x070002 }, usable: true, mdev: { parent: 'mtty', type: 'mtty-2' } }]);
  expect(await json(`show ${UUID}`)).toMatchObject({
    device: { revision: 0x10, regions: [{ name: 'bar0', sizeBytes: 8 }, { name: 'bar1', sizeBytes: 8 }, { name: 'config', sizeBytes: 255 }], interrupts: [{ name: 'INTx', count: 1 }, { name: 'MSI', count: 1 }, { name: 'request', count: 1 }] },
  });

  // Somebody has it open: it is in use, and removing it waits.
  await guest.run(`(exec 3<>/dev/vfio/$(basename $(readlink /sys/bus/mdev/devices/${UUID}/iommu_group)); : > /tmp/opened; exec sleep 1000) > /dev/null 2>&1 &
    echo $! > /tmp/holder; until [ -e /tmp/opened ]; do sleep 0.1; done`);
  expect(await json(`list -a ${UUID}`)).toMatchObject([{ usable: false, why: 'in-use' }]);
  await guest.run('kill $(cat /tmp/holder)');
  expect(await json(`mdev remove ${UUID}`)).toEqual({ uuid: UUID });
  expect((await json('list') as { kind: string }[]).filter(({ kind }) => kind === 'mdev')).toEqual([]);
});
