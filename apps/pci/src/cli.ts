#!/usr/bin/env node
/** The `emudev-pci` program: one file per command, each of which adds itself here. */
import { Command, CommanderError } from 'commander';
import { addBinding } from './binding.ts';
import { EXIT_OK, EXIT_REFUSED, EXIT_USAGE, explain } from './exit.ts';
import { addList } from './list.ts';
import { addMdev } from './mdev.ts';
import { addRoots } from './roots.ts';
import { addShow } from './show.ts';

// `emudev-pci … | head` is no error; a full disk is.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT_OK);
  process.stderr.write(`emudev-pci: the output cannot be written: ${error.message}\n`);
  process.exit(EXIT_REFUSED);
});
process.stderr.on('error', () => {});

/** What is left to do then is a call that the kernel holds. */
const LEAVE_MS = 1000;

const program = new Command('emudev-pci')
  .description('Lists and shows PCI devices that programs can drive: functions of the kernel, mediated devices, vfio-user sockets.')
  .exitOverride()
  .configureOutput({ outputError: (text, write) => { write(text.replace(/^error: /, 'emudev-pci: ')); } })
  .showHelpAfterError('(--help shows what there is)')
  .addHelpText('after', `
Addresses: 0000:06:0d.0, the UUID of a mediated device, vfio-user:PATH (or a path with a "/").
Exit codes: 0 done, 1 the kernel or the device said no, 2 wrong usage, 3 no such device.
Every command has --help with examples.`);

addRoots(program);
addList(program);
addShow(program);
addMdev(program);
addBinding(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
  } else {
    const { exitCode, message } = explain(error);
    process.stderr.write(`emudev-pci: ${message}\n`);
    process.exitCode = exitCode;
  }
}
// Everything has been said. A read that the kernel does not answer holds a thread for which even process.exit waits.
setTimeout(() => { process.kill(process.pid, 'SIGTERM'); }, LEAVE_MS).unref();
