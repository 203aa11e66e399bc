/** What a process holds that no garbage collector gives back: descriptors, files in the window, private bytes of the window. */
import { fail } from 'node:assert/strict';
import { readlinkSync, readdirSync } from 'node:fs';
import { Quiescence, Window } from '@emudev/dma';
import { turn } from './suite.ts';

/** A count of everything that has to be given back. */
export interface Held {
  /** Open descriptors, by what they refer to ('/memfd:ram (deleted)', 'anon_inode:[eventfd]', 'socket', …). */
  readonly descriptors: ReadonlyMap<string, number>;
  /** Files mapped into the DMA window. */
  readonly windowMappings: number;
  /** Private bytes of the DMA window in use. */
  readonly windowBytes: number;
}

/** What this process holds now. The window is opened for the look and given back. */
export function held(): Held {
  using window = Window.open();
  const descriptors = new Map<string, number>();
  for (const fd of readdirSync('/proc/self/fd')) {
    let target: string;
    try {
      target = readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // The descriptor that the directory was read with.
      continue;
    }
    const kind = target.replace(/:\[\d+\]$/, '');
    descriptors.set(kind, (descriptors.get(kind) ?? 0) + 1);
  }
  return { descriptors, windowMappings: window.mappingCount, windowBytes: window.allocatedBytes };
}

/** A sentence for each thing that `after` holds and `before` did not. */
export function leaks(before: Held, after: Held): readonly string[] {
  const found: string[] = [];
  for (const [kind, count] of after.descriptors) {
    const more = count - (before.descriptors.get(kind) ?? 0);
    if (more > 0) found.push(`${more} descriptor${more === 1 ? '' : 's'} of ${kind}`);
  }
  if (after.windowMappings > before.windowMappings) found.push(`${after.windowMappings - before.windowMappings} files mapped into the window`);
  if (after.windowBytes > before.windowBytes) found.push(`${after.windowBytes - before.windowBytes} private bytes of the window`);
  return found;
}

/**
 * Fails where `body` leaves something open, mapped or allocated behind. Keeps the window open meanwhile, or its emptying at the last
 * close would hide what was left in it. Something that is opened once per process and kept (a thread pool's eventfd) counts as a
 * leak the first time: run such a body once before.
 */
export async function expectNoLeaks<T>(body: () => T | Promise<T>): Promise<T> {
  using window = Window.open();
  // Made when it is first asked for, and kept for as long as the window is: nobody's leak.
  Quiescence.of(window);
  await turn();
  const before = held();
  const result = await body();
  let found = leaks(before, held());
  // A socket or a worker that is closed goes some turns of the event loop later.
  for (let turns = 0; found.length > 0 && turns < 50; turns++) {
    await turn();
    found = leaks(before, held());
  }
  if (found.length > 0) fail(`left behind: ${found.join(', ')}`);
  return result;
}
