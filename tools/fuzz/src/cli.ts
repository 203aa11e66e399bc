#!/usr/bin/env node
import { Command, InvalidArgumentError } from 'commander';
import { fuzzClient } from './client/fuzz-client.ts';
import { FuzzFailure } from './failure.ts';
import type { FuzzOptions, FuzzReport } from './run.ts';
import { fuzzServer } from './server/fuzz-server.ts';

function natural(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError('a natural number is expected');
  return value;
}

const program = new Command('fuzz').description('Feeds a live vfio-user server or client with messages that are nearly right.').showHelpAfterError();

function add(name: string, description: string, fuzz: (options: FuzzOptions) => Promise<FuzzReport>): void {
  program.command(name).description(description)
    .option('--seed <n>', 'what to repeat; a random one by default', natural)
    .option('--session <n>', 'the session to begin with', natural)
    .option('--messages <n>', 'end after so many messages', natural)
    .option('--seconds <n>', 'end after so many seconds; 60 where nothing is said', natural)
    .option('--directory <path>', 'where the report of a failure goes', '.cache/fuzz')
    .action(async (given: { seed?: number; session?: number; messages?: number; seconds?: number; directory: string }) => {
      const { seed = Math.floor(Math.random() * 2 ** 31), ...rest } = given;
      const seconds = rest.seconds ?? (rest.messages === undefined ? 60 : undefined);
      console.log(`seed ${seed}`);
      const report = await fuzz({ ...rest, seed, ...(seconds === undefined ? {} : { seconds }), progress: (line) => { console.log(line); } });
      console.log(report.text);
    });
}

add('server', 'hostile clients against a server', fuzzServer);
add('client', 'hostile servers against a client', fuzzClient);

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof FuzzFailure)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
