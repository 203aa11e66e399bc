/** A port of the card: a UART, and the channel to the back end that is its line. */
import { attribute, createChannel, EmudevError, type Attribute, type Channel, type ProviderChannel } from '@emudev/emudev';
import type { RegionHandler } from '@emudev/pci';
import { CharacterFifo } from './character-fifo.ts';
import { countersAttr, farEndAttr, lineSettingsAttr, type LineSettings, type SerialToBackEnd, type SerialToProvider } from './contract.ts';
import { CREDIT_STEP, MAX_TRANSMIT_CREDIT, MAX_WAITING_MESSAGES, TRANSMIT_DELAY_MS } from './limits.ts';
import { LSR_BI, MSR_CTS, MSR_DCD, MSR_DSR, MSR_RI, REGISTER_BYTES } from './register-table.ts';
import { Uart } from './uart.ts';

/** What a port needs of its card. */
export interface SerialPortOptions {
  readonly index: number;
  /** The UART's interrupt pin or its causes may have changed. */
  interrupt(): void;
  /** A handler of the back end has thrown. */
  error(error: unknown): void;
}

/** A message, and how many resets there were before it. */
interface Tagged {
  readonly epoch: number;
  readonly message: SerialToBackEnd;
}

// What the back end has to be told; one of each, however often it changes meanwhile.
const TELL_RESET = 1;
const TELL_CONSUMER = 2;
const TELL_SETTINGS = 4;
const TELL_MODEM = 8;
const TELL_BREAK = 16;
const TELL_ALL = 31;

const sameSettings = (a: LineSettings, b: LineSettings): boolean => a.baud === b.baud && a.dataBits === b.dataBits && a.parity === b.parity && a.stopBits === b.stopBits;

/** Joins a UART and a channel; paused at first. */
export class SerialPort {
  readonly uart: Uart;
  /** The eight registers, for a BAR. */
  readonly registers: RegionHandler;
  readonly channel: Channel<SerialToProvider, SerialToBackEnd>;
  readonly attributes: readonly (readonly [string, Attribute])[];
  readonly #provider: ProviderChannel<SerialToProvider, Tagged>;
  /** Characters from the line that the UART cannot take now: paused, in loopback, or its FIFO was switched off behind a credit. */
  readonly #line = new CharacterFifo();
  #attended = false;
  #paused = true;
  #present = false;
  /** Characters that we have said we take, and that have not come. */
  #granted = 0;
  /** Counts resets; what a back end sends that has not heard of the last one is void. */
  #epoch = 0;
  #heard = 0;
  /** Bytes that the back end takes. */
  #credit = 0;
  #tell = 0;
  #timer: NodeJS.Timeout | undefined;
  #settings: LineSettings;
  #dtr = false;
  #rts = false;
  #breaking = false;
  #farEnd = '';
  #sent = 0;
  #received = 0;
  #breaks = 0;

  constructor(options: SerialPortOptions) {
    const { index } = options;
    const uart = this.uart = new Uart({
      transmit: (now) => { this.#transmit(now); },
      room: () => { this.#receive(); },
      interrupt: () => { options.interrupt(); },
      line: () => { this.#lineChanged(); },
    });
    this.#settings = uart.settings;
    this.registers = {
      sizeBytes: REGISTER_BYTES,
      // Wider accesses are as many of a byte, in ascending order, as a bus would make of them.
      read(offset, into) {
        for (let i = 0; i < into.length; i++) into[i] = uart.read(offset + i);
      },
      write(offset, from) {
        for (let i = 0; i < from.length; i++) uart.write(offset + i, from[i]!);
      },
    };
    this.#provider = createChannel<SerialToProvider, Tagged>({ onSend: (message) => { this.#onMessage(message); }, onHandlerError: (error) => { options.error(error); } });
    const { channel } = this.#provider;
    this.channel = {
      send: (message) => { channel.send(message); },
      onMessage: (handler) => this.#attend(() => channel.onMessage(({ epoch, message }) => {
        this.#heard = epoch;
        return handler(message);
      })),
    };
    this.attributes = [
      attribute(lineSettingsAttr(index), { get: () => uart.settings }),
      attribute(countersAttr(index), { get: () => `tx:${this.#sent} rx:${this.#received} overrun:${uart.overruns} break:${this.#breaks}` }),
      attribute(farEndAttr(index), { get: () => this.#farEnd, set: (text) => { this.#farEnd = text; } }),
    ];
  }

  /** Nothing passes between guest and line, and nothing is lost: it waits. */
  pause(): void {
    this.#paused = true;
    this.#stopTimer();
  }

  /** Ends `pause`: what waited goes on. */
  resume(): void {
    this.#paused = false;
    this.#goOn();
  }

  /** A consumer has come, or has gone: the back end is told. */
  setConsumer(present: boolean): void {
    this.#present = present;
    this.#tellNow(TELL_CONSUMER);
  }

  /** Power-on: the UART's registers, the bytes on the line and all credit are void; the back end is told. */
  reset(): void {
    this.#stopTimer();
    this.#line.clear();
    this.#epoch++;
    this.#granted = this.#credit = 0;
    this.uart.reset();
    this.#tellNow(TELL_RESET);
    this.#lineChanged();
    this.#goOn();
  }

  /** Nothing passes any more, and the UART's timers are stopped. */
  close(): void {
    this.pause();
    this.uart.stop();
  }

  /** A back end sets its handler: all begins anew. */
  #attend(register: () => Disposable): Disposable {
    this.#leave();
    const registration = register();
    this.#attended = true;
    this.#tellNow(TELL_ALL);
    this.#goOn();
    let current = true;
    return {
      [Symbol.dispose]: () => {
        registration[Symbol.dispose]();
        if (current) this.#leave();
        current = false;
      },
    };
  }

  #leave(): void {
    // Bytes among them were handed over to a back end that has left without looking.
    this.#provider.clear();
    this.#attended = false;
    this.#epoch++;
    this.#granted = this.#credit = this.#tell = 0;
    this.#farEnd = '';
    this.uart.setInputs(0);
  }

