/**
 * A device process: node device.process.ts SOCKET. A card with two ports; what port 0 sends comes back from the other end of its line in capitals, `!` as a
 * break. Says how port 0 is set up, and "ready"; ends on SIGTERM.
 */
import { Window } from '@emudev/dma';
import { VdevBus, type EmulatedPciVdev } from '@emudev/emudev';
import { driver, serialPort } from '@emudev/serial-emu';
import { VfioUserServer } from '@emudev/vfio-user-server';

const bus = new VdevBus().register(driver);
const { pci, emudev } = (await bus.probe('emu_serial0,ports=2')).device as EmulatedPciVdev;
const line = emudev.channel(serialPort(0));
/** What the card takes, and what waits for that. */
let credit = 0;
let waiting: number[] = [];

function send(): void {
  while (credit > 0 && waiting.length > 0) {
    credit--;
    const byte = waiting.shift()!;
    line.send(byte === 0x21 ? { kind: 'break' } : { kind: 'bytes', bytes: Uint8Array.of(byte) });
  }
}

line.onMessage((message) => {
  if (message.kind === 'reset') {
    credit = 0;
    waiting = [];
    line.send({ kind: 'credit', bytes: 64 });
  } else if (message.kind === 'credit') {
    credit += message.bytes;
  } else if (message.kind === 'bytes') {
    for (const byte of message.bytes) waiting.push(byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : byte);
    line.send({ kind: 'credit', bytes: message.bytes.length });
  } else if (message.kind === 'modem') {
    // A null-modem cable.
    const { dtr, rts } = message.lines;
    line.send({ kind: 'modem', lines: { cts: rts, dsr: dtr, dcd: dtr, ri: false } });
  }
  if (message.kind === 'settings') console.log(JSON.stringify(message.settings));
  send();
});
await emudev.configure({});
await emudev.start();
const server = new VfioUserServer(pci, { window: Window.open() });
await server.listen(process.argv[2]!);
process.once('SIGTERM', () => {
  void server.close().then(() => bus[Symbol.asyncDispose]());
});
console.log('ready');
