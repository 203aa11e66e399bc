/** Guest memory behind a gate: the admin queues reach it only while nobody holds the gate shut. */
import type { GuestMemory } from '@emudev/pci';

export type GateReason = 'no consumer' | 'not ready' | 'bus master off' | 'quiesced' | 'reset';

/** Access given up because the queue it was for is gone. Never seen outside the admin queues. */
export class AccessAbandoned extends Error {
  override readonly name = 'AccessAbandoned';
}

export class DmaGate {
  memory: GuestMemory | undefined;
  readonly #reasons = new Set<GateReason>();
  readonly #inFlight = new Set<Promise<void>>();
  #waiting: { go(): void; abandon(): void }[] = [];

  get isOpen(): boolean {
    return this.#reasons.size === 0;
  }

  /** Shuts the gate; resolves when accesses under way (by message) have come back. Undefined where there are none. */
  shut(reason: GateReason): Promise<void> | undefined {
    this.#reasons.add(reason);
    return this.#inFlight.size === 0 ? undefined : Promise.allSettled(this.#inFlight).then(() => undefined);
  }

  /** Takes a reason away. True if that opened the gate. */
  open(reason: GateReason): boolean {
    if (!this.#reasons.delete(reason) || !this.isOpen) return false;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { go } of waiting) go();
    return true;
  }

  /** Accesses that wait at the gate will never be made. */
  abandonWaiting(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { abandon } of waiting) abandon();
  }

  /** As GuestMemory.read and write: undefined when it is done already. Waits at a shut gate; then rejects with AccessAbandoned if abandoned. */
  read(iova: bigint, into: Uint8Array): Promise<void> | undefined {
    return this.#access((memory) => memory.read(iova, into));
  }

  write(iova: bigint, from: Uint8Array): Promise<void> | undefined {
    return this.#access((memory) => memory.write(iova, from));
  }

  #access(access: (memory: GuestMemory) => void | Promise<void>): Promise<void> | undefined {
    if (!this.isOpen) {
      const { promise, resolve, reject } = Promise.withResolvers<undefined>();
      this.#waiting.push({ go: () => { resolve(undefined); }, abandon: () => { reject(new AccessAbandoned()); } });
      // Once more through the gate: it may be shut again by the time this continues.
      return promise.then(() => this.#access(access));
    }
    if (this.memory === undefined) throw new AccessAbandoned();
    const result = access(this.memory);
    if (result === undefined) return undefined;
    const tracked = result.finally(() => this.#inFlight.delete(tracked));
    this.#inFlight.add(tracked);
    return tracked;
  }
}
