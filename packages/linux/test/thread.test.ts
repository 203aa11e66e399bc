import { expect, test } from 'vitest';
import { Worker } from 'node:worker_threads';
import { setThreadAffinity, threadAffinity, timerSlack } from '@emudev/linux';

/** Runs `body` in a thread of its own: what it asks of the scheduler ends with it. */
function inThread(body: string): Promise<unknown> {
  const source = `import { parentPort } from 'node:worker_threads'; import * as linux from ${JSON.stringify(import.meta.resolve('@emudev/linux'))}; parentPort.postMessage(await (async () => { ${body} })());`;
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`));
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

test('a thread binds itself to a processor, and no other thread with it', async () => {
  const before = threadAffinity();
  const last = before.at(-1)!;
  expect(await inThread(`linux.setThreadAffinity([${last}]); return linux.threadAffinity();`)).toEqual([last]);
  expect(threadAffinity()).toEqual(before);
});

test('a processor that does not exist is refused', () => {
  expect(() => { setThreadAffinity([1023]); }).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  expect(() => { setThreadAffinity([1024]); }).toThrow(RangeError);
  expect(() => { setThreadAffinity([]); }).toThrow(expect.objectContaining({ code: 'EINVAL' }));
});

test('timer slack is the thread\'s own', async () => {
  const before = timerSlack();
  expect(await inThread('linux.setTimerSlack(1234); return linux.timerSlack();')).toBe(1234);
  expect(timerSlack()).toBe(before);
});
