/** How a line is set up, and the register values that say so (8.1, 8.3). */
import { SerialError } from './errors.ts';
import { BASE_BAUD, LCR_EVEN, LCR_PARITY, LCR_STICK, LCR_STOP } from './registers.ts';

/** What the bit after the data bits is: none, odd or even with them, or always 1 (mark) or 0 (space). */
export type Parity = 'none' | 'odd' | 'even' | 'mark' | 'space';

/** What both ends of a line have to agree on. */
export interface LineSettings {
  /** Bits per second: 115200 divided by a whole number. */
  readonly baud: number;
  readonly dataBits: 5 | 6 | 7 | 8;
  readonly parity: Parity;
  /** 1.5 is what 2 means with 5 data bits. */
  readonly stopBits: 1 | 1.5 | 2;
}

export const DEFAULT_SETTINGS: LineSettings = { baud: 115_200, dataBits: 8, parity: 'none', stopBits: 1 };

/** A receiver follows a line that is off by so much. */
const MAX_BAUD_ERROR = 0.02;
const PARITY_BITS: Readonly<Record<Parity, number>> = {
  none: 0, odd: LCR_PARITY, even: LCR_PARITY | LCR_EVEN, mark: LCR_PARITY | LCR_STICK, space: LCR_PARITY | LCR_EVEN | LCR_STICK,
};

/** The divisor and LCR. ERR_SERIAL_ARGUMENT for what a 16550 cannot do. */
export function encodeSettings({ baud, dataBits, parity, stopBits }: LineSettings): { readonly divisor: number; readonly lcr: number } {
  const divisor = Math.round(BASE_BAUD / baud);
  if (!(divisor >= 1 && divisor <= 0xffff) || Math.abs(BASE_BAUD / divisor - baud) > MAX_BAUD_ERROR * baud) {
    throw new SerialError('ERR_SERIAL_ARGUMENT', `${baud} baud: a rate is ${BASE_BAUD} divided by 1 to 65535, within 2 %`);
  }
  if (![5, 6, 7, 8].includes(dataBits)) throw new SerialError('ERR_SERIAL_ARGUMENT', `${dataBits as number} data bits: want 5 to 8`);
  if (!Object.hasOwn(PARITY_BITS, parity)) throw new SerialError('ERR_SERIAL_ARGUMENT', `parity ${String(parity)}: want one of ${Object.keys(PARITY_BITS).join(', ')}`);
  const long = dataBits === 5 ? 1.5 : 2;
  if (stopBits !== 1 && stopBits !== long) throw new SerialError('ERR_SERIAL_ARGUMENT', `${stopBits as number} stop bits: want 1 or ${long} with ${dataBits} data bits`);
  return { divisor, lcr: (dataBits - 5) | (stopBits === 1 ? 0 : LCR_STOP) | PARITY_BITS[parity] };
}
