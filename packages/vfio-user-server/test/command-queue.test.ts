import type { Frame } from '@emudev/vfio-user-protocol';
import { expect, it } from 'vitest';
import { CommandQueue } from '../src/command-queue.ts';
import { DEFAULT_LIMITS } from '../src/limits.ts';

it('whose client takes its replies at last lets it be read again, also within the same turn', () => {
  let [pendingOutputBytes, paused, executed] = [100, false, 0];
  const queue = new CommandQueue({ ...DEFAULT_LIMITS, maxPendingMessages: 2, maxPendingOutputBytes: 64 }, {
    get pendingOutputBytes() { return pendingOutputBytes; },
    pendingOutputFds: 0,
    waitsForReply: false,
    dispatch: () => { executed++; return undefined; },
    pauseInput: (on) => { paused = on; },
    onIdle: () => undefined,
    onFlood: () => undefined,
  });
  queue.beginTurn();
  for (let id = 0; id < 3; id++) queue.push({ id, size: 16, fds: [] } as unknown as Frame);
  expect({ paused, executed }).toEqual({ paused: true, executed: 0 });
  pendingOutputBytes = 0;
  queue.drained();
  expect({ paused, executed }).toEqual({ paused: false, executed: 3 });
});
