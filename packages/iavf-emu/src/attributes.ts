import { attribute, integerAttr, type EmudevProvider } from '@emudev/emudev';
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
    this.byName = new Map([
      attribute(ATTR_MAC, { get: () => this.#mac, set: (mac) => { this.#mac = mac; } }),
      attribute(ATTR_LINK, { get: () => this.#link, set: ({ up, speedMbps }) => { this.#link = { up, speedMbps }; } }),
      attribute(ATTR_QUEUE_PAIRS, { get: () => this.#queuePairs, set: (pairs) => { this.#queuePairs = pairs; } }, integerAttr({ min: 1, max: maxQueuePairs })),
      attribute(ATTR_RESET_STATE, { get: () => options.resetState() }),
    ]);
  }

  configure(queuePairs: number): void {
    this.#queuePairs = queuePairs;
  }
}
