/**
 * A 16550A UART, without anything PCI and without a line: registers, FIFOs, interrupt causes. Sections are those of the PC16550D data
 * sheet. Who puts a line to it (`port.ts`) takes what is to be sent when it can, and brings what is received when there is room.
 */
import { CharacterFifo } from './character-fifo.ts';
import type { LineSettings } from './contract.ts';
import { FIFO_BYTES } from './limits.ts';
import {
  FCR_ENABLE, FCR_RESET_RECEIVER, FCR_RESET_TRANSMITTER, IER_EDSSI, IER_ELSI, IER_ERBFI, IER_ETBEI, IIR_FIFOS, IIR_LINE_STATUS, IIR_MODEM, IIR_NONE, IIR_RECEIVED, IIR_TIME_OUT,
  IIR_TRANSMITTER, implementedBits, LCR_BREAK, LCR_DLAB, LCR_EPS, LCR_PEN, LCR_STB, LCR_STICK, LSR_BI, LSR_DR, LSR_FIFO_ERROR, LSR_OE, LSR_TEMT, LSR_THRE, MCR_LOOP, MSR_DCTS, MSR_DDCD,
  MSR_DDSR, MSR_RI, MSR_TERI, READ_AT, resetValue, TRIGGER_LEVELS, WRITE_AT,
} from './register-table.ts';

/** What a guest's access has led to; each is called at the end of it, with the registers as they are now. */
export interface UartEvents {
  /** The guest has written a byte for the line, or asks whether all are gone: hand on what the line takes. `now`: it waits for that. */
  transmit(now: boolean): void;
  /** The receiver may have room. */
  room(): void;
  /** `causes` or `rising` may have changed. */
  interrupt(): void;
  /** MCR, LCR.BREAK or the settings may have changed. */
  line(): void;
}

const BASE_BAUD = 115_200; // 1.8432 MHz / 16 (8.3)
const TIME_OUT_CHARACTERS = 4; // 8.11
const WORD_LENGTHS = [5, 6, 7, 8] as const;

/** Bits of `causes`. */
const CAUSE_LINE_STATUS = 1;
const CAUSE_RECEIVED = 2;
const CAUSE_TIME_OUT = 4;
const CAUSE_TRANSMITTER = 8;
const CAUSE_MODEM = 16;

/** The chip; accesses by `read` and `write`, the line by `pending` and `take`, `room` and `receive`. */
export class Uart {
  /** Bytes that arrived while the FIFO was full: only the guest itself can send them, in loopback. */
  overruns = 0;
  readonly #events: UartEvents;
  readonly #receiver = new CharacterFifo();
  readonly #transmitter = new CharacterFifo();
  #dll = 0;
  #dlm = 0;
  #ier = 0;
  #fcr = 0;
  #lcr = 0;
  #mcr = 0;
  #scr = 0;
  #overrun = false;
  /** MSR bits 7 to 4 as the line has them, and bits 3 to 0. */
  #inputs = 0;
  #deltas = 0;
  /** The transmitter interrupt: latched when it runs empty, until IIR is read for it or THR is written (8.6). */
  #transmitterEmpty = false;
  #timedOut = false;
  #timer: NodeJS.Timeout | undefined;
  /** Of the last byte that arrived or was fetched. */
  #activeAt = 0;
  #causes = 0;
  #rising = false;
  /** Accesses and deliveries that are under way: events wait for the outermost to end. */
  #depth = 0;

  constructor(events: UartEvents) {
    this.#events = events;
    this.#powerOn();
  }

  /** The INTR pin. */
  get interrupting(): boolean {
    return this.#causes !== 0;
  }

  /** True once after a cause has arisen, even where another was pending already: what a message-signalled interrupt stands for. */
  takeRising(): boolean {
    const rising = this.#rising;
    this.#rising = false;
    return rising;
  }

  /** Characters the receiver holds at most: 16, or one with the FIFOs off. */
  get capacity(): number {
    return this.#fifos ? FIFO_BYTES : 1;
  }

  /** Characters from which on the receiver interrupts. */
  get trigger(): number {
    return this.#fifos ? TRIGGER_LEVELS[this.#fcr >> 6]! : 1;
  }

