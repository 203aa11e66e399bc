/** Two cards of one pool, and whatever may happen to them while frames go from card to card: no frame is spoiled, no buffer lost or owned twice. */
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Quiescence, Window } from '@emudev/dma';
import { FRAME_RECORD_BYTES, allocateBurst, type OwnedBurst, type PortDatapath } from '@emudev/ethdev';
import { BufferPool, PAIR_BUFFERS } from '../src/buffer-pool.ts';
import { POOL_BASE } from '../src/dma-memory.ts';
import { createDatapath, type DatapathInit } from '../src/datapath.ts';
import { RXS_DD, RXS_EOP, RX_LENGTH_SHIFT, TXC_RS, TXD_DONE, TX_CMD_SHIFT } from '../src/descriptors.ts';
import { Q_BUFFERS, Q_SLOTS, RX_DESCRIPTOR_BYTES, RX_PATIENCE, TX_DESCRIPTOR_BYTES } from '../src/layout.ts';
import { BUFFER_STRIDE_BYTES } from '../src/limits.ts';
import { IavfPort } from '../src/port.ts';
import { FakeDevice } from './fake-device.ts';
import { attachablePort } from './port-rig.ts';

const FRAME_BYTES = 60;
/** Of the two cards' rings; together as many buffers as a queue pair of the pool has. */
const LENGTHS = [{ rx: 96, tx: 928 }, { rx: 608, tx: 416 }] as const;
let window: Window;
let burst: OwnedBurst;
beforeEach(() => {
  window = Window.open();
  Quiescence.of(window);
  burst = allocateBurst(window, 64);
});
afterEach(() => {
  burst[Symbol.dispose]();
  window[Symbol.dispose]();
});

/** A port, the device behind it as it sends and receives, and what has become of the frames by now. Every frame has a number. */
class Card {
  #lengths: { readonly rx: number; readonly tx: number } = LENGTHS[0];
  readonly device: FakeDevice = new FakeDevice(window);
  port!: IavfPort;
  datapath!: PortDatapath;
  /** Come and not received; given to the port and not sent yet. */
  readonly coming: number[] = [];
  readonly going: number[] = [];
  #rxNext = 0;
  #txNext = 0;

  static async plug(pool: BufferPool, which: number): Promise<Card> {
    const card = new Card();
    card.#lengths = LENGTHS[which]!;
    const { rx, tx } = card.#lengths;
    card.port = await IavfPort.open('net_iavf', async () => card.device, { pool, rxDescriptors: rx, txDescriptors: tx });
    await card.port.configure({ rxQueues: 1, txQueues: 1, peerTxCapabilities: 0 });
    await card.port.start();
    expect(card.port.sharesBuffers).toBe(true);
    card.datapath = createDatapath({ ...attachablePort(window), lcore: 0 }, card.#init());
    return card;
  }

  #init(): DatapathInit {
    return this.port.datapath().init as DatapathInit;
  }

  /** Where a buffer is that the device was told of. */
  #place(iova: bigint): number {
    return window.u32[(this.#init().rxBlocks[0]! + Q_BUFFERS) >>> 2]! + Number(iova - POOL_BASE);
  }

  come(number: number): void {
    if (this.#rxNext === window.u32[this.device.doorbells!.rx >>> 2]) return;
    const at = this.device.at(this.device.queues().pairs[0]!.rx.ringAddress) + this.#rxNext * RX_DESCRIPTOR_BYTES;
    const place = this.#place(window.view.getBigUint64(at, true));
    window.u8.fill(number, place, place + FRAME_BYTES);
    window.view.setUint32(place, number, true);
    window.view.setBigUint64(at + 8, BigInt(RXS_DD | RXS_EOP) | (BigInt(FRAME_BYTES) << BigInt(RX_LENGTH_SHIFT)), true);
    this.coming.push(number);
    this.#rxNext = (this.#rxNext + 1) % this.#lengths.rx;
  }

  receive(): number {
    for (let polls = 0; polls <= RX_PATIENCE + 1; polls++) {
      const count = this.datapath.rxBurst(0, burst, 64);
      if (count !== 0) return count;
    }
    return 0;
  }

  /** The device sends: only now it looks at the buffers. */
  send(): void {
    const ring = this.device.at(this.device.queues().pairs[0]!.tx.ringAddress);
    for (const tail = window.u32[this.device.doorbells!.tx >>> 2]!; this.#txNext !== tail; this.#txNext = (this.#txNext + 1) % this.#lengths.tx) {
      const at = ring + this.#txNext * TX_DESCRIPTOR_BYTES;
      const place = this.#place(window.view.getBigUint64(at, true));
      const number = this.going.shift()!;
      expect(window.view.getUint32(place, true)).toBe(number);
      expect(window.u8[place + FRAME_BYTES - 1]).toBe(number & 255);
      const qw1 = window.view.getBigUint64(at + 8, true);
      if ((qw1 & (BigInt(TXC_RS) << BigInt(TX_CMD_SHIFT))) !== 0n) window.view.setBigUint64(at + 8, qw1 | BigInt(TXD_DONE), true);
    }
    expect(this.going).toEqual([]);
  }

  async reset(): Promise<void> {
    this.device.requests.length = 0;
    await this.port.reset();
    this.coming.length = this.going.length = 0;
    this.#rxNext = this.#txNext = 0;
  }

  async unplug(): Promise<void> {
    this.datapath.close!();
    await this.port.close();
  }

  owned(): number[] {
    const { rxBlocks, txBlocks } = this.#init();
    const slots = (block: number, length: number): number[] => {
      const word = window.u32[(block + Q_SLOTS) >>> 2]! >>> 2;
      return [...window.u32.subarray(word, word + length)];
    };
    return [...slots(rxBlocks[0]!, this.#lengths.rx), ...slots(txBlocks[0]!, this.#lengths.tx)];
  }
}

const which = fc.constantFrom(0, 1);
const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('come' as const), card: which, count: fc.integer({ min: 1, max: 200 }) }) },
  { weight: 10, arbitrary: fc.record({ kind: fc.constant('pass' as const), card: which, to: which, copies: fc.constantFrom(1, 1, 2) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('send' as const), card: which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('reset' as const, 'replug' as const), card: which }) },
);

