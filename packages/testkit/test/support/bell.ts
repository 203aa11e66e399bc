/** A small back end that does everything right, and its family: a guest says where, rings, and finds one more there. */
import { channelKey, raiseVector, type AttrKey, type BackEndHooks, type Channel, type Emudev, type ResetKind, attrKey, attribute } from '@emudev/emudev';
import { TEST_RAM_IOVA, type FakeEmudev, type FakeEmudevSpec } from '@emudev/testkit';
import { Window } from '@emudev/dma';

export const BELL = { devType: 'bell', version: 1 };
const PLACE = channelKey<never, bigint>('place');
const TONE: AttrKey<number> = attrKey('tone');

export const bellFamily = (): FakeEmudevSpec => ({
  devType: BELL.devType, contractVersion: BELL.version, numVectors: 1, doorbells: { 0: 'trap' },
  channels: { [PLACE.name]: () => {} },
  attributes: [attribute(TONE, { get: () => 440 })],
});

export class Bell implements BackEndHooks {
  readonly emudev: Emudev;
  readonly window: Window = Window.open();
  readonly scratch: number = this.window.alloc(64);
  place: bigint | undefined;
  locked = false;
  closed = false;
  #doorbell: Disposable | undefined;
  #handler: Disposable | undefined;
  #attachment: AsyncDisposable | undefined;

  constructor(emudev: Emudev) {
    this.emudev = emudev;
  }

  /** Attaches, or gives everything back. */
  attach(contract: { readonly devType: string; readonly version: number } = BELL): this {
    try {
      this.#attachment = this.emudev.attach(this, contract);
    } catch (error) {
      this.release();
      throw error;
    }
    const channel: Channel<never, bigint> = this.emudev.channel(PLACE);
    this.#handler = channel.onMessage((place) => { this.place = place; });
    return this;
  }

  start(): void {}
  ready(): void {
    const doorbell = this.emudev.doorbell(0);
    if (doorbell.kind === 'trap') this.#doorbell = doorbell.subscribe(() => { this.rung(); });
  }
  destroyed(): void {
    this.unsubscribe();
  }
  reset(_kind: ResetKind): void {
    this.place = undefined;
  }
  lock(): Promise<void> {
    this.locked = true;
    return Promise.resolve();
  }
  unlock(): void {
    this.locked = false;
  }

  rung(): void {
    if (this.place === undefined || this.locked) return;
    this.serve(this.place);
  }

  serve(place: bigint): void {
    const byte = new Uint8Array(1);
    try {
      void this.emudev.memTable().read(place, byte);
    } catch {
      return;
    }
    void this.emudev.memTable().write(place, Uint8Array.of(byte[0]! + 1));
    raiseVector(this.window.i32, this.emudev.irqInfo(0).cells >>> 2, (fd) => this.window.sys.eventfdSignal(fd));
  }

  unsubscribe(): void {
    this.#doorbell?.[Symbol.dispose]();
    this.#doorbell = undefined;
  }

  release(): void {
    this.window.free(this.scratch);
    this.window[Symbol.dispose]();
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.unsubscribe();
    this.#handler?.[Symbol.dispose]();
    await this.#attachment?.[Symbol.asyncDispose]();
    this.release();
  }
}

export const bellGuest = {
  setUp: (fake: FakeEmudev): Promise<void> => fake.deliver(PLACE.name, TEST_RAM_IOVA + 64n),
  act: (fake: FakeEmudev): boolean => {
    fake.doorbell(0).ring(1);
    return false;
  },
};
