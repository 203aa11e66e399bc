/** One port of a card: bytes both ways, moved when the card asks for it. */
import { setTimeout as delay } from 'node:timers/promises';
import { SerialError } from './errors.ts';
import { DEFAULT_RECEIVE_BYTES, DRAIN_POLL_MS, MAX_IDLE_SERVICES, MAX_RECEIVE_BYTES, MAX_TRANSMIT_BYTES, RECEIVE_BURST_BYTES, TRANSMIT_BURST_BYTES } from './limits.ts';
import {
  DLL, DLM, FCR, FCR_ENABLE, FCR_RESET_RECEIVER, FCR_RESET_TRANSMITTER, IER, IER_LINE_STATUS, IER_MODEM, IER_RECEIVED, IER_TRANSMITTER, IIR, IIR_FIFOS, IIR_NONE, LCR, LCR_BREAK,
  LCR_DLAB, LSR, LSR_BREAK, LSR_DATA, LSR_FRAMING, LSR_OVERRUN, LSR_PARITY, LSR_TEMT, LSR_THRE, MCR, MCR_DTR, MCR_LOOP, MCR_OUT2, MCR_RTS, MSR, MSR_CTS, MSR_DCD, MSR_DELTAS,
  MSR_DSR, MSR_RI, RBR, SCR, THR,
} from './registers.ts';
import { DEFAULT_SETTINGS, encodeSettings, type LineSettings } from './settings.ts';
import type { Uart } from './uart.ts';

/** What the other side has put on the wires. */
export interface ModemInputs {
  readonly cts: boolean;
  readonly dsr: boolean;
  readonly ri: boolean;
  readonly dcd: boolean;
}

/** How a port is opened. */
export interface SerialPortOptions extends Partial<LineSettings> {
  /** The UART receives what it sends, and nothing of it leaves (8.8). */
  readonly loopback?: boolean;
  /** Both are on unless said otherwise. */
  readonly dtr?: boolean;
  readonly rts?: boolean;
  /** Bytes that may wait for their reader. Default 65536. */
  readonly receiveBytes?: number;
}

/** Since the port was opened. */
export interface SerialCounters {
  readonly received: number;
  readonly transmitted: number;
  /** Times the UART had to throw away what it received, because it was not fetched in time. */
  readonly overruns: number;
  readonly parityErrors: number;
  readonly framingErrors: number;
  readonly breaks: number;
}

interface Outgoing {
  readonly bytes: Uint8Array;
  sent: number;
  resolve(): void;
  reject(error: SerialError): void;
}

interface Incoming {
  resolve(bytes: Uint8Array | undefined): void;
  reject(error: SerialError): void;
}

/** An open port; `SerialCard.openPort` makes them. */
export class SerialPort implements AsyncDisposable {
  /** Its number on the card, from 0. */
  readonly index: number;
  readonly #uart: Uart;
  readonly #limit: number;
  /** Bytes that the transmitter takes when it is empty. */
  #burst = 1;
  #settings: LineSettings = DEFAULT_SETTINGS;
  #ier = 0;
  #lcr = 0;
  #mcr = 0;
  #idle = 0;
  #ended: { readonly error: SerialError | undefined } | undefined;

  readonly #outgoing: Outgoing[] = [];
  #queued = 0;
  readonly #chunks: Uint8Array[] = [];
  #waiting = 0;
  /** The receiver is left alone until somebody reads. */
  #paused = false;
  #reader: Incoming | undefined;
  readonly #observers = new Set<(inputs: ModemInputs) => void>();

  #received = 0;
  #transmitted = 0;
  #overruns = 0;
  #parityErrors = 0;
  #framingErrors = 0;
  #breaks = 0;

  /** In turn. ERR_SERIAL_ARGUMENT, ERR_SERIAL_NOT_A_UART, or what the bus throws. */
  static async open(index: number, uart: Uart, options: SerialPortOptions): Promise<SerialPort> {
    const { receiveBytes = DEFAULT_RECEIVE_BYTES } = options;
    if (!Number.isInteger(receiveBytes) || receiveBytes < 1 || receiveBytes > MAX_RECEIVE_BYTES) throw new SerialError('ERR_SERIAL_ARGUMENT', `receiveBytes ${receiveBytes}: want 1 to ${MAX_RECEIVE_BYTES}`);
    const port = new SerialPort(index, uart, receiveBytes);
    const { baud, dataBits, parity, stopBits } = { ...DEFAULT_SETTINGS, ...options };
    await port.#setUp({ baud, dataBits, parity, stopBits }, options);
    return port;
  }

