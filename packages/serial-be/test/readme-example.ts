import { connect } from 'node:net';
import { VdevBus, type EmulatedPciVdev } from '@emudev/emudev';
import { driver, type SerialBackEnd } from '../src/index.ts';
import { driver as cardDriver } from '@emudev/serial-emu';

await using bus = new VdevBus().register(cardDriver).register(driver);
const card = (await bus.probe('emu_serial0')).device as EmulatedPciVdev;
const backEnd = (await bus.probe('serial_be0,emu=emu_serial0,to=tcp,listen=0,when-absent=hold')).device as SerialBackEnd;
await card.emudev.configure({});
await card.emudev.start();

// The guest (a transport serves card.pci) sends a byte; whoever connects reads it.
await card.pci.write(0, 0, Uint8Array.of(0x21));
const [host, port] = backEnd.place.split(':');
const client = connect(Number(port), host);
export const heard: string = await new Promise((resolve) => client.once('data', (data) => { resolve(data.toString()); })); // '!'
client.destroy();
