/** The registers of a 16550A, as data: National Semiconductor PC16550D data sheet (June 1995), sections 8.0 to 8.12, tables I and II. */

/** As the data sheet abbreviates them. */
export type RegisterName = 'RBR' | 'THR' | 'IER' | 'DLL' | 'DLM' | 'IIR' | 'FCR' | 'LCR' | 'MCR' | 'LSR' | 'MSR' | 'SCR';

/** One register. */
export interface RegisterSpec {
  readonly name: RegisterName;
  /** Address lines A2 to A0. */
  readonly offset: number;
  /** LCR.DLAB with which it is there; undefined: with either. */
  readonly dlab?: 0 | 1;
  readonly access: 'r' | 'w' | 'rw';
  /** After a reset (table I). */
  readonly reset: number;
  /** Bits that exist; the others read as zero. */
  readonly bits: number;
  /** Of the data sheet. */
  readonly section: string;
}

/** All of them, by address. */
export const REGISTERS: readonly RegisterSpec[] = [
  { name: 'RBR', offset: 0, dlab: 0, access: 'r', reset: 0x00, bits: 0xff, section: '8.0, table II' },
  { name: 'THR', offset: 0, dlab: 0, access: 'w', reset: 0x00, bits: 0xff, section: '8.0, table II' },
  { name: 'IER', offset: 1, dlab: 0, access: 'rw', reset: 0x00, bits: 0x0f, section: '8.7' },
  // Table I leaves the divisor as it was; ours begins at 9600 baud, so that it is never undefined.
  { name: 'DLL', offset: 0, dlab: 1, access: 'rw', reset: 0x0c, bits: 0xff, section: '8.3' },
  { name: 'DLM', offset: 1, dlab: 1, access: 'rw', reset: 0x00, bits: 0xff, section: '8.3' },
  { name: 'IIR', offset: 2, access: 'r', reset: 0x01, bits: 0xcf, section: '8.6, table IV' },
  { name: 'FCR', offset: 2, access: 'w', reset: 0x00, bits: 0xcf, section: '8.5' },
  { name: 'LCR', offset: 3, access: 'rw', reset: 0x00, bits: 0xff, section: '8.1' },
  { name: 'MCR', offset: 4, access: 'rw', reset: 0x00, bits: 0x1f, section: '8.8' },
  { name: 'LSR', offset: 5, access: 'r', reset: 0x60, bits: 0xff, section: '8.4' },
  { name: 'MSR', offset: 6, access: 'r', reset: 0x00, bits: 0xff, section: '8.9' },
  { name: 'SCR', offset: 7, access: 'rw', reset: 0x00, bits: 0xff, section: '8.10' },
];

const named = (name: RegisterName): RegisterSpec => REGISTERS.find((register) => register.name === name)!;
const find = (offset: number, dlab: 0 | 1, direction: 'r' | 'w'): RegisterName | undefined =>
  REGISTERS.find((r) => r.offset === offset && (r.dlab === undefined || r.dlab === dlab) && r.access.includes(direction))?.name;

/** Offset + 8 × DLAB to the register that an access means; undefined: a write that means nothing. */
const byAddress = (direction: 'r' | 'w'): readonly (RegisterName | undefined)[] => Array.from({ length: 16 }, (_, i) => find(i & 7, i < 8 ? 0 : 1, direction));
export const READ_AT: readonly (RegisterName | undefined)[] = byAddress('r');
export const WRITE_AT: readonly (RegisterName | undefined)[] = byAddress('w');

export const REGISTER_BYTES = 8;
export const resetValue = (name: RegisterName): number => named(name).reset;
export const implementedBits = (name: RegisterName): number => named(name).bits;

export const IER_ERBFI = 0x01; // received data available
export const IER_ETBEI = 0x02; // transmitter holding register empty
export const IER_ELSI = 0x04; // receiver line status
export const IER_EDSSI = 0x08; // modem status

/** Identification codes (table IV), the highest priority first. */
export const IIR_LINE_STATUS = 0x06;
export const IIR_RECEIVED = 0x04;
export const IIR_TIME_OUT = 0x0c;
export const IIR_TRANSMITTER = 0x02;
export const IIR_MODEM = 0x00;
export const IIR_NONE = 0x01;
export const IIR_FIFOS = 0xc0;

export const FCR_ENABLE = 0x01;
export const FCR_RESET_RECEIVER = 0x02;
export const FCR_RESET_TRANSMITTER = 0x04;
/** Bits 7 and 6: characters from which on the receiver interrupts (8.5). */
export const TRIGGER_LEVELS: readonly number[] = [1, 4, 8, 14];

export const LCR_STB = 0x04;
export const LCR_PEN = 0x08;
export const LCR_EPS = 0x10;
export const LCR_STICK = 0x20;
export const LCR_BREAK = 0x40;
export const LCR_DLAB = 0x80;

export const MCR_DTR = 0x01;
export const MCR_RTS = 0x02;
export const MCR_OUT1 = 0x04;
export const MCR_OUT2 = 0x08;
export const MCR_LOOP = 0x10;

export const LSR_DR = 0x01;
export const LSR_OE = 0x02;
export const LSR_BI = 0x10;
export const LSR_THRE = 0x20;
export const LSR_TEMT = 0x40;
export const LSR_FIFO_ERROR = 0x80;

export const MSR_DCTS = 0x01;
export const MSR_DDSR = 0x02;
export const MSR_TERI = 0x04;
export const MSR_DDCD = 0x08;
export const MSR_CTS = 0x10;
export const MSR_DSR = 0x20;
export const MSR_RI = 0x40;
export const MSR_DCD = 0x80;
