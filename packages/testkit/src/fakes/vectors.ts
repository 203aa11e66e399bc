import { linux, OwnedFd } from '@emudev/linux';

/** The consumer's end of interrupts: real eventfds, so that any thread may signal them, counted by index and vector. */
export class RecordingVectors implements Disposable {
  readonly #fds = new Map<string, OwnedFd>();
  readonly #counts = new Map<string, number>();

  /** The vector's eventfd, -1 while it has none. */
  fd(index: number, vector: number): number {
    return this.#fds.get(`${index}:${vector}`)?.fd ?? -1;
  }

  /** Gives a vector an eventfd (a new one where it has one already). */
  assign(index: number, vector: number): number {
    this.unassign(index, vector);
    const owned = new OwnedFd(linux.eventfd());
    this.#fds.set(`${index}:${vector}`, owned);
    return owned.fd;
  }

  /** Takes it away; what was signalled before stays counted. */
  unassign(index: number, vector: number): void {
    this.#drain(`${index}:${vector}`);
    this.#fds.get(`${index}:${vector}`)?.close();
    this.#fds.delete(`${index}:${vector}`);
  }

  /** Signals; false where nothing is assigned, as `PciHost.trigger`. */
  signal(index: number, vector: number): boolean {
    const fd = this.fd(index, vector);
    return fd !== -1 && linux.eventfdSignal(fd);
  }

  /** How often a vector has been signalled, by whichever thread, since it exists. */
  count(index: number, vector: number): number {
    this.#drain(`${index}:${vector}`);
    return this.#counts.get(`${index}:${vector}`) ?? 0;
  }

  /** Signals of all vectors together. */
  get total(): number {
    for (const key of this.#fds.keys()) this.#drain(key);
    return [...this.#counts.values()].reduce((sum, n) => sum + n, 0);
  }

  /** Closes all descriptors; counts stay. */
  clear(): void {
    for (const key of this.#fds.keys()) this.#drain(key);
    for (const fd of this.#fds.values()) fd.close();
    this.#fds.clear();
  }

  /** As `clear`. */
  [Symbol.dispose](): void {
    this.clear();
  }

  #drain(key: string): void {
    const owned = this.#fds.get(key);
    if (owned === undefined) return;
    const signals = linux.eventfdDrain(owned.fd);
    if (signals > 0) this.#counts.set(key, (this.#counts.get(key) ?? 0) + signals);
  }
}
