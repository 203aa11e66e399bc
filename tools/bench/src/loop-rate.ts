/** How fast frames come back to an end of a loop that is one of our processes (loop-end.ts). */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LoopSettings } from './pair.ts';
import type { Child } from './processes.ts';

const ANSWER_MS = 20_000;

interface Sample {
  readonly received: number;
  readonly at: number;
  readonly lost: number;
}

async function sample(end: Child): Promise<Sample> {
  end.say('count');
  return JSON.parse(await end.line((line) => line.includes('"received"'), ANSWER_MS)) as Sample;
}

/** Frames per second. A loop in which frames are lost has none. */
export async function measuredRate(end: Child, { warmupMs, windowMs }: LoopSettings): Promise<number> {
  await sleep(warmupMs);
  const first = await sample(end);
  await sleep(windowMs);
  const second = await sample(end);
  if (second.lost > 0) throw new Error(`${second.lost} frames lost in a closed loop`);
  if (second.received === first.received) throw new Error('no frame came back');
  return ((second.received - first.received) * 1000) / (second.at - first.at);
}
