import type { EmudevProvider } from '@emudev/emudev';
import { ATTR_LINK, ATTR_MAC, ATTR_QUEUE_PAIRS, ATTR_RESET_STATE, type LinkState } from './contract.ts';

export interface AttributeOptions {
  readonly mac: Uint8Array;
  readonly maxQueuePairs: number;
  readonly speedMbps: number;
  resetState(): number;
}

/**
 * What provider and back end know about the card besides its registers. It is how the card was provisioned, so no reset changes it:
 * what a guest asks for (another address, fewer queues) the back end keeps, and forgets.
 */
export class IavfAttributes {
  readonly byName: EmudevProvider['attributes'];
  #mac: Uint8Array;
  #link: LinkState;
  #queuePairs: number;

  constructor(options: AttributeOptions) {
    const { maxQueuePairs } = options;
    this.#mac = options.mac.slice();
    this.#queuePairs = maxQueuePairs;
    this.#link = { up: false, speedMbps: options.speedMbps };
    this.byName = new Map<string, { get(): unknown; set?(value: unknown): void }>([
      [ATTR_MAC.name, {
        get: () => this.#mac,
        set: (value) => {
          if (!(value instanceof Uint8Array) || value.length !== 6) throw new Error('expected six bytes');
          if ((value[0]! & 1) !== 0) throw new Error('expected a unicast address');
          this.#mac = value;
        },
      }],
      [ATTR_LINK.name, {
        get: () => this.#link,
        set: (value) => {
          const link = value as Partial<LinkState> | null;
          if (typeof link?.up !== 'boolean' || !Number.isInteger(link.speedMbps) || link.speedMbps! < 0) throw new Error('expected { up: boolean, speedMbps: number }');
          this.#link = { up: link.up, speedMbps: link.speedMbps! };
        },
      }],
      [ATTR_QUEUE_PAIRS.name, {
        get: () => this.#queuePairs,
        set: (value) => {
          if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > maxQueuePairs) throw new Error(`expected 1..${maxQueuePairs}`);
          this.#queuePairs = value as number;
        },
      }],
      [ATTR_RESET_STATE.name, { get: () => options.resetState() }],
    ]);
  }

  configure(queuePairs: number): void {
    this.#queuePairs = queuePairs;
  }
}
