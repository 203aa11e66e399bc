/** The last messages of a session, for the report of a failure. */
import { describeMessage, headerFlagNames } from '@emudev/vfio-user-protocol';
import { REPORTED_MESSAGES } from './limits.ts';

interface Recorded {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly payload: Uint8Array;
  readonly fdCount: number;
  readonly note: string;
}

export class Recorder {
  readonly #ring: Recorded[] = [];
  #next = 0;
  /** Commands sent, by number; unknown ones together as 0xffff. */
  readonly histogram: Map<number, number> = new Map<number, number>();

  /** `payload` must not be changed afterwards. */
  add(id: number, command: number, flags: number, payload: Uint8Array, fdCount: number, note = ''): void {
    this.#ring[this.#next++ % REPORTED_MESSAGES] = { id, command, flags, payload, fdCount, note };
    const key = command <= 18 ? command : 0xffff;
    this.histogram.set(key, (this.histogram.get(key) ?? 0) + 1);
  }

  /** Oldest first, one a line. */
  lines(): string[] {
    const from = Math.max(0, this.#next - REPORTED_MESSAGES);
    return Array.from({ length: this.#next - from }, (_, i) => {
      const number = from + i;
      const { id, command, flags, payload, fdCount, note } = this.#ring[number % REPORTED_MESSAGES]!;
      const { name, fields, malformed } = describeMessage({ id, command, size: 16 + payload.length, flags, error: 0 }, payload, { fdCount });
      const text = fields.map((field) => `${field.name}=${field.value}`).join(', ');
      const head = `${number} id ${id} ${headerFlagNames(flags)} ${name}(${text})${malformed === undefined ? '' : ` MALFORMED ${malformed}`}${note === '' ? '' : ` [${note}]`}`;
      return `${head}\n    ${Buffer.from(payload.subarray(0, 256)).toString('hex')}${payload.length > 256 ? '...' : ''}`;
    });
  }
}
