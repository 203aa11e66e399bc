/**
 * Moves a device's state from one server to another.
 *
 * | step | source             | stream                                       | destination |
 * | ---- | ------------------ | -------------------------------------------- | ----------- |
 * | 1    | running            |                                              | → resuming  |
 * | 2    | → pre-copy         | what there is, while the device runs         | takes it    |
 * | 3    | → stop-copy        | the rest                                     | takes it    |
 * | 4    | → stop             |                                              | → stop      |
 * | 5    | stop               |                                              | → running   |
 *
 * Until step 5 a failure brings the source back to `running`. From then on the destination may be running, and two of one device
 * must not: both stay as they are.
 */
import type { VfioUserClient } from './client.ts';
import { ClientError } from './errors.ts';
import { MAX_PRE_COPY_BYTES } from './limits.ts';
import type { MigrationState } from './migration.ts';
import type { CallOptions } from './requests.ts';

export interface MigrateOptions extends CallOptions {
  /**
   * What to do with the state that the device offers while it runs: `send` it on (as VFIO has it: one stream), `discard` it
   * (libvfio-user's sample device sends everything again when it has stopped), or `skip` the phase. `send` by default; skipped anyway
   * where one side does not know pre-copy.
   */
  readonly preCopy?: 'send' | 'discard' | 'skip';
  /** When so many bytes have been sent while the device runs it is stopped, whatever it still has. */
  readonly maxPreCopyBytes?: number;
}

/** Bytes of state that the source gave, while it ran and after it had stopped. */
export interface Migrated {
  readonly preCopyBytes: number;
  readonly stopCopyBytes: number;
}

/** Rejects with the ClientError of the side that failed. DMA maps and interrupts of the destination are the caller's to make, before. */
export async function migrate(from: VfioUserClient, to: VfioUserClient, options: MigrateOptions = {}): Promise<Migrated> {
  const { preCopy = 'send', maxPreCopyBytes = MAX_PRE_COPY_BYTES, ...call } = options;
  const [source, destination] = [from.migration, to.migration];
  const capabilities = await source.capabilities(call);
  const before = await source.state(call);
  let preCopyBytes = 0;
  let stopCopyBytes = 0;
  try {
    await destination.setState('resuming', call);
    if (capabilities.preCopy && preCopy !== 'skip' && before === 'running') {
      await source.setState('pre-copy', call);
      while (preCopyBytes < maxPreCopyBytes) {
        const chunk = await source.read(source.chunkBytes, call);
        if (chunk.length === 0) break;
        preCopyBytes += chunk.length;
        if (preCopy === 'send') await destination.write(chunk, call);
      }
    }
    await source.setState('stop-copy', call);
    for await (const chunk of source.save(call)) {
      stopCopyBytes += chunk.length;
      await destination.write(chunk, call);
    }
    await source.setState('stop', call);
    await destination.setState('stop', call);
  } catch (error) {
    await goBack(from, before);
    throw error;
  }
  // What was stopped stays so.
  if (before !== 'stop') await destination.setState('running', call);
  return { preCopyBytes, stopCopyBytes };
}

/** Best effort: the failure that led here is what the caller gets to see. Without the caller's signal, which may be the reason. */
async function goBack(from: VfioUserClient, state: MigrationState): Promise<void> {
  try {
    await from.migration.setState(state);
  } catch (error) {
    if (!(error instanceof ClientError)) throw error;
  }
}
