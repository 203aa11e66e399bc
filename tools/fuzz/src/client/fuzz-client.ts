/** Hostile servers for a client, one after the other, and a good one now and then. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { countOpenFds, linux } from '@emudev/linux';
import { Descriptors } from '../descriptors.ts';
import { FuzzFailure } from '../failure.ts';
import { ANSWER_DEADLINE_MS, CLIENT_OPERATIONS, SESSIONS_PER_COUNT, SESSIONS_PER_SANE, WARM_UP_SESSIONS } from '../limits.ts';
import { Random, sessionSeed } from '../random.ts';
import { Recorder } from '../recorder.ts';
import { Run, type FuzzOptions, type FuzzReport } from '../run.ts';
import { type Counts, Target } from '../target.ts';
import { HostileServer } from './hostile-server.ts';
import type { ClientRequest } from './target-process.ts';

export async function fuzzClient(options: FuzzOptions): Promise<FuzzReport> {
  const directory = mkdtempSync(join(tmpdir(), 'emudev-fuzz-'));
  const path = join(directory, 'socket');
  const listener = linux.unixListen(path, 4);
  const run = new Run('client', options);
  const recorder = new Recorder();
  try {
    using descriptors = new Descriptors();
    await using target = await Target.start<ClientRequest, unknown>(new URL('./target-process.ts', import.meta.url), [path]);
    const ownFds = countOpenFds();
    const takeCounts = async (): Promise<void> => { run.counted((await target.ask('count')) as Counts, target); };
    try {
      for (; run.wantsMore(); run.nextSession()) {
        const seed = sessionSeed(options.seed, run.session);
        const sane = run.session % SESSIONS_PER_SANE === SESSIONS_PER_SANE - 1;
        const ended = target.ask({ seed, sane, operations: 1 + new Random(seed).below(2 * CLIENT_OPERATIONS) });
        // A failure of the session is told first.
        ended.catch(() => {});
        run.add(new HostileServer(await accept(listener, target), ~seed, sane, descriptors, recorder).run());
        await ended;
        if (run.done === WARM_UP_SESSIONS || run.done % SESSIONS_PER_COUNT === 0) await takeCounts();
      }
      await takeCounts();
      if (countOpenFds() !== ownFds) throw new FuzzFailure(`${countOpenFds()} descriptors in the fuzzer itself, it began with ${ownFds}`);
    } catch (error) {
      throw run.failed(await target.explain(error, async () => (await target.ask('count')) as Counts), recorder);
    }
    return run.report(recorder.histogram);
  } finally {
    linux.close(listener);
    rmSync(directory, { recursive: true, force: true });
  }
}

async function accept(listener: number, target: Target<never, unknown>): Promise<number> {
  const deadline = performance.now() + ANSWER_DEADLINE_MS;
  for (;;) {
    // The order to connect leaves by this event loop.
    await new Promise((resolve) => { setImmediate(resolve); });
    target.checkAlive();
    const fd = linux.unixAccept(listener);
    if (fd !== undefined) return fd;
    if (performance.now() > deadline) throw new FuzzFailure(`the client did not connect within ${ANSWER_DEADLINE_MS} ms`);
    linux.pollIn(Int32Array.of(listener), 1, 5_000_000);
  }
}