  private constructor(index: number, uart: Uart, limit: number) {
    this.index = index;
    this.#uart = uart;
    this.#limit = limit;
  }

  async #setUp(settings: LineSettings, { loopback = false, dtr = true, rts = true }: SerialPortOptions): Promise<void> {
    const uart = this.#uart;
    encodeSettings(settings); // before anything is touched
    await uart.write(IER, 0);
    await this.#apply(settings);
    // The scratch register holds anything (8.10); what is not there reads as all ones.
    for (const value of [0x5a, 0xa5]) {
      await uart.write(SCR, value);
      const read = await uart.read(SCR);
      if (read !== value) throw new SerialError('ERR_SERIAL_NOT_A_UART', `port ${this.index}: the scratch register holds 0x${read.toString(16)} instead of 0x${value.toString(16)}`);
    }
    await uart.write(FCR, FCR_ENABLE | FCR_RESET_RECEIVER | FCR_RESET_TRANSMITTER);
    // An 8250 or 16450 has no FIFOs, a 16550 broken ones: neither shows both bits.
    if ((await uart.read(IIR) & IIR_FIFOS) === IIR_FIFOS) this.#burst = TRANSMIT_BURST_BYTES;
    else await uart.write(FCR, 0);
    this.#mcr = (dtr ? MCR_DTR : 0) | (rts ? MCR_RTS : 0) | MCR_OUT2 | (loopback ? MCR_LOOP : 0);
    await uart.write(MCR, this.#mcr);
    // What was left over by whoever had the card before: reading clears it.
    await uart.read(LSR);
    await uart.read(MSR);
    await this.#arm();
  }

  async #apply(settings: LineSettings): Promise<void> {
    const { divisor, lcr } = encodeSettings(settings);
    const uart = this.#uart;
    await uart.write(LCR, lcr | LCR_DLAB);
    await uart.write(DLL, divisor & 0xff);
    await uart.write(DLM, divisor >>> 8);
    this.#lcr = lcr | (this.#lcr & LCR_BREAK);
    await uart.write(LCR, this.#lcr);
    this.#settings = settings;
  }

  /** What has happened so far. */
  get counters(): SerialCounters {
    return {
      received: this.#received, transmitted: this.#transmitted, overruns: this.#overruns, parityErrors: this.#parityErrors, framingErrors: this.#framingErrors, breaks: this.#breaks,
    };
  }

  // --- bytes ---------------------------------------------------------------------------------------------------------------------

