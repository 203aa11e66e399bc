import { VdevBus, type EmulatedPciVdev } from '@emudev/emudev';
import { driver, serialPort } from '../src/index.ts';

await using bus = new VdevBus().register(driver);
const card = (await bus.probe('emu_serial0,ports=1')).device as EmulatedPciVdev;
await card.emudev.configure({});
await card.emudev.start();

// The line: takes 100 bytes of the guest.
export const seen: string[] = [];
const line = card.emudev.channel(serialPort(0));
line.onMessage((message) => {
  if (message.kind === 'reset') line.send({ kind: 'credit', bytes: 100 });
  if (message.kind === 'bytes') seen.push(Buffer.from(message.bytes).toString());
});

// The guest: a transport serves card.pci; here it is played by hand. FIFOs on, two bytes, line status.
await card.pci.write(0, 2, Uint8Array.of(1));
for (const letter of Buffer.from('hi')) await card.pci.write(0, 0, Uint8Array.of(letter));
await card.pci.read(0, 5, new Uint8Array(1)); // asks whether they are gone; seen is ['hi']
