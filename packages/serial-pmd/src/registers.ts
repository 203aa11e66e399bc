/** Registers and bits of a 16550A: National Semiconductor PC16550D data sheet (June 1995), section 8. */

/** Receiver buffer (read) and transmitter holding register (write); with DLAB the divisor's low byte. */
export const RBR = 0;
export const THR = 0;
export const DLL = 0;
/** Interrupt enable; with DLAB the divisor's high byte. */
export const IER = 1;
export const DLM = 1;
/** Interrupt identification (read), FIFO control (write). */
export const IIR = 2;
export const FCR = 2;
export const LCR = 3;
export const MCR = 4;
export const LSR = 5;
export const MSR = 6;
export const SCR = 7;
export const REGISTER_BYTES = 8;

export const IER_RECEIVED = 0x01;
export const IER_TRANSMITTER = 0x02;
export const IER_LINE_STATUS = 0x04;
export const IER_MODEM = 0x08;

/** No interrupt is pending. */
export const IIR_NONE = 0x01;
/** Both: the FIFOs work and are on. */
export const IIR_FIFOS = 0xc0;

export const FCR_ENABLE = 0x01;
export const FCR_RESET_RECEIVER = 0x02;
export const FCR_RESET_TRANSMITTER = 0x04;

export const LCR_STOP = 0x04;
export const LCR_PARITY = 0x08;
export const LCR_EVEN = 0x10;
export const LCR_STICK = 0x20;
export const LCR_BREAK = 0x40;
export const LCR_DLAB = 0x80;

export const MCR_DTR = 0x01;
export const MCR_RTS = 0x02;
/** On PC cards it gates the interrupt. */
export const MCR_OUT2 = 0x08;
export const MCR_LOOP = 0x10;

export const LSR_DATA = 0x01;
export const LSR_OVERRUN = 0x02;
export const LSR_PARITY = 0x04;
export const LSR_FRAMING = 0x08;
export const LSR_BREAK = 0x10;
/** The transmitter takes bytes: as many as its FIFO holds. */
export const LSR_THRE = 0x20;
/** The last byte has left. */
export const LSR_TEMT = 0x40;

export const MSR_DELTAS = 0x0f;
export const MSR_CTS = 0x10;
export const MSR_DSR = 0x20;
export const MSR_RI = 0x40;
export const MSR_DCD = 0x80;

/** 1.8432 MHz / 16 (8.3). */
export const BASE_BAUD = 115_200;
