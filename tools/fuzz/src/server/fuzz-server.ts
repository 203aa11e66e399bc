/** Hostile clients against a server, one after the other, and a sane one after each. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { countOpenFds } from '@emudev/linux';
import { Descriptors } from '../descriptors.ts';
import { FuzzFailure } from '../failure.ts';
import { SESSIONS_PER_COUNT, WARM_UP_SESSIONS } from '../limits.ts';
import { sessionSeed } from '../random.ts';
import { Recorder } from '../recorder.ts';
import { Run, type FuzzOptions, type FuzzReport } from '../run.ts';
import { type Counts, Target } from '../target.ts';
import { HostileSession } from './hostile-session.ts';
import { askSanely } from './sane-client.ts';

export async function fuzzServer(options: FuzzOptions): Promise<FuzzReport> {
  const directory = mkdtempSync(join(tmpdir(), 'emudev-fuzz-'));
  const path = join(directory, 'socket');
  const run = new Run('server', options);
  const recorder = new Recorder();
  try {
    using descriptors = new Descriptors();
    await using target = await Target.start<'count', Counts>(new URL('./target-process.ts', import.meta.url), [path]);
    const ownFds = countOpenFds();
    try {
      for (; run.wantsMore(); run.nextSession()) {
        const result = new HostileSession(path, sessionSeed(options.seed, run.session), descriptors, recorder).run();
        run.add(result);
        askSanely(path);
        if (run.done === WARM_UP_SESSIONS || run.done % SESSIONS_PER_COUNT === 0) run.counted(await target.ask('count'), target);
        // Events of the target (its end, its output) are seen between two sessions.
        if (run.done % 8 === 0) await new Promise((resolve) => { setImmediate(resolve); });
        target.checkAlive();
      }
      run.counted(await target.ask('count'), target);
      if (countOpenFds() !== ownFds) throw new FuzzFailure(`${countOpenFds()} descriptors in the fuzzer itself, it began with ${ownFds}`);
    } catch (error) {
      throw run.failed(await target.explain(error, () => target.ask('count')), recorder);
    }
    return run.report(recorder.histogram);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
