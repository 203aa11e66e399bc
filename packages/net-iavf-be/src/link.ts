import type { LinkState } from '@emudev/iavf-emu/contract';

/**
 * The carrier the guest sees: our port is not stopped, and the far end of the forwarding stream has a link. Until somebody says
 * otherwise both hold, so a device that nobody forwards for yet comes up like a card with a cable in it. The speed is the card's.
 */
export class GuestLink {
  readonly #speedMbps: number;
  readonly #onChange: (link: LinkState) => void;
  #serving = true;
  #peer = true;

  constructor(speedMbps: number, onChange: (link: LinkState) => void) {
    this.#speedMbps = speedMbps;
    this.#onChange = onChange;
  }

  get state(): LinkState {
    return { up: this.#serving && this.#peer, speedMbps: this.#speedMbps };
  }

  setServing(serving: boolean): void {
    this.#change(() => {
      this.#serving = serving;
    });
  }

  setPeer(up: boolean): void {
    this.#change(() => {
      this.#peer = up;
    });
  }

  #change(apply: () => void): void {
    const before = this.state.up;
    apply();
    if (this.state.up !== before) this.#onChange(this.state);
  }
}
