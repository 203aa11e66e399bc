/** A serial card: its ports, and the interrupt that they share. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BusError, type Bar, type BusDevice } from '@emudev/bus-pci';
import { SerialError } from './errors.ts';
import { MAX_PORTS, SERVICE_PASSES } from './limits.ts';
import { SerialPort, type SerialPortOptions } from './port.ts';
import { IER, MCR, REGISTER_BYTES } from './registers.ts';
import type { Uart } from './uart.ts';

/** How a card signals: by its interrupt pin or by a message. `auto` prefers the pin: mtty of Linux up to 6.6 takes messages once in its life, and then never again. */
export type InterruptKind = 'auto' | 'intx' | 'msi';

/** For `SerialCard.open`. */
export interface SerialCardOptions {
  readonly interrupt?: InterruptKind;
}

const INTX = 0;
const MSI = 1;
/** Class code, subclass: a serial controller; the programming interface (16450, 16550 and later) does not matter. */
const CLASS_SERIAL = 0x0700;

/** An open card. Port n is in BAR n, as with 4348:3253. */
export class SerialCard implements AsyncDisposable {
  readonly interrupt: 'intx' | 'msi';
  readonly #device: BusDevice;
  readonly #bars: readonly Bar[];
  readonly #open = new Map<number, SerialPort>();
  #turn: Promise<unknown> = Promise.resolve();
  #failure: SerialError | undefined;
  #closing: Promise<void> | undefined;

  /**
   * Takes the device over, also when it rejects. ERR_SERIAL_NOT_A_UART where it is no serial card with an interrupt, ERR_SERIAL_ARGUMENT for
   * an interrupt of a kind that it does not have, ERR_SERIAL_GONE.
   */
  static async open(device: BusDevice, { interrupt = 'auto' }: SerialCardOptions = {}): Promise<SerialCard> {
    try {
      return await SerialCard.#take(device, interrupt);
    } catch (error) {
      await device.close();
      throw asSerialError(error);
    }
  }

  static async #take(device: BusDevice, wanted: InterruptKind): Promise<SerialCard> {
    const { vendor, device: id, classCode } = device.ids;
    if (classCode >>> 8 !== CLASS_SERIAL) {
      const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
      throw new SerialError('ERR_SERIAL_NOT_A_UART', `${hex(vendor, 4)}:${hex(id, 4)} has class ${hex(classCode, 6)}: a serial card has 0700xx`);
    }
    const bars = await portBars(device);
    const has = async (index: number): Promise<boolean> => (await device.interrupts.info(index)).count > 0;
    const kind = wanted !== 'auto' ? wanted : await has(INTX) ? 'intx' : 'msi';
    if (!await has(kind === 'msi' ? MSI : INTX)) throw new SerialError(wanted === 'auto' ? 'ERR_SERIAL_NOT_A_UART' : 'ERR_SERIAL_ARGUMENT', `the card has no interrupt of the kind ${kind}`);
    const card = new SerialCard(device, bars, kind);
    // Nothing is signalled before somebody opens a port.
    for (const bar of bars) await bar.write8(IER, 0);
    // A message is a write to memory.
    if (kind === 'msi') await device.setBusMaster(true);
    await device.interrupts.onInterrupt(kind === 'msi' ? MSI : INTX, [0], () => card.#service());
    return card;
  }

  private constructor(device: BusDevice, bars: readonly Bar[], interrupt: 'intx' | 'msi') {
    this.#device = device;
    this.#bars = bars;
    this.interrupt = interrupt;
    void device.closed.then((end) => {
      if (end === 'gone') this.#fail(new SerialError('ERR_SERIAL_GONE', 'the card has gone'));
    });
  }

  /** How many ports there are. */
  get portCount(): number {
    return this.#bars.length;
  }

