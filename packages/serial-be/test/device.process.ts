/** A device process: node device.process.ts SOCKET BACK-END-ARGS…; says where the far ends are, as one line of JSON. Ends on SIGTERM. */
import { Window } from '@emudev/dma';
import { VdevBus, type EmulatedPciVdev } from '@emudev/emudev';
import { driver, type SerialBackEnd } from '@emudev/serial-be';
import { driver as cardDriver } from '@emudev/serial-emu';
import { VfioUserServer } from '@emudev/vfio-user-server';

const [socket, ...backEnds] = process.argv.slice(2);
const bus = new VdevBus().register(cardDriver).register(driver);
const { pci, emudev } = (await bus.probe('emu_serial0,ports=2')).device as EmulatedPciVdev;
const places: string[] = [];
for (const [i, args] of backEnds.entries()) places.push(((await bus.probe(`serial_be${i},emu=emu_serial0,port=${i},${args}`)).device as SerialBackEnd).place);
await emudev.configure({});
await emudev.start();
const server = new VfioUserServer(pci, { window: Window.open() });
await server.listen(socket!);
process.once('SIGTERM', () => {
  void server.close().then(() => bus[Symbol.asyncDispose]());
});
console.log(JSON.stringify(places));
