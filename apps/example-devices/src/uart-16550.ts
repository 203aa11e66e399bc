/** The registers of a 16550A UART (National Semiconductor PC16550D data sheet), without anything PCI. */

// Register offsets; three of them are others while LCR.DLAB is set or depending on the direction.
const RBR_THR_DLL = 0;
const IER_DLM = 1;
const IIR_FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;

const IER_RDI = 1;
const IER_THRI = 2;
const IIR_NO_INT = 1;
const IIR_THRI = 2;
const IIR_RDI = 4;
const IIR_FIFO_ENABLED = 0xc0;
const FCR_ENABLE = 1;
const FCR_CLEAR_RCVR = 2;
const LCR_DLAB = 0x80;
const MCR_LOOP = 0x10;
const LSR_DR = 1;
const LSR_OE = 2;
const LSR_THRE_TEMT = 0x60;
/** CTS, DSR and DCD: somebody is connected. */
const MSR_CONNECTED = 0xb0;
const FIFO_BYTES = 16;

export interface UartEvents {
  /** A byte has been sent. */
  transmit(byte: number): void;
  /** The interrupt pin: true where a cause is pending and enabled. Called when it changes. */
  interrupt(asserted: boolean): void;
}

export class Uart16550 {
  readonly #events: UartEvents;
  readonly #received: number[] = [];
  /** DLL, DLM, IER, FCR, LCR, MCR, SCR. */
  #divisor = [1, 0];
  #ier = 0;
  #fifo = false;
  #lcr = 0;
  #mcr = 0;
  #scr = 0;
  #overrun = false;
  /** Set when the transmitter runs empty, cleared by reading IIR while it is the reason, or by sending. */
  #transmitterEmpty = false;
  #asserted = false;

  constructor(events: UartEvents) {
    this.#events = events;
  }

  read(register: number): number {
    const value = this.#read(register);
    this.#update();
    return value;
  }

  write(register: number, value: number): void {
    this.#write(register, value);
    this.#update();
  }

  /** A byte arrives on the line. What does not fit is lost, and LSR says so. */
  receive(byte: number): void {
    if (this.#received.length < (this.#fifo ? FIFO_BYTES : 1)) this.#received.push(byte);
    else this.#overrun = true;
    this.#update();
  }

  /** Bytes that `receive` takes without loss. */
  get room(): number {
    return (this.#fifo ? FIFO_BYTES : 1) - this.#received.length;
  }

  reset(): void {
    this.#received.length = 0;
    this.#divisor = [1, 0];
    this.#ier = this.#lcr = this.#mcr = this.#scr = 0;
    this.#fifo = this.#overrun = this.#transmitterEmpty = false;
    this.#update();
  }

  #read(register: number): number {
    const dlab = (this.#lcr & LCR_DLAB) !== 0;
    switch (register) {
      case RBR_THR_DLL: return dlab ? this.#divisor[0]! : (this.#received.shift() ?? 0);
      case IER_DLM: return dlab ? this.#divisor[1]! : this.#ier;
      case IIR_FCR: {
        const reason = this.#reason();
        if (reason === IIR_THRI) this.#transmitterEmpty = false;
        return reason | (this.#fifo ? IIR_FIFO_ENABLED : 0);
      }
      case LCR: return this.#lcr;
      case MCR: return this.#mcr;
      case LSR: {
        const value = LSR_THRE_TEMT | (this.#received.length > 0 ? LSR_DR : 0) | (this.#overrun ? LSR_OE : 0);
        this.#overrun = false;
        return value;
      }
      // In loopback the modem outputs are wired to the inputs: DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD.
      case MSR: return (this.#mcr & MCR_LOOP) === 0 ? MSR_CONNECTED : ((this.#mcr & 1) << 5) | ((this.#mcr & 2) << 3) | ((this.#mcr & 4) << 4) | ((this.#mcr & 8) << 4);
      case SCR: return this.#scr;
      default: return 0xff;
    }
  }

  #write(register: number, value: number): void {
    const dlab = (this.#lcr & LCR_DLAB) !== 0;
    switch (register) {
      case RBR_THR_DLL:
        if (dlab) this.#divisor[0] = value;
        else this.#send(value);
        break;
      case IER_DLM:
        if (dlab) this.#divisor[1] = value;
        else {
          // Enabling the interrupt of an empty transmitter raises it at once (data sheet, 8.6.5).
          if ((value & ~this.#ier & IER_THRI) !== 0) this.#transmitterEmpty = true;
          this.#ier = value & 0x0f;
        }
        break;
      case IIR_FCR:
        this.#fifo = (value & FCR_ENABLE) !== 0;
        if ((value & FCR_CLEAR_RCVR) !== 0) this.#received.length = 0;
        break;
      case LCR: this.#lcr = value; break;
      case MCR: this.#mcr = value & 0x1f; break;
      case SCR: this.#scr = value; break;
    }
  }

  #send(byte: number): void {
    // The line is infinitely fast: the transmitter is empty again when the write returns.
    this.#transmitterEmpty = true;
    if ((this.#mcr & MCR_LOOP) === 0) this.#events.transmit(byte);
    else this.receive(byte);
  }

  #reason(): number {
    if ((this.#ier & IER_RDI) !== 0 && this.#received.length > 0) return IIR_RDI;
    if ((this.#ier & IER_THRI) !== 0 && this.#transmitterEmpty) return IIR_THRI;
    return IIR_NO_INT;
  }

  #update(): void {
    const asserted = this.#reason() !== IIR_NO_INT;
    if (asserted === this.#asserted) return;
    this.#asserted = asserted;
    this.#events.interrupt(asserted);
  }
}
