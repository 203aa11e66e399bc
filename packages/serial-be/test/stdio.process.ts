/** A card on standard input and output whose guest answers in capitals; "crash" makes the process throw. */
import { VdevBus, type EmulatedPciVdev } from '@emudev/emudev';
import { driver } from '@emudev/serial-be';
import { driver as cardDriver, type SerialCard } from '@emudev/serial-emu';
import { GuestPort } from './rig.ts';

const bus = new VdevBus().register(cardDriver).register(driver);
const { pci, emudev } = (await bus.probe('emu_serial0')).device as EmulatedPciVdev<SerialCard>;
await emudev.configure({});
await emudev.start();
await bus.probe('serial_be0,emu=emu_serial0,to=stdio');
if (process.argv[2] === 'again') {
  // One at a time: a second one is refused, and whoever comes after the first has them.
  const refused = await bus.probe('serial_be1,emu=emu_serial0,port=0,to=stdio').then(() => '', (error: { code: string }) => error.code);
  await bus.remove('serial_be0');
  if (refused === 'EMUDEV_EXISTS') await bus.probe('serial_be1,emu=emu_serial0,to=stdio');
}
const guest = new GuestPort(pci, 0).open();
const timer = setInterval(() => {
  const text = guest.take().toString('latin1');
  if (text.includes('crash')) throw new Error('as it was told to');
  if (text !== '') void guest.send(text.toUpperCase());
}, 5);
if (process.argv[2] !== 'no-handlers') {
  process.once('SIGTERM', () => {
    clearInterval(timer);
    void bus[Symbol.asyncDispose]();
  });
}
await guest.send('ready\n');
