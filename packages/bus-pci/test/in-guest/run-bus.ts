/** Runs inside the guest: a bus whose devices are made, bound, taken away and unbound under it; then a line that says what it noticed. */
import { subscribe } from 'node:diagnostics_channel';
import { BUS_CHANNEL, formatAddress, KernelSource, MdevManager, parseAddress, PciBus, Selection, Sysfs } from '@emudev/bus-pci';
import type { BusDevice, BusEvent } from '@emudev/bus-pci';
import { countOpenFds } from '@emudev/linux';

const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
const E1000E = '0000:00:1d.0';

const events: string[] = [];
let told = Promise.withResolvers<undefined>();
subscribe(BUS_CHANNEL, (event) => {
  const { type, ...rest } = event as BusEvent;
  events.push(`${type} ${'address' in rest ? formatAddress(rest.address) : rest.kinds.join()}${'error' in rest ? `: ${String(rest.error)}` : ''}`);
  told.resolve(undefined);
});
async function until(event: string): Promise<void> {
  while (!events.includes(event)) {
    await told.promise;
    told = Promise.withResolvers();
  }
}

const source = new KernelSource();
const manager = new MdevManager(new Sysfs());
const address = parseAddress(E1000E);
if (address.kind !== 'pci') throw new Error(E1000E);
const before = countOpenFds();
{
  await using bus = new PciBus({ selection: Selection.parse({ allow: [UUID, E1000E] }) }).addSource(source).register<BusDevice>({
    name: 'reader', ids: [{ vendor: 0x4348 }, { vendor: 0x8086, device: 0x10d3 }],
    async probe(device) {
      const bar = await device.bar(0);
      await bar.read8(0);
      const { iova } = await device.dma.allocate(4096);
      console.log(`# ${formatAddress(device.address)}: ${bar.kind}, ${bar.areas.length} mapped, memory at 0x${iova.toString(16)}`);
      return device;
    },
    remove: async () => {},
  });
  using _ = bus.watch();
  await manager.create('mtty', 'mtty-2', UUID);
  await until(`driven ${UUID}`);
  // The kernel asks for a function that somebody has open, and waits for it.
  await source.bind(address);
  await until(`driven ${E1000E}`);
  await source.unbind(address);
  await until(`undriven ${E1000E}`);
  // It does not ask for this one: the user has to know.
  await bus.unplug({ kind: 'mdev', uuid: UUID });
  await manager.remove(UUID);
}
console.log(`@bus ${JSON.stringify({ events, left: countOpenFds() - before })}`);