test('frames pass from card to card as they came, through resets, and while cards come and go', { timeout: 30_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), async (steps) => {
      // Room for the two cards and nothing else: the next one gets what the last one left.
      using pool = BufferPool.open({ queuePairs: 2 });
      const cards = [await Card.plug(pool, 0), await Card.plug(pool, 1)];
      let number = 0;
      try {
        for (const next of steps) {
          const card = cards[next.card]!;
          if (next.kind === 'come') {
            for (let n = 0; n < next.count; n++) card.come(++number);
          } else if (next.kind === 'pass') {
            const count = card.receive();
            const numbers = card.coming.splice(0, count);
            expect(numbers.map((_, n) => window.view.getUint32(window.u32[(burst.records + n * FRAME_RECORD_BYTES) >>> 2]!, true))).toEqual(numbers);
            // To one card, or flooded: to this one and then to the other.
            for (let copy = 0; copy < next.copies; copy++) {
              const to = cards[next.to ^ copy]!;
              if (to.going.length + count > 350) to.send();
              if (count !== 0) expect(to.datapath.txBurst(0, burst, count)).toBe(count);
              to.going.push(...numbers);
            }
          } else if (next.kind === 'send') {
            card.send();
          } else if (next.kind === 'reset') {
            await card.reset();
          } else {
            await card.unplug();
            expect([pool.free, pool.setAside]).toEqual([PAIR_BUFFERS, 0]);
            cards[next.card] = await Card.plug(pool, next.card);
          }
          expect(new Set(cards.flatMap((one) => one.owned())).size).toBe(2 * PAIR_BUFFERS);
        }
        for (const card of cards) card.send();
      } finally {
        for (const card of cards) await card.unplug();
      }
      const rest = pool.take(2 * PAIR_BUFFERS)!;
      expect(rest.starts.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 2 * PAIR_BUFFERS }, (_, i) => i * BUFFER_STRIDE_BYTES));
      rest.give(rest.starts, true);
    }),
    { numRuns: 60 },
  );
});

test('a frame goes from card to card where it lies', async () => {
  using pool = BufferPool.open({ queuePairs: 2 });
  const [a, b] = [await Card.plug(pool, 0), await Card.plug(pool, 1)];
  const before = [a.owned()[0]!, b.owned()[LENGTHS[1].rx]!];
  a.come(7);
  expect(a.receive()).toBe(1);
  b.datapath.txBurst(0, burst, 1);
  expect([a.owned()[0], b.owned()[LENGTHS[1].rx]]).toEqual(before.toReversed());
  b.going.push(7);
  b.send();
  await a.unplug();
  await b.unplug();
});

test('between cards of two pools it is copied', async () => {
  using one = BufferPool.open({ queuePairs: 1 });
  using other = BufferPool.open({ queuePairs: 1 });
  const [a, b] = [await Card.plug(one, 0), await Card.plug(other, 1)];
  const before = [a.owned(), b.owned()];
  a.come(7);
  expect(a.receive()).toBe(1);
  b.datapath.txBurst(0, burst, 1);
  expect([a.owned(), b.owned()]).toEqual(before);
  b.going.push(7);
  b.send();
  await a.unplug();
  await b.unplug();
});
