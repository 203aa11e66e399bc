#!/usr/bin/env node
/** The `vfio-user` program: one file per command, each of which adds itself here. */
import { Command, CommanderError } from 'commander';
import { addDump } from './dump.ts';
import { EXIT_OK, EXIT_USAGE, explain } from './exit.ts';
import { addInfo } from './info.ts';
import { addLspci } from './lspci.ts';
import { addRead } from './read.ts';
import { addReset } from './reset.ts';
import { replayCommand } from './replay-command.ts';
import { traceCommand } from './trace-command.ts';
import { addWrite } from './write.ts';

// `vfio-user … | head` is no error; a full disk is.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT_OK);
  process.stderr.write(`vfio-user: the output cannot be written: ${error.message}\n`);
  process.exit(EXIT_USAGE);
});
process.stderr.on('error', () => {});

const program = new Command('vfio-user')
  .description('Shows, reads, writes, traces and replays what is behind a vfio-user socket.')
  .exitOverride()
  .configureOutput({ outputError: (text, write) => { write(text.replace(/^error: /, 'vfio-user: ')); } })
  .showHelpAfterError('(--help shows what there is)')
  .addHelpText('after', `
Exit codes: 0 done, 1 the device said no, 2 wrong usage, 3 cannot connect.
Every command has --help with examples.`);

addInfo(program);
addLspci(program);
addRead(program);
addWrite(program);
addDump(program);
addReset(program);
traceCommand(program);
replayCommand(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
  } else {
    const { exitCode, message } = explain(error);
    process.stderr.write(`vfio-user: ${message}\n`);
    process.exitCode = exitCode;
  }
}