  #onMessage(message: SerialToProvider): void {
    // Sent before the back end heard of a reset, and lost with it like everything else; wires have levels and no past.
    if (this.#heard !== this.#epoch && message.kind !== 'modem') return;
    switch (message.kind) {
      case 'bytes': {
        const { bytes } = message;
        this.#accept(bytes.length);
        for (const byte of bytes) this.#line.push(byte);
        this.#receive();
        return;
      }
      case 'break':
        this.#accept(1);
        this.#line.push(0, LSR_BI);
        this.#receive();
        return;
      case 'credit': {
        const { bytes } = message;
        if (!Number.isInteger(bytes) || bytes <= 0 || this.#credit + bytes > MAX_TRANSMIT_CREDIT) {
          throw new EmudevError('EMUDEV_RANGE', `a credit of ${bytes} bytes to ${this.#credit}: expected a positive integer, and at most ${MAX_TRANSMIT_CREDIT} in all`);
        }
        this.#credit += bytes;
        this.#handOn();
        return;
      }
      case 'modem': {
        const { cts, dsr, ri, dcd } = message.lines;
        this.uart.setInputs((cts ? MSR_CTS : 0) | (dsr ? MSR_DSR : 0) | (ri ? MSR_RI : 0) | (dcd ? MSR_DCD : 0));
        return;
      }
      default:
        throw new EmudevError('EMUDEV_BAD_ARG', `a serial port has no message '${String((message as { kind?: unknown }).kind)}'`);
    }
  }

  #accept(characters: number): void {
    if (characters > this.#granted) throw new EmudevError('EMUDEV_RANGE', `${characters} characters for a port that takes ${this.#granted}: wait for credit`);
    this.#granted -= characters;
  }

  /** Line to receiver. */
  #receive(): void {
    const line = this.#line;
    const { uart } = this;
    while (!this.#paused && line.length > 0 && uart.room > 0) {
      const isBreak = line.errors !== 0;
      const byte = line.shift();
      if (isBreak) {
        this.#breaks++;
        uart.receiveBreak();
      } else {
        this.#received++;
        uart.receive(byte);
      }
    }
    this.#grant();
  }

  #grant(): void {
    // In loopback there is no room; what is there already then waits on the line.
    if (this.#paused || this.#congested || this.uart.room === 0) return;
    const { capacity, received, trigger } = this.uart;
    const waiting = received + this.#line.length;
    const free = capacity - waiting - this.#granted;
    // Not byte by byte; but a back end that holds no credit must not wait for a guest that waits for the trigger level.
    if (free <= 0 || (free < Math.min(capacity, CREDIT_STEP) && (this.#granted > 0 || waiting >= trigger))) return;
    this.#granted += free;
    this.#deliver({ kind: 'credit', bytes: free });
  }

  /** Transmitter to line: at once where the FIFO is full or the guest waits, else soon. */
  #transmit(now: boolean): void {
    if (now) this.#handOn();
    else if (this.#timer === undefined && !this.#paused) {
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        this.#handOn();
      }, TRANSMIT_DELAY_MS);
    }
  }

  #handOn(): void {
    const bytes = Math.min(this.uart.pending, this.#credit);
    if (bytes === 0 || this.#paused || this.#congested) return;
    this.#stopTimer();
    const chunk = new Uint8Array(bytes);
    this.#credit -= bytes;
    this.#sent += bytes;
    this.uart.take(chunk);
    this.#deliver({ kind: 'bytes', bytes: chunk });
    // A back end that gives credit back at once may have more to take.
    if (this.uart.pending > 0) this.#handOn();
  }

  #lineChanged(): void {
    const { uart } = this;
    const { settings, modemOutputs: { dtr, rts }, breaking } = uart;
    const changed = (sameSettings(settings, this.#settings) ? 0 : TELL_SETTINGS) | (dtr === this.#dtr && rts === this.#rts ? 0 : TELL_MODEM) | (breaking === this.#breaking ? 0 : TELL_BREAK);
    this.#settings = settings;
    this.#dtr = dtr;
    this.#rts = rts;
    this.#breaking = breaking;
    if (changed !== 0) this.#tellNow(changed);
  }

  #goOn(): void {
    this.#receive();
    this.#handOn();
  }

  get #congested(): boolean {
    return !this.#attended || this.#provider.pending >= MAX_WAITING_MESSAGES;
  }

  #tellNow(what: number): void {
    this.#tell |= what;
    while (this.#tell !== 0 && !this.#congested) {
      const next = this.#tell & -this.#tell;
      this.#tell &= ~next;
      this.#deliver(this.#news(next));
    }
  }

  #news(what: number): SerialToBackEnd {
    switch (what) {
      case TELL_RESET: return { kind: 'reset' };
      case TELL_CONSUMER: return { kind: 'consumer', present: this.#present };
      case TELL_SETTINGS: return { kind: 'settings', settings: this.#settings };
      case TELL_MODEM: return { kind: 'modem', lines: { dtr: this.#dtr, rts: this.#rts } };
      default: return { kind: 'break', on: this.#breaking };
    }
  }

  #deliver(message: SerialToBackEnd): void {
    const done = this.#provider.deliver({ epoch: this.#epoch, message });
    if (done === undefined) return;
    void done.then(() => {
      this.#tellNow(0);
      this.#goOn();
    });
  }

  #stopTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
