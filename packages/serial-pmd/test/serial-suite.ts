/**
 * What the driver has to do on any serial card, whatever is between them. Every port is opened in loopback: real chips then receive what they
 * send; mtty does so anyway. No test framework inside: the suite runs under vitest, and inside a guest under nothing at all.
 */
import { deepEqual, equal, ok, rejects } from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import type { BusDevice } from '@emudev/bus-pci';
import { countOpenFds } from '@emudev/linux';
import { SerialCard, type InterruptKind, type SerialPort, type SerialPortOptions } from '@emudev/serial-pmd';
import type { ConformanceCase } from '@emudev/testkit';

/** A card to run the suite on. */
export interface SerialRig {
  /** Opens the device; the suite closes it. */
  open(): Promise<BusDevice>;
  readonly ports: number;
  readonly interrupts: readonly Exclude<InterruptKind, 'auto'>[];
  /** What a byte costs: a real one has all the time in the world, an emulated guest kernel has not. */
  readonly longBytes?: number;
}

const bytesOf = (length: number, seed = 1): Uint8Array => Uint8Array.from({ length }, (_, i) => (Math.imul(i + seed, 0x9e37) >>> 8) & 0xff);
const code = (expected: string) => (error: unknown): boolean => {
  equal((error as { code?: unknown }).code, expected);
  return true;
};

/** The next `length` bytes. */
async function receive(port: SerialPort, length: number): Promise<Uint8Array> {
  const got: Uint8Array[] = [];
  for (let left = length; left > 0;) {
    const bytes = await port.read();
    ok(bytes !== undefined, `the port was closed with ${left} of ${length} bytes to come`);
    got.push(bytes);
    left -= bytes.length;
  }
  return Uint8Array.from(Buffer.concat(got));
}

