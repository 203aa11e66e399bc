/** A port that holds for a moment gets what was kept for it, whenever that moment ends. */
import { expect, test } from 'vitest';
import { FRAME_DATA, FRAME_LENGTH, FRAME_RECORD_BYTES, type Burst, type PortDatapath } from '@emudev/ethdev';
import { Window } from '@emudev/dma';
import { STREAM_DROPPED, STREAM_TX_PACKETS } from '../src/lcore-protocol.ts';
import { loopRig } from './loop-rig.ts';

const FRAMES = 4;

/** Runs a loop over one stream, or over one of another port besides, until `ends` says so after a loop; returns the stream's counters. */
function polled(port: PortDatapath, ends: (loops: number) => boolean, { burst, other }: { burst?: Partial<Burst>; other?: PortDatapath | undefined } = {}): { sent: bigint; dropped: bigint } {
  using resources = new DisposableStack();
  const { loop, add, stop } = loopRig(resources, { burst });
  let loops = 0;
  const timed: PortDatapath = {
    ...port,
    tick: () => {
      if (ends(++loops)) stop();
      return 0;
    },
  };
  loop.setPorts([timed], []);
  const stream = add(timed);
  if (other !== undefined) add(other);
  loop.run();
  return { sent: stream.counter(STREAM_TX_PACKETS), dropped: stream.counter(STREAM_DROPPED) };
}

test.each([
  ['before it is asked whether it does', false],
  ['in the middle of a burst that it refuses', true],
])('the moment ends %s', (_, inBurst) => {
  let holds = false;
  let received = 0;
  let refusals = 0;
  const port: PortDatapath = {
    rxBurst: () => {
      if (received !== 0) return 0;
      received = FRAMES;
      return FRAMES;
    },
    txBurst: (_queue, _burst, count) => {
      if (refusals === 2) return count;
      refusals++;
      // It is paused after it was asked the first time, and goes on while or after it refuses the second burst.
      holds = refusals === 1 || !inBurst;
      return 0;
    },
    holding: () => {
      const answer = holds;
      if (refusals === 2) holds = false;
      return answer;
    },
  };
  expect(polled(port, (loops) => loops === 10)).toEqual({ sent: BigInt(FRAMES), dropped: 0n });
  expect(refusals).toBe(2);
});

const FRAME_BYTES = 1000;

test.each([
  ['all of them', 8192, FRAMES, 0n],
  ['as many as the burst has room for', 2500, 2, 2n],
])('kept frames are not touched by what becomes of the memory they were received in: %s', (_, arenaBytes, kept, dropped) => {
  using window = Window.open();
  const memory = window.alloc(FRAMES * FRAME_BYTES, 64);
  using _memory = { [Symbol.dispose]: () => { window.free(memory); } };
  let refused = false;
  let holds = false;
  let received = false;
  const sent: number[][] = [];
  const port: PortDatapath = {
    rxBurst: (_queue, burst) => {
      if (received) return 0;
      received = true;
      for (let i = 0; i < FRAMES; i++) {
        // The first is in the burst's own memory, as what had to be put together is
        const data = i === 0 ? burst.arena : memory + i * FRAME_BYTES;
        window.u8.fill(i + 1, data, data + FRAME_BYTES);
        window.u32[(burst.records + i * FRAME_RECORD_BYTES + FRAME_DATA) >>> 2] = data;
        window.u32[(burst.records + i * FRAME_RECORD_BYTES + FRAME_LENGTH) >>> 2] = FRAME_BYTES;
      }
      return FRAMES;
    },
    txBurst: (_queue, burst, count) => {
      if (!refused) {
        refused = true;
        holds = true;
        return 0;
      }
      if (holds) return 0;
      for (let i = 0; i < count; i++) {
        const [data, bytes] = [FRAME_DATA, FRAME_LENGTH].map((field) => window.u32[(burst.records + i * FRAME_RECORD_BYTES + field) >>> 2]!);
        sent.push([...new Set(window.u8.subarray(data!, data! + bytes!))]);
      }
      return count;
    },
    holding: () => holds,
  };
  const goesOn = (loops: number): boolean => {
    // Another frame where those were: their port was reset, and its device has the buffers again
    if (loops === 3) window.u8.fill(0xee, memory, memory + FRAMES * FRAME_BYTES);
    if (loops === 5) holds = false;
    return loops === 10;
  };
  // Its frames use the same memory of the lcore
  const other: PortDatapath = {
    rxBurst: (_queue, burst) => {
      window.u8.fill(0xdd, burst.arena, burst.arena + burst.arenaBytes);
      window.u8.fill(0xdd, burst.records, burst.records + burst.capacity * FRAME_RECORD_BYTES);
      return 0;
    },
    txBurst: (_queue, _burst, count) => count,
  };
  expect(polled(port, goesOn, { burst: { arenaBytes }, other })).toEqual({ sent: BigInt(kept), dropped });
  expect(sent).toEqual([[1], [2], [3], [4]].slice(0, kept));
});
