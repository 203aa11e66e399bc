/** The driver as others load it: by the vdev bus and by the PCI bus, on a card that another process serves. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PciBus, Selection, VfioUserSource } from '@emudev/bus-pci';
import { VdevBus } from '@emudev/emudev';
import { driver, pciDriver, type IavfPort } from '@emudev/iavf-pmd';
import { DeviceProcess } from './two-processes.ts';

let device: DeviceProcess;
beforeAll(async () => { device = await DeviceProcess.start('--queues', '2'); });
afterAll(() => device[Symbol.asyncDispose]());

test.each(['path=', 'addr=vfio-user:', 'addr='])('--vdev net_iavf0,%sSOCKET', async (key) => {
  await using bus = new VdevBus().register(driver);
  const port = (await bus.probe(`net_iavf0,${key}${device.socket},queues=2,rxd=96,txd=64`)).device as IavfPort;
  expect(port.info).toMatchObject({ name: 'net_iavf0', maxRxQueues: 2 });
});

test.each([
  ['net_iavf0', /'path' or 'addr' is missing/],
  ['net_iavf0,path=/a,addr=0000:06:0d.0', /not both/],
  ['net_iavf0,path=/a,rxd=100', /rxd=100: .*multiple of 32/],
  ['net_iavf0,path=/a,txd=8192', /txd=8192: .*64 to 4096/],
  ['net_iavf0,addr=06:0d', /addr=06:0d: .*PCI address/],
])('%s is refused with a reason', async (text, reason) => {
  await using bus = new VdevBus().register(driver);
  await expect(bus.probe(text)).rejects.toMatchObject({ code: 'EMUDEV_BAD_ARG', message: expect.stringMatching(reason) as string });
});

test('a PCI bus makes a port of each card that is allowed, with the arguments given there', async () => {
  await using bus = new PciBus({ selection: Selection.parse({ allow: [`${device.socket},queues=2`] }) }).addSource(new VfioUserSource()).register(pciDriver);
  const { driven, failed } = await bus.probe();
  expect(failed).toEqual([]);
  expect(driven).toMatchObject([{ address: { kind: 'vfio-user', path: device.socket } }]);
  const port = driven[0]!.handle as IavfPort;
  expect(port.info).toMatchObject({ name: `vfio-user:${device.socket}`, driver: 'net_iavf', maxRxQueues: 2 });
  await bus.unplug(driven[0]!.address);
});