  /**
   * Resolves when the last of these bytes is in the transmitter; `drain` says when it has left. The bytes are copied. ERR_SERIAL_ARGUMENT
   * where more than 16 MiB would wait; ERR_SERIAL_CLOSED, ERR_SERIAL_GONE, ERR_SERIAL_BAD_DEVICE where the port ends before.
   */
  async write(bytes: Uint8Array): Promise<void> {
    this.#check();
    if (bytes.length === 0) return;
    if (this.#queued + bytes.length > MAX_TRANSMIT_BYTES) throw new SerialError('ERR_SERIAL_ARGUMENT', `${bytes.length} bytes to ${this.#queued} that wait: at most ${MAX_TRANSMIT_BYTES} are taken`);
    this.#queued += bytes.length;
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    this.#outgoing.push({ bytes: bytes.slice(), sent: 0, resolve: () => { resolve(undefined); }, reject });
    // An empty transmitter interrupts as soon as it may (8.7), and is filled then.
    this.#rearm();
    await promise;
  }

  /** Resolves when everything written has left the UART. */
  async drain(): Promise<void> {
    for (;;) {
      this.#check();
      const empty = this.#queued === 0 && (await this.#uart.inTurn(() => this.#status()) & LSR_TEMT) !== 0;
      if (empty && this.#queued === 0) return;
      await delay(DRAIN_POLL_MS);
    }
  }

  /** The bytes that have come; waits for some. undefined: the port is closed. ERR_SERIAL_STATE where somebody else is reading. */
  async read(): Promise<Uint8Array | undefined> {
    if (this.#reader !== undefined) throw new SerialError('ERR_SERIAL_STATE', `port ${this.index} is being read already`);
    if (this.#waiting > 0) return this.#takeAll();
    if (this.#ended !== undefined) {
      if (this.#ended.error !== undefined) throw this.#ended.error;
      return undefined;
    }
    return await new Promise((resolve, reject) => { this.#reader = { resolve, reject }; });
  }

  /** What `read` gives, until the port is closed. Leaving the loop leaves the port open. */
  async * [Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      const bytes = await this.read();
      if (bytes === undefined) return;
      yield bytes;
    }
  }

  #takeAll(): Uint8Array {
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    this.#chunks.length = 0;
    this.#waiting = 0;
    if (this.#paused) {
      this.#paused = false;
      this.#rearm();
      // A UART interrupts at once where it is allowed to and has something; mtty only when something comes.
      this.#uart.serve();
    }
    return all;
  }

  // --- the line ------------------------------------------------------------------------------------------------------------------

  /** As the UART was told. (mtty forgets the divisor when it is asked for it, so nobody asks.) */
  get settings(): LineSettings {
    return this.#settings;
  }

  /** Changes what is given. What is in the transmitter leaves with either. ERR_SERIAL_ARGUMENT for what a 16550 cannot do. */
  async configure(change: Partial<LineSettings>): Promise<void> {
    await this.#command(async () => {
      const { baud, dataBits, parity, stopBits } = { ...this.#settings, ...change };
      await this.#apply({ baud, dataBits, parity, stopBits });
    });
  }

  /** What is said to the other side by wire. */
  async setModem(lines: { readonly dtr?: boolean; readonly rts?: boolean }): Promise<void> {
    await this.#setMcr([[MCR_DTR, lines.dtr], [MCR_RTS, lines.rts]]);
  }

  /** The UART receives what it sends, and nothing of it leaves (8.8). */
  async setLoopback(on: boolean): Promise<void> {
    await this.#setMcr([[MCR_LOOP, on]]);
  }

  async #setMcr(changes: readonly (readonly [bit: number, on: boolean | undefined])[]): Promise<void> {
    await this.#command(async () => {
      for (const [bit, on] of changes) if (on !== undefined) this.#mcr = on ? this.#mcr | bit : this.#mcr & ~bit;
      await this.#uart.write(MCR, this.#mcr);
    });
  }

  /** Holds the line in the break state, or lets go of it. */
  async setBreak(on: boolean): Promise<void> {
    await this.#command(async () => {
      this.#lcr = on ? this.#lcr | LCR_BREAK : this.#lcr & ~LCR_BREAK;
      await this.#uart.write(LCR, this.#lcr);
    });
  }

  /** What the other side says by wire, now. */
  modem(): Promise<ModemInputs> {
    return this.#command(async () => inputs(await this.#uart.read(MSR)));
  }

  /** Calls back when a wire has changed, until disposed of. What a callback throws is an uncaught exception of the process. */
  onModem(observer: (inputs: ModemInputs) => void): Disposable {
    this.#observers.add(observer);
    this.#rearm();
    return {
      [Symbol.dispose]: () => {
        this.#observers.delete(observer);
        this.#rearm();
      },
    };
  }

  // --- for the card, in turn ------------------------------------------------------------------------------------------------------

  /** Does what the UART asks for; false where it asks for nothing. */
  async service(): Promise<boolean> {
    if (this.#ended !== undefined) return false;
    const asks = (await this.#uart.read(IIR) & IIR_NONE) === 0;
    if (!asks) {
      this.#idle = 0;
      return false;
    }
    // Which cause is told does not matter (mtty adds the codes of all causes up): the status registers say what there is to do.
    const moved = await this.#receive();
    const sent = await this.#transmit();
    if (this.#observers.size > 0) await this.#lookAtModem();
    const changed = await this.#arm();
    // DEVICE: it must not keep us busy for ever with nothing.
    this.#idle = moved + sent > 0 || changed ? 0 : this.#idle + 1;
    if (this.#idle > MAX_IDLE_SERVICES) throw new SerialError('ERR_SERIAL_BAD_DEVICE', `port ${this.index} asks for service without end, and has nothing to be done`);
    return true;
  }

  /** The port comes to its end, by `close` (no error) or otherwise; the card is not touched. */
  end(error: SerialError | undefined): void {
    if (this.#ended !== undefined) return;
    this.#ended = { error };
    const reason = error ?? new SerialError('ERR_SERIAL_CLOSED', `port ${this.index} is closed`);
    for (const outgoing of this.#outgoing.splice(0)) outgoing.reject(reason);
    this.#queued = 0;
    const reader = this.#reader;
    this.#reader = undefined;
    if (error === undefined) reader?.resolve(undefined);
    else reader?.reject(error);
    this.#observers.clear();
    this.#uart.ended();
  }

  async #receive(): Promise<number> {
    const room = Math.min(RECEIVE_BURST_BYTES, this.#limit - this.#waiting);
    const bytes = new Uint8Array(room);
    let count = 0;
    for (let i = 0; i < room; i++) {
      // Errors belong to the byte that is fetched next (8.4).
      const status = await this.#status();
      if ((status & LSR_DATA) === 0) break;
      const byte = await this.#uart.read(RBR);
      // A break is received as a zero that nobody has sent.
      if ((status & LSR_BREAK) === 0) bytes[count++] = byte;
    }
    if (count > 0) this.#deliver(bytes.slice(0, count));
    this.#paused = this.#waiting >= this.#limit;
    return count;
  }

  async #status(): Promise<number> {
    const status = await this.#uart.read(LSR);
    if ((status & LSR_OVERRUN) !== 0) this.#overruns++;
    if ((status & LSR_PARITY) !== 0) this.#parityErrors++;
    if ((status & LSR_FRAMING) !== 0) this.#framingErrors++;
    if ((status & LSR_BREAK) !== 0) this.#breaks++;
    return status;
  }

  #deliver(bytes: Uint8Array): void {
    this.#received += bytes.length;
    const reader = this.#reader;
    if (reader !== undefined) {
      this.#reader = undefined;
      reader.resolve(bytes);
      return;
    }
    this.#chunks.push(bytes);
    this.#waiting += bytes.length;
  }

  async #transmit(): Promise<number> {
    if (this.#queued === 0 || this.#held) return 0;
    const status = await this.#status();
    // In loopback the receiver has room for what is sent only when it is empty.
    if ((status & LSR_THRE) === 0 || ((this.#mcr & MCR_LOOP) !== 0 && (status & LSR_DATA) !== 0)) return 0;
    let count = 0;
    for (let first = this.#outgoing[0]; first !== undefined && count < this.#burst; first = this.#outgoing[0]) {
      await this.#uart.write(THR, first.bytes[first.sent++]!);
      if (this.#ended !== undefined) return count;
      count++;
      this.#queued--;
      this.#transmitted++;
      if (first.sent < first.bytes.length) continue;
      this.#outgoing.shift();
      first.resolve();
    }
    return count;
  }

  async #lookAtModem(): Promise<void> {
    const status = await this.#uart.read(MSR);
    if ((status & MSR_DELTAS) === 0) return;
    const now = inputs(status);
    for (const observer of this.#observers) {
      try {
        observer(now);
      } catch (error) {
        // Its owner's affair, and not the card's.
        queueMicrotask(() => { throw error; });
      }
    }
  }

  /** Nothing can be sent to oneself while nobody fetches it. */
  get #held(): boolean {
    return this.#paused && (this.#mcr & MCR_LOOP) !== 0;
  }

  /** True where something has changed. */
  async #arm(): Promise<boolean> {
    const wanted = (this.#paused ? 0 : IER_RECEIVED | IER_LINE_STATUS) | (this.#queued > 0 && !this.#held ? IER_TRANSMITTER : 0) | (this.#observers.size > 0 ? IER_MODEM : 0);
    if (wanted === this.#ier) return false;
    this.#ier = wanted;
    await this.#uart.write(IER, wanted);
    return true;
  }

  #rearm(): void {
    if (this.#ended !== undefined) return;
    // What goes wrong ends the port, and that is told to everybody who waits.
    this.#uart.inTurn(async () => { if (this.#ended === undefined) await this.#arm(); }).catch(() => undefined);
  }

  // --- the end -------------------------------------------------------------------------------------------------------------------

  /** Interrupts and modem lines off. What has been received can still be read; what has not been sent is lost, and its `write` rejects. Never rejects. */
  async close(): Promise<void> {
    if (this.#ended !== undefined) return;
    await this.#uart.inTurn(async () => {
      if (this.#ended !== undefined) return;
      this.end(undefined);
      await this.#uart.write(IER, 0);
      await this.#uart.write(MCR, 0);
    }).catch(() => { this.end(undefined); });
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #check(): void {
    if (this.#ended !== undefined) throw this.#ended.error ?? new SerialError('ERR_SERIAL_CLOSED', `port ${this.index} is closed`);
  }

  async #command<T>(work: () => Promise<T>): Promise<T> {
    this.#check();
    return await this.#uart.inTurn(async () => {
      this.#check();
      return await work();
    });
  }
}

function inputs(status: number): ModemInputs {
  return { cts: (status & MSR_CTS) !== 0, dsr: (status & MSR_DSR) !== 0, ri: (status & MSR_RI) !== 0, dcd: (status & MSR_DCD) !== 0 };
}
