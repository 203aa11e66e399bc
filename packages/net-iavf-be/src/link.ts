import type { LinkStatus } from '@emudev/ethdev';
import type { LinkState } from '@emudev/iavf-emu/contract';
import { DEFAULT_SPEED_MBPS } from './limits.ts';

/**
 * The carrier the guest sees: our port is not stopped, and the far end of the forwarding stream has a link. Until somebody says
 * otherwise both hold, so a device that nobody forwards for yet comes up like a card with a cable in it.
 */
export class GuestLink {
  readonly #onChange: (link: LinkState) => void;
  #serving = true;
  #peer: LinkStatus = { up: true, speedMbps: DEFAULT_SPEED_MBPS };
  #told: LinkState;

  constructor(onChange: (link: LinkState) => void) {
    this.#onChange = onChange;
    this.#told = this.state;
  }

  get state(): LinkState {
    const up = this.#serving && this.#peer.up;
    return { up, speedMbps: up ? speedOf(this.#peer) : 0 };
  }

  setServing(serving: boolean): void {
    this.#serving = serving;
    this.#tell();
  }

  setPeer(link: LinkStatus): void {
    this.#peer = link;
    this.#tell();
  }

  #tell(): void {
    const now = this.state;
    if (now.up === this.#told.up && now.speedMbps === this.#told.speedMbps) return;
    this.#told = now;
    this.#onChange(now);
  }
}

/** What fits the event's field; a far end that does not know its speed gets the default. */
function speedOf({ speedMbps }: LinkStatus): number {
  return speedMbps >= 1 ? Math.min(Math.trunc(speedMbps), 0xffff_ffff) : DEFAULT_SPEED_MBPS;
}