  /** Characters the receiver takes without loss; more than its capacity never, and none in loopback. */
  get room(): number {
    return this.#loopback ? 0 : Math.max(0, this.capacity - this.#receiver.length);
  }

  /** Characters that the guest has not fetched. */
  get received(): number {
    return this.#receiver.length;
  }

  /** Characters to be sent; none while the transmitter is cut off the line: loopback, or a break (8.1: what is sent then would be lost). */
  get pending(): number {
    return this.#loopback || this.breaking ? 0 : this.#transmitter.length;
  }

  /** In loopback the outputs are inactive, whatever MCR says (8.8). */
  get modemOutputs(): { dtr: boolean; rts: boolean } {
    const lines = this.#loopback ? 0 : this.#mcr;
    return { dtr: (lines & 1) !== 0, rts: (lines & 2) !== 0 };
  }

  /** The line is held in the break state (8.1 bit 6; in loopback it is marking, 8.8). */
  get breaking(): boolean {
    return (this.#lcr & LCR_BREAK) !== 0 && !this.#loopback;
  }

  /** What the guest has set the line to; baud is 0 while the divisor is. */
  get settings(): LineSettings {
    const lcr = this.#lcr;
    const divisor = this.#dlm << 8 | this.#dll;
    const dataBits = WORD_LENGTHS[lcr & 3]!;
    const even = (lcr & LCR_EPS) !== 0;
    return {
      baud: divisor === 0 ? 0 : Math.round(BASE_BAUD / divisor),
      dataBits,
      parity: (lcr & LCR_PEN) === 0 ? 'none' : (lcr & LCR_STICK) === 0 ? (even ? 'even' : 'odd') : even ? 'space' : 'mark',
      stopBits: (lcr & LCR_STB) === 0 ? 1 : dataBits === 5 ? 1.5 : 2,
    };
  }

  /** The guest reads a register: an offset from 0 to 7. */
  read(offset: number): number {
    this.#depth++;
    const value = this.#read(offset);
    this.#leave();
    return value;
  }

  /** The guest writes a register. */
  write(offset: number, value: number): void {
    this.#depth++;
    this.#write(offset, value);
    this.#leave();
  }

  /** Characters arrive from the line; the caller has made sure of room. */
  receive(byte: number): void {
    this.#arrive(byte, 0);
  }

  /** A break arrives: one zero with its mark (8.4 bit 4). */
  receiveBreak(): void {
    this.#arrive(0, LSR_BI);
  }

  /** Takes up to `into.length` characters off the transmitter, at most `pending`. */
  take(into: Uint8Array): void {
    this.#depth++;
    for (let i = 0; i < into.length; i++) into[i] = this.#transmitter.shift();
    if (this.#transmitter.length === 0) this.#transmitterEmpty = true;
    this.#leave();
  }

  /** Levels of the modem inputs, as bits 7 to 4 of MSR. */
  setInputs(inputs: number): void {
    this.#depth++;
    this.#changeModem(() => { this.#inputs = inputs & 0xf0; });
    this.#leave();
  }

  /** Master reset (table I). The inputs are the line's and stay. */
  reset(): void {
    this.#depth++;
    this.#powerOn();
    this.#leave();
    // Whoever looks at it from now on has seen nothing yet.
    this.#rising = false;
  }

  /** No timer is left behind. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  get #fifos(): boolean {
    return (this.#fcr & FCR_ENABLE) !== 0;
  }
  get #loopback(): boolean {
    return (this.#mcr & MCR_LOOP) !== 0;
  }

  #powerOn(): void {
    this.stop();
    this.#receiver.clear();
    this.#transmitter.clear();
    this.#dll = resetValue('DLL');
    this.#dlm = resetValue('DLM');
    this.#ier = resetValue('IER');
    this.#fcr = resetValue('FCR');
    this.#lcr = resetValue('LCR');
    this.#mcr = resetValue('MCR');
    this.#scr = resetValue('SCR');
    this.#overrun = this.#timedOut = false;
    this.#transmitterEmpty = true;
    this.#deltas = 0;
  }

  #read(offset: number): number {
    switch (READ_AT[this.#address(offset)]) {
      case 'RBR': return this.#fetch();
      case 'DLL': return this.#dll;
      case 'DLM': return this.#dlm;
      case 'IER': return this.#ier;
      case 'IIR': return this.#identify();
      case 'LCR': return this.#lcr;
      case 'MCR': return this.#mcr;
      case 'LSR': return this.#lineStatus();
      case 'MSR': {
        const value = this.#modemInputs() | this.#deltas;
        this.#deltas = 0; // 8.9
        return value;
      }
      case 'SCR': return this.#scr;
      default: return 0xff;
    }
  }

  #write(offset: number, value: number): void {
    switch (WRITE_AT[this.#address(offset)]) {
      case 'THR': this.#send(value); break;
      case 'DLL': this.#dll = value; this.#events.line(); break;
      case 'DLM': this.#dlm = value; this.#events.line(); break;
      case 'IER':
        // An empty transmitter interrupts as soon as it is allowed to (8.7); Linux' 8250_port tests for it.
        if ((value & ~this.#ier & IER_ETBEI) !== 0 && this.#transmitter.length === 0) this.#transmitterEmpty = true;
        this.#ier = value & implementedBits('IER');
        break;
      case 'FCR': this.#controlFifos(value); break;
      case 'LCR': this.#controlLine(value); break;
      case 'MCR':
        this.#changeModem(() => { this.#mcr = value & implementedBits('MCR'); });
        this.#events.line();
        // Out of loopback: what waits on either side may go on.
        this.#events.room();
        this.#events.transmit(true);
        break;
      case 'SCR': this.#scr = value; break;
      case undefined: // LSR and MSR are not to be written (8.4, 8.9).
    }
  }

  #address(offset: number): number {
    return (offset & 7) + ((this.#lcr & LCR_DLAB) === 0 ? 0 : 8);
  }

  #fetch(): number {
    const byte = this.#receiver.shift();
    this.#activeAt = performance.now();
    this.#timedOut = false;
    // The cause may fall here and rise again by what the line brings now: that is a new interrupt.
    this.#refresh();
    this.#events.room();
    return byte;
  }

  #identify(): number {
    const causes = this.#causes;
    const fifos = this.#fifos ? IIR_FIFOS : 0;
    if ((causes & CAUSE_LINE_STATUS) !== 0) return fifos | IIR_LINE_STATUS;
    if ((causes & CAUSE_RECEIVED) !== 0) return fifos | IIR_RECEIVED;
    if ((causes & CAUSE_TIME_OUT) !== 0) return fifos | IIR_TIME_OUT;
    if ((causes & CAUSE_TRANSMITTER) !== 0) {
      this.#transmitterEmpty = false;
      return fifos | IIR_TRANSMITTER;
    }
    return fifos | ((causes & CAUSE_MODEM) === 0 ? IIR_NONE : IIR_MODEM);
  }

  #lineStatus(): number {
    // A guest that polls would do nothing else until the line has taken its bytes.
    if (this.pending !== 0) this.#events.transmit(true);
    const receiver = this.#receiver;
    const empty = this.#loopback || this.#transmitter.length === 0;
    const value = (receiver.length > 0 ? LSR_DR : 0) | (this.#overrun ? LSR_OE : 0) | receiver.errors | (empty ? LSR_THRE | LSR_TEMT : 0)
      | (this.#fifos && receiver.withErrors > 0 ? LSR_FIFO_ERROR : 0);
    this.#overrun = false;
    receiver.clearErrors();
    return value;
  }

  #send(byte: number): void {
    this.#transmitterEmpty = false;
    if (this.#loopback) {
      this.#transmitterEmpty = true;
      this.#loop(byte, 0);
      return;
    }
    const capacity = this.capacity;
    // A guest that does not wait for THRE has nowhere to put it: its own loss, as on a real chip.
    if (this.#transmitter.length < capacity) this.#transmitter.push(byte);
    this.#events.transmit(this.#transmitter.length >= capacity);
  }

  #controlFifos(value: number): void {
    const toggled = ((value ^ this.#fcr) & FCR_ENABLE) !== 0;
    // Changing bit 0 empties both; without it the other bits are not programmed (8.5).
    const enabled = (value & FCR_ENABLE) !== 0;
    this.#fcr = enabled ? value & 0xc9 : 0;
    if (toggled || (enabled && (value & FCR_RESET_RECEIVER) !== 0)) {
      this.#receiver.clear();
      this.#timedOut = false;
    }
    if (toggled || (enabled && (value & FCR_RESET_TRANSMITTER) !== 0)) {
      // Changing bit 0 makes it interrupt at once (8.11); so does running empty.
      if (toggled || this.#transmitter.length > 0) this.#transmitterEmpty = true;
      this.#transmitter.clear();
    }
    this.#refresh();
    this.#events.room();
  }

  #controlLine(value: number): void {
    const begins = (value & ~this.#lcr & LCR_BREAK) !== 0;
    // What was written before goes before.
    if (begins) this.#events.transmit(true);
    this.#lcr = value;
    if (begins && this.#loopback) this.#loop(0, LSR_BI);
    this.#events.line();
    if (!this.breaking) this.#events.transmit(true);
  }

  /** In loopback the outputs are the inputs: DTR is DSR, RTS is CTS, OUT1 is RI, OUT2 is DCD (8.8). */
  #modemInputs(): number {
    const mcr = this.#mcr;
    return this.#loopback ? (mcr & 1) << 5 | (mcr & 2) << 3 | (mcr & 4) << 4 | (mcr & 8) << 4 : this.#inputs;
  }

  #changeModem(change: () => void): void {
    const before = this.#modemInputs();
    change();
    const now = this.#modemInputs();
    const changed = before ^ now;
    // RI counts where it ends (8.9 bit 2).
    this.#deltas |= (changed & 0x10 ? MSR_DCTS : 0) | (changed & 0x20 ? MSR_DDSR : 0) | (changed & before & MSR_RI ? MSR_TERI : 0) | (changed & 0x80 ? MSR_DDCD : 0);
  }