export function serialSuite(rig: SerialRig): readonly ConformanceCase[] {
  const { longBytes = 1000 } = rig;

  async function withCard(use: (card: SerialCard) => Promise<void>, interrupt: InterruptKind = 'auto'): Promise<void> {
    const before = countOpenFds();
    {
      await using card = await SerialCard.open(await rig.open(), { interrupt });
      await use(card);
    }
    equal(countOpenFds(), before, 'descriptors were left open');
  }
  const withPort = (use: (port: SerialPort, card: SerialCard) => Promise<void>, options: SerialPortOptions = {}, interrupt: InterruptKind = 'auto'): Promise<void> =>
    withCard(async (card) => { await use(await card.openPort(0, { loopback: true, ...options }), card); }, interrupt);

  return [
    {
      id: 'serial.card', title: 'the card has the ports it should have, and no more',
      run: () => withCard(async (card) => {
        equal(card.portCount, rig.ports);
        await rejects(card.openPort(rig.ports), code('ERR_SERIAL_ARGUMENT'));
      }),
    },
    ...rig.interrupts.flatMap((interrupt): ConformanceCase[] => [
      {
        id: `serial.burst-${interrupt}`, title: `${interrupt}: a FIFO of bytes comes back by interrupt, then another`,
        run: () => withPort(async (port, card) => {
          equal(card.interrupt, interrupt);
          for (const seed of [1, 2]) {
            const sent = bytesOf(15, seed);
            await port.write(sent);
            deepEqual(await receive(port, 15), sent);
          }
        }, {}, interrupt),
      },
      {
        id: `serial.single-${interrupt}`, title: `${interrupt}: single bytes, each with an interrupt of its own`,
        run: () => withPort(async (port) => {
          for (let i = 0; i < 10; i++) {
            await port.write(Uint8Array.of(i));
            deepEqual(await receive(port, 1), Uint8Array.of(i));
          }
        }, {}, interrupt),
      },
    ]),
    {
      id: 'serial.long', title: 'more than a FIFO goes as the transmitter takes it, in order and whole',
      run: () => withPort(async (port) => {
        const sent = bytesOf(longBytes);
        const written = port.write(sent);
        deepEqual(await receive(port, longBytes), sent);
        await written;
        await port.drain();
        deepEqual(port.counters, { received: longBytes, transmitted: longBytes, overruns: 0, parityErrors: 0, framingErrors: 0, breaks: 0 });
      }),
    },
    {
      id: 'serial.slow-reader', title: 'nothing is lost while nobody reads',
      run: () => withPort(async (port) => {
        const sent = bytesOf(200);
        const written = port.write(sent);
        // The receiver holds 32 bytes and the UART a FIFO: the rest waits to be sent.
        for (let i = 0; i < 50; i++) await turn();
        ok(port.counters.transmitted < 100, `${port.counters.transmitted} bytes went into a receiver of 32`);
        deepEqual(await receive(port, 200), sent);
        await written;
        equal(port.counters.overruns, 0);
      }, { receiveBytes: 32 }),
    },
    {
      id: 'serial.many-writes', title: 'writes go out in the order they were made',
      run: () => withPort(async (port) => {
        const parts = [3, 1, 20, 7, 16].map((length, i) => bytesOf(length, 10 * i));
        const written = Promise.all(parts.map((part) => port.write(part)));
        const sent = Uint8Array.from(Buffer.concat(parts));
        deepEqual(await receive(port, sent.length), sent);
        await written;
      }),
    },
    ...(rig.ports < 2 ? [] : [{
      id: 'serial.two-ports', title: 'two ports at a time, each with its own bytes',
      run: () => withCard(async (card) => {
        const ports = [await card.openPort(0, { loopback: true }), await card.openPort(1, { loopback: true })];
        const all = await Promise.all(ports.map(async (port, i) => {
          const sent = bytesOf(100, 50 * i);
          const [got] = await Promise.all([receive(port, 100), port.write(sent)]);
          return { sent, got };
        }));
        for (const { sent, got } of all) deepEqual(got, sent);
      }),
    }]),
    {
      id: 'serial.settings', title: 'the line settings are what was given, and a wrong one changes nothing',
      run: () => withPort(async (port) => {
        deepEqual(port.settings, { baud: 9600, dataBits: 7, parity: 'even', stopBits: 2 });
        await port.configure({ baud: 115_200, dataBits: 8, parity: 'none', stopBits: 1 });
        deepEqual(port.settings, { baud: 115_200, dataBits: 8, parity: 'none', stopBits: 1 });
        await rejects(port.configure({ baud: 100_000 }), code('ERR_SERIAL_ARGUMENT'));
        await rejects(port.configure({ stopBits: 1.5 }), code('ERR_SERIAL_ARGUMENT'));
        deepEqual(port.settings, { baud: 115_200, dataBits: 8, parity: 'none', stopBits: 1 });
        // Neither has left the divisor where the data register should be.
        const sent = bytesOf(5);
        await port.write(sent);
        deepEqual(await receive(port, 5), sent);
      }, { baud: 9600, dataBits: 7, parity: 'even', stopBits: 2 }),
    },
    {
      id: 'serial.modem', title: 'in loopback DTR comes back as DSR, RTS as CTS',
      run: () => withPort(async (port) => {
        await port.setModem({ dtr: true, rts: true });
        const { dsr, cts } = await port.modem();
        deepEqual({ dsr, cts }, { dsr: true, cts: true });
      }, { dtr: false, rts: false }),
    },
    {
      id: 'serial.close-port', title: 'closing a port ends its reader and its writes, and it can be opened again',
      run: () => withCard(async (card) => {
        const port = await card.openPort(0, { loopback: true, receiveBytes: 1 });
        await rejects(card.openPort(0), code('ERR_SERIAL_STATE'));
        const reading = port.read();
        await rejects(port.read(), code('ERR_SERIAL_STATE'));
        await port.close();
        equal(await reading, undefined);
        await rejects(port.write(Uint8Array.of(1)), code('ERR_SERIAL_CLOSED'));
        await rejects(port.modem(), code('ERR_SERIAL_CLOSED'));
        const again = await card.openPort(0, { loopback: true });
        await again.write(Uint8Array.of(42));
        deepEqual(await receive(again, 1), Uint8Array.of(42));
      }),
    },
    {
      id: 'serial.close-busy', title: 'a card is closed while bytes are on their way: what has come can be read, what has not gone rejects',
      run: () => withCard(async (card) => {
        const port = await card.openPort(0, { loopback: true, receiveBytes: 16 });
        const writing = rejects(port.write(bytesOf(500)), code('ERR_SERIAL_CLOSED'));
        while (port.counters.received < 16) await turn();
        await card.close();
        await writing;
        const got: number[] = [];
        for await (const bytes of port) got.push(...bytes);
        deepEqual(Uint8Array.from(got), bytesOf(got.length));
        ok(got.length >= 16);
      }),
    },
  ];
}