  /**
   * Sets up port `index` (from 0): 115200 baud, 8 data bits, no parity, 1 stop bit unless the options say otherwise. ERR_SERIAL_ARGUMENT, ERR_SERIAL_STATE where it is open,
   * ERR_SERIAL_NOT_A_UART, ERR_SERIAL_GONE, ERR_SERIAL_CLOSED.
   */
  openPort(index: number, options: SerialPortOptions = {}): Promise<SerialPort> {
    return this.#inTurn(async () => {
      const bar = this.#bars[index];
      if (bar === undefined) throw new SerialError('ERR_SERIAL_ARGUMENT', `port ${index}: the card has ${this.#bars.length}, numbered from 0`);
      if (this.#open.has(index)) throw new SerialError('ERR_SERIAL_STATE', `port ${index} is open already`);
      const uart: Uart = {
        read: (register) => bar.read8(register),
        write: (register, value) => bar.write8(register, value),
        inTurn: (work) => this.#inTurn(work),
        serve: () => { void this.#service(); },
        ended: () => { this.#open.delete(index); },
      };
      const port = await SerialPort.open(index, uart, options);
      // Nobody would end it: the ports that are open are closed already.
      if (this.#closing !== undefined) throw closed();
      if (this.#failure !== undefined) throw this.#failure;
      this.#open.set(index, port);
      return port;
    });
  }

  /** Closes the ports and the device. Never rejects. */
  close(): Promise<void> {
    return this.#closing ??= (async () => {
      for (const port of [...this.#open.values()]) await port.close();
      await this.#device.close();
      this.#failure ??= closed();
    })();
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Until no port asks for anything: with MSI the next message comes only after that. Others have their turn in between. */
  async #service(): Promise<void> {
    for (let passes = 1; ; passes++) {
      let asked = false;
      for (const port of [...this.#open.values()]) asked = await this.#serviceOne(port) || asked;
      if (!asked) return;
      // A kernel's device is accessed without waiting: timers and sockets must have their turn, too.
      if (passes % SERVICE_PASSES === 0) await nextTurn();
    }
  }

  async #serviceOne(port: SerialPort): Promise<boolean> {
    try {
      return await this.#inTurn(() => port.service());
    } catch (error) {
      // One port that cannot be believed; the others may be in order. If the card itself has gone, #inTurn has told all of them.
      port.end(asSerialError(error));
      await this.#inTurn(() => this.#silence(port.index)).catch(() => undefined);
      return true;
    }
  }

  async #silence(index: number): Promise<void> {
    await this.#bars[index]!.write8(IER, 0);
    await this.#bars[index]!.write8(MCR, 0);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(async () => {
      if (this.#failure !== undefined) throw this.#failure;
      try {
        return await work();
      } catch (error) {
        const named = asSerialError(error);
        if (named.code === 'ERR_SERIAL_GONE') this.#fail(named);
        throw named;
      }
    });
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  #fail(error: SerialError): void {
    this.#failure ??= error;
    for (const port of [...this.#open.values()]) port.end(this.#failure);
  }
}

/** The BARs from the first on that have room for a UART. */
async function portBars(device: BusDevice): Promise<readonly Bar[]> {
  const bars: Bar[] = [];
  while (bars.length < MAX_PORTS && (await device.region(bars.length)).sizeBytes >= REGISTER_BYTES) bars.push(await device.bar(bars.length));
  if (bars.length === 0) throw new SerialError('ERR_SERIAL_NOT_A_UART', `BAR 0 has no room for the ${REGISTER_BYTES} registers of a UART`);
  return bars;
}

function closed(): SerialError {
  return new SerialError('ERR_SERIAL_CLOSED', 'the card is closed');
}

/** Whatever the bus says, the card does not do what it has to. */
function asSerialError(error: unknown): SerialError {
  if (error instanceof SerialError) return error;
  const why = error instanceof Error ? error.message : String(error);
  if (error instanceof BusError && error.code === 'ERR_BUS_CLOSED') return new SerialError('ERR_SERIAL_CLOSED', 'the card is closed', { cause: error });
  return new SerialError('ERR_SERIAL_GONE', `the card does not answer: ${why}`, { cause: error });
}