  #loop(byte: number, errors: number): void {
    if (this.#receiver.length < this.capacity) {
      this.#arrive(byte, errors);
      return;
    }
    // The FIFO stays as it is; with the FIFOs off the newer byte takes the place (8.4 bit 1).
    this.overruns++;
    this.#overrun = true;
    if (this.#fifos) return;
    this.#receiver.clear();
    this.#arrive(byte, errors);
  }

  #arrive(byte: number, errors: number): void {
    this.#depth++;
    this.#receiver.push(byte, errors);
    this.#activeAt = performance.now();
    this.#timedOut = false;
    this.#leave();
  }

  #leave(): void {
    this.#refresh();
    if (--this.#depth === 0) this.#events.interrupt();
  }

  #refresh(): void {
    const ier = this.#ier;
    const receiver = this.#receiver;
    const { trigger } = this;
    const causes =
      ((ier & IER_ELSI) !== 0 && (this.#overrun || receiver.errors !== 0) ? CAUSE_LINE_STATUS : 0)
      | ((ier & IER_ERBFI) === 0 ? 0 : receiver.length >= trigger ? CAUSE_RECEIVED : this.#timedOut && receiver.length > 0 ? CAUSE_TIME_OUT : 0)
      | ((ier & IER_ETBEI) !== 0 && this.#transmitterEmpty ? CAUSE_TRANSMITTER : 0)
      | ((ier & IER_EDSSI) !== 0 && this.#deltas !== 0 ? CAUSE_MODEM : 0);
    if ((causes & ~this.#causes) !== 0) this.#rising = true;
    this.#causes = causes;
    if (this.#timer === undefined && this.#awaitsTimeOut(trigger)) this.#watchTimeOut();
  }

  #awaitsTimeOut(trigger: number): boolean {
    return this.#fifos && !this.#timedOut && (this.#ier & IER_ERBFI) !== 0 && this.#receiver.length > 0 && this.#receiver.length < trigger;
  }

  /** Four character times without arrival or fetch, as long as there is something to fetch (8.11). One timer at a time, however many bytes come. */
  #watchTimeOut(): void {
    const { baud, dataBits, parity, stopBits } = this.settings;
    const characterMs = 1000 * (1 + dataBits + (parity === 'none' ? 0 : 1) + stopBits) / Math.max(baud, 2);
    const dueIn = this.#activeAt + TIME_OUT_CHARACTERS * characterMs - performance.now();
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#depth++;
      if (performance.now() - this.#activeAt >= TIME_OUT_CHARACTERS * characterMs) this.#timedOut = this.#fifos && this.#receiver.length > 0;
      this.#leave();
    }, Math.max(1, Math.ceil(dueIn)));
    this.#timer.unref();
  }
}
